"""Whether a job hung: used no CPU in the last half of its time."""

from __future__ import annotations

from collections.abc import Sequence

# A waiting process still wakes up from time to time: below this share of one core it does nothing.
IDLE_SHARE = 0.01


def was_idle_throughout(cpu_seconds: float, elapsed_seconds: float) -> bool:
    """Whether its whole CPU time is too little even for the last half: this needs no time series."""
    return elapsed_seconds > 0 and cpu_seconds < IDLE_SHARE * elapsed_seconds / 2


def was_idle_in_last_half(
    times: Sequence[float], cpu_percents: Sequence[float | None], begin: float, end: float
) -> bool | None:
    """Whether the samples in the last half of ``begin`` to ``end`` (Unix times) show an idle job; None: unknown.

    Args:
        times: in order; a sample's percentage covers the time since the sample before it.
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
