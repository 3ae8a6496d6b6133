"""Memory under cgroup v2: a step's charge, compared with the kernel's memory.peak, and the record after an OOM kill."""

from __future__ import annotations

import json
import shlex

import pytest
from machines import OFTEN, Machines

pytestmark = pytest.mark.cluster

MB = 1_000_000
# The step is also charged for monitor and wrapper, and an interpreter has its own memory.
OVERHEAD_BYTES = 35 * MB
# The kernel's figure for the cgroup of the step's processes, as the step's last act.
SAY_KERNELS = 'cat "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/../memory.peak"'


def python(text: str) -> str:
    return f"python3 -ISc {shlex.quote(text)}"


def hold(megabytes: int, seconds: float = 1.0) -> str:
    return python(f"import time; held = bytearray({megabytes * MB}); time.sleep({seconds})")


def step(command: str, options: str = "--mem=150M") -> str:
    return f"srun -n1 {options} torc-step {OFTEN} -- bash -c {shlex.quote(command)}\n"


@pytest.mark.cluster_in_ci
def test_anonymous_memory_is_what_the_kernel_charged(machines: Machines) -> None:
    job = machines.run_job(step(f"{hold(80)}; {SAY_KERNELS}"), "-n1", "--mem=200M")
    item = machines.stats(job)["0"]
    kernels = int(machines.output(job).split()[-1])
    assert 80 * MB <= item["peak_memory_bytes"] <= kernels
    assert kernels <= item["memory_ceiling_bytes"] + OVERHEAD_BYTES
    assert item["memory_ceiling_source"] == "cgroup_v2"
    assert 80 * MB <= item["max_rss_bytes"] <= kernels + OVERHEAD_BYTES  # 24.11 reports memory.peak


def test_files_in_tmpfs_count_and_page_cache_does_not(machines: Machines) -> None:
    write = "head -c 60000000 /dev/zero > {}; sleep 1; rm {}"
    in_memory, on_nfs = "/dev/shm/big", "big"  # noqa: S108 - a file on the test's own machine
    body = step(write.format(in_memory, in_memory)) + step(write.format(on_nfs, on_nfs))
    job = machines.run_job(body, "-n1", "--mem=200M")
    items = machines.stats(job)
    assert items["0"]["peak_memory_bytes"] >= 60 * MB
    assert items["0"]["peak_memory_source"] == "cgroup_v2"
    assert items["1"]["peak_memory_bytes"] < 60 * MB
    assert items["1"]["memory_ceiling_bytes"] >= 60 * MB


def test_the_kernel_kills_one_process_and_the_step_goes_on(machines: Machines) -> None:
    job = machines.run_job(step(f"{hold(200)}; echo went on", "--mem=100M"), "-n1", "--mem=100M")
    item = machines.stats(job)["0"]
    assert "went on" in machines.output(job)
    assert (item["oom_kills"], item["return_code"], item["job_status"]) == (1, 0, "completed")
    assert item["state"] in ("COMPLETED", "OUT_OF_MEMORY")  # torc's status, and Slurm's
    assert 70 * MB < item["peak_memory_bytes"] <= 100 * 1024 * 1024


@pytest.mark.cluster_in_ci
def test_the_last_process_is_killed(machines: Machines) -> None:
    job = machines.run_job(step(f"exec {hold(200)}", "--mem=100M"), "-n1", "--mem=100M")
    item = machines.stats(job)["0"]
    assert (item["oom_kills"], item["return_code"], item["job_status"]) == (1, 137, "oom")
    assert item["peak_memory_bytes"] > 70 * MB
    assert item["memory_limit_bytes"] == 100 * 1024 * 1024


def test_the_kernel_kills_the_whole_group(machines: Machines) -> None:
    """With --oom-kill-step, wrapper and monitor die with the job: the record is what was flushed before."""
    grow = python("import time; time.sleep(2.5); held = bytearray(200000000)")
    job = machines.run_job(step(f"{grow}; echo went on", "--mem=100M --oom-kill-step=1"), "-n1", "--mem=100M")
    assert "went on" not in machines.output(job)
    assert machines.states(job)[f"{job}.0"] == "OUT_OF_MEMORY"
    item = machines.stats(job)["0"]
    assert item["job_status"] == "oom"
    assert item["sample_count"] > 3
    assert item["end_time"] is not None


def test_several_tasks_are_one_charge(machines: Machines) -> None:
    command = f"srun -n3 -N1 --mem=300M torc-step {OFTEN} -- {hold(40, 2)}\n"
    job = machines.run_job(command, "-n3", "-N1", "--mem=300M")
    item = machines.stats(job)["0"]
    assert item["peak_memory_bytes"] >= 120 * MB
    assert item["peak_memory_source"] == "cgroup_v2"
    assert item["recorded_task_count"] == 3
    assert item["memory_limit_bytes"] == 300 * 1024 * 1024
    shared = python(
        "import mmap, os, time\nheld = bytearray(60000000)\nchildren = [os.fork() for _ in range(1)]\ntime.sleep(2)"
    )
    forked = machines.stats(machines.run_job(step(shared), "-n1", "--mem=150M"))["0"]
    assert 60 * MB <= forked["peak_memory_bytes"] < 100 * MB  # two processes share what one of them allocated
    assert forked["sampled_rss_peak_bytes"] > 110 * MB


@pytest.mark.parametrize("where", ["step", "job"])
def test_the_limit_is_found_where_it_stands(machines: Machines, where: str) -> None:
    options = "--mem=120M" if where == "step" else "--mem=0"
    job = machines.run_job(step("sleep 1", options), "-n1", "--mem=120M" if where == "job" else "--mem=200M")
    assert machines.stats(job)["0"]["memory_limit_bytes"] == 120 * 1024 * 1024


def test_compare_on_24_11_has_a_cause_for_every_difference(machines: Machines) -> None:
    job = machines.run_job(step(f"{hold(50)}") + "".join(step("true") for _ in range(3)), "-n1", "--mem=200M")
    done = machines.run_as_user(["torc", "slurm", "stats", "--slurm-job-id", str(job), "--compare", "-f", "json"])
    items = json.loads(done.stdout)["items"]
    causes = {each["figure"]: each["cause"] for item in items for each in item["differences"]}
    assert "not known" not in causes.values(), causes
