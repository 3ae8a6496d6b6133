"""Keys of the Rust torc that mean something else here, or nothing; and the forms a workflow file is written in."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from torc_slurm.common.errors import SpecError
from torc_slurm.spec.foreign import REFUSED, UNUSED
from torc_slurm.spec.load import Form, form_of, parse_workflow
from torc_slurm.spec.model import WorkflowModel
from torc_slurm.spec.workflow import Workflow

DOCS = Path(__file__).resolve().parents[2] / "docs"
HEAD = "name: w\nslurm_schedulers: [{name: s, account: a}]\nfiles: [{name: f, path: f.txt}]\n"
JOB = "jobs:\n- {name: a, command: 'true'}\n"


def problems(text: str, form: Form = "yaml") -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_workflow(text, "w", form)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (HEAD + "jobs:\n- {name: a, command: 'cat ${files.input.g}'}\n", 5, "files has no 'g'"),
        (HEAD + "jobs:\n- {name: a, command: 'cat ${files.inputs.f}'}\n", 5, "must be ${files.input.NAME}"),
        (HEAD + "jobs:\n- {name: a, command: 'cat ${file.input.f}'}\n", 5, "did you mean 'files.input'"),
        (HEAD + "jobs:\n- {name: a, command: x, input_files: [ff]}\n", 5, "files has no 'ff'"),
        (HEAD + "jobs:\n- {name: a, command: x, output_file_regexes: ['z.*']}\n", 5, "files: no whole name fits"),
        (HEAD + "jobs:\n- {name: a, command: x, scheduler: t}\n", 5, "slurm_schedulers has no 't'"),
        (HEAD + "jobs:\n- {name: a, command: x, failure_handler: h}\n", 5, "failure_handlers has no 'h'"),
        (HEAD + "jobs:\n- {name: a, command: x, label: gpu}\n", 5, "no runners with labels"),
        (HEAD + "dynamic_jobs: {max_iterations: 3}\n" + JOB, 4, "jobs cannot be added during a run"),
        (HEAD + "slurm_config: {use_srun: true}\n" + JOB, 4, "write execution_config instead"),
        (HEAD + "failure_handler: []\n" + JOB, 4, "did you mean 'failure_handlers'?"),
        (HEAD + "failure_handlers: [{name: h, rules: [{max_retries: 1}]}]\n" + JOB, 4, "matches nothing"),
        (HEAD + "execution_config: {termination_signal: SIGINT}\n" + JOB, 4, "torc ends jobs with SIGTERM"),
        (
            HEAD + "variables: {one: 1, two: '{one}'}\n" + JOB,
            4,
            "contains {one}: a variable cannot contain another one",
        ),
        (HEAD + "variables: {place: x}\njobs:\n- {name: a, command: 'echo {plce}'}\n", 6, "did you mean {place}?"),
        (HEAD + "parameters: {i: '1:2'}\nvariables: {i: x}\n" + JOB, 5, "a variable and a parameter"),
        (
            HEAD + "parameters: {i: '1:2'}\njobs:\n- {name: 'a{j}', command: x, use_parameters: [j]}\n",
            6,
            "the top level does not declare",
        ),
        (
            HEAD + "jobs:\n- {name: 'a{j}', command: x, use_parameters_file: true}\n",
            5,
            "but the top level has no parameters_file",
        ),
        (HEAD + "jobs:\n- {name: a, command: x, parameters_file: no.csv}\n", 5, "no.csv cannot be read"),
        (HEAD + "jobs:\n- {name: a, command: x, parameters_file: no.csv, parameters: {i: '1:2'}}\n", 5, "or the other"),
        (
            HEAD + "actions: [{trigger_type: on_jobs_ready, action_type: run_commands, commands: [x]}]\n" + JOB,
            4,
            "jobs",
        ),
        (
            HEAD + "actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes}]\n" + JOB,
            4,
            "needs a scheduler",
        ),
        (
            HEAD + "actions: [{trigger_type: on_worker_start, action_type: schedule_nodes, scheduler: t}]\n" + JOB,
            4,
            "slurm_schedulers has no 't'",
        ),
    ],
)
def test_an_impossible_value_names_its_line(text: str, line: int, said: str) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert found[0].startswith(f"w:{line}: ")
    assert said in found[0]


def test_a_reference_between_single_quotes_is_the_commands_own() -> None:
    text = HEAD + "jobs:\n- name: a\n  command: |\n    perl -e 'print ${x.y}'\n"
    assert "${x.y}" in parse_workflow(text, "w").jobs[0].command


def test_one_line_names_all_that_changes_nothing() -> None:
    text = HEAD + "user: me\nproject: p\nmetadata: '{}'\njobs:\n- {name: a, command: x, supports_termination: true}\n"
    warnings = parse_workflow(text, "w").warnings
    assert len(warnings) == 1
    for key in ("user", "project", "metadata", "jobs.supports_termination"):
        assert key in warnings[0]


def test_what_asks_for_nothing_is_not_named() -> None:
    text = HEAD + "use_pending_failed: false\nresource_monitor: {compute_node: {enabled: false}}\n" + JOB
    assert parse_workflow(text, "w").warnings == ()


def test_every_key_is_in_the_page_for_users_of_torc() -> None:
    page = (DOCS / "coming-from-torc.md").read_text(encoding="utf-8")
    words = set(re.findall(r"[A-Za-z_]+", page))
    for keys in (*UNUSED.values(), *REFUSED.values()):
        assert keys.keys() <= words
    assert WorkflowModel.model_fields.keys() <= words


# --- forms ---------------------------------------------------------------------------------------------------------


def same(workflow: Workflow) -> tuple[object, ...]:
    return workflow.name, workflow.jobs, workflow.requirements, workflow.required_paths, workflow.user_data


def test_the_four_forms_mean_the_same() -> None:
    yaml = (
        "name: w\nresource_requirements: [{name: r, num_cpus: 2, memory: 1g}]\nuser_data: [{name: u, data: {a: 1}}]\n"
        "files: [{name: f, path: f.txt}]\njobs:\n- {name: a, command: 'cat ${files.input.f}', env: {X: '1'}}\n"
        "- {name: 'b_{i}', command: 'echo {i}', depends_on: [a], resource_requirements: r, parameters: {i: '1:2'}}\n"
    )
    document = {
        "name": "w",
        "resource_requirements": [{"name": "r", "num_cpus": 2, "memory": "1g"}],
        "user_data": [{"name": "u", "data": {"a": 1}}],
        "files": [{"name": "f", "path": "f.txt"}],
        "jobs": [
            {"name": "a", "command": "cat ${files.input.f}", "env": {"X": "1"}},
            {
                "name": "b_{i}",
                "command": "echo {i}",
                "depends_on": ["a"],
                "resource_requirements": "r",
                "parameters": {"i": "1:2"},
            },
        ],
    }
    kdl = (
        'name "w"\nresource_requirements "r" num_cpus=2 memory="1g"\nuser_data "u" {\n data "{\\"a\\": 1}"\n}\n'
        'file "f" path="f.txt"\njob "a" {\n command "cat ${files.input.f}"\n env X="1"\n}\n'
        'job "b_{i}" {\n command "echo {i}"\n depends_on_job "a"\n resource_requirements "r"\n'
        ' parameters {\n  i "1:2"\n }\n}\n'
    )
    meant = same(parse_workflow(yaml, "w"))
    text = json.dumps(document)
    assert same(parse_workflow(text, "w", "json")) == meant
    assert same(parse_workflow("// with a comment\n" + text.replace('"name"', "name"), "w", "json5")) == meant
    assert same(parse_workflow(kdl, "w", "kdl"))[:4] == meant[:4]


@pytest.mark.parametrize(
    ("text", "form", "line", "said"),
    [
        ("{\n name: 'w',\n jobs: [,]\n}", "json5", 3, "not JSON5"),
        ("{\n name: 'w',\n // no\n jobs: [{name: 'a', comand: 'x'}],\n}", "json5", 4, "unknown key 'comand'"),
        ("{\n name: 'w',\n name: 'v', jobs: []}", "json5", 3, "given twice (first on line 2)"),
        ('{\n "name": "w",\n /* no */\n "jobs": []}', "json", 3, "is JSON5: name it so"),
        (
            '{"name": "w", "jobs": [{"name": "a", "command": "x", "priority": NaN}]}',
            "json",
            1,
            "NaN is not a JSON number",
        ),
        ('name "w"\njob "a" {\n    comand "x"\n}\n', "kdl", 3, "unknown key 'comand'"),
        ('name "w"\njob "a" {\n    command "x"\n', "kdl", 2, "not KDL"),
        ('name "w"\nname "v"\njob "a" {\n    command "x"\n}\n', "kdl", 2, "given twice (first on line 1)"),
        ('name "w"\n/* a\n comment */\njob "a" "b" {\n    command "x"\n}\n', "kdl", 4, "one too many"),
        ("", "kdl", 1, "it is empty"),
        ("", "json5", 1, "not JSON5"),
    ],
)
def test_the_form_is_called_by_its_name(text: str, form: Form, line: int, said: str) -> None:
    found = problems(text, form)
    assert found[0].startswith(f"w:{line}: "), found
    assert said in found[0]


def test_the_form_goes_by_the_files_name() -> None:
    assert [form_of(f"a/b.{end}") for end in ("yaml", "yml", "json", "JSON5", "kdl", "txt")] == [
        "yaml",
        "yaml",
        "json",
        "json5",
        "kdl",
        "yaml",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name "x', "w:1: not KDL: a text begins here"),
        ('name "w"\nx """', "w:2: not KDL: a text begins here"),
        ('name "w"\n/* /* */', "w:2: not KDL: a comment begins here"),
        ('name "w"\njob "a" {\n', "w:2: not KDL: the { of this node is not closed"),
        ('name "w"\n}', "w:2: not KDL: } closes nothing"),
        ('name "w"\njob "a" {\n  command "x"\n  env { X=1=2 }\n}', "w:4: not KDL: "),
        ('name "w"\n/-job "z" { no 1; }\njob "a" {\n/* { " */\ncommand r#"y"#; comand \\\n 1\n}', "w:5: unknown key"),
        ('name "w"\n' + "a {\n" * 100_000, "w:22: nested more than 20 levels deep"),
    ],
)
def test_what_is_wrong_in_kdl_has_its_line(text: str, told: str) -> None:
    assert problems(text, "kdl")[0].startswith(told)


@pytest.mark.parametrize("form", ["yaml", "json", "json5"])
def test_a_list_in_a_list_without_end_is_refused(form: Form) -> None:
    text = "{name: w, jobs: " if form == "yaml" else '{"name": "w", "jobs": '
    assert "nested more than 20 levels deep" in problems(text + "[" * 100 + "]" * 100 + "}", form)[0]


# --- limits --------------------------------------------------------------------------------------------------------


def test_a_number_of_five_thousand_digits_is_a_text_like_others() -> None:
    text = '{"name": "w", "jobs": [{"name": "a", "command": "x", "env": {"N": %s}}]}' % ("9" * 5000)
    assert parse_workflow(text, "w", "json").jobs[0].env["N"] == "9" * 5000
    as_priority = '{"name": "w", "jobs": [{"name": "a", "command": "x", "priority": %s}]}' % ("9" * 5000)
    assert "must be a whole number" in problems(as_priority, "json")[0]


def test_a_regular_expression_that_takes_for_ever_does_not() -> None:
    jobs = f"- {{name: {'a' * 40}, command: x}}\n- {{name: b, command: x, depends_on_regexes: ['(a+)+b']}}\n"
    began = time.monotonic()
    found = problems("name: w\njobs:\n" + jobs)
    assert "(a+)+b" in found[0]
    assert time.monotonic() - began < 30


def test_combinations_are_counted_before_they_are_made() -> None:
    parameters = ", ".join(f"{name}: '1:1000000'" for name in "abc")
    began = time.process_time()
    found = problems(f"name: w\njobs:\n- {{name: 'x{{a}}{{b}}{{c}}', command: x, parameters: {{{parameters}}}}}\n")
    assert f"make {10**18} jobs of one" in found[0]
    assert time.process_time() - began < 1
