"""Requested, used and wasted core-hours and GB-hours, and what the same work would request after correction.

Asked: the request times the time it ran. Used: CPU time, and mean memory times the time it ran. Reserved: what the
scheduler had to plan for: the request times the requested run time, once per job.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from torc_slurm.records.statuses import RUNNING
from torc_slurm.sizing.corrections import Corrections
from torc_slurm.sizing.decision import KEPT
from torc_slurm.sizing.evidence import Resource
from torc_slurm.sizing.facts import Attempt, AttemptEnd, Facts, Job, Request, Requirement
from torc_slurm.units import exact

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


def _saving(requirement: Requirement, jobs: Iterable[Job], after: Request, run_id: int | None) -> Saving:
    jobs = tuple(jobs)
    attempts = [each for job in jobs for each in job.attempts if run_id in (None, each.run_id)]
    pairs = [(_asked(each.request, each), _used(each)) for each in attempts]
    ended_badly = [each for each in attempts if each.end is not AttemptEnd.completed and each.status != RUNNING]
    return Saving(
        requirement=requirement,
        jobs=len(jobs),
        attempts=len(attempts),
        unmeasured_attempts=sum(used.core_seconds is None or used.byte_seconds is None for _, used in pairs),
        asked=_add(asked for asked, _ in pairs),
        used=_add(used for _, used in pairs),
        wasted=_add(_less(asked, used) for asked, used in pairs),
        lost=_add(_asked(each.request, each) for each in ended_badly),
        asked_after=_add(_asked(after, each) for each in attempts),
        reserved=_times(_reserved(requirement.request), len(jobs)),
        reserved_after=_times(_reserved(after), len(jobs)),
    )


def _asked(request: Request, attempt: Attempt) -> Amount:
    if attempt.exec_time_seconds is None:
        return Amount(None, None)
    return _held(request, exact(attempt.exec_time_seconds))


def _reserved(request: Request) -> Amount:
    runtime = request.runtime_seconds
    return Amount(None, None) if runtime is None else _held(request, Decimal(runtime))


def _held(request: Request, seconds: Decimal) -> Amount:
    held = seconds * request.num_nodes
    memory = request.memory_bytes
    return Amount(held * request.num_cpus, None if memory is None else held * memory)


def _used(attempt: Attempt) -> Amount:
    cpu, memory, elapsed = attempt.all_nodes_cpu_seconds, attempt.all_nodes_avg_memory_bytes, attempt.exec_time_seconds
    return Amount(
        None if cpu is None else exact(cpu),
        None if memory is None or elapsed is None else exact(memory) * exact(elapsed),
    )


def _less(asked: Amount, used: Amount) -> Amount:
    def difference(more: Decimal | None, less: Decimal | None) -> Decimal | None:
        return None if more is None or less is None else more - less

    return Amount(*(difference(more, less) for more, less in zip(asked, used, strict=True)))


def _times(amount: Amount, count: int) -> Amount:
    return Amount(*(None if each is None else each * count for each in amount))


def _add(amounts: Iterable[Amount]) -> Amount:
    """The sum of the known values; None if there are amounts but none is known."""
    found = list(amounts)

    def total(values: Iterable[Decimal | None]) -> Decimal | None:
        known = [value for value in values if value is not None]
        return sum(known, Decimal(0)) if known or not found else None

    return Amount(total(each.core_seconds for each in found), total(each.byte_seconds for each in found))


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
