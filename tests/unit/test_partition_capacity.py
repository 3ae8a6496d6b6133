"""What the partition's nodes and its limit allow a job."""

from __future__ import annotations

from torc_slurm.sizing.guards import Guards, NodeSize
from torc_slurm.slurm.submission import Nodes, parse_nodes
from torc_slurm.spec.workflow import Scheduler
from torc_slurm.usecases.partition import capacity_of, guarded

SINFO = """\
debug|debug*|2|8|16000|1:00:00|n/a|(null)
long|long|4|64|256000|7-00:00:00|1:00:00|(null)
long|long|1|16|1024000|7-00:00:00|1:00:00|gpu:2
free|free|1|8|16000|infinite|n/a|(null)
"""
NODES = parse_nodes(SINFO)


def of(*partitions: str) -> list[Nodes]:
    return [each for each in NODES if each.partition in partitions]


def test_a_partition_of_several_kinds_of_nodes() -> None:
    found = capacity_of(of("long"), Scheduler("s"), "long")
    assert found.nodes == (NodeSize(64, 256_000), NodeSize(16, 1_024_000))
    assert (found.partition, found.time_limit_seconds, found.problem) == ("long", 7 * 86400, None)


def test_no_limit_is_no_bound() -> None:
    found = capacity_of(of("free"), Scheduler("s"), "free")
    assert found.time_limit_seconds is None
    mixed = capacity_of(of("free", "debug"), Scheduler("s"), "debug,free")
    assert mixed.time_limit_seconds is None


def test_what_the_allocation_takes_of_a_node_is_all_that_a_job_gets() -> None:
    scheduler = Scheduler("s", mem="4096M", ntasks_per_node=2, cpus_per_task=2)
    found = capacity_of(of("debug"), scheduler, None)
    assert found.nodes == (NodeSize(4, 4096),)


def test_a_partition_that_is_not_there_bounds_nothing_and_says_so() -> None:
    found = capacity_of([], Scheduler("s"), "gone")
    assert found.problem == "sinfo shows no partition gone"
    assert guarded(Guards(), found).nodes == ()


def test_the_users_own_bounds_stay() -> None:
    found = capacity_of(of("debug"), Scheduler("s"), None)
    guards = guarded(Guards(most_memory="1g"), found)
    assert (guards.most_memory, guards.time_limit_seconds, guards.partition) == ("1g", 3600, "debug")
