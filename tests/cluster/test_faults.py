"""Faults on a node with cgroup v2: limits that torc-step does not fit into, kills during a step, a full /tmp."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from machines import OFTEN, Machines

pytestmark = pytest.mark.cluster

NODE = "c1"
MB = 1_000_000
QUOTA_PERCENT = 30
ALL_STEPS = "/sys/fs/cgroup/system.slice/*slurmstepd.scope"  # above the cgroups of all jobs of a node
BURN = "import time; end = time.process_time() + 1\nwhile time.process_time() < end: pass\nraise SystemExit(7)"
BOMB = """
import os, signal
try:
    while os.fork():
        pass
    signal.pause()
except OSError:
    print("no more", flush=True)
    raise SystemExit(7)
"""
HOLD = "import time; x = bytearray({bytes}); time.sleep(1); print('ran', flush=True); raise SystemExit(7)"


def python(text: str) -> str:
    return f"exec python3 -ISc {shlex.quote(text)}"


def step(command: str, options: str = "-n1 --mem=100M") -> str:
    return f"srun {options} torc-step {OFTEN} -- sh -c {shlex.quote(command)}\necho status $?\n"


class Waiting:
    """A job on NODE with one step, which has been recorded once and waits to be told."""

    def __init__(self, machines: Machines, command: str, options: str = "-n1 --mem=100M") -> None:
        self.machines = machines
        until_told = f"until [ -e /run/go ]; do sleep 0.1; done; {command}"
        self.job = machines.submit(step(until_told, options), "-n2", "-w", NODE, "--mem=200M")
        machines.wait_running(self.job, "0")
        machines.wait_running(self.job, "0")
        machines.wait_for(lambda: machines.recorded(self.job), "the step's first record")

    def go_on(self) -> dict[str, Any]:
        """Let the step end; its figures."""
        self.machines.shell("touch /run/go", machine=NODE)
        self.machines.wait_ended(self.job)
        return self.machines.stats(self.job)["0"]


@pytest.fixture(autouse=True)
def node_as_before(machines: Machines) -> Iterator[None]:
    yield
    machines.run(["scancel", "--quiet", "-u", machines.user], check=False)
    undo = f"rm -f /run/go; echo max > {ALL_STEPS}/pids.max; echo max > {ALL_STEPS}/cpu.max"
    undo += "; ! mountpoint -q /tmp || umount -l /tmp"
    machines.shell(undo, machine=NODE)


def test_the_monitor_is_killed(machines: Machines) -> None:
    waiting = Waiting(machines, "exit 7")
    machines.run(["pkill", "-KILL", "-x", "torc-sampler"], machine=NODE)
    item = waiting.go_on()
    assert (item["return_code"], item["job_status"]) == (7, "failed")
    assert "status 7" in machines.output(waiting.job)
    assert "the monitor was killed by signal 9; its unwritten measurements are lost" in machines.output(waiting.job)


def test_the_wrapper_is_killed(machines: Machines) -> None:
    """As without torc if its command is killed: Slurm ends the step."""
    waiting = Waiting(machines, "exit 7")
    machines.run(["pkill", "-KILL", "-x", "torc-step"], machine=NODE)
    item = waiting.go_on()
    assert "status 137" in machines.output(waiting.job)
    assert (item["job_status"], item["return_code"]) == ("failed", None)
    assert item["sample_count"] > 0
    assert item["peak_memory_bytes"] > 0


@pytest.mark.parametrize("held", [0, 18, 23])
def test_a_monitor_that_does_not_fit(machines: Machines, held: int) -> None:
    """The job ends as alone, or, within 7 MB of its limit, is killed; its end is recorded."""
    command = python(HOLD.format(bytes=held * MB)) if held else "echo ran; exit 7"
    job = machines.run_job(step(command, "-n1 --mem=30M"), "-n1", "-w", NODE, "--mem=200M")
    output, item = machines.output(job), machines.stats(job)["0"]
    assert item["memory_limit_bytes"] == 30 * 1024 * 1024  # the least that Slurm sets (MinRAMSpace)
    if held == 23 and item["return_code"] == 137:
        assert (item["oom_kills"], item["job_status"]) == (1, "oom")
    else:
        assert {"ran", "status 7"} <= set(output.splitlines())
        assert (item["return_code"], item["job_status"]) == (7, "failed")


def test_no_interval_has_more_than_the_quota(machines: Machines) -> None:
    machines.shell(f"echo {QUOTA_PERCENT * 1000} 100000 > $(echo {ALL_STEPS})/cpu.max", machine=NODE)
    item = machines.stats(machines.run_job(step(python(BURN)), "-n1", "-w", NODE, "--mem=200M"))["0"]
    assert (item["return_code"], item["job_status"]) == (7, "failed")
    assert item["cpu_seconds"] >= 1
    assert item["cpu_wait_seconds"] > 1
    assert item["avg_cpu_percent"] <= item["peak_cpu_percent"] <= QUOTA_PERCENT + 0.001
    samples = machines.rows("SELECT cpu_percent FROM job_resource_samples")
    assert max(row["cpu_percent"] for row in samples) <= QUOTA_PERCENT + 0.001


def test_a_bomb_up_to_a_limit_of_processes(machines: Machines) -> None:
    waiting = Waiting(machines, python(BOMB))
    machines.shell(f"cd {ALL_STEPS} && echo $(($(cat pids.current) + 10)) > pids.max", machine=NODE)
    item = waiting.go_on()
    assert {"no more", "status 7"} <= set(machines.output(waiting.job).splitlines())
    assert (item["return_code"], item["job_status"]) == (7, "failed")


def test_a_full_tmp_on_a_node(machines: Machines) -> None:
    """The step's tasks meet elsewhere, and what they did is recorded."""
    machines.shell("mount -t tmpfs -o size=16k,mode=1777 none /tmp; ! dd if=/dev/zero of=/tmp/full", machine=NODE)
    job = machines.run_job(step("sleep 2; exit 7", "-n2 --mem=100M"), "-n2", "-w", NODE, "--mem=200M")
    item = machines.stats(job)["0"]
    assert (item["return_code"], item["recorded_task_count"], item["measured_node_count"]) == (7, 2, 1)
