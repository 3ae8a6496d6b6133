"""Requested, used and wasted core-hours and GB-hours, and what the same work would request after correction.

Asked: the request times the time it ran. Used: CPU time, and mean memory times the time it ran. Reserved: what the
scheduler had to plan for: the request times the requested run time, once per job.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import mul
from typing import NamedTuple

from torc_slurm.common.garbage import no_search_for_cycles
from torc_slurm.common.units import exact
from torc_slurm.records.statuses import RUNNING
from torc_slurm.sizing.corrections import Corrections
from torc_slurm.sizing.decision import KEPT
from torc_slurm.sizing.evidence import Resource
from torc_slurm.sizing.facts import Attempt, AttemptEnd, Facts, Figure, Job, Request, Requirement

_SECONDS_PER_HOUR = 3600
_BYTES_PER_GB = 10**9


class Amount(NamedTuple):
    """CPU time in core-seconds, memory in byte-seconds; None: unknown."""

    core_seconds: Decimal | None
    byte_seconds: Decimal | None

    @property
    def core_hours(self) -> Decimal | None:
        return None if self.core_seconds is None else self.core_seconds / _SECONDS_PER_HOUR

    @property
    def gb_hours(self) -> Decimal | None:
        return None if self.byte_seconds is None else self.byte_seconds / _SECONDS_PER_HOUR / _BYTES_PER_GB


NOTHING = Amount(Decimal(0), Decimal(0))
_NOT_KNOWN = Amount(None, None)


@dataclass(frozen=True)
class Saving:
    """One requirement, or with ``requirement`` None the whole workflow.

    ``wasted`` is what measured attempts requested and did not use; ``lost`` is what attempts that did not complete had
    requested; ``asked_after`` is what all these attempts would have requested after correction.
    """

    requirement: Requirement | None
    jobs: int
    attempts: int
    unmeasured_attempts: int
    asked: Amount
    used: Amount
    wasted: Amount
    lost: Amount
    asked_after: Amount
    reserved: Amount
    reserved_after: Amount


@no_search_for_cycles()
def savings(facts: Facts, corrections: Corrections, run_id: int | None = None) -> tuple[Saving, ...]:
    """One entry per requirement that a job uses, in the order of ids, then the sum.

    Args:
        run_id: only attempts of this run; None: of all.
    """
    after = _requests_after(corrections)
    found = [
        _saving(each, jobs, after.get(each.resource_requirements_id, each.request), run_id)
        for each in sorted(facts.requirements, key=lambda each: each.resource_requirements_id)
        if (jobs := facts.sharing(each))
    ]
    return (*found, _sum(found))


def _requests_after(corrections: Corrections) -> dict[int, Request]:
    requests: dict[int, Request] = {}
    for each in corrections.decisions:
        if each.direction != KEPT:
            number = each.requirement.resource_requirements_id
            changed = _changed(requests.get(number, each.requirement.request), each.resource, each.new)
            requests[number] = changed
    return requests


def _changed(request: Request, resource: Resource, new: str | int | None) -> Request:
    if resource is Resource.cpu:
        return dataclasses.replace(request, num_cpus=int(new or 1))
    text = None if new is None else str(new)
    if resource is Resource.memory:
        return dataclasses.replace(request, memory=text)
    return dataclasses.replace(request, runtime=text)


def _saving(requirement: Requirement, jobs: Sequence[Job], after: Request, run_id: int | None) -> Saving:
    alike: defaultdict[tuple[object, ...], list[Attempt]] = defaultdict(list)
    for job in jobs:
        for attempt in job.attempts:
            if run_id is None or attempt.run_id == run_id:
                alike[_kind(attempt)].append(attempt)
    parts = [_part(attempts, after) for attempts in alike.values()]
    return Saving(
        requirement=requirement,
        jobs=len(jobs),
        attempts=sum(each.attempts for each in parts),
        unmeasured_attempts=sum(each.attempts for each in parts if None in each.used),
        asked=_add(each.asked for each in parts),
        used=_add(each.used for each in parts),
        wasted=_add(_less(each.asked, each.used) for each in parts),
        lost=_add(each.asked for each in parts if each.is_lost),
        asked_after=_add(each.asked_after for each in parts),
        reserved=_times(_reserved(requirement.request), len(jobs)),
        reserved_after=_times(_reserved(after), len(jobs)),
    )


class _Part(NamedTuple):
    """The sums of attempts that are alike."""

    attempts: int
    is_lost: bool
    asked: Amount
    used: Amount
    asked_after: Amount


def _kind(attempt: Attempt) -> tuple[object, ...]:
    """Equal for attempts with the same request and the same known figures: their sums are those of the figures."""
    return (
        id(attempt.request),
        _is_lost(attempt),
        attempt.exec_time_seconds is None,
        attempt.all_nodes_cpu_seconds is None,
        attempt.all_nodes_avg_memory_bytes is None,
    )


def _is_lost(attempt: Attempt) -> bool:
    return attempt.status != RUNNING and attempt.end is not AttemptEnd.completed


def _part(attempts: Sequence[Attempt], after: Request) -> _Part:
    """Of attempts of one `_kind`."""
    seconds = _decimals(each.exec_time_seconds for each in attempts)
    cpu_seconds = _decimals(each.all_nodes_cpu_seconds for each in attempts)
    means = _decimals(each.all_nodes_avg_memory_bytes for each in attempts)
    ran = _total(seconds)
    return _Part(
        attempts=len(attempts),
        is_lost=_is_lost(attempts[0]),
        asked=_held(attempts[0].request, ran),
        used=Amount(_total(cpu_seconds), _total([*map(mul, means, seconds)])),
        asked_after=_held(after, ran),
    )


def _decimals(figures: Iterable[Figure | None]) -> list[Decimal]:
    """All of them as they print; none if they are not known."""
    return [*map(Decimal, map(str, (figure for figure in figures if figure is not None)))]


def _total(figures: Sequence[Decimal]) -> Decimal | None:
    return exact(sum(figures, Decimal(0))) if figures else None


class _Sum:
    """The sum of what is known; None if there are several amounts and nothing is known."""

    def __init__(self) -> None:
        self._is_empty = True
        self._core_seconds: Decimal | None = None
        self._byte_seconds: Decimal | None = None

    @property
    def amount(self) -> Amount:
        return NOTHING if self._is_empty else Amount(self._core_seconds, self._byte_seconds)

    def add(self, more: Amount) -> None:
        self._is_empty = False
        core_seconds, byte_seconds = more
        if core_seconds is not None:
            known = self._core_seconds
            self._core_seconds = core_seconds if known is None else known + core_seconds
        if byte_seconds is not None:
            known = self._byte_seconds
            self._byte_seconds = byte_seconds if known is None else known + byte_seconds


def _reserved(request: Request) -> Amount:
    runtime = request.runtime_seconds
    return _held(request, None if runtime is None else Decimal(runtime))


def _held(request: Request, seconds: Decimal | None) -> Amount:
    if seconds is None:
        return _NOT_KNOWN
    held = seconds * request.num_nodes
    memory = request.memory_bytes
    return Amount(held * request.num_cpus, None if memory is None else held * memory)


def _less(asked: Amount, used: Amount) -> Amount:
    return Amount(
        _difference(asked.core_seconds, used.core_seconds), _difference(asked.byte_seconds, used.byte_seconds)
    )


def _difference(more: Decimal | None, less: Decimal | None) -> Decimal | None:
    return None if more is None or less is None else more - less


def _times(amount: Amount, count: int) -> Amount:
    return Amount(*(None if each is None else each * count for each in amount))


def _add(amounts: Iterable[Amount]) -> Amount:
    total = _Sum()
    for each in amounts:
        total.add(each)
    return total.amount


def _sum(rows: Sequence[Saving]) -> Saving:
    return Saving(
        requirement=None,
        jobs=sum(each.jobs for each in rows),
        attempts=sum(each.attempts for each in rows),
        unmeasured_attempts=sum(each.unmeasured_attempts for each in rows),
        asked=_add(each.asked for each in rows),
        used=_add(each.used for each in rows),
        wasted=_add(each.wasted for each in rows),
        lost=_add(each.lost for each in rows),
        asked_after=_add(each.asked_after for each in rows),
        reserved=_add(each.reserved for each in rows),
        reserved_after=_add(each.reserved_after for each in rows),
    )
