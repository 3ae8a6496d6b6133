"""How much CPU a step used in the last half of its time, without keeping its series: a job that hung used none."""

from __future__ import annotations

_MOST_MARKS = 64


class HalfTime:
    """Keeps at most 64 marks of (elapsed, CPU seconds so far); when they are full every second one goes."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, float]] = [(0.0, 0.0)]
        self._spacing_seconds = 0.0

    def note(self, elapsed_seconds: float, cpu_seconds: float) -> None:
        """Note how far it had come; marks nearer than the present spacing are passed over."""
        if elapsed_seconds - self._marks[-1][0] < self._spacing_seconds:
            return
        self._marks.append((elapsed_seconds, cpu_seconds))
        if len(self._marks) >= _MOST_MARKS:
            del self._marks[1::2]
            self._spacing_seconds = elapsed_seconds / (_MOST_MARKS / 2)

    def last_half_cpu_seconds(self, elapsed_seconds: float, cpu_seconds: float) -> float | None:
        """CPU seconds since the last mark at or before the middle; None with no mark but the begin.

        A little more than the half at most, so that a job that worked in it is never taken for one that hung.
        """
        if len(self._marks) < 2:
            return None
        middle = elapsed_seconds / 2
        before = [cpu for elapsed, cpu in self._marks if elapsed <= middle]
        return max(0.0, cpu_seconds - before[-1])
