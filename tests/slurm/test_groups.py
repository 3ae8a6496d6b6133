"""Groups in a real allocation: one step for many jobs, each with its own end; a step that is killed on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from real_slurm import Lab
from test_runner import FOR_EVER, SMALL, Work, _work

pytestmark = pytest.mark.slurm

FOUR = ("-N1", "-n1", "--cpus-per-task=1", "--mem=1G")


@pytest.fixture
def work(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Work]:
    yield from _work(lab, request)


def grouped(*commands: str) -> list[dict[str, object]]:
    return [{"name": f"j{number}", "command": command, "group": 10} for number, command in enumerate(commands)]


# All CPUs of a node: one group at a time.
ONE: dict[str, Any] = {"requirements": ({**SMALL, "name": "whole", "num_cpus": 4},)}


def whole(jobs: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{**job, "resource_requirements": "whole"} for job in jobs]


def test_the_jobs_of_a_group_share_a_step_and_nothing_else(work: Work) -> None:
    work.spec(
        *grouped("echo $SLURM_STEP_ID", "exit 3", "sleep 30", "echo $SLURM_STEP_ID; echo err >&2"),
        requirements=({**SMALL, "name": "short", "runtime": "PT1S"},),
        execution_config={"enforce_runtime": True},
    )
    text = (work.directory / "w.json").read_text().replace('"small", "name": "j2"', '"short", "name": "j2"')
    (work.directory / "w.json").write_text(text)
    work.run(*FOUR)
    assert work.statuses() == {"j0": "completed", "j1": "failed", "j2": "timeout", "j3": "completed"}
    assert work.stdio(1) == work.stdio(4) == "0\n"
    assert work.stdio(4, "e") == "err\n"
    codes = {row["job_name"]: row["return_code"] for row in work.items("results", "list", 1)}
    assert codes["j1"] == 3
    assert {row["step_id"] for row in work.items("slurm", "stats", 1)} == {None}


def test_groups_run_side_by_side_on_the_cpus_of_an_allocation(work: Work) -> None:
    wait = 'echo > $TORC_JOB_NAME.begun; until [ "$(ls | grep -c begun)" -ge 4 ]; do sleep 0.1; done; '
    work.spec(*({**job, "group": 2} for job in grouped(*[wait + "echo $SLURM_STEP_ID"] * 8)))
    work.run("-N1", "-n1", "--cpus-per-task=4", "--mem=1G")
    assert set(work.statuses().values()) == {"completed"}
    assert sorted(work.stdio(number) for number in range(1, 9)) == [f"{step}\n" for step in range(4) for _ in range(2)]


def test_a_job_of_a_group_that_is_out_of_memory_ends_alone(work: Work) -> None:
    eat = "python3 -c 'import time; all = [bytearray(1 << 20) for _ in range(500)]; time.sleep(60)'"
    work.spec(*grouped("true", f"exec {eat}", "echo after", f"{eat}; exit 5", "echo last"))
    work.run(*FOUR)
    assert work.statuses() == {"j0": "completed", "j1": "oom", "j2": "completed", "j3": "oom", "j4": "completed"}
    assert (work.stdio(3), work.stdio(5)) == ("after\n", "last\n")
    codes = {row["job_name"]: row["return_code"] for row in work.items("results", "list", 1)}
    assert codes == {"j0": 0, "j1": 137, "j2": 0, "j3": 5, "j4": 0}


def wait_until_the_runner_knows_of(work: Work, job: str) -> None:
    """A job that began unheard, because its step was killed first, runs again."""
    work.lab.wait_for(lambda: work.journal().get(job, {}).get("state") == "running", f"the news that {job} began")


def test_a_step_that_is_killed_in_the_middle_of_its_group_loses_only_the_job_that_ran(work: Work) -> None:
    work.spec(*grouped("echo once >> first", "echo $SLURM_JOB_ID.$SLURM_STEP_ID > step; sleep 300", "echo > third"))
    job = work.batch("torc run w.json --output-dir out", *FOUR)
    work.wait_for_file("step")
    wait_until_the_runner_knows_of(work, "j1")
    work.lab.run(["scancel", "--signal=KILL", (work.directory / "step").read_text().strip()])
    work.lab.wait_ended(job)
    assert (work.directory / "first").read_text() == "once\n"
    statuses = work.statuses()
    assert (statuses["j0"], statuses["j2"]) == ("completed", "completed")
    assert statuses["j1"] in ("cancelled", "failed")


def test_a_step_whose_srun_is_killed_does_not_go_on_beside_the_next(work: Work) -> None:
    work.spec(*grouped("true", "echo $$ > pid; echo > step; exec sleep 300", "echo >> third; ! kill -0 $(cat pid)"))
    job = work.batch("torc run w.json --output-dir out", *FOUR)
    work.wait_for_file("step")
    wait_until_the_runner_knows_of(work, "j1")
    work.lab.on_nodes(["pkill", "-KILL", "-f", f"^[^ ]*srun .*--job-name=wf1_g1_r1_a1 .*{work.output_dir}"])
    work.lab.wait_ended(job)
    statuses = work.statuses()
    assert (statuses["j0"], statuses["j2"]) == ("completed", "completed")
    assert statuses["j1"] in ("cancelled", "failed")
    assert (work.directory / "third").read_text() == "\n"


def test_jobs_with_options_for_srun_run_each_in_a_step_of_its_own(work: Work) -> None:
    options = {"srun_options": ["--label"]}
    work.spec(*({**job, **options} for job in grouped("echo $SLURM_STEP_ID", "echo $SLURM_STEP_ID")))
    work.run(*FOUR)
    assert work.statuses() == {"j0": "completed", "j1": "completed"}
    assert {work.stdio(1), work.stdio(2)} == {"0: 0\n", "0: 1\n"}


def test_an_allocation_that_is_cancelled_leaves_what_had_not_begun_to_the_next_run(work: Work) -> None:
    work.spec(*whole(grouped("echo >> first", "echo >> step; test -e again || sleep 300", "echo >> third")), **ONE)
    job = work.submit()["slurm_job_id"]
    work.wait_for_file("step")
    wait_until_the_runner_knows_of(work, "j1")
    # Slurm's clock has whole seconds: what ends in the second of a scancel may have been ended by it
    work.lab.wait_for(lambda: time.time() - (work.directory / "first").stat().st_mtime > 2, "some time to pass")
    work.lab.run_as_user(["scancel", str(job)])
    work.lab.wait_ended(job)
    assert work.lab.run(["pgrep", "-f", str(work.output_dir)], check=False).stdout == ""
    said = (work.output_dir / f"slurm_output_wf1_sl{job}.o").read_text()
    statuses = work.statuses()
    assert (statuses.pop("j0"), statuses.pop("j1")) == ("completed", "cancelled"), said
    assert statuses["j2"] not in ("completed", "failed", "cancelled", "running"), said
    assert not (work.directory / "third").exists()
    (work.directory / "again").touch()
    work.lab.wait_ended(work.submit("1")["slurm_job_id"])
    assert set(work.statuses().values()) == {"completed"}
    ran = {name: (work.directory / name).read_text() for name in ("first", "step", "third")}
    assert ran == {"first": "\n", "step": "\n\n", "third": "\n"}


def test_a_job_that_ignores_the_end_of_its_allocation_is_killed(work: Work) -> None:
    work.spec(
        *whole(grouped("true", f"trap 'echo told >> told' TERM; echo > step; {FOR_EVER}", "echo >> third")), **ONE
    )
    job = work.submit()["slurm_job_id"]
    work.wait_for_file("step")
    work.lab.run_as_user(["scancel", str(job)])
    work.lab.wait_ended(job)
    assert (work.directory / "told").read_text() == "told\n"
    assert work.lab.run(["pgrep", "-f", str(work.output_dir)], check=False).stdout == ""
    assert work.statuses()["j1"] == "cancelled"
    assert not (work.directory / "third").exists()
