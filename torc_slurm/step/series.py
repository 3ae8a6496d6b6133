"""Makes the rows of a step's series: the CPU percentage of each interval, and the peak. Pure arithmetic.

An interval lies between two samples. CPU time is often found later than it was used: a task registers late, a child
is reaped, or the cgroup shows more than the tree. Over a short interval that would be a percentage that no machine can
reach. So an interval with more CPU time than its CPUs could give is joined with those before it until it is possible.
What is still too much is left out of the series; the step's total has it.
"""

from __future__ import annotations

from torc_slurm.step.cpu_ledger import TICK_SLACK_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.database.batch import Batch

# In less time than this, the percentage reflects clock ticks and not use: such samples count only for memory.
LEAST_INTERVAL_SECONDS = 0.095
# If the sample itself took more than this share of the interval, the time of the CPU use is unknown.
_MOST_SHARE_OF_LOOK = 0.05

Sample = tuple[float, int, int]  # timestamp, memory_bytes, num_processes
IoRow = tuple[float | int | None, ...]
MemoryRow = tuple[float, int, str]


class Counters:
    """CPU seconds so far: of the tree, of the cgroup (None if unknown), and the figure that is shown."""

    __slots__ = ("best", "charged", "seen")

    def __init__(self, seen: float = 0.0, charged: float | None = None, best: float = 0.0) -> None:
        self.seen = seen
        self.charged = charged
        self.best = best


class _Start:
    """Where an interval begins: monotonic time, counters, CPU seconds already in rows, and the peak."""

    __slots__ = ("counters", "given_seconds", "peak", "time")

    def __init__(self, time: float, counters: Counters, given_seconds: float, peak: float | None) -> None:
        self.time = time
        self.counters = counters
        self.given_seconds = given_seconds
        self.peak = peak

    def cpu_seconds(self, now: Counters) -> float:
        """CPU seconds since the start: the difference of one counter, because a switch between counters is not use."""
        used = now.seen - self.counters.seen
        if now.charged is not None and self.counters.charged is not None:
            used = max(used, now.charged - self.counters.charged)
        shown = now.best - self.given_seconds
        if used > shown:
            used = shown
        return used if used > 0 else 0.0


class _Row:
    __slots__ = ("io", "memory", "percent", "sample", "start")

    def __init__(self, start: _Start, percent: float, sample: Sample, memory: MemoryRow, io: IoRow) -> None:
        self.start = start
        self.percent = percent
        self.sample = sample
        self.memory = memory
        self.io = io


class Series:
    """The rows since the last flush. ``peak_percent`` is None before the first."""

    def __init__(self, begin: float) -> None:
        self._start = _Start(begin, Counters(), 0.0, None)
        self._earliest: float | None = None  # when the first task began that registered in the open interval
        self._rows: list[_Row] = []
        self.peak_percent: float | None = None

    def task_began(self, when: float) -> None:
        """Register a task that runs since ``when``: all it used so far appears in the open interval."""
        self._earliest = when if self._earliest is None else min(self._earliest, when)

    def is_ready(self, began: float, now: float) -> bool:
        """Whether a sample between these two times ends an interval: the interval is long and the sample was short."""
        seconds = now - self._start.time
        return seconds >= LEAST_INTERVAL_SECONDS and now - began <= seconds * _MOST_SHARE_OF_LOOK

    def is_possible(self, now: float, counters: Counters, cpus: float) -> bool:
        """Whether this number of CPUs could give the CPU time of the open interval."""
        return self._start.cpu_seconds(counters) <= cpus * (now - self._start.time)

    def close(
        self, now: float, counters: Counters, cpus: float, sample: Sample, memory: MemoryRow, io: IoRow, final: bool
    ) -> None:
        """End the open interval at ``now`` with this row. ``final``: the tasks' end, maybe before its start."""
        while self._rows and self._must_join(now, counters, cpus, final):
            self._start = self._rows.pop().start
        start = self._start
        begin = start.time if self._earliest is None or self._earliest > start.time else self._earliest
        seconds = now - begin
        if seconds <= 0:
            return
        used = start.cpu_seconds(counters)
        if used > cpus * seconds:
            used = cpus * seconds
        rate, peak = used / seconds, start.peak or 0.0
        percent = (rate if rate < cpus else cpus) * 100
        self.peak_percent = percent if percent > peak else peak
        self._rows.append(_Row(start, percent, sample, memory, io))
        self._start = _Start(now, counters, start.given_seconds + used, self.peak_percent)
        self._earliest = None

    def _must_join(self, now: float, counters: Counters, cpus: float, final: bool) -> bool:
        seconds = now - self._start.time
        if seconds <= 0 or (final and seconds < LEAST_INTERVAL_SECONDS):
            return True
        if self._earliest is not None and self._earliest < self._start.time:
            return True
        return self._start.cpu_seconds(counters) > cpus * seconds + TICK_SLACK_SECONDS

    def hand_over(self, batch: Batch, keep_last: bool) -> None:
        """Move the rows since the last call into the batch; keep the last one if it may still be joined."""
        end = len(self._rows) - 1 if keep_last and self._rows else len(self._rows)
        rows, self._rows = self._rows[:end], self._rows[end:]
        batch.samples = [(row.sample[0], row.percent, *row.sample[1:]) for row in rows]
        batch.memory_samples = [row.memory for row in rows]
        batch.io_samples = [row.io for row in rows]

    def drop(self) -> None:
        """Drop the rows (granularity ``summary``). The last row stays, because the peak may still be joined."""
        del self._rows[:-1]


def cpu_percent(cpu_seconds: float | None, elapsed_seconds: float, cpus: float) -> float | None:
    """CPU percentage (100: one CPU) over this time with this number of CPUs; None if no time passed.

    Capped at what those CPUs can give: more comes from the ticks of the kernel's clocks.
    """
    if cpu_seconds is None or elapsed_seconds <= 0:
        return None
    return min(cpu_seconds / elapsed_seconds, cpus) * 100
