"""A step's identity, from the environment, the cgroup's path and slurmstepd's title; and the names of its files."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.common.identity import (
    ACTIVE_VARIABLE,
    StepIdentity,
    absolute_output_dir,
    identify,
    named_step,
    step_from_cgroup,
    step_from_title,
    step_number,
    tasks_per_node,
)
from torc_slurm.files.output_names import node_file_of, node_file_path

HOST = os.uname().nodename.partition(".")[0]
IN_STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "2",
    "SLURM_JOB_NAME": "steps",
    "SLURMD_NODENAME": "n1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
OF_WORKFLOW = {
    "TORC_WORKFLOW_ID": "5",
    "TORC_RUN_ID": "2",
    "TORC_JOB_ID": "11",
    "TORC_JOB_NAME": "train",
    "TORC_ATTEMPT_ID": "3",
}


def step_of(**environ: str) -> StepIdentity:
    return identify(environ, {})


def test_outside_slurm() -> None:
    me = step_of()
    assert (me.workflow_id, me.run_id, me.job_id, me.attempt_id) == (None, None, 1, None)
    assert (me.slurm_job_id, me.step_id, me.node) == (None, None, HOST)
    assert me.output_dir == os.path.abspath("torc_output")
    assert not me.shares_a_monitor
    assert not me.owns_its_cgroup


def test_in_a_step() -> None:
    me = step_of(**IN_STEP)
    assert (me.slurm_job_id, me.step_id, me.node) == (7, "2", "n1")
    assert (me.job_id, me.job_name, me.run_id, me.attempt_id) == (2, "steps", 1, None)
    assert (me.task, me.local_task, me.local_task_count) == (3, 1, 2)
    assert (me.node_index, me.node_count, me.task_count) == (1, 2, 4)
    assert os.path.basename(node_file_of(me)) == "resource_metrics_n1_slurm7_1.db"


def test_the_tasks_of_a_step_share_a_monitor_with_any_parent() -> None:
    """A script may run between slurmstepd and torc-step; then the cgroup counts more than torc-step's tree."""
    assert step_of(**IN_STEP).shares_a_monitor
    assert not step_of(**IN_STEP).owns_its_cgroup
    assert not step_of(**IN_STEP | {"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}).shares_a_monitor


def test_a_further_torc_step_in_a_task_stands_alone() -> None:
    me = step_of(**IN_STEP)
    me.make_independent()
    assert not me.shares_a_monitor
    assert (me.task_count, me.node_count) == (1, 1)


def test_a_batch_script_without_visible_cgroup_and_slurmstepd() -> None:
    assert step_of(SLURM_JOB_ID="7", ENVIRONMENT="BATCH").step_id == "batch"


@pytest.mark.parametrize("missing", ["TORC_WORKFLOW_ID", "TORC_RUN_ID", "TORC_JOB_ID", "TORC_ATTEMPT_ID"])
def test_half_an_identity_is_another_programs(missing: str) -> None:
    """The Rust torc sets no run id: its variables are ignored, and its job runs."""
    me = step_of(**{name: value for name, value in OF_WORKFLOW.items() if name != missing})
    assert (me.workflow_id, me.job_id, me.attempt_id) == (None, 1, None)


@given(
    st.dictionaries(st.sampled_from(sorted(IN_STEP | OF_WORKFLOW | {"SLURM_RESTART_COUNT": ""})), st.text(max_size=8))
)
def test_no_environment_stops_a_job(environ: dict[str, str]) -> None:
    me = step_of(**IN_STEP | environ)
    assert me.local_task_count >= 1
    assert isinstance(me.active_mark, str)


def test_a_requeued_job_is_the_next_run() -> None:
    assert step_of(**IN_STEP, SLURM_RESTART_COUNT="2").run_id == 3


@pytest.mark.parametrize(
    ("number", "name"), [("4294967291", "batch"), ("4294967292", "extern"), ("4294967290", "interactive")]
)
def test_steps_that_stand_for_a_name(number: str, name: str) -> None:
    me = step_of(**IN_STEP | {"SLURM_STEP_ID": number})
    assert (me.step_id, me.job_id) == (name, int(number))
    assert (named_step(int(number)), step_number(name), named_step(4), step_number("x")) == (name, int(number), 4, None)
    assert (me.task, me.local_task_count, me.node_count) == (0, 1, 1)  # the step's variables describe another step


def test_an_array_task() -> None:
    me = step_of(**IN_STEP, SLURM_ARRAY_JOB_ID="6", SLURM_ARRAY_TASK_ID="4")
    assert (me.slurm_array, me.slurm_job_id) == ("6_4", 7)


def test_salloc_on_a_login_node_is_no_step() -> None:
    me = step_of(SLURM_JOB_ID="7", SLURM_JOB_NAME="interactive")
    assert (me.slurm_job_id, me.step_id) == (None, None)


def test_a_job_of_a_workflow() -> None:
    me = step_of(**OF_WORKFLOW)
    assert (me.workflow_id, me.run_id, me.job_id, me.job_name, me.attempt_id) == (5, 2, 11, "train", 3)
    assert os.path.basename(node_file_of(me)) == f"resource_metrics_{HOST}_5_2.db"


def test_options_go_before_the_environment() -> None:
    me = identify(OF_WORKFLOW, {"job_id": 12, "job_name": "other", "output_dir": "/data"})
    assert (me.job_id, me.job_name, me.output_dir, me.workflow_id) == (12, "other", "/data", 5)


def test_inside_another_measured_step_its_ids_are_not_inherited() -> None:
    """A job of a workflow that calls srun: the inner step's record must not replace the job's own."""
    environ = IN_STEP | OF_WORKFLOW | {ACTIVE_VARIABLE: "slurm 7.1", "TORC_OUTPUT_DIR": "/data"}
    me = identify(environ, {})
    assert (me.workflow_id, me.job_id, me.job_name, me.attempt_id) == (None, 2, "steps", None)
    assert me.output_dir == "/data"
    assert identify(environ, {"workflow_id": 9, "run_id": 1, "job_id": 1, "attempt_id": 1}).workflow_id == 9


def test_inside_the_same_measured_step_it_is_known() -> None:
    for environ in (IN_STEP | OF_WORKFLOW, IN_STEP, OF_WORKFLOW):
        mark = identify(environ, {}).active_mark
        again = identify(environ | {ACTIVE_VARIABLE: mark}, {})
        assert again.active_mark == mark
        assert again.workflow_id == identify(environ, {}).workflow_id


CGROUP_V1 = (
    "9:name=systemd:/\n4:memory:/slurm_n1/uid_0/job_7/step_2/task_0\n2:cpuacct:/slurm_n1/uid_0/job_7/step_2/task_0\n"
)
CGROUP_V2 = "0::/system.slice/slurmstepd.scope/job_7/step_2/user/task_0\n"
CGROUP_SLUID = "0::/system.slice/slurmstepd.scope/sA3ZDW2H8ZYK00/step_2/user/task_0\n"  # from 26.05


@pytest.mark.parametrize("text", [CGROUP_V1, CGROUP_V2, CGROUP_SLUID])
def test_the_step_that_a_cgroup_names(text: str) -> None:
    assert step_from_cgroup(text, "7") == "2"
    assert step_from_cgroup(text.replace("step_2", "step_batch"), "7") == "batch"


@pytest.mark.parametrize(
    "text", ["", "0::/\n", "0::/user.slice\n", "4:memory:/slurm_n1\n", CGROUP_V1.replace("job_7", "job_8")]
)
def test_a_cgroup_of_no_step_or_of_another_job(text: str) -> None:
    assert step_from_cgroup(text, "7") is None


@pytest.mark.parametrize(
    ("title", "step"),
    [
        ("slurmstepd: [7.2] ", "2"),
        ("slurmstepd: [7.batch]", "batch"),
        ("slurmstepd: [7+1.0]", "0"),
        ("slurmstepd: [8.2]", None),
        ("slurmstepd", None),
        ("", None),
        ("slurmstepd: [7]", None),
    ],
)
def test_the_step_that_slurmstepds_title_names(title: str, step: str | None) -> None:
    assert step_from_title(title, "7") == step


@pytest.mark.parametrize(
    ("text", "counts"), [("1", [1]), ("2(x3),1", [2, 2, 2, 1]), ("4,3(x2)", [4, 3, 3]), ("128(x2)", [128, 128])]
)
def test_tasks_per_node(text: str, counts: list[int]) -> None:
    assert tasks_per_node(text) == counts


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 9)), min_size=1))
def test_tasks_per_node_are_as_many_as_slurm_says(groups: list[tuple[int, int]]) -> None:
    text = ",".join(f"{count}(x{times})" for count, times in groups)
    assert tasks_per_node(text) == [count for count, times in groups for _ in range(times)]


def test_names_of_files() -> None:
    path = node_file_path("/data", "n1", "5", 2)
    assert path == "/data/resource_utilization/resource_metrics_n1_5_2.db"


def test_the_output_directory() -> None:
    assert absolute_output_dir("a", {"TORC_OUTPUT_DIR": "/b"}) == os.path.abspath("a")
    assert absolute_output_dir(None, {"TORC_OUTPUT_DIR": "/b"}) == "/b"
    assert absolute_output_dir(None, {"TORC_OUTPUT_DIR": ""}) == os.path.abspath("torc_output")
