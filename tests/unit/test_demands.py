"""What a job takes of the nodes, and the message if it can never fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from torc_slurm.runner.allocation_state import grace_seconds
from torc_slurm.runner.demands import allocation_demand, misfit
from torc_slurm.runner.execute import place_text
from torc_slurm.runner.machine import cgroup_limits, this_machine
from torc_slurm.runner.placement import Demand, Node
from torc_slurm.slurm.allocation import Allocation
from torc_slurm.spec.plan import JobPlan

TWO = (Node("n1", 4, 16384), Node("n2", 4, 8192))
JOB = JobPlan(1, "train", "./train", "/home/ann")


def test_a_job_without_requirements_takes_a_cpus_share_of_the_smallest_node() -> None:
    assert allocation_demand(JOB, TWO) == Demand(1, 2048)
    assert allocation_demand(replace(JOB, num_cpus=3), TWO) == Demand(3, 6144)


def test_a_cpus_share_on_nodes_with_two_threads_is_that_of_its_core() -> None:
    assert allocation_demand(JOB, [Node("n1", 8, 16384, threads_per_core=2)]) == Demand(1, 4096)


def test_where_memory_is_not_handed_out_nothing_is_taken() -> None:
    assert allocation_demand(JOB, [Node("n1", 8, None)]) == Demand(1, 0)


def test_a_job_takes_what_it_asks_for() -> None:
    job = replace(JOB, num_cpus=2, num_gpus=1, num_nodes=2, memory_bytes=10**9, memory_mib=1024)
    assert allocation_demand(job, TWO) == Demand(2, 1024, 1, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"num_cpus": 5},
            "it requests 5 CPUs and 8.59 GB on one node; here has 2 nodes of at most 4 CPUs and 17.18 GB",
        ),
        (
            {"memory_bytes": 20 * 10**9, "memory_mib": 20480},
            "it requests 1 CPU and 20.00 GB on one node; here has 2 nodes of at most 4 CPUs and 17.18 GB",
        ),
        (
            {"num_nodes": 3, "memory_bytes": 10**9, "memory_mib": 1024},
            "it requests 1 CPU and 1.00 GB on each of 3 nodes; here has 2 nodes of at most 4 CPUs and 17.18 GB",
        ),
        (
            {"num_gpus": 2, "memory_bytes": 10**9, "memory_mib": 1024},
            "it requests 1 CPU, 1.00 GB and 2 GPUs on one node; here has 2 nodes of at most 4 CPUs and 17.18 GB",
        ),
        ({"num_nodes": 2}, None),
    ],
)
def test_the_refusal_of_a_job_that_never_fits_has_both_sizes(changes: dict[str, int], said: str | None) -> None:
    job = replace(JOB, **changes)  # type: ignore[arg-type]  # the fields named are numbers
    assert misfit(job, allocation_demand(job, TWO), TWO, "here") == said


def test_this_machine_has_something() -> None:
    machine = this_machine()
    assert machine.cpus >= 1
    assert (machine.memory_mib or 0) > 0


def test_cgroup_lines_without_limits_limit_nothing() -> None:
    assert [limit for limit in cgroup_limits("0::/no/such/cgroup\n5:cpu,cpuacct:/\n") if limit < 2**60] == []


@pytest.mark.parametrize(
    ("seconds_left", "grace"),
    [(None, 10), (3600, 10), (180, 150), (100, 70), (50, 25), (5, 10)],
)
def test_before_the_time_limit_jobs_may_take_what_it_leaves(seconds_left: float | None, grace: float) -> None:
    allocation = Allocation(1, (), end_time=None if seconds_left is None else 1000 + seconds_left)
    assert grace_seconds(allocation, 1000.0) == grace


def test_a_short_kill_wait_is_shared_with_the_epilog() -> None:
    assert grace_seconds(Allocation(1, (), kill_wait_seconds=6), 0.0) == 2


def test_a_sum_of_memory_is_shown_where_every_node_hands_it_out() -> None:
    assert place_text(TWO, 12) == "Slurm job 12: 2 nodes, 8 CPUs, 25.77 GB"
    assert place_text([*TWO, Node("n3", 4, None)], None) == "this machine: 3 nodes, 12 CPUs"
