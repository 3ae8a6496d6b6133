"""Adds up the CPU time of a process tree so that nothing the kernel charged is lost. Pure arithmetic on readings.

The kernel reports, at any time, the CPU time of each living process, of the children that each has waited for, and of
the children that the wrapper has waited for. When a process exits, its time moves to the process that waits for it, so
the sum stays the same. If the parent ignores SIGCHLD, no process waits and the kernel drops the time from every sum
(one test kept 0.09 of 3.83 s). The ledger then adds the last reading of such a process; only a cgroup has the rest.
"""

from __future__ import annotations

from torc_slurm.step.readings import ProcessReading, TreeReading

# The kernel adds a waited-for child's time to its parent's counter in whole clock ticks (10 ms each).
TICK_SLACK_SECONDS = 0.025


class CpuLedger:
    """Cumulative CPU seconds of the tree; they never decrease."""

    def __init__(self) -> None:
        self._before: list[ProcessReading] = []
        self._waited_before = 0.0
        self._unwaited_seconds = 0.0
        self.total_seconds = 0.0

    def add(self, tree: TreeReading, waited_seconds: float) -> float:
        """Add a sample; ``waited_seconds`` is what the children that all wrappers waited for have used so far.

        Returns the CPU seconds used since the step began.
        """
        if tree.vanished:
            self._unwaited_seconds += self._never_waited_for(tree, waited_seconds)
        self._before, self._waited_before = tree.processes, waited_seconds
        total_seconds = tree.cpu_seconds + waited_seconds + self._unwaited_seconds
        if total_seconds > self.total_seconds:
            self.total_seconds = total_seconds
        return self.total_seconds

    def _never_waited_for(self, tree: TreeReading, waited_seconds: float) -> float:
        """CPU seconds of vanished processes that appeared in no counter of waited-for children.

        If the parent still lives, its counter should have grown by them. If the parent vanished too, either the next
        ancestor or the wrapper waited: the method then compares with all growth that other processes do not explain.
        """
        alive = {process.pid: process for process in tree.processes}
        owed, uncertain = _vanished_by_parent(tree.vanished, alive)
        missing, beyond = 0.0, waited_seconds - self._waited_before
        children_before = {_key(process): process.children_cpu_seconds for process in self._before}
        for process in tree.processes:
            arrived = process.children_cpu_seconds - children_before.get(_key(process), 0.0)
            owed_seconds, count = owed.get(process.pid, (0.0, 0))
            missing += _clearly_short(owed_seconds - arrived, count)
            beyond += max(0.0, arrived - owed_seconds)
        uncertain_seconds, count = uncertain
        return missing + _clearly_short(uncertain_seconds - beyond, count)


def _key(process: ProcessReading) -> tuple[int, int]:
    return process.pid, process.start_ticks


def _clearly_short(seconds: float, count: int) -> float:
    return seconds if seconds > TICK_SLACK_SECONDS * max(1, count) else 0.0


def _vanished_by_parent(
    vanished: list[ProcessReading], alive: dict[int, ProcessReading]
) -> tuple[dict[int, tuple[float, int]], tuple[float, int]]:
    """CPU seconds and number of vanished processes: per living parent's pid, and of those without a living parent."""
    owed: dict[int, tuple[float, int]] = {}
    uncertain = (0.0, 0)
    for process in vanished:
        parent = alive.get(process.parent_pid)
        if parent is None or parent.start_ticks > process.start_ticks:  # younger than its child: the pid was reused
            uncertain = uncertain[0] + process.total_cpu_seconds, uncertain[1] + 1
        else:
            seconds, count = owed.get(parent.pid, (0.0, 0))
            owed[parent.pid] = seconds + process.total_cpu_seconds, count + 1
    return owed, uncertain
