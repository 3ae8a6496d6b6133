"""Whether a job can ever fit the requested allocation; checked before anything is submitted; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torc_slurm.common.units import format_run_time
from torc_slurm.slurm.submission import Nodes, longest_limit, time_limit_of
from torc_slurm.spec.plan import JobPlan
from torc_slurm.spec.workflow import Scheduler

_MEBIBYTES = re.compile(r"([0-9]{1,12})M?", re.ASCII)


class Room(NamedTuple):
    """What one node of the allocation offers. None: unknown, and then nothing is refused for it."""

    cpus: int | None
    memory_mib: int | None
    gpus: int | None


def room_on(nodes: Nodes | None, scheduler: Scheduler) -> Room:
    """What the allocation gets on a node of this kind: the scheduler's request, at most what the node has."""
    requested_cpus = None
    if not scheduler.exclusive and (scheduler.cpus_per_task or scheduler.ntasks_per_node):
        requested_cpus = (scheduler.cpus_per_task or 1) * (scheduler.ntasks_per_node or 1)
    requested_memory = _requested_mib(scheduler.mem)
    if nodes is None:
        return Room(requested_cpus, requested_memory, None)
    return Room(
        nodes.cpus if requested_cpus is None else min(nodes.cpus, requested_cpus),
        nodes.memory_mib if requested_memory is None else min(nodes.memory_mib, requested_memory),
        nodes.gpus,
    )


def misfits(jobs: Sequence[JobPlan], scheduler: Scheduler, nodes: Sequence[Nodes]) -> list[str]:
    """One line, with both sizes, for each job that never fits such an allocation.

    Args:
        nodes: the kinds of nodes of the partition; empty: unknown.
    """
    rooms = [room_on(each, scheduler) for each in nodes] or [room_on(None, scheduler)]
    return [line for job in jobs for line in _misfit(job, scheduler.nodes, rooms)]


def too_few_nodes(scheduler: Scheduler, nodes: Sequence[Nodes]) -> tuple[str, ...]:
    """A warning if the partition has fewer nodes than requested: Slurm would accept the job and let it wait."""
    there = sum(each.node_count for each in nodes)
    if not nodes or scheduler.nodes <= there:
        return ()
    names = ", ".join(sorted({each.partition for each in nodes}))
    return (
        f"warning: {scheduler.nodes} nodes are requested, but partition {names} has {there}; the job may wait forever",
    )


def too_long(jobs: Sequence[JobPlan], limit: int | None, nodes: Sequence[Nodes]) -> Iterator[str]:
    """Warnings if the time limit is above the partition's, or the ``runtime`` of a job above the time limit.

    Args:
        limit: the time limit of the allocation in seconds; None: not given.
        nodes: the kinds of node in the partition; empty: not known.
    """
    longest = longest_limit(nodes)
    if limit is not None and longest is not None and limit > longest:
        names = ", ".join(sorted({each.partition for each in nodes}))
        yield (
            f"warning: the time limit of {format_run_time(limit)} is above that of partition {names}, "
            f"{format_run_time(longest)}: Slurm refuses such a job, or lets it wait forever"
        )
    ends = time_limit_of(nodes) if limit is None else limit
    if ends is not None:
        yield from _runtimes_over(jobs, ends, f"its allocation ends after {format_run_time(ends)}")


def too_late(jobs: Sequence[JobPlan], seconds: float) -> Iterator[str]:
    """A warning if the ``runtime`` of a job is above the time that is left of a running allocation.

    Time limits are whole minutes, and a minute may have begun.
    """
    ends = math.ceil(seconds / 60) * 60
    yield from _runtimes_over(jobs, ends, f"this allocation ends in {format_run_time(max(0, int(seconds)))}")


def _runtimes_over(jobs: Sequence[JobPlan], seconds: int, what_ends: str) -> Iterator[str]:
    over = [job for job in jobs if (job.runtime_seconds or 0) > seconds]
    if over:
        more = f" and {len(over) - 1} more" if len(over) > 1 else ""
        runtime = format_run_time(over[0].runtime_seconds or 0)
        yield (
            f"warning: job {over[0].name!r}{more} has a runtime of {runtime}, and {what_ends}; "
            "give a longer walltime (-t), or a shorter runtime"
        )


def _misfit(job: JobPlan, node_count: int, rooms: Sequence[Room]) -> Iterator[str]:
    if job.num_nodes > node_count:
        yield f"job {job.name!r} needs {job.num_nodes} nodes, the allocation has {node_count}"
    elif not any(_fits(job, room) for room in rooms):
        request = Room(job.num_cpus, job.memory_mib, job.num_gpus)
        largest = max(rooms, key=lambda room: tuple(math.inf if size is None else size for size in room[:2]))
        yield f"job {job.name!r} needs {_sizes(request)} on a node, the allocation has {_sizes(largest)}"


def _fits(job: JobPlan, room: Room) -> bool:
    asked = (job.num_cpus, job.memory_mib, job.num_gpus)
    return all(want is None or have is None or want <= have for want, have in zip(asked, room, strict=True))


def _sizes(room: Room) -> str:
    parts = [
        f"{room.cpus} CPUs" if room.cpus is not None else "",
        f"{room.memory_mib} MiB" if room.memory_mib is not None else "",
        f"{room.gpus} GPUs" if room.gpus else "",
    ]
    return ", ".join(part for part in parts if part)


def _requested_mib(mem: str | None) -> int | None:
    """MiB of a scheduler's ``mem``; None for 0, which means all memory of the node."""
    match = _MEBIBYTES.fullmatch(mem or "")
    return (int(match[1]) or None) if match else None
