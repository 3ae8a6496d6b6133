"""Steps over several machines: a file per node, totals and the largest node, and a node that dies in the middle."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator

import pytest
from machines import OFTEN, Machines

pytestmark = pytest.mark.cluster

MB = 1_000_000
# Task 0, on c1, holds the most; every task lives for 3 s.
HOLD_BY_TASK = (
    "import os, time; held = bytearray([60, 20, 10, 10][int(os.environ['SLURM_PROCID'])] * 1000000); time.sleep(3)"
)


@pytest.mark.cluster_in_ci
def test_totals_and_the_largest_node(machines: Machines) -> None:
    hold = f"python3 -ISc {shlex.quote(HOLD_BY_TASK)}"
    body = f"srun -N2 -n4 --ntasks-per-node=2 torc-step {OFTEN} -- {hold}\n"
    job = machines.run_job(body, "-N2", "--ntasks-per-node=2", "--mem=300M")
    item = machines.stats(job)["0"]
    assert (item["measured_node_count"], item["recorded_task_count"]) == (2, 4)
    assert item["peak_memory_node"] == "c1"
    assert 80 * MB <= item["peak_memory_bytes"] < 120 * MB
    nodes = {row["node"]: row for row in machines.rows("SELECT * FROM steps JOIN step_usage ON step = steps.id")}
    assert set(nodes) == {"c1", "c2"}
    assert nodes["c2"]["peak_memory_bytes"] < nodes["c1"]["peak_memory_bytes"] == item["peak_memory_bytes"]
    total = sum(row["peak_memory_bytes"] for row in nodes.values())
    assert item["all_nodes_peak_memory_bytes"] == total
    assert item["all_nodes_cpu_seconds"] == pytest.approx(sum(row["cpu_seconds"] for row in nodes.values()))
    assert item["cpu_seconds"] == max(row["cpu_seconds"] for row in nodes.values())


def test_a_node_that_loses_power_leaves_its_last_flush_and_the_allocation_goes_on(machines: Machines) -> None:
    steps = [
        f"srun --no-kill -N1 -w c2 -n1 --overlap torc-step {OFTEN} -- sleep 300",
        "echo lost $?",
        f"srun -N1 -w c1 -n1 --overlap torc-step {OFTEN} -- sleep 1",
        "echo went on $?",
    ]
    job = machines.submit("\n".join([*steps, ""]), "-N2", "--no-kill", "--mem=0", "--exclusive")
    machines.wait_running(job, "0")
    machines.wait_for(lambda: _flushed_since(machines, 3), "three seconds of the first step to be recorded")
    with without_power(machines, "c2"):
        machines.wait_ended(job, accounted=False)
        assert "went on 0" in machines.output(job)
        items = machines.stats(job)
        assert items["1"]["job_status"] == "completed"
        lost = items["0"]
        assert lost["job_status"] in ("node_fail", "cancelled", "failed")
        assert lost["return_code"] is None
        assert lost["end_time_source"] in ("last flush", "accounting")
        assert lost["peak_memory_bytes"] > 0
        assert lost["sample_count"] > 5


WORKFLOW = """\
name: loses_a_node
resource_requirements: [{name: half, num_cpus: 2, memory: 100m, runtime: PT5M}]
failure_handlers: [{name: again, rules: [{match_all_exit_codes: true, max_retries: 1}]}]
jobs:
- {name: "long_{i}", parameters: {i: "1:4"}, resource_requirements: half, failure_handler: again, command: bash long.sh}
- {name: after, resource_requirements: half, depends_on: [long_1, long_2, long_3, long_4], command: "true"}
"""
# The first attempt on c2 ends only with its node.
LONG = """\
[ $TORC_ATTEMPT_ID = 1 ] || exit 0
touch begun_$TORC_JOB_NAME.$SLURMD_NODENAME
[ $SLURMD_NODENAME = c1 ] || sleep 600
until [ -e go ]; do sleep 1; done
"""


def test_a_workflow_goes_on_after_a_node_lost_power(machines: Machines) -> None:
    """Jobs of the other node complete; those of the lost one say why they ended and run again on the other."""
    for name, text in (("w.yaml", WORKFLOW), ("long.sh", LONG)):
        machines.run(["tee", name], user=machines.user, stdin=text)
    whole_nodes = ["-N2", "--exclusive", "--mem=0", "--no-kill"]
    answer = json.loads(machines.run_as_user(["torc", "-f", "json", "submit", "w.yaml", "--", *whole_nodes]).stdout)
    here = f"ls /srv{machines.directory}"
    machines.wait_for(lambda: machines.shell(here).count("begun_") == 4, "four jobs to begin")
    assert machines.shell(here).count(".c2") == 2
    with without_power(machines, "c2"):
        lost = "SELECT job_name FROM job_states WHERE state = 'node_fail'"
        machines.wait_for(lambda: len(machines.rows(lost)) == 2, "Slurm to give the node up", seconds=180)
        # there, because c1 caches for minutes that the file is missing
        machines.shell("touch go", user=machines.user, machine="c1")
        machines.wait_ended(answer["slurm_job_id"], accounted=False)
        results = json.loads(machines.run_as_user(["torc", "-f", "json", "results", "list", "1"]).stdout)["items"]
        ends = {(row["job_name"], row["attempt_id"]): row["status"] for row in results}
        statuses = json.loads(machines.run_as_user(["torc", "-f", "json", "jobs", "list", "1"]).stdout)["items"]
        assert {job["status"] for job in statuses} == {"completed"}
        assert sorted(ends.values()) == ["completed"] * 5 + ["node_fail"] * 2
        said = machines.shell(f"cat {machines.directory}/torc_output/slurm_output_wf1_*.o", user=machines.user)
        assert "attempt 1: srun: error: Node failure on c2; torc retries it (1 of 1)" in said
        assert said.count("node c2 is lost: no more jobs are started there") == 1


@contextlib.contextmanager
def without_power(machines: Machines, node: str) -> Iterator[None]:
    """The node loses power; at the end it boots again and accepts jobs."""
    machines.fault(f"node-crash:{node}")
    try:
        yield
    finally:
        machines.fault(f"node-boot:{node}")
        machines.wait_for(lambda: (machines.cluster.share / "ready" / node).exists(), f"{node} to boot")
        machines.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)
        machines.wait_idle()


def _flushed_since(machines: Machines, seconds: float) -> bool:
    try:
        rows = machines.rows("SELECT last_flush_time - begin_time AS recorded FROM steps")
    except AssertionError:  # there is no file yet
        return False
    return any(row["recorded"] > seconds for row in rows)


def test_clocks_that_differ_by_minutes(machines: Machines) -> None:
    """c2 is 100 s ahead of c1 and of the login node: Slurm still accepts it (a credential is valid for 120 s)."""
    machines.shell("date -s '+100 seconds'", machine="c2")
    try:
        body = f"srun -N2 -n2 torc-step {OFTEN} -- sleep 2\nsrun -N1 -n1 -w c2 torc-step {OFTEN} -- sleep 2\n"
        job = machines.run_job(body, "-N2", "--mem=200M")
        for number, item in machines.stats(job).items():
            assert (item["job_status"], item["status"]) == ("completed", "found"), number
            assert 1.9 < item["exec_time_seconds"] < 20, number
            assert item["end_time"] - item["start_time"] < 20 or number == "0"
        samples = machines.rows(
            "SELECT max(timestamp) - min(timestamp) AS span FROM job_resource_samples GROUP BY job_id"
        )
        assert max(row["span"] for row in samples) < 20
    finally:
        machines.shell("date -s '-100 seconds'", machine="c2")
