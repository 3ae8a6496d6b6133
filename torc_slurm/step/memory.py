"""How much memory the job needed: floor, best and ceiling, each with its source.

floor    the largest single process, exact: VmHWM, and ru_maxrss if it exceeds the wrapper's size at the fork
best     what the cgroup would charge: the step's cgroup without page cache; else PSS; else the sum of RSS
ceiling  the cgroup's high-water mark, with page cache and monitor
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.step.readings import TreeReader, TreeReading

# A job's ru_maxrss starts as the wrapper's resident size at the fork: only a clearly larger value is the job's own.
_FORK_SLACK_BYTES = 1 << 20
_PSS_SHARE_OF_TIME = 0.001
_PSS_FREE_MEASUREMENTS = 2  # one while a tree forks, one when it is stable
_PSS_FREE_SECONDS = 0.15  # CPU time allowed at once for a new tree
_PSS_WORTH_GROWTH = 1.02
_PSS_NEW_PEAK_GROWTH = 1.3
_PSS_UNSURE_GROWTH = 1.1
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
# After this time, a tree is measured even while it forks: the first time, and later.
_PSS_FIRST_PATIENCE_SECONDS, _PSS_PATIENCE_SECONDS = 0.1, 0.5


class Peak:
    """A maximum and its source."""

    __slots__ = ("bytes", "source")

    def __init__(self) -> None:
        self.bytes: int | None = None
        self.source: str | None = None

    def see(self, amount: int, source: str) -> None:
        if amount > (self.bytes or 0):
            self.bytes, self.source = amount, source


class MemoryFigures:
    """Collects the memory figures of a step on one node over all samples."""

    def __init__(self) -> None:
        self.floor, self.best, self.ceiling = Peak(), Peak(), Peak()
        self.estimated_bytes = 0  # estimate for a tree larger than any that was measured
        self.at_most: int | None = None  # ru_maxrss that may be the wrapper's own
        self.sampled_rss_peak_bytes: int | None = None
        self._byte_seconds = 0.0
        self._weighed_seconds = 0.0
        self._last: tuple[float, int] | None = None

    def see_sample(self, when: float, best_bytes: int, source: str, rss_bytes: int) -> None:
        """Add a sample. ``when`` is in monotonic seconds: a sample's weight is the time since the one before."""
        if source != "pss_estimated":
            self.best.see(best_bytes, source)
        if self.sampled_rss_peak_bytes is None or rss_bytes > self.sampled_rss_peak_bytes:
            self.sampled_rss_peak_bytes = rss_bytes
        if self._last is not None:
            before, bytes_before = self._last
            self._byte_seconds += (when - before) * (bytes_before + best_bytes) / 2
            self._weighed_seconds += when - before
        self._last = when, best_bytes

    def see_exit(self, max_rss_bytes: int, wrapper_rss_bytes: int) -> None:
        if max_rss_bytes > wrapper_rss_bytes + _FORK_SLACK_BYTES:
            self.floor.see(max_rss_bytes, "wait4")
        else:
            self.at_most = max(self.at_most or 0, max_rss_bytes)

    def best_so_far(self) -> Peak:
        """The best figure, or the estimate if that is larger. The estimate goes when the tree has been measured."""
        best = Peak()
        best.bytes, best.source = self.best.bytes, self.best.source
        best.see(self.estimated_bytes, "pss_estimated")
        return best

    def peak(self) -> tuple[int | None, str | None]:
        """The figure that sizes requests: best, but never below the floor."""
        winner = self.best_so_far()
        if self.floor.bytes is not None and (winner.bytes is None or self.floor.bytes > winner.bytes):
            winner = self.floor
        if winner.bytes is None and self.at_most is not None:
            return self.at_most, "wait4_at_most"
        return winner.bytes, winner.source

    def average(self) -> tuple[int | None, str | None]:
        """Time-weighted mean of the samples. With fewer than two samples: the peak, with the source ``peak``."""
        if self._weighed_seconds > 0:
            return round(self._byte_seconds / self._weighed_seconds), "samples"
        peak, _ = self.peak()
        return peak, None if peak is None else "peak"


class RationedPss:
    """Proportional memory (PSS) of a tree of several processes, measured no more often than its cost allows.

    PSS of 64 processes that share 200 MB took 441 ms (RSS: 0.8 ms), and reading it locks the job's memory maps.
    Only a measurement raises the peak. Between two measurements the series has the sum of RSS times the last ratio of
    PSS to RSS; that ratio does not hold across forks. If measuring a peak was too expensive, the estimate replaces it
    at
    the end, and its source says so.
    """

    def __init__(self, reader: TreeReader) -> None:
        self._reader = reader
        self.spent_seconds = 0.0
        self._last_cost_per_byte = 0.0
        self._measurements = 0
        self._measured_rss = 0
        self._measured_processes = 0
        self._measured_faults: int | None = 0
        self._processes_before = 0
        self._ratio = 1.0
        self._unmeasured_rss_peak = 0
        self._largest_measured = 0, 1.0  # the largest sum of RSS that was measured, and the ratio then
        self._begin = self._measured_time = time.monotonic()

    def best_bytes(self, tree: TreeReading, now: float) -> tuple[int, str]:
        """The best figure for this sample and its source: ``sampled_rss``, ``pss`` or ``pss_estimated``."""
        rss, processes = tree.rss_bytes, tree.num_processes
        is_steady, self._processes_before = processes == self._processes_before, processes
        if processes < 2:
            return rss, "sampled_rss"
        patience = _PSS_PATIENCE_SECONDS if self._measured_rss else _PSS_FIRST_PATIENCE_SECONDS
        is_overdue = now - self._measured_time > patience
        if (is_steady or is_overdue) and self._is_worth_it(tree, is_overdue) and self._can_afford(rss, now):
            self._measured_time = now
            return self._measure(tree, rss, processes)
        if processes != self._measured_processes or rss > self._measured_rss * _PSS_WORTH_GROWTH:
            self._unmeasured_rss_peak = max(self._unmeasured_rss_peak, rss)
        return int(rss * self._ratio), "pss_estimated"

    def estimated_peak_bytes(self) -> int:
        """Estimate for a tree that was larger than any that was measured; 0 if the measured peak covers it."""
        largest_rss, ratio = self._largest_measured
        if self._unmeasured_rss_peak <= largest_rss * _PSS_UNSURE_GROWTH:
            return 0
        return int(self._unmeasured_rss_peak * ratio)

    def _is_worth_it(self, tree: TreeReading, is_overdue: bool) -> bool:
        """Whether the tree has changed enough to measure it again.

        A process that writes to shared pages copies them: the sum of RSS stays, but each copy is a minor fault. If
        minor
        faults are unknown, the tree is measured from time to time.
        """
        if tree.num_processes != self._measured_processes or tree.rss_bytes > self._measured_rss * _PSS_WORTH_GROWTH:
            return True
        if tree.minor_faults is None or self._measured_faults is None:
            return is_overdue
        copied_bytes = (tree.minor_faults - self._measured_faults) * _PAGE_BYTES
        return copied_bytes > tree.rss_bytes * (_PSS_WORTH_GROWTH - 1)

    def _can_afford(self, rss: int, now: float) -> bool:
        is_new_peak = rss > self._largest_measured[0] * _PSS_NEW_PEAK_GROWTH
        if is_new_peak or self._measurements < _PSS_FREE_MEASUREMENTS:
            return True  # each new peak is clearly larger: together they cost a few times the last
        allowed = _PSS_FREE_SECONDS + _PSS_SHARE_OF_TIME * (now - self._begin)
        return self.spent_seconds + self._last_cost_per_byte * rss <= allowed

    def _measure(self, tree: TreeReading, rss: int, processes: int) -> tuple[int, str]:
        self._measurements += 1
        before = time.thread_time()
        proportional = self._proportional_bytes(tree)
        cost = time.thread_time() - before
        self.spent_seconds += cost
        self._last_cost_per_byte = cost / max(1, rss)
        if not proportional:
            return int(rss * self._ratio), "pss_estimated"
        self._measured_rss, self._measured_processes, self._measured_faults = rss, processes, tree.minor_faults
        self._ratio = min(1.0, proportional / max(1, rss))
        if rss >= self._largest_measured[0]:
            self._largest_measured = rss, self._ratio
        return min(rss, proportional), "pss"

    def _proportional_bytes(self, tree: TreeReading) -> int:
        """The sum over the tree; 0 if the tree changed meanwhile: a page's number of sharers changed with it."""
        total = 0
        for process in tree.processes:
            if process.rss_bytes:
                # 0: the process is another user's, and its maps are not readable
                total += self._reader.proportional_bytes(process.pid) or process.rss_bytes
        return total if self._still_stands(tree) else 0

    def _still_stands(self, tree: TreeReading) -> bool:
        """Whether no process of the tree has exited and none was added."""
        pids = {process.pid for process in tree.processes}
        for process in tree.processes:
            if process.rss_bytes and not self._reader.high_water_bytes(process.pid):
                return False
            if not pids.issuperset(self._reader.children_of(process.pid)):
                return False
        return True
