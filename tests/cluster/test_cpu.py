"""CPU time on machines with one CPU and clock ticks of 10 ms: no figure exceeds what the kernel could give."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from machines import OFTEN, Machines

pytestmark = pytest.mark.cluster

CPUS_PER_MACHINE = 1
TICK_SECONDS = 0.01
BUSY = "import time; end = time.monotonic() + {}\nwhile time.monotonic() < end: pass"
SAY_KERNELS = 'grep usage_usec "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/../../cpu.stat"'
SHORT_PROCESSES = "for i in $(seq 40); do /bin/true; done; python3 -ISc 'sum(range(3000000))'"


def busy(seconds: float) -> str:
    return f"python3 -ISc {shlex.quote(BUSY.format(seconds))}"


@pytest.fixture(params=["quiet", "loaded"])
def load(request: pytest.FixtureRequest, machines: Machines) -> Iterator[None]:
    """On a quiet machine, and on one whose CPU three other processes use all the time."""
    burners = 'for i in 1 2 3; do setsid bash -c "while :; do :; done" </dev/null >/dev/null 2>&1 & echo $!; done'
    pids = {node: machines.shell(burners, machine=node).split() for node in machines.nodes if request.param == "loaded"}
    try:
        yield
    finally:
        for node, numbers in pids.items():
            machines.run(["kill", "-KILL", *numbers], machine=node)


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("tasks", ["-n1 -N1", "-n2 -N1", "-n4 -N2 --ntasks-per-node=2"])
def test_no_interval_exceeds_what_the_cpus_could_give(machines: Machines, tasks: str) -> None:
    command = shlex.quote(f"{busy(1)} & {SHORT_PROCESSES}; wait")
    body = f"srun --overlap {tasks} torc-step {OFTEN} -- bash -c {command}\n"
    body += f"srun --overlap {tasks} torc-step --granularity time_series -- bash -c 'sleep 0.3; {busy(1)}'\n"
    job = machines.run_job(body, "-N2", "--exclusive", "--mem=0")
    samples = machines.rows("SELECT * FROM job_resource_samples ORDER BY id")
    assert len(samples) >= 2  # each step has one at its end; how many more depends on how busy the machines are
    assert max(row["cpu_percent"] for row in samples) <= 100.0 * CPUS_PER_MACHINE
    usage = machines.rows("SELECT * FROM step_usage")
    for row in usage:
        most = CPUS_PER_MACHINE * row["elapsed_seconds"] + 2 * TICK_SECONDS
        assert 0 < row["cpu_seconds"] <= most
        assert row["avg_cpu_percent"] <= row["peak_cpu_percent"] <= 100.0 * CPUS_PER_MACHINE
    for item in machines.stats(job).values():
        assert item["avg_cpu_percent"] <= item["peak_cpu_percent"] <= 100.0 * CPUS_PER_MACHINE


@pytest.mark.cluster_in_ci
def test_cpu_time_is_what_the_kernel_charged(machines: Machines) -> None:
    """cpu.stat of the step includes torc-step, so it is the upper bound; the job's own rusage is the lower."""
    own = "\nimport resource; used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime)"
    command = f"python3 -ISc {shlex.quote(BUSY.format(2) + own)}; {SAY_KERNELS}"
    body = f"srun -n1 --mem=150M torc-step {OFTEN} -- bash -c {shlex.quote(command)}\n"
    job = machines.run_job(body, "-n1", "--mem=200M")
    lines = machines.output(job).splitlines()
    measured = machines.stats(job)["0"]["cpu_seconds"]
    kernels = float(lines[-1].split()[1]) / 1e6
    assert float(lines[0]) - TICK_SECONDS <= measured <= kernels + 0.1
    assert machines.stats(job)["0"]["total_cpu_seconds"] >= measured - 2 * TICK_SECONDS


def test_nothing_that_lived_and_died_between_two_samples_is_lost(machines: Machines) -> None:
    command = shlex.quote(f"{busy(1)}; {busy(1)}")
    body = f"srun -n1 --mem=150M torc-step --sample-interval-seconds 10 -- bash -c {command}\n"
    item = machines.stats(machines.run_job(body, "-n1", "--mem=200M"))["0"]
    assert item["cpu_seconds"] > 0.5 * item["exec_time_seconds"]
    assert item["cpu_source"] in ("wait4", "cgroup_v2")
