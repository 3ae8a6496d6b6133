"""Makes the rows of a step's series: the CPU percentage of each interval, and the peak. Pure arithmetic.

An interval lies between two looks at the tree. CPU time is often found later than it was used: a task registers late, a
child is waited for, the cgroup knows of more than the tree shows. Divided by a short interval it would be a percentage
that no machine can give. So an interval that got more than its CPUs could give is joined with those before it until it
is possible, and what is still too much is not in the series (the step's total has it).
"""

from __future__ import annotations

from torc_slurm.step.cpu_ledger import TICK_SLACK_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.database.batch import Batch

# A percentage over less time than this is made of clock ticks, not of use: such samples count for memory only.
LEAST_INTERVAL_SECONDS = 0.095
# Where the look itself took more than this share of the interval, it is not known when the CPU time was used.
_MOST_SHARE_OF_LOOK = 0.05

Sample = tuple[float, int, int]  # timestamp, memory_bytes, num_processes
IoRow = tuple[float | int | None, ...]
MemoryRow = tuple[float, int, str]


class Counters:
    """CPU seconds so far: of the tree, of the cgroup (None where it does not tell), and the figure that counts."""

    __slots__ = ("best", "charged", "seen")

    def __init__(self, seen: float = 0.0, charged: float | None = None, best: float = 0.0) -> None:
        self.seen = seen
        self.charged = charged
        self.best = best


class _Start:
    """Where an interval begins: monotonic time, the counters then, what was given before it, and the peak then."""

    __slots__ = ("counters", "given_seconds", "peak", "time")

    def __init__(self, time: float, counters: Counters, given_seconds: float, peak: float | None) -> None:
        self.time = time
        self.counters = counters
        self.given_seconds = given_seconds
        self.peak = peak

    def cpu_seconds(self, now: Counters) -> float:
        """What was used since: by one counter's own difference, so that a switch between the two is no use."""
        used = now.seen - self.counters.seen
        if now.charged is not None and self.counters.charged is not None:
            used = max(used, now.charged - self.counters.charged)
        return max(0.0, min(used, now.best - self.given_seconds))


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
        self._earliest: float | None = None  # since when a task ran that registered in the open interval
        self._rows: list[_Row] = []
        self.peak_percent: float | None = None

    def task_began(self, when: float) -> None:
        """A task registers that has run since ``when``: all that it used until now is found in the open interval."""
        self._earliest = when if self._earliest is None else min(self._earliest, when)

    def is_ready(self, began: float, now: float) -> bool:
        """Whether a look between these two times ends an interval: it is long enough, and the look was short."""
        seconds = now - self._start.time
        return seconds >= LEAST_INTERVAL_SECONDS and now - began <= seconds * _MOST_SHARE_OF_LOOK

    def is_possible(self, now: float, counters: Counters, cpus: int) -> bool:
        """Whether so many CPUs could have given what the open interval got."""
        return self._start.cpu_seconds(counters) <= cpus * (now - self._start.time)

    def close(
        self, now: float, counters: Counters, cpus: int, sample: Sample, memory: MemoryRow, io: IoRow, final: bool
    ) -> None:
        """End the open interval at ``now`` with this row; ``final``: the tasks' end, which may be before its start."""
        while self._rows and self._must_join(now, counters, cpus, final):
            self._start = self._rows.pop().start
        start = self._start
        seconds = now - min(start.time, start.time if self._earliest is None else self._earliest)
        if seconds <= 0:
            return
        used = min(start.cpu_seconds(counters), cpus * seconds)
        percent = min(used / seconds, cpus) * 100
        self.peak_percent = max(start.peak or 0.0, percent)
        self._rows.append(_Row(start, percent, sample, memory, io))
        self._start = _Start(now, counters, start.given_seconds + used, self.peak_percent)
        self._earliest = None

    def _must_join(self, now: float, counters: Counters, cpus: int, final: bool) -> bool:
        seconds = now - self._start.time
        if seconds <= 0 or (final and seconds < LEAST_INTERVAL_SECONDS):
            return True
        if self._earliest is not None and self._earliest < self._start.time:
            return True
        return self._start.cpu_seconds(counters) > cpus * seconds + TICK_SLACK_SECONDS

    def hand_over(self, batch: Batch, keep_last: bool) -> None:
        """Move the rows since the last call into the batch; the last one waits where it may yet be joined."""
        end = len(self._rows) - 1 if keep_last and self._rows else len(self._rows)
        rows, self._rows = self._rows[:end], self._rows[end:]
        batch.samples = [(row.sample[0], row.percent, *row.sample[1:]) for row in rows]
        batch.memory_samples = [row.memory for row in rows]
        batch.io_samples = [row.io for row in rows]

    def drop(self) -> None:
        """Granularity ``summary`` keeps no series; the last row stays, as the peak may yet be joined with it."""
        del self._rows[:-1]


def cpu_percent(cpu_seconds: float | None, elapsed_seconds: float, cpus: int) -> float | None:
    """CPU seconds over a time that so many CPUs were there; None where no time is known to have passed.

    More than those CPUs could give is ticks of the kernel's clocks: they are not shown.
    """
    if cpu_seconds is None or elapsed_seconds <= 0:
        return None
    return min(cpu_seconds / elapsed_seconds, cpus) * 100
