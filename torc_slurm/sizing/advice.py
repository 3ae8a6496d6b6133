"""What to request next time, from the jobs of one group (one job, or jobs that the user treats as the same); pure.

Advice rests only on measured figures. A job says nothing if it still runs, if a person or the cluster ended it, or if
the figure is NULL. The advice is to request less only if every informative job completed; more if one was killed for
the resource, or came close. A change that would be small is not suggested, so applying the advice a second time
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

from torc_slurm.common.units import MIB, exact, format_memory, format_run_time, format_slurm_time, largest, scaled
from torc_slurm.sizing.job_use import (
    COMPLETED,
    ENDED_FROM_OUTSIDE,
    OUT_OF_MEMORY,
    SLURM_TASK_SUM,
    TIMEOUT,
    JobUse,
)
from torc_slurm.sizing.waiting import wait_words

HEADROOM = Decimal("1.2")
LEAST_MEMORY_BYTES = 100 * MIB
# Suggest less only if it is at most this share of the current request; suggest more if the use is over that share.
_WORTH_LESS = Decimal("0.75")
_TOO_CLOSE = Decimal("0.95")
_CPU_TOLERANCE_PERCENT = 5
# Slurm's CPU times are whole seconds and its polls up to 30 s apart: they say nothing about shorter jobs.
_SHORTEST_FOR_SLURM_CPU_SECONDS = 5.0
_POLLS_NEEDED = 3
_IDLE_PERCENT = 1.0
_ENOUGH_JOBS = 3

HIGH, MEDIUM, LOW = "high", "medium", "low"
MEMORY, CPUS, TIME = "memory", "cpus", "time"


class Advice(NamedTuple):
    """One suggestion.

    ``current`` and ``suggested`` are as sbatch takes them (``600M``, ``00:20:00``; CPUs: number in the allocation);
    ``reason`` is one sentence with the figure it rests on; ``confidence`` is high, medium or low.
    """

    resource: str
    current: str | int | None
    suggested: str | int
    reason: str
    confidence: str
    is_more: bool = False

    def item(self) -> dict[str, str | int | None]:
        """The JSON object."""
        return {name: getattr(self, name) for name in ("resource", "current", "suggested", "reason", "confidence")}


def advise(jobs: Sequence[JobUse]) -> list[Advice]:
    """What to change in the request of the latest job: at most one suggestion each for memory, CPUs and time.

    A job that was killed for memory, or ended for time, with a smaller request than the current one does not count.
    """
    ordered = sorted(jobs, key=lambda job: job.age_order)
    informative = [job for job in ordered if job.has_ended and job.state not in ENDED_FROM_OUTSIDE]
    if not informative:
        return []
    now = informative[-1]
    informative = [job for job in informative if not _is_answered(job, now)]
    found = (_memory(informative), _cpus(informative), _time(informative))
    return [advice for advice in found if advice is not None]


def _is_answered(job: JobUse, now: JobUse) -> bool:
    """Whether the job failed and the current request is larger; False if one of the two is unknown."""
    if job.state == OUT_OF_MEMORY:
        pair: tuple[float | None, float | None] = job.requested_memory_bytes, now.requested_memory_bytes
    elif job.state == TIMEOUT:
        pair = job.time_limit_seconds, now.time_limit_seconds
    else:
        return False
    asked, requested_now = pair
    return asked is not None and requested_now is not None and asked < requested_now


def sbatch_lines(advice: Iterable[Advice], jobs: Sequence[JobUse]) -> list[str]:
    """The ``#SBATCH`` lines of the advice, one option each."""
    lines = []
    for each in advice:
        if each.resource == MEMORY:
            lines.append(f"#SBATCH --mem={each.suggested}")
        elif each.resource == TIME:
            lines.append(f"#SBATCH --time={each.suggested}")
        else:
            tasks = largest(job.task_count for job in jobs) or 1
            lines.append(f"#SBATCH --cpus-per-task={max(1, int(each.suggested) // tasks)}")
    return lines


# --- memory -------------------------------------------------------------------------------------------------------


def _memory(jobs: Sequence[JobUse]) -> Advice | None:
    requested = jobs[-1].requested_memory_bytes
    if not requested:
        return None
    current = slurm_memory(requested, exactly=True)
    killed = [job for job in jobs if job.state == OUT_OF_MEMORY]
    peaks = [(job.peak_memory_bytes, job) for job in jobs if job.peak_memory_bytes]
    if killed:
        return _memory_after_kill(killed, requested, current)
    if not peaks:
        return None
    peak, largest = max(peaks, key=lambda pair: pair[0])
    suggested = _rounded_memory(scaled(peak, HEADROOM))
    words = f"{_at_most(jobs)}{format_memory(peak)} of {format_memory(requested)}{_source(largest)}{_in_jobs(jobs)}"
    if peak > _TOO_CLOSE * requested and suggested > requested and not largest.memory_is_upper_bound:
        return Advice(
            MEMORY, current, slurm_memory(suggested), f"Memory was nearly full: {words}.", _sureness(jobs), True
        )
    if not _all_completed(jobs) or len(peaks) < len(jobs) or suggested > _WORTH_LESS * requested:
        return None
    if any(map(_is_hardly_polled, jobs)):
        return None
    return Advice(MEMORY, current, slurm_memory(suggested), f"Peak memory was {words}.", _sureness(jobs))


def _memory_after_kill(killed: Sequence[JobUse], requested: int, current: str) -> Advice:
    peak = largest(job.peak_memory_bytes for job in killed)
    suggested = 2 * (requested if peak is None else max(requested, int(peak)))
    reached = f" after reaching at least {format_memory(peak)}" if peak else ""
    reason = (
        f"{_count(killed, 'job')} killed for memory at {format_memory(requested)}{reached}; its need is unknown, "
        "so double the request once and check again."
    )
    return Advice(MEMORY, current, slurm_memory(suggested), reason[0].upper() + reason[1:], MEDIUM, True)


def _is_hardly_polled(job: JobUse) -> bool:
    """Whether Slurm polled the job so rarely that it probably missed the peak."""
    if not job.memory_is_sampled or job.is_measured:
        return False
    interval = job.poll_interval_seconds or 30.0
    return job.elapsed_seconds is None or job.elapsed_seconds < _POLLS_NEEDED * interval


def _source(job: JobUse) -> str:
    if job.is_measured:
        return f" (measured, {job.peak_memory_source})"
    if job.peak_memory_source == SLURM_TASK_SUM:
        return " (Slurm's MaxRSS added up over tasks, an upper bound)"
    if job.memory_is_upper_bound:
        return " (Slurm's MaxRSS, page cache included, an upper bound)"
    return " (Slurm's MaxRSS, polled: short peaks are missed)" if job.memory_is_sampled else " (Slurm's MaxRSS)"


def _rounded_memory(amount_bytes: Decimal) -> int:
    """Rounded up to 100 MiB; above 10 GiB to 1 GiB."""
    step = 100 * MIB if amount_bytes <= 10 * 1024 * MIB else 1024 * MIB
    return max(LEAST_MEMORY_BYTES, _round_up(amount_bytes, step))


def slurm_memory(amount_bytes: int, *, exactly: bool = False) -> str:
    """For sbatch's ``--mem``, in whole MiB: ``600M``, ``13G``. ``exactly``: without further rounding."""
    mib = -(-amount_bytes // MIB)
    return f"{mib // 1024}G" if mib % 1024 == 0 and (mib >= 10240 or exactly) else f"{mib}M"


# --- CPUs ---------------------------------------------------------------------------------------------------------


def _cpus(jobs: Sequence[JobUse]) -> Advice | None:
    allocated = jobs[-1].allocated_cpus
    if allocated is None or allocated <= 1 or not _all_completed(jobs):
        return None
    needs = [_cores_needed(job) for job in jobs]
    if any(need is None for need in needs):
        return None
    suggested = max(need for need in needs if need is not None)
    nodes = largest(job.node_count for job in jobs) or 1
    tasks = largest(job.task_count for job in jobs) or 1
    suggested = max(_round_up(Decimal(suggested), tasks), nodes)
    if suggested > _WORTH_LESS * allocated or any(_is_held_back(job, suggested) for job in jobs):
        return None
    busiest = max(jobs, key=lambda job: job.cpu_efficiency_percent or 0.0)
    percent = busiest.cpu_efficiency_percent
    used = (
        ""
        if percent is None
        else f"{percent / 100 * (busiest.allocated_cpus or 1):.1f} of {allocated} CPUs were busy on average"
    )
    peak = largest(job.peak_cpu_percent for job in jobs)
    at_peak = f", {peak / 100:.1f} at the peak" if peak is not None else " (Slurm does not know the peak)"
    return Advice(CPUS, allocated, suggested, f"{used[:1].upper()}{used[1:]}{at_peak}.", _sureness(jobs, by_cpu=True))


def _is_held_back(job: JobUse, suggested: int) -> bool:
    """Whether it waited for CPUs, so that it may use more than suggested if CPUs are free."""
    need = _cores_needed(job, job.wait_factor)
    return job.wait_factor > 1 and need is not None and need > suggested


def waiting(job: JobUse) -> str | None:
    """A sentence on how long it waited for CPUs; None: it hardly waited."""
    if job.wait_factor == 1:
        return None
    words = wait_words(job.cpu_wait_seconds, job.cpu_seconds)
    return f"It {words}: it may use more if CPUs are free."


def _cores_needed(job: JobUse, factor: Decimal = Decimal(1)) -> int | None:
    """Whole CPUs: from the busiest interval if torc-step measured it, else from the average; times a factor."""
    percent = job.cpu_efficiency_percent
    if percent is None or not job.allocated_cpus or not job.elapsed_seconds:
        return None
    average = scaled(percent, factor) * job.allocated_cpus
    if job.peak_cpu_percent is not None and (job.node_count or 1) == 1:
        return max(1, _round_up((max(scaled(job.peak_cpu_percent, factor), average) - _CPU_TOLERANCE_PERCENT) / 100, 1))
    if job.elapsed_seconds < _SHORTEST_FOR_SLURM_CPU_SECONDS:
        return None
    return max(1, _round_up((scaled(average, HEADROOM) - _CPU_TOLERANCE_PERCENT) / 100, 1))


def _was_idle(job: JobUse) -> bool:
    percent = job.cpu_efficiency_percent
    return percent is not None and percent < _IDLE_PERCENT


# --- time ---------------------------------------------------------------------------------------------------------


def _time(jobs: Sequence[JobUse]) -> Advice | None:
    limit = jobs[-1].time_limit_seconds
    if not limit:
        return None
    current = format_slurm_time(limit)
    ended = [job for job in jobs if job.state == TIMEOUT]
    if ended:
        suggested = rounded_time(Decimal(2) * exact(limit))
        reason = (
            f"{_count(ended, 'job')} ended by the time limit of {format_run_time(limit)}; its need is "
            "unknown, so double the limit once and check again."
        )
        if all(_was_idle(job) for job in ended):
            reason += " It used almost no CPU: find out first what it waited for."
            return Advice(TIME, current, format_slurm_time(suggested), reason[0].upper() + reason[1:], LOW, True)
        return Advice(TIME, current, format_slurm_time(suggested), reason[0].upper() + reason[1:], MEDIUM, True)
    used = [job.elapsed_seconds for job in jobs if job.elapsed_seconds is not None]
    if len(used) < len(jobs) or not _all_completed(jobs):
        return None
    longest = max(used)
    suggested = rounded_time(scaled(longest, HEADROOM))
    words = f"{_at_most(jobs)}{format_run_time(longest)} of {format_run_time(limit)}{_in_jobs(jobs)}"
    if exact(longest) > _TOO_CLOSE * exact(limit) and suggested > limit:
        reason = f"The time limit was nearly reached: {words}."
        return Advice(TIME, current, format_slurm_time(suggested), reason, _by_count(jobs), True)
    if suggested > _WORTH_LESS * exact(limit):
        return None
    return Advice(TIME, current, format_slurm_time(suggested), f"Run time was {words}.", _by_count(jobs))


def rounded_time(seconds: Decimal) -> int:
    """Rounded up to whole minutes; above 10 minutes to 5, above 2 hours to 15, above a day to 60."""
    for bound, minutes in ((600, 1), (7200, 5), (86400, 15)):
        if seconds <= bound:
            return max(60, _round_up(seconds, minutes * 60))
    return _round_up(seconds, 3600)


# --- how sure -----------------------------------------------------------------------------------------------------


def _sureness(jobs: Sequence[JobUse], *, by_cpu: bool = False) -> str:
    has_own = all(job.peak_cpu_percent is not None if by_cpu else job.is_measured for job in jobs)
    return _by_count(jobs) if has_own else LOW


def _by_count(jobs: Sequence[JobUse]) -> str:
    return HIGH if len(jobs) >= _ENOUGH_JOBS else MEDIUM


def _all_completed(jobs: Sequence[JobUse]) -> bool:
    return all(job.state == COMPLETED for job in jobs)


def _at_most(jobs: Sequence[JobUse]) -> str:
    return "at most " if len(jobs) > 1 else ""


def _in_jobs(jobs: Sequence[JobUse]) -> str:
    return f" in {len(jobs)} jobs" if len(jobs) > 1 else ""


def _count(jobs: Sequence[JobUse], word: str) -> str:
    return f"the {word} was" if len(jobs) == 1 else f"{len(jobs)} {word}s were"


def _round_up(value: Decimal, step: int) -> int:
    return int((value / step).to_integral_value(ROUND_CEILING)) * step
