"""What one attempt says about one resource: how much it used, and whether it was ended because it needed more.

Memory in bytes, run time in seconds, CPU in percent of one core.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from torc_slurm.common.units import exact, format_cpu_count, format_cpu_percent, format_memory, format_run_time
from torc_slurm.sizing.facts import Attempt, AttemptEnd, Figure, Job, Request

# CPU use comes from two clocks that differ by milliseconds: n cores plus this still count as n cores.
CPU_TOLERANCE_PERCENT = Decimal(5)
_CPU_TOLERANCE_SHARE = Decimal("0.01")


class Resource(Enum):
    """What can be requested. The value is the name that the Rust torc uses."""

    memory = "Memory"
    cpu = "CPU"
    runtime = "Runtime"


class Evidence(NamedTuple):
    """``used`` is what the attempt used, as it was measured: of very many attempts, few are ever converted by `exact`.

    With ``needs_more`` it was ended for that and would have used more.
    """

    job: Job
    attempt: Attempt
    used: Figure
    needs_more: bool


def asked(request: Request, resource: Resource) -> int | None:
    """What a request allows: bytes, seconds, or percent of one core; None if it has no value."""
    if resource is Resource.memory:
        return request.memory_bytes
    return request.runtime_seconds if resource is Resource.runtime else request.num_cpus * 100


def measured(attempt: Attempt, resource: Resource) -> Figure | None:
    """The measured use of an attempt; None if it was not measured."""
    if resource is Resource.cpu:
        return _largest(attempt.peak_cpu_percent, attempt.avg_cpu_percent)
    return attempt.peak_memory_bytes if resource is Resource.memory else attempt.exec_time_seconds


def evidence_of(job: Job, attempt: Attempt, resource: Resource, *, even_if_hung: bool = False) -> Evidence | None:
    """What the attempt says about the resource; None if nothing.

    A kill for memory means "more than the limit", even if the measured peak is below the limit or missing. A job that
    was idle in the last half of its time and was then ended says nothing about the time it needs.

    Args:
        even_if_hung: ask what it used, not what it needs.
    """
    end = attempt.end
    if end is AttemptEnd.silent:
        return None
    used = measured(attempt, resource)
    if resource is Resource.memory and end is AttemptEnd.out_of_memory:
        return _bound(job, attempt, _memory_bound(attempt, used))
    if resource is Resource.runtime and attempt.hung and end is not AttemptEnd.completed and not even_if_hung:
        return None
    if resource is Resource.runtime and end is AttemptEnd.out_of_time:
        limit = attempt.request.runtime_seconds if attempt.ran_to_its_limit else None
        return _bound(job, attempt, _largest(used, limit))
    return None if used is None else Evidence(job, attempt, used, needs_more=False)


def is_sure(attempt: Attempt, resource: Resource) -> bool:
    """Whether the figures allow a smaller request: they exist, are complete, and CPU has an average and a peak."""
    if attempt.is_lower_bound:
        return False
    if resource is Resource.cpu:
        return None not in (attempt.peak_cpu_percent, attempt.avg_cpu_percent)
    return measured(attempt, resource) is not None


def is_over(used: Figure, allowed: int, resource: Resource) -> bool:
    """Whether a use exceeds what was allowed. For CPU, the difference between the clocks does not count."""
    if used <= allowed:
        return False
    if resource is not Resource.cpu:
        return True
    percent = exact(used)
    return percent - cpu_tolerance(percent) > allowed


def cpu_tolerance(percent: Decimal) -> Decimal:
    """The possible error of a CPU figure."""
    return max(CPU_TOLERANCE_PERCENT, percent * _CPU_TOLERANCE_SHARE)


def show_requested(request: Request, resource: Resource) -> str:
    """``8.00 GB``, ``400% (4 cores)``, ``4h 0m 0s``."""
    allowed = asked(request, resource)
    if resource is Resource.cpu:
        return format_cpu_count(request.num_cpus)
    return "nothing" if allowed is None else show_used(allowed, resource)


def show_used(used: Figure, resource: Resource) -> str:
    """``10.50 GB``, ``523.4%``, ``2h 45m 0s``; memory under 1 GB in MB."""
    if resource is Resource.cpu:
        return format_cpu_percent(used)
    if resource is Resource.runtime:
        return format_run_time(used)
    return format_memory(used)


def _bound(job: Job, attempt: Attempt, used: Figure | None) -> Evidence | None:
    return None if used is None else Evidence(job, attempt, used, needs_more=True)


def _memory_bound(attempt: Attempt, used: Figure | None) -> Figure | None:
    """What it had when it was killed: its own limit, or its request if no limit is known.

    A limit that it shared with other steps says nothing about its own need: then its peak.
    """
    if attempt.memory_limit_bytes is None or attempt.own_memory_limit_bytes is not None:
        return _largest(attempt.own_memory_limit_bytes or attempt.request.memory_bytes, used)
    return used or attempt.request.memory_bytes


def _largest(first: Figure | None, second: Figure | None) -> Figure | None:
    if first is None or second is None:
        return second if first is None else first
    return max(first, second)
