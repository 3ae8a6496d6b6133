"""Isolation of a job from its node: /proc with hidepid=2, and a private /tmp for each job."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from machines import OFTEN, Machines

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def closed(make_machines: Callable[..., Machines]) -> Machines:
    return make_machines("--nodes", "1", "--proc", "hidepid=2", "--private-tmp")


@pytest.fixture
def isolated(closed: Machines) -> Machines:
    closed.wait_idle()
    closed.enter_new_directory()
    return closed


def test_the_tasks_of_a_step_share_one_monitor(isolated: Machines) -> None:
    """root's slurmstepd is hidden from the job: environment and cgroup identify the tasks of one step."""
    assert isolated.run(["ls", "-d", "/proc/1"], user=isolated.user, check=False, machine="c1").returncode != 0
    body = f"srun -n3 torc-step {OFTEN} -- bash -c 'ps -e -o comm= | grep -c torc-sampler; sleep 2'\n"
    job = isolated.run_job(body, "-n3", "--mem=300M")
    item = isolated.stats(job)["0"]
    assert (item["job_status"], item["recorded_task_count"], item["measured_node_count"]) == ("completed", 3, 1)
    assert item["sample_count"] > 3
    assert item["peak_memory_source"] in ("cgroup_v2", "vmhwm", "wait4")
    (row,) = isolated.rows("SELECT count(*) AS steps FROM steps")
    assert row["steps"] == 1


def test_two_jobs_on_one_node_whose_tmp_are_apart(isolated: Machines) -> None:
    """They do not see each other's locks: each allocation has its own file, or they would write at the same time."""
    body = f"cat /tmp/mine 2>/dev/null && exit 9; echo $SLURM_JOB_ID > /tmp/mine; srun torc-step {OFTEN} -- sleep 3\n"
    jobs = [isolated.submit(body, "-n1", "--mem=100M") for _ in range(2)]
    for job in jobs:
        isolated.wait_ended(job)
    for job in jobs:
        item = isolated.stats(job)["0"]
        assert (item["job_status"], item["return_code"]) == ("completed", 0)
        assert item["sample_count"] > 5
    checks = [row["integrity_check"] for row in isolated.rows("PRAGMA integrity_check")]
    assert set(checks) == {"ok"}


def test_an_oom_kill_is_seen(isolated: Machines) -> None:
    body = "srun -n1 --mem=60M torc-step -- python3 -ISc 'held = bytearray(100000000)'\n"
    item = isolated.stats(isolated.run_job(body, "-n1", "--mem=100M"))["0"]
    assert (item["job_status"], item["oom_kills"]) == ("oom", 1)
