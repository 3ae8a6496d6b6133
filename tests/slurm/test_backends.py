"""Steps with every kind of end on a real Slurm, through each available backend of accounting.

pyslurm must be built for the cluster's own Slurm: only ``ci/test-slurm-versions`` does that.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from backends import assert_same_row
from real_slurm import Lab

from torc_slurm.records.accounting import COLUMN_NAMES

pytestmark = pytest.mark.slurm

HAS_PYSLURM = importlib.util.find_spec("pyslurm") is not None
STEP = "srun --exact --nodes=1 --ntasks=1 --mem=60"
ENDS = rf"""
{STEP} -J completed torc-step -- python3 -c 'x = bytearray(30_000_000); import time; time.sleep(2.5)'
{STEP} -J short torc-step -- true
{STEP} -J exits_3 torc-step -- sh -c 'exit 3'
{STEP} -J exits_200 sh -c 'exit 200'
{STEP} -J sigterm sh -c 'kill -TERM $$'
{STEP} -J sigsegv torc-step -- sh -c 'ulimit -c 0; kill -SEGV $$'
srun --nodes=2 --ntasks=4 --ntasks-per-node=2 --mem=200 -J two_nodes torc-step -- sleep 2.5
{STEP} -J cancelled torc-step -- sleep 600 & sleep 3; scancel $SLURM_JOB_ID.7; wait
srun --ntasks=1 --mem=60 -J too_much torc-step -- python3 -c 'x = bytearray(300_000_000)'
exit 5
"""
STATES = {
    "completed": ("COMPLETED", 0, 0),
    "short": ("COMPLETED", 0, 0),
    "exits_3": ("FAILED", 3, 0),
    "sigterm": ("CANCELLED", 0, 15),
    "sigsegv": ("CANCELLED", 0, 11),
    "two_nodes": ("COMPLETED", 0, 0),
    "cancelled": ("CANCELLED", 0, 9),
    "batch": ("FAILED", 5, 0),
}
LIMIT = rf"""
{STEP} -J early torc-step -- true
{STEP} -J exits_0_on_term torc-step -- bash -c 'trap "exit 0" TERM; while :; do sleep 0.2; done' &
{STEP} -J over_limit torc-step -- sleep 600 &
trap 'wait; wait' TERM
wait; wait
"""
PREEMPTION = [
    "PreemptType=preempt/partition_prio",
    "PreemptMode=CANCEL",
    "PartitionName=urgent Nodes=ALL PriorityTier=100 DefaultTime=10 MaxTime=60 State=UP",
]
Item = dict[str, Any]


def accounting(lab: Lab, job: int, backend: str) -> dict[str, Item]:
    """The rows of one backend, by the steps' names; in an output directory without earlier answers."""
    words = ["torc", "slurm", "stats", "--all-steps", "-f", "json", "--slurm-job-id", str(job)]
    directory = lab.directory / f"out-{backend}-{job}"
    source = lab.directory / "torc_output" / "resource_utilization"
    lab.run_as_user(["mkdir", "-p", directory])
    lab.run_as_user(["cp", "-rT", source, directory / "resource_utilization"])
    done = lab.run_as_user([*words, "--output-dir", directory, "--accounting-backend", backend])
    assert "Traceback" not in done.stderr
    items: list[Item] = json.loads(done.stdout)["items"]
    return {item["step_name"]: item for item in items}


@pytest.fixture(scope="module")
def jobs(session_lab: Lab) -> dict[str, int]:
    """A job of steps with many kinds of end, one that reached its time limit, one that was cancelled."""
    lab = session_lab
    limit = lab.submit(LIMIT, "--time=1", "--ntasks=2", "--mem=300")
    ends = lab.submit(ENDS, "--nodes=2", "--ntasks-per-node=2", "--mem=500")
    cancelled = lab.submit(f"{STEP} -J running torc-step -- sleep 600", "--mem=100")
    lab.wait_running(cancelled, "0")
    lab.wait_for(lambda: list((lab.directory / "torc_output").rglob(f"*slurm{cancelled}_1.db")), "its first flush")
    lab.run(["scancel", str(cancelled)])
    for job in (cancelled, ends, limit):
        lab.wait_ended(job)
    return {"ends": ends, "limit": limit, "cancelled": cancelled, "lost": lost_with_its_node(lab)}


def lost_with_its_node(lab: Lab) -> int:
    node = lab.nodes[1]
    job = lab.submit(f"{STEP} -J lost torc-step -- sleep 600", "--mem=100", f"--nodelist={node}", "--no-requeue")
    lab.wait_running(job, "0")
    lab.wait_for(lambda: list((lab.directory / "torc_output").rglob(f"*slurm{job}_1.db")), "its first flush")
    lab.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"])
    lab.wait_for(lambda: lab.states(job).get(str(job)) == "NODE_FAIL", "the job to be lost")
    lab.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)  # may be back by itself
    lab.wait_for(lambda: "idle" in lab.run(["sinfo", "-h", "-n", node, "-o", "%t"]).stdout, "the node to be back")
    return job


def test_pyslurm_is_there_where_it_was_made() -> None:
    assert HAS_PYSLURM or not os.environ.get("TORC_TEST_PYSLURM")


def test_steps_of_every_end(lab: Lab, jobs: dict[str, int]) -> None:
    found = accounting(lab, jobs["ends"], "sacct")
    ends = {name: (row["state"], row["exit_code"], row["exit_signal"]) for name, row in found.items()}
    assert {name: ends[name] for name in STATES} == STATES
    if lab.env["TORC_LAB_CGROUP"] == "on":
        assert (ends["too_much"][0], found["too_much"]["job_status"]) == ("OUT_OF_MEMORY", "oom")
    assert found["completed"]["status"] == "found"
    assert 30_000_000 < found["completed"]["max_rss_bytes"] < 80_000_000
    assert found["cancelled"]["job_status"] == "cancelled"
    limit = accounting(lab, jobs["limit"], "sacct")
    assert (limit["over_limit"]["job_status"], limit["over_limit"]["job_state"]) == ("timeout", "TIMEOUT")
    exits_0 = limit["exits_0_on_term"]
    assert (exits_0["job_status"], exits_0["return_code"]) == ("timeout", 0), exits_0["job_status_evidence"]
    assert limit["early"]["job_status"] == "completed"
    assert accounting(lab, jobs["cancelled"], "sacct")["running"]["job_status"] == "cancelled"
    assert accounting(lab, jobs["lost"], "sacct")["lost"]["job_status"] == "node_fail"


def test_a_preempted_job(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(*(word for line in PREEMPTION for word in ("--slurm-conf-line", line)))
    body = f"{STEP} -J in_the_way torc-step -- sleep 600"
    job = lab.submit(body, "--exclusive", "--mem=0", f"--nodelist={lab.nodes[0]}", "--no-requeue")
    lab.wait_running(job, "0")
    lab.wait_for(lambda: list((lab.directory / "torc_output").rglob(f"*slurm{job}_1.db")), "its first flush")
    lab.submit("true", "--partition=urgent", "--exclusive", f"--nodelist={lab.nodes[0]}")
    lab.wait_ended(job)
    row = accounting(lab, job, "sacct")["in_the_way"]
    assert (row["job_status"], row["job_state"]) == ("preempted", "PREEMPTED")


@pytest.mark.parametrize("kind", ["ends", "limit", "cancelled", "lost"])
def test_every_backend_that_there_is_has_the_same_rows(kind: str, lab: Lab, jobs: dict[str, int]) -> None:
    sacct_has = accounting(lab, jobs[kind], "sacct")
    pyslurm_has = accounting(lab, jobs[kind], "auto")
    assert {item["backend"] for item in pyslurm_has.values()} == {"pyslurm" if HAS_PYSLURM else "sacct"}
    assert pyslurm_has.keys() == sacct_has.keys()
    for name, item in sacct_has.items():
        assert_same_row({key: pyslurm_has[name].get(key) for key in _COLUMNS}, {key: item.get(key) for key in _COLUMNS})
        assert pyslurm_has[name]["job_status"] == item["job_status"]


# Under these three names an item has the wrapper's values; Slurm's have longer names.
_COLUMNS = {*COLUMN_NAMES} - {"start_time", "end_time", "task_count"} | {
    "slurm_start_time",
    "slurm_end_time",
    "slurm_task_count",
}


def test_auto_says_why_it_asked_sacct(lab: Lab, jobs: dict[str, int]) -> None:
    words = ["torc", "slurm", "stats", "--all-steps", "--slurm-job-id", str(jobs["cancelled"])]
    directory = lab.directory / "out-auto"
    lab.run_as_user(["mkdir", "-p", directory])
    variables = {"TORC_ACCOUNTING_BACKEND": "auto", "TORC_OUTPUT_DIR": str(directory)}
    done = lab.run_as_user(words, env=variables)
    assert ("pyslurm is not installed: torc used sacct" in done.stderr) is not HAS_PYSLURM
    assert "running" in done.stdout


def test_a_backend_that_there_is_not(lab: Lab) -> None:
    words = ["torc", "slurm", "stats", "--slurm-job-id", "1"]
    for options, variables in ((["--accounting-backend", "db"], {}), ([], {"TORC_ACCOUNTING_BACKEND": "db"})):
        done = lab.run_as_user([*words, *options], check=False, env=variables)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert "'db'" in line
        assert "pyslurm" in line
