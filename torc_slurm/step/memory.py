"""How much memory the job needed: floor, best and ceiling, each with where it comes from.

floor    the largest single process, exact: VmHWM, and ru_maxrss where it exceeds the wrapper's size at the fork
best     what the job would be charged: the step's cgroup without page cache; else PSS; else the sum of RSS
ceiling  the cgroup's high-water mark, page cache and monitor included
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.step.readings import TreeReader, TreeReading

# ru_maxrss of a job starts as the wrapper's resident size at its fork; only what is clearly above it is the job's own.
_FORK_SLACK_BYTES = 1 << 20
_PSS_SHARE_OF_TIME = 0.001
_PSS_FREE_MEASUREMENTS = 2  # one while a tree forks, one when it stands
_PSS_FREE_SECONDS = 0.15  # what may be spent at once on a new tree
_PSS_WORTH_GROWTH = 1.02
_PSS_NEW_PEAK_GROWTH = 1.3
_PSS_UNSURE_GROWTH = 1.1
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
# Then a tree that still forks, or was not seen twice, is measured all the same: the first time, and later.
_PSS_FIRST_PATIENCE_SECONDS, _PSS_PATIENCE_SECONDS = 0.1, 0.5


class Peak:
    """A maximum and its source."""

    __slots__ = ("bytes", "source")

    def __init__(self) -> None:
        self.bytes: int | None = None
        self.source: str | None = None

    def see(self, amount: int, source: str) -> None:
        if amount > 0 and (self.bytes is None or amount > self.bytes):
            self.bytes, self.source = amount, source


class MemoryFigures:
    """Collects the memory figures of a step on one node over all samples."""

    def __init__(self) -> None:
        self.floor, self.best, self.ceiling = Peak(), Peak(), Peak()
        self.estimated_bytes = 0  # what a tree larger than ever measured may have now
        self.at_most: int | None = None  # ru_maxrss that may be the wrapper's own
        self.sampled_rss_peak_bytes: int | None = None
        self._byte_seconds = 0.0
        self._weighed_seconds = 0.0
        self._last: tuple[float, int] | None = None

    def see_sample(self, when: float, best_bytes: int, source: str, rss_bytes: int) -> None:
        """``when`` in monotonic seconds: each sample weighs as long as the time since the one before it."""
        if source != "pss_estimated":
            self.best.see(best_bytes, source)
        self.sampled_rss_peak_bytes = max(self.sampled_rss_peak_bytes or 0, rss_bytes)
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
        """The best figure, or an estimate that is above it: that one is given up when the tree has been measured."""
        best = Peak()
        best.see(self.best.bytes or 0, self.best.source or "")
        best.see(self.estimated_bytes, "pss_estimated")
        return best

    def peak(self) -> tuple[int | None, str | None]:
        """The figure that decides: best, never below the floor."""
        winner = self.best_so_far()
        if self.floor.bytes is not None and (winner.bytes is None or self.floor.bytes > winner.bytes):
            winner = self.floor
        if winner.bytes is None and self.at_most is not None:
            return self.at_most, "wait4_at_most"
        return winner.bytes, winner.source

    def average(self) -> tuple[int | None, str | None]:
        """Time-weighted mean of the samples; with fewer than two of them the peak, marked so."""
        if self._weighed_seconds > 0:
            return round(self._byte_seconds / self._weighed_seconds), "samples"
        peak, _ = self.peak()
        return peak, None if peak is None else "peak"


class RationedPss:
    """Proportional memory of a tree of several processes, measured no more often than its cost allows.

    PSS of 64 processes that share 200 MB took 441 ms (RSS: 0.8 ms), and holds the job's memory maps while it is read.
    Only what was measured raises the peak: between two measurements the sum of RSS times the last ratio of the two is
    good enough for the series, but that ratio does not hold across forks. Where a peak could not be measured for its
    cost, the estimate stands in at the end, and its source says so.
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
        self._largest_measured = 0, 1.0  # the sum of RSS when it was largest, and the ratio then
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
        """What the tree may have had when it was larger than ever measured; 0 where the measured peak covers it."""
        largest_rss, ratio = self._largest_measured
        if self._unmeasured_rss_peak <= largest_rss * _PSS_UNSURE_GROWTH:
            return 0
        return int(self._unmeasured_rss_peak * ratio)

    def _is_worth_it(self, tree: TreeReading, is_overdue: bool) -> bool:
        """A tree that is still forking, or one that is as it was, is not.

        Processes that write to pages they shared make each a copy: the sum of RSS stays, but each copy is a minor
        fault. Where those are not told it is measured now and then, so that what it may cost lasts for some time.
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
            return True  # all peaks before it together cost no more than a few times as much
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
        """The sum over the tree; 0 where it changed meanwhile: pages would count by different numbers of sharers."""
        total = 0
        for process in tree.processes:
            if process.rss_bytes:
                # 0: another user's, whose maps are closed to us
                total += self._reader.proportional_bytes(process.pid) or process.rss_bytes
        return total if self._still_stands(tree) else 0

    def _still_stands(self, tree: TreeReading) -> bool:
        """Whether none of its processes has ended, and none has come."""
        pids = {process.pid for process in tree.processes}
        for process in tree.processes:
            if process.rss_bytes and not self._reader.high_water_bytes(process.pid):
                return False
            if not pids.issuperset(self._reader.children_of(process.pid)):
                return False
        return True
