"""Groups of jobs that the user treats as the same job, and what the jobs of a group used; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from torc_slurm.common.errors import InputError
from torc_slurm.sizing.job_use import ENDED_FROM_OUTSIDE, JobUse

THIN = 3  # fewer observations say little
_GAP = 2.0  # two clusters differ at least by this factor, and each is narrower
_LEAST_IN_CLUSTER = 3

_KEYS: dict[str, Callable[[JobUse], object]] = {
    "name": lambda job: job.name,
    "user": lambda job: job.user_name,
    "partition": lambda job: job.partition,
    "memory": lambda job: job.requested_memory_bytes,
    "cpus": lambda job: job.allocated_cpus,
    "time": lambda job: job.time_limit_seconds,
    "array": lambda job: job.array_job_id or job.slurm_job_id,
    "job": lambda job: job.slurm_job_id,
}
GROUP_BY = tuple(_KEYS)
DEFAULT_GROUP_BY = ("user", "name", "memory", "cpus", "time")


class Spread(NamedTuple):
    """The values of one figure in a group: number, median, 95th percentile and maximum."""

    number: int
    median: float
    p95: float
    maximum: float


@dataclass(frozen=True)
class Group:
    """The jobs of one group, oldest first."""

    name: str
    jobs: tuple[JobUse, ...]

    @property
    def ended(self) -> tuple[JobUse, ...]:
        """The informative jobs: they say what the job needs."""
        return tuple(job for job in self.jobs if job.has_ended and job.state not in ENDED_FROM_OUTSIDE)


def groups_of(jobs: Iterable[JobUse], by: Sequence[str] = DEFAULT_GROUP_BY) -> list[Group]:
    """The jobs in groups, ordered by the number of the first job.

    Raises:
        InputError: there is no such key to group by.
    """
    unknown = [name for name in by if name not in _KEYS]
    if unknown or not by:
        raise InputError(f"--group-by {','.join(by)!r} is not understood; give some of {','.join(GROUP_BY)}")
    members: dict[tuple[object, ...], list[JobUse]] = {}
    for job in sorted(jobs, key=lambda each: each.age_order):
        members.setdefault(tuple(_KEYS[name](job) for name in by), []).append(job)
    return [Group(found[0].name or str(found[0].slurm_job_id), tuple(found)) for found in members.values()]


def spread(values: Iterable[float | None]) -> Spread | None:
    """The spread of the known values; None if there are none."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    rank = max(1, math.ceil(0.95 * len(known)))
    return Spread(len(known), median(known), known[rank - 1], known[-1])


def two_clusters(values: Iterable[float | None]) -> tuple[list[float], list[float]] | None:
    """The values in two clusters, if they are clearly apart: three or more in each, a factor of two between them."""
    known = sorted(value for value in values if value)
    best: tuple[float, int] | None = None
    for index in range(_LEAST_IN_CLUSTER, len(known) - _LEAST_IN_CLUSTER + 1):
        ratio = known[index] / known[index - 1]
        if best is None or ratio > best[0]:
            best = (ratio, index)
    if best is None or best[0] < _GAP:
        return None
    low, high = known[: best[1]], known[best[1] :]
    return (low, high) if low[-1] / low[0] < best[0] and high[-1] / high[0] < best[0] else None
