"""Whether a job hung: used no CPU in the last half of its time."""

from __future__ import annotations

from collections.abc import Sequence

# A process that only waits still wakes up now and then; below this share of one core nothing is being done.
IDLE_SHARE = 0.01


def was_idle_throughout(cpu_seconds: float, elapsed_seconds: float) -> bool:
    """Whether all of its CPU time would be too little for the last half alone: known without a time series."""
    return elapsed_seconds > 0 and cpu_seconds < IDLE_SHARE * elapsed_seconds / 2


def was_idle_in_last_half(
    times: Sequence[float], cpu_percents: Sequence[float | None], begin: float, end: float
) -> bool | None:
    """Whether the samples after the middle of ``begin`` to ``end`` (Unix times) show no use of CPU; None: not known.

    Args:
        times: in order; a sample's percentage is of the time since the sample before it.
    """
    middle = (begin + end) / 2
    late = [
        (time - max(before, middle), percent)
        for before, time, percent in zip((begin, *times), times, cpu_percents, strict=False)
        if time > middle and percent is not None
    ]
    covered = sum(seconds for seconds, _ in late)
    if covered < (end - middle) / 2:
        return None
    used_seconds = sum(seconds * percent / 100 for seconds, percent in late)
    return used_seconds < IDLE_SHARE * covered
