"""A workflow file becomes a checked workflow, or one clear line for each error."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from torc_slurm.common.errors import InputError, SpecError
from torc_slurm.spec.load import load_workflow, parse_workflow
from torc_slurm.spec.workflow import Monitor, Requirement, Workflow

DEMO = """\
name: demo
resource_monitor: {enabled: true, granularity: time_series, sample_interval_seconds: 1}
resource_requirements:
  - {name: small, num_cpus: 1, memory: 500m, runtime: PT5M}
  - {name: train, num_cpus: 4, memory: 8g, runtime: PT2H}
slurm_schedulers:
  - {name: main, account: myproject, partition: debug, nodes: 2, walltime: "04:00:00"}
jobs:
  - {name: "prepare_{i}", command: "python prepare.py {i}", resource_requirements: small, parameters: {i: "1:10"}}
  - {name: train_model, command: python train.py, resource_requirements: train, depends_on_regexes: ["prepare_.*"]}
"""


def parse(text: str) -> Workflow:
    return parse_workflow(text, "w.yaml")


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(text)
    return caught.value.problems


def test_the_example() -> None:
    workflow = parse(DEMO)
    assert workflow.monitor == Monitor(granularity="time_series", sample_interval_seconds=1.0)
    assert workflow.requirements[1] == Requirement("train", num_cpus=4, memory="8g", runtime="PT2H")
    assert [job.name for job in workflow.jobs] == [f"prepare_{i}" for i in range(1, 11)] + ["train_model"]
    assert workflow.jobs[4].command == "python prepare.py 5"
    assert workflow.jobs[10].depends_on == tuple(range(10))
    assert workflow.schedulers[0].walltime == "04:00:00"
    assert not workflow.warnings


def test_json_means_the_same_as_yaml(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(DEMO)
    (tmp_path / "w.json").write_text(json.dumps(yaml.safe_load(DEMO), indent="\t"))
    assert load_workflow(str(tmp_path / "w.json")) == load_workflow(str(tmp_path / "w.yaml"))


def test_what_yaml_would_turn_into_something_else_stays_as_written() -> None:
    workflow = parse(
        "name: 007\n"
        "slurm_schedulers: [{name: no, walltime: 10:30:00, account: 0x10, mem: 1.5g}]\n"
        "jobs:\n- {name: yes, command: true, env: {A: 0.10, B: off, C: 2020-01-01, D: ''}}\n"
    )
    assert (workflow.name, workflow.jobs[0].name, workflow.jobs[0].command) == ("007", "yes", "true")
    assert workflow.jobs[0].env == {"A": "0.10", "B": "off", "C": "2020-01-01", "D": ""}
    scheduler = workflow.schedulers[0]
    assert (scheduler.name, scheduler.walltime, scheduler.account, scheduler.mem) == ("no", "10:30:00", "0x10", "1536M")


def test_a_key_without_a_value_is_a_key_not_written() -> None:
    assert parse("name: a\nresource_requirements:\njobs:\n- name: a\n  command: b\n  env:\n").requirements == ()


def test_anchors_and_merge_keys() -> None:
    workflow = parse("name: a\njobs:\n- &one {name: a, command: b, env: {X: 1}}\n- {<<: *one, name: c}\n")
    assert [(job.name, job.command, job.env["X"]) for job in workflow.jobs] == [("a", "b", "1"), ("c", "b", "1")]


def test_options_are_lists_or_lines() -> None:
    workflow = parse(
        "name: a\nexecution_config: {srun_options: --mpi=pmix --cpu-bind=cores}\n"
        'slurm_schedulers: [{name: s, extra: ["--comment=a b"], setup: "module load x\\nexport Y=\'1 2\'"}]\n'
        "slurm_defaults: {mail_type: END, requeue: true}\n"
        "jobs:\n- {name: a, command: b, srun_options: [--label]}\n"
    )
    assert workflow.execution.srun_options == ("--mpi=pmix", "--cpu-bind=cores")
    assert workflow.schedulers[0].extra == ("--comment=a b",)
    assert workflow.schedulers[0].setup == ("module load x", "export Y='1 2'")
    assert workflow.slurm_defaults == {"mail-type": "END", "requeue": True}
    assert workflow.jobs[0].srun_options == ("--label",)


def test_parameters_reach_every_text_of_a_job() -> None:
    job = parse(
        "name: a\nresource_requirements: [{name: r1}]\njobs:\n- {name: first_01, command: x}\n"
        "- name: second_{i:02d}\n  command: awk '{print}' ${HOME} {i}\n  resource_requirements: r{i}\n"
        "  working_dir: /d/{i}\n  env: {N: '{i}'}\n  srun_options: ['--label={i}']\n"
        "  depends_on: first_{i:02d}\n  parameters: {i: [1]}\n"
    ).jobs[1]
    assert (job.name, job.command) == ("second_01", "awk '{print}' ${HOME} 1")
    assert (job.requirement, job.working_dir, job.env, job.srun_options) == ("r1", "/d/1", {"N": "1"}, ("--label=1",))
    assert job.depends_on == (0,)


def test_a_regular_expression_means_whole_names_and_never_the_job_itself() -> None:
    workflow = parse("name: a\njobs:\n- {name: a, command: x}\n- {name: ab, command: x, depends_on_regexes: 'a.*'}\n")
    assert workflow.jobs[1].depends_on == (0,)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            DEMO.replace("command: python", "comand: python"),
            10,
            "unknown key 'comand' in jobs[2]; did you mean 'command'",
        ),
        (DEMO.replace("num_cpus: 4", "cpus: 4"), 5, "did you mean 'num_cpus'"),
        (DEMO.replace("depends_on", "memory: 8g, depends_on"), 10, "'memory' in jobs[2]; it is a key of"),
        (DEMO.replace("enabled: true", "actions: []"), 2, "'actions' in resource_monitor; it is a top-level key"),
        (DEMO.replace("name: demo", "name: demo\nwalltime: 1"), 2, "'walltime'; it is a key of 'slurm_schedulers'"),
        (DEMO.replace("granularity", "zzz"), 2, "unknown key 'zzz' in resource_monitor; known are enabled,"),
        (DEMO.replace("time_series", "series"), 2, "granularity 'series' must be 'summary' or 'time_series'"),
        (DEMO.replace("resource_requirements: train", "resource_requirements: tran"), 10, "did you mean 'train'"),
        (DEMO.replace("memory: 8g", "memory: 8x"), 5, "memory '8x' is not understood"),
        (DEMO.replace("memory: 8g", "memory: 800"), 5, ": memory '800' is not understood"),
        (DEMO.replace("PT2H", "2 hours"), 5, ": runtime '2 hours' is not understood"),
        (DEMO.replace("num_cpus: 4", "num_cpus: 4, ntasks_per_node: 3"), 5, "cannot be divided"),
        (DEMO.replace("num_cpus: 4", "num_cpus: four"), 5, "num_cpus 'four' must be a whole number in resource_req"),
        (DEMO.replace("num_cpus: 4", "num_cpus: 0"), 5, "must be at least 1"),
        (DEMO.replace("nodes: 2", "nodes: 0"), 7, "must be at least 1"),
        (DEMO.replace("sample_interval_seconds: 1", "sample_interval_seconds: 0"), 2, "must be at least 0.1"),
        (DEMO.replace("sample_interval_seconds: 1", "sample_interval_seconds: x"), 2, "must be a number"),
        (
            DEMO.replace("sample_interval_seconds: 1", "sample_interval_seconds: nan"),
            2,
            "sample_interval_seconds 'nan'",
        ),
        (DEMO.replace("enabled: true", "enabled: maybe"), 2, "must be true or false"),
        (DEMO.replace("04:00:00", "4 hours"), 7, "'4 hours' is not understood"),
        (DEMO.replace("04:00:00", "0"), 7, "more than 0"),
        (DEMO.replace("name: train_model", "name: prepare_3"), 10, "two jobs named 'prepare_3'"),
        (
            DEMO.replace("name: train,", "name: small,").replace("requirements: train", "requirements: small"),
            5,
            "twice",
        ),
        (DEMO.replace('"prepare_{i}"', "prepare"), 9, "must contain every parameter"),
        (DEMO.replace("1:10", "10:1"), 9, "nothing lies in the range '10:1'"),
        (DEMO.replace('"python prepare.py {i}"', '"{i:zz}"'), 9, "{i:zz} cannot format '1'"),
        (DEMO.replace("prepare_.*", "prepare"), 10, "no job's whole name fits"),
        (DEMO.replace("prepare_.*", "("), 10, "not a regular expression"),
        (
            DEMO.replace('depends_on_regexes: ["prepare_.*"]', "depends_on: 'prepare_{i}'"),
            10,
            "there is no job 'prepare_{i}'",
        ),
        (DEMO.replace("command: python train.py,", ""), 10, "'command' is missing in jobs[2]"),
        (DEMO.replace("command: python train.py", "command: ''"), 10, "must not be empty"),
        (DEMO.replace("command: python train.py", "command: [a]"), 10, "command must be a text in jobs[2]"),
        (DEMO.replace("command: python train.py", 'command: "a\\0b"'), 10, "NUL"),
        (DEMO.replace("command: python train.py", "command: " + "x" * 200_000), 10, "put it into a script"),
        (DEMO.replace("command: python train.py", "command: x, env: {A B: 1}"), 10, "'A B' cannot be the name"),
        (DEMO.replace("command: python train.py", "command: x, srun_options: [mpi]"), 10, "'mpi' is not an option"),
        (DEMO + "slurm_defaults: {array: 1-3}\n", 11, "--array cannot be given here"),
        (DEMO + "jobs: []\n", 11, "key 'jobs' is given twice (first on line 8)"),
        ("name: a\njobs: []\n", 2, "must have at least one"),
        ("name: a\njobs: 5\n", 2, "must be a list"),
        ("name: a\njobs:\n- a\n", 3, "must be a mapping"),
        ("- a\n", 1, "must be a mapping"),
        ("jobs:\n- {name: a, command: b}\n", 1, "'name' is missing"),
        ("", 1, "it is empty"),
        ("name: a\njobs:\n\t- a\n", 3, "never by tabs"),
        ("name: [\n", 2, "not YAML"),
        ("name: !!python/object/apply:os.system [x]\njobs:\n- {name: a, command: b}\n", 1, "means nothing here"),
        *(
            (opening * times, 1, "nested more than 20 levels deep")
            for opening in ("[", "{a: ", "['[', ", "- ")
            for times in (21, 900, 5000, 100_000)
        ),
        ("name: a\njobs:\n- " + "[\n" * 5000, 21, "nested more than 20 levels deep"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(3000)), 21, "nested more than 20 levels deep"),
        ("name: a\njobs: '" + "[" * 30 + "'\nc: [\n", 4, "not YAML"),
    ],
)
def test_an_error_names_its_line(text: str, line: int, said: str) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert found[0].startswith(f"w.yaml:{line}: "), found
    assert said in found[0]
    assert "\n" not in found[0]


@pytest.mark.parametrize(
    ("dependencies", "cycle"),
    [
        ({"a": ["a"]}, "'a' waits for 'a'"),
        ({"a": ["b"], "b": ["a"]}, "'a' waits for 'b' waits for 'a'"),
        ({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}, "'a' waits for 'b' waits for 'c' waits for 'a'"),
    ],
)
def test_a_cycle_names_its_jobs(dependencies: dict[str, list[str]], cycle: str) -> None:
    jobs = [{"name": name, "command": "x", "depends_on": others} for name, others in dependencies.items()]
    found = problems(yaml.safe_dump({"name": "w", "jobs": jobs}))
    assert len(found) == 1
    assert cycle in found[0]


def test_a_long_chain_is_no_trouble_and_a_long_cycle_is_cut() -> None:
    def chain(first: str) -> str:
        jobs = "".join(f"- {{name: j{i}, command: x, depends_on: j{i - 1}}}\n" for i in range(1, 5000))
        return f"name: a\njobs:\n- {{name: j0, command: x{first}}}\n{jobs}"

    assert parse(chain("")).jobs[4999].depends_on == (4998,)
    assert len(problems(chain(", depends_on: j4999"))[0]) < 300


def test_all_errors_are_listed_in_the_order_of_lines() -> None:
    text = DEMO.replace("memory: 8g", "memory: 8x").replace("command: python train.py", "comand: x")
    assert [re.sub(r"^w.yaml:(\d+).*", r"\1", problem) for problem in problems(text)] == ["5", "10"]


def test_many_problems_are_cut_at_a_bound() -> None:
    with pytest.raises(SpecError) as caught:
        parse("name: a\njobs:\n" + "- {name: a}\n" * 100)
    assert len(caught.value.lines) == 21
    assert caught.value.lines[-1] == "… and 80 more problems"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (DEMO.replace("python train.py", "srun ./a.out"), 10, "ntasks_per_node"),
        (DEMO.replace("python train.py", "mpirun -n 4 ./a.out"), 10, "ntasks_per_node"),
        (DEMO.replace("sample_interval_seconds: 1", "sample_interval_seconds: 10"), 4, "30 samples"),
        (DEMO.replace("prepare.py {i}", "prepare.py ${i}"), 9, "written {i}"),
    ],
)
def test_warnings(text: str, line: int, said: str) -> None:
    warnings = parse(text).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith(f"w.yaml:{line}: ")
    assert said in warnings[0]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_workflow(str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match="cannot be read"):
        load_workflow(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes(b"name: a\n# caf\xe9\n")
    with pytest.raises(SpecError, match=":2: not UTF-8"):
        load_workflow(str(tmp_path / "latin.yaml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "a",\n "jobs": [],}', ":2: not JSON"),
        ('{"name": "a",\n "name": "b"}', ":2: key 'name' is given twice"),
        ("\n" + "[" * 100_000, ":2: nested more than 20 levels deep"),
        ('{"name": "a\\u0000", "jobs": [{"name": "a", "command": "b"}]}', "NUL"),
    ],
)
def test_wrong_json(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=re.escape(said)):
        parse_workflow(text, "w.json", "json")


def test_characters_of_json_that_yaml_would_change() -> None:
    name = "\U0001f40d \u2028 \x85 \x7f / \\ud83d"
    found = parse_workflow(json.dumps({"name": "a", "jobs": [{"name": name, "command": "x"}]}), "w", "json")
    assert found.jobs[0].name == name
    raw = json.dumps({"name": "a", "jobs": [{"name": name, "command": "x"}]}, ensure_ascii=False)
    assert parse_workflow(raw, "w", "json").jobs[0].name == name
