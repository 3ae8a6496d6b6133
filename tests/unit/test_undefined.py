"""Names that nothing in a workflow file defines are warnings; what belongs to the shell, awk or jq is not."""

from __future__ import annotations

import json

import pytest

from torc_slurm.spec.load import parse_workflow


def warnings(command: str, *, environ: tuple[str, ...] = (), **keys: object) -> list[str]:
    job = {"name": "train_{temp}", "command": command, "parameters": {"temp": "1:2"}}
    document = {"name": "w", "jobs": [job | {name: keys.pop(name) for name in ("env",) if name in keys}], **keys}
    found = parse_workflow(json.dumps(document), "w.json", "json", environ).warnings
    return [line.partition(": ")[2] for line in found]


def test_a_mistyped_parameter_is_named_with_the_one_that_was_meant() -> None:
    (line,) = warnings("run {tempp}")
    assert line == "job 'train_{temp}' has no parameter {tempp}; did you mean {temp}?"
    assert len(warnings("awk '{tempp}'")) == 1
    assert len(warnings("run {other:03d}")) == 1


def test_a_parameter_of_other_jobs_only_is_named_with_what_to_add() -> None:
    (line,) = warnings("run {temp} {seed}", parameters={"seed": "1:3"})
    assert line.endswith("has no parameter {seed}; give the job parameters, or use_parameters: [seed]")


@pytest.mark.parametrize(
    "command",
    [
        "run {temp} {temp:03d}",
        "awk '{print $1}' x",
        "jq '{name}' x",
        "exec {log}>file",
        "find . -exec echo {} \\;",
        "echo {a,b}",
        "x=1; echo ${x}",
        "for each in 1 2; do echo ${each}; done",
        "read -r first second <<<x; echo ${second}",
        "echo ${HOME} ${SLURM_JOB_ID} ${unset:-default} '${literal}' \\${escaped}",
        ". ./env.sh; echo ${FROM_THERE}",
    ],
)
def test_what_is_meant_as_it_stands_is_no_warning(command: str) -> None:
    assert warnings(command) == []


def test_a_variable_that_nothing_sets_is_named() -> None:
    (line,) = warnings("cat ${DATAA}/x ${DATAA}")
    assert line == "${DATAA} in job 'train_{temp}' is set nowhere: the shell replaces it by nothing"
    assert warnings("cat ${DATAA}", environ=("DATAA",)) == []
    assert warnings("cat ${DATAA}", env={"DATAA": "/x"}) == []
    setup = [{"name": "s", "setup": ["export DATAA=/x"]}]
    assert warnings("cat ${DATAA}", slurm_schedulers=setup) == []
    assert warnings("cat ${ANY}", slurm_schedulers=[{"name": "s", "setup": ["module load x"]}]) == []


def test_without_parameters_braces_are_text() -> None:
    document = json.dumps({"name": "w", "jobs": [{"name": "a", "command": 'python -c "print(f\\"{x}\\")"'}]})
    assert parse_workflow(document, "w.json", "json", ()).warnings == ()
