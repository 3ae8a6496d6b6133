"""Which step this is: from cgroup paths and slurmstepd's title as real Slurms write them, and from the environment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm import identity

V1 = "9:name=systemd:/\n6:freezer:/slurm_n1/uid_1/job_4/step_0\n4:memory:/slurm_n1/uid_1/job_4/step_0/task_0\n0::/\n"
V2 = "0::/system.slice/slurmstepd.scope/job_12/step_3/user/task_1\n"
NAMED_BY_SLUID = "0::/system.slice/slurmstepd.scope/s3FA2K/step_batch/user/task_0\n"


@pytest.mark.parametrize(
    ("text", "job", "step"),
    [
        (V1, "4", "0"),
        (V2, "12", "3"),
        (NAMED_BY_SLUID, "7", "batch"),
        (V2, "13", None),  # another job's: SLURM_JOB_ID was inherited
        ("0::/user.slice/session-2.scope\n", "4", None),
        ("", "4", None),
    ],
)
def test_the_step_that_a_cgroup_path_names(text: str, job: str, step: str | None) -> None:
    assert identity.step_from_cgroup(text, job) == step


@pytest.mark.parametrize(
    ("title", "step"),
    [
        ("slurmstepd: [12.0]", "0"),
        ("slurmstepd: [12.batch]", "batch"),
        ("slurmstepd: [12+1.3]", "3"),
        ("slurmstepd: [13.0]", None),
        ("slurmstepd", None),
    ],
)
def test_the_step_that_slurmstepds_title_names(title: str, step: str | None) -> None:
    assert identity.step_from_title(title, "12") == step


@pytest.mark.parametrize(("text", "counts"), [("2(x3),1", [2, 2, 2, 1]), ("4", [4]), ("1,2(x2)", [1, 2, 2])])
def test_slurms_counts_per_node(text: str, counts: list[int]) -> None:
    assert identity.tasks_per_node(text) == counts


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 9)), min_size=1))
def test_counts_per_node_are_as_many_as_slurm_says(groups: list[tuple[int, int]]) -> None:
    text = ",".join(f"{count}(x{times})" for count, times in groups)
    assert identity.tasks_per_node(text) == [count for count, times in groups for _ in range(times)]


def test_outside_slurm_a_record_is_local_and_its_run_id_is_still_to_be_drawn() -> None:
    me = identity.identify({"SLURM_JOB_ID": ""}, {"output_dir": "/somewhere"})
    assert (me.slurm_job_id, me.workflow_id, me.run_id, me.job_id) == (None, None, None, 1)
    assert me.starts_the_monitor


def test_ids_in_the_environment_are_a_workflows_unless_they_were_inherited_from_a_measured_step() -> None:
    ids = {f"TORC_{name}_ID": "5" for name in ("WORKFLOW", "RUN", "JOB", "ATTEMPT")}
    assert identity.identify(ids, {}).workflow_id == 5
    assert identity.identify(ids | {identity.ACTIVE_VARIABLE: "slurm 1.0"}, {}).workflow_id is None


def test_file_names() -> None:
    assert identity.adhoc_node_file_name("n1", 12, 1) == "resource_metrics_n1_slurm12_1.db"
    assert identity.node_file_path("/o", "n1", "3", 2) == "/o/resource_utilization/resource_metrics_n1_3_2.db"
