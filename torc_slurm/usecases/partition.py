"""The most that a job can get: what its allocation takes of its partition's nodes, and their time limit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torc_slurm.common.errors import CommandError, InputError, ParseError
from torc_slurm.sizing.guards import Guards, NodeSize
from torc_slurm.slurm.submission import Nodes, longest_limit, nodes_of, partition_nodes
from torc_slurm.spec.workflow import Scheduler
from torc_slurm.usecases.fit import room_on


class Capacity(NamedTuple):
    """The kinds of node, and the longest time limit in seconds; None: no limit, or unknown.

    ``problem`` says why Slurm did not answer; then nothing is known.
    """

    partition: str
    nodes: tuple[NodeSize, ...] = ()
    time_limit_seconds: int | None = None
    problem: str | None = None


def ask_capacity(scheduler: Scheduler, defaults: Mapping[str, str | bool], partition: str | None = None) -> Capacity:
    """Ask sinfo once.

    Args:
        scheduler: the workflow's; a job gets at most what it requests of a node.
        defaults: the workflow's ``slurm_defaults``.
        partition: from the command line; None: the scheduler's, else the site's default.

    Raises:
        InputError: there is no partition of the given name.
    """
    chosen = partition or scheduler.partition or _text(defaults.get("partition"))
    try:
        nodes = partition_nodes()
    except (CommandError, ParseError) as error:
        if partition is not None:
            raise
        return Capacity(chosen or "(default)", problem=str(error))
    if partition is not None and not nodes_of(nodes, partition):
        known = ", ".join(dict.fromkeys(each.partition for each in nodes))
        raise InputError(f"there is no partition {partition!r}; there are: {known}")
    return capacity_of(nodes_of(nodes, chosen), scheduler, chosen)


def capacity_of(nodes: Sequence[Nodes], scheduler: Scheduler, partition: str | None) -> Capacity:
    """What these nodes give to a job in such an allocation."""
    if not nodes:
        return Capacity(partition or "(default)", problem=f"sinfo shows no partition {partition or 'by default'}")
    rooms = [room_on(each, scheduler) for each in nodes]
    sizes = [NodeSize(room.cpus, room.memory_mib) for room in rooms if room.cpus and room.memory_mib]
    names = ",".join(dict.fromkeys(each.partition for each in nodes))
    return Capacity(names, tuple(dict.fromkeys(sizes)), longest_limit(nodes))


def guarded(guards: Guards, capacity: Capacity) -> Guards:
    """The bounds with those of the partition."""
    return dataclasses.replace(
        guards,
        partition=capacity.partition,
        nodes=capacity.nodes,
        time_limit_seconds=capacity.time_limit_seconds,
    )


def _text(value: str | bool | None) -> str | None:
    return value if isinstance(value, str) else None
