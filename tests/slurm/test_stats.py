"""``torc slurm stats`` on a real Slurm, as the ordinary user who owns the jobs."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from real_slurm import Lab

pytestmark = pytest.mark.slurm

OFTEN = "--sample-interval-seconds 0.2 --flush-interval-seconds 1"


def stats(lab: Lab, job: int | str, *options: str, **variables: str) -> list[dict[str, Any]]:
    words = ["torc", "slurm", "stats", "--slurm-job-id", str(job), "-f", "json", *options]
    items: list[dict[str, Any]] = json.loads(lab.run_as_user(words, env=variables).stdout)["items"]
    return items


def stats_in_state(lab: Lab, job: int, state: str) -> list[dict[str, Any]]:
    """Ask until accounting has the job's own record. The steps' come first, pending and root's for a while."""
    wanted = [(state, "pending" if state == "RUNNING" else "found")]
    items: list[dict[str, Any]] = []

    def has_come() -> bool:
        items[:] = stats(lab, job)
        return [(item["state"], item["status"]) for item in items] == wanted

    lab.wait_for(has_come, f"Slurm to say {state} of job {job}, and no more to come")
    return items


def refused(lab: Lab, *words: str) -> str:
    """The one line of ``torc slurm stats`` for wrong input."""
    done: subprocess.CompletedProcess[str] = lab.run_as_user(["torc", "slurm", "stats", *words], check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.cluster_in_ci
def test_measured_and_bare_steps_side_by_side(lab: Lab) -> None:
    job = lab.submit("srun -n1 hostname\nsrun -n1 torc-step -- bash -c 'sleep 2; exit 3'\n", "-n1", "--mem=200M")
    lab.wait_ended(job)
    (item,) = stats_in_state(lab, job, "FAILED")
    assert (item["slurm_job_id"], item["step_id"], item["job_id"], item["run_id"]) == (job, "1", 1, 1)
    assert (item["state"], item["exit_code"], item["return_code"]) == ("FAILED", 3, 3)
    assert (item["status"], item["job_status"], item["workflow_id"]) == ("found", "failed", None)
    assert item["max_rss_bytes"] > 0
    assert item["peak_memory_bytes"] > 0
    assert item["node_list"] in lab.nodes
    everything = [item["step_id"] for item in stats(lab, job, "--all-steps")]
    assert (everything[0], set(everything) >= {"0", "1", "batch"}) == ("1", True)


@pytest.mark.parametrize("step", ["0", "batch"])
def test_a_running_step_and_then_its_end_by_scancel(lab: Lab, step: str) -> None:
    """Also of a command of the batch script, with its job: it does not stay running."""
    srun = "" if step == "batch" else "srun "
    job = lab.submit(f"{srun}torc-step {OFTEN} -- sleep 300\n", "-n1", "--mem=200M")
    lab.wait_running(job, *([] if step == "batch" else [step]))
    lab.wait_for(lambda: "torc_output" in lab.run(["ls"]).stdout and _recorded(lab, job), "a first record")
    (running,) = stats_in_state(lab, job, "RUNNING")
    assert (running["job_status"], running["state"], running["status"]) == ("running", "RUNNING", "pending")
    assert (running["end_time"], running["return_code"]) == (None, None)
    ends = str(job) if step == "batch" else f"{job}.{step}"
    lab.run_as_user(["scancel", ends])  # SIGKILL at once: no process writes an end
    (killed,) = stats_in_state(lab, job, "CANCELLED")
    assert (killed["job_status"], killed["state"]) == ("cancelled", "CANCELLED")
    assert killed["end_time_source"] == "accounting"
    assert killed["peak_memory_bytes"] >= running["peak_memory_bytes"] > 0


def _recorded(lab: Lab, job: int) -> bool:
    done = lab.run_as_user(["torc", "slurm", "stats", "--slurm-job-id", str(job), "--no-accounting"], check=False)
    return done.returncode == 0


def test_the_tasks_of_an_array(lab: Lab) -> None:
    job = lab.submit("srun torc-step -- sleep 0.1\n", "-n1", "--mem=100M", "--array=1-2")
    lab.wait_ended(job)
    assert [item["slurm_array"] for item in stats(lab, job)] == [f"{job}_1", f"{job}_2"]
    assert [item["slurm_array"] for item in stats(lab, f"{job}_2")] == [f"{job}_2"]


def test_jobs_that_are_unknown_bare_or_anothers(lab: Lab) -> None:
    bare = lab.submit("srun hostname\n", "-n1", "--mem=100M")
    anothers = int(lab.run(["sbatch", "--parsable", "-n1", "--mem=100M", "--output=/dev/null", "--wrap=true"]).stdout)
    lab.run_as_user(["mkdir", "-p", "torc_output"])
    assert "no record of job 99999" in refused(lab, "--slurm-job-id", "99999")
    lab.wait_for(lambda: "another user" in refused(lab, "--slurm-job-id", str(anothers)), "root's job to be known")
    lab.wait_for(lambda: "--all-steps shows them" in refused(lab, "--slurm-job-id", str(bare)), "our job to be known")
    lab.wait_ended(bare)
    assert {item["step_id"] for item in stats(lab, bare, "--all-steps")} >= {"0", "batch"}


def test_accounting_that_is_down_is_asked_again_later(lab: Lab) -> None:
    job = lab.submit("srun torc-step -- sleep 0.1\n", "-n1", "--mem=100M")
    lab.wait_ended(job)
    lab.stop("slurmdbd")
    (without,) = stats(lab, job, TORC_SACCT_TIMEOUT_SECONDS="5")
    assert (without["status"], without["state"], without["job_status"]) == ("unavailable", None, "completed")
    lab.start("slurmdbd")
    lab.wait_for(lambda: stats(lab, job)[0]["state"] == "COMPLETED", "accounting to answer")
    assert stats(lab, job) == stats(lab, job)
