"""When samples are due: often at first, so that short jobs have figures, then once per interval; and what they cost.

If a sample costs more than 1 % of the interval, the interval grows, and the record says so.
"""

from __future__ import annotations

import time

_FIRST_GAP_SECONDS = 0.005
_MOST_SHARE_OF_INTERVAL = 0.01
_LONGEST_BACKED_OFF_SECONDS = 60.0
_SMOOTHING = 0.2
_HEADROOM = 1.5


class Schedule:
    """The times of samples on the monotonic clock, which does not change when the system's clock is set."""

    def __init__(self, interval_seconds: float) -> None:
        self.interval_seconds = interval_seconds
        self._requested_interval_seconds = interval_seconds
        self.next_time = 0.0
        self._begin_time = 0.0
        self._ramp_gap = _FIRST_GAP_SECONDS
        self.is_ramping = True
        self._samples = 0
        self._cost_seconds = 0.0
        self._mean_cost: float | None = None
        self._max_lateness_seconds = 0.0

    def begin(self) -> None:
        """Begin the step: the first sample is due now."""
        self._begin_time = self.next_time = time.monotonic()
        self._ramp_gap = _FIRST_GAP_SECONDS
        self.is_ramping = self._ramp_gap < self.interval_seconds

    def is_due(self, now: float) -> bool:
        return now >= self.next_time

    def lateness(self, now: float) -> float:
        return now - self.next_time if now > self.next_time else 0.0

    def skip(self) -> None:
        self._set_next(time.monotonic())

    def took(self, cost_seconds: float, lateness_seconds: float) -> str:
        """Note a sample's cost and set the time of the next. Returns a note if the interval had to grow."""
        self._samples += 1
        self._cost_seconds += cost_seconds
        if lateness_seconds > self._max_lateness_seconds:
            self._max_lateness_seconds = lateness_seconds
        was_ramping = self.is_ramping
        self._set_next(time.monotonic())
        return "" if was_ramping else self._back_off(cost_seconds)

    def _set_next(self, now: float) -> None:
        if self.is_ramping:
            self.next_time = now + self._ramp_gap
            self._ramp_gap *= 2
            self.is_ramping = self._ramp_gap < self.interval_seconds
            if not self.is_ramping:
                self.next_time = self._begin_time + self.interval_seconds
        while self.next_time <= now:  # after suspend or a slow sample: do not catch up
            missed = int((now - self.next_time) / self.interval_seconds) + 1
            self.next_time += missed * self.interval_seconds

    def _back_off(self, cost_seconds: float) -> str:
        """Lengthen the interval if samples cost too much; shorten it again if they cost less than half of that."""
        before = cost_seconds if self._mean_cost is None else self._mean_cost
        self._mean_cost = before + _SMOOTHING * (cost_seconds - before)
        was, wanted = self.interval_seconds, self._mean_cost / _MOST_SHARE_OF_INTERVAL
        if wanted <= was == self._requested_interval_seconds:
            return ""
        wanted = min(wanted, _LONGEST_BACKED_OFF_SECONDS)
        if wanted > was or wanted * _HEADROOM * 2 < was:
            self.interval_seconds = max(self._requested_interval_seconds, wanted * _HEADROOM)
        if self.interval_seconds == was:
            return ""
        how = "backed off" if self.interval_seconds > was else "came back"
        return (
            f"sampling {how} from every {was:.3g} s to every {self.interval_seconds:.3g} s:"
            f" one sample costs {self._mean_cost * 1000:.1f} ms"
        )

    def figures(self) -> dict[str, object]:
        """The columns of ``monitor_usage``."""
        return {
            "sample_count": self._samples,
            "mean_sample_seconds": self._cost_seconds / self._samples if self._samples else None,
            "max_lateness_seconds": self._max_lateness_seconds,
            "final_interval_seconds": self.interval_seconds,
        }
