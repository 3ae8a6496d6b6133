"""How much CPU a step used in the last half of its time, without a stored series. A job that hung used none."""

from __future__ import annotations

_MOST_MARKS = 64


class HalfTime:
    """Keeps at most 64 pairs of (elapsed, CPU seconds so far). When the list is full, every second pair is removed."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, float]] = [(0.0, 0.0)]
        self._spacing_seconds = 0.0

    def note(self, elapsed_seconds: float, cpu_seconds: float) -> None:
        """Add a pair, unless it is closer to the last one than the current spacing."""
        if elapsed_seconds - self._marks[-1][0] < self._spacing_seconds:
            return
        self._marks.append((elapsed_seconds, cpu_seconds))
        if len(self._marks) >= _MOST_MARKS:
            del self._marks[1::2]
            self._spacing_seconds = elapsed_seconds / (_MOST_MARKS / 2)

    def last_half_cpu_seconds(self, elapsed_seconds: float, cpu_seconds: float | None) -> float | None:
        """CPU seconds since the last pair at or before the middle; None if only the begin, or no CPU time, is known.

        The span is a little longer than half, so that a job that worked in the last half never looks like one that
        hung.
        """
        if cpu_seconds is None or len(self._marks) < 2:
            return None
        middle = elapsed_seconds / 2
        before = [cpu for elapsed, cpu in self._marks if elapsed <= middle]
        return max(0.0, cpu_seconds - before[-1])
