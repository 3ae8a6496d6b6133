"""Whether a job hung: used no CPU in the last half of its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# A waiting process still wakes up from time to time: below this share of one core it does nothing.
IDLE_SHARE = 0.01
_MANY_SAMPLES = 8


def was_idle_throughout(cpu_seconds: float, elapsed_seconds: float) -> bool:
    """Whether its whole CPU time is too little even for the last half: this needs no time series."""
    return elapsed_seconds > 0 and cpu_seconds < IDLE_SHARE * elapsed_seconds / 2


def was_certainly_busy(step: Mapping[str, object]) -> bool:
    """Whether a step's figures alone show that it worked in the last half of its time; False: its series may tell.

    ``last_half_cpu_seconds`` counts from a sample before the middle, less than a quarter of the time before it if
    there were many. What the step can have used in that quarter does not count.
    """
    last_half, elapsed, peak_percent, interval = (
        _number(step[name])
        for name in ("last_half_cpu_seconds", "elapsed_seconds", "peak_cpu_percent", "sample_interval_seconds")
    )
    if last_half is None or elapsed is None or peak_percent is None or interval is None:
        return False
    longest_interval = max(interval, _number(step["monitor_final_interval_seconds"]) or 0.0)
    earlier = peak_percent / 100 * elapsed / 4
    return elapsed >= _MANY_SAMPLES * longest_interval and last_half - earlier > IDLE_SHARE * elapsed


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


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
