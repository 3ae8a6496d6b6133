"""Adds up the CPU time of a process tree so that nothing the kernel charged is lost. Pure arithmetic on readings.

Of a tree the kernel tells, at any time: what each living process used and what its waited-for children used, and what
the wrapper's waited-for children used. When a process ends, its time moves to the one that waits for it: the sum over
all stays. Where the parent ignores SIGCHLD nobody waits and the time is in no sum (seen: 0.09 s of 3.83 s left): what
was last read of such a process is added here, and the rest only a cgroup knows.
"""

from __future__ import annotations

from torc_slurm.step.readings import ProcessReading, TreeReading

# A waited-for child's time arrives in its parent's counter cut to clock ticks (10 ms each).
TICK_SLACK_SECONDS = 0.025


class CpuLedger:
    """Cumulative CPU seconds of the tree, never falling."""

    def __init__(self) -> None:
        self._before: list[ProcessReading] = []
        self._waited_before = 0.0
        self._unwaited_seconds = 0.0
        self.total_seconds = 0.0

    def add(self, tree: TreeReading, waited_seconds: float) -> float:
        """Take in a sample; ``waited_seconds`` is what all wrappers' waited-for children used so far.

        Returns the CPU seconds used since the step's begin.
        """
        if tree.vanished:
            self._unwaited_seconds += self._never_waited_for(tree, waited_seconds)
        self._before, self._waited_before = tree.processes, waited_seconds
        self.total_seconds = max(self.total_seconds, tree.cpu_seconds + waited_seconds + self._unwaited_seconds)
        return self.total_seconds

    def _never_waited_for(self, tree: TreeReading, waited_seconds: float) -> float:
        """What vanished processes had used that came to nobody's counter of waited-for children.

        A process whose parent lives on is owed to that parent. Where the parent vanished as well it is not known who
        waited, the next ancestor or the wrapper: that is held against all that arrived beyond what was owed.
        """
        alive = {process.pid: process for process in tree.processes}
        owed, uncertain = _owed(tree.vanished, alive)
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


def _owed(
    vanished: list[ProcessReading], alive: dict[int, ProcessReading]
) -> tuple[dict[int, tuple[float, int]], tuple[float, int]]:
    """CPU seconds of the vanished and how many they were: by their living parent's pid, and of those without one."""
    owed: dict[int, tuple[float, int]] = {}
    uncertain = (0.0, 0)
    for process in vanished:
        parent = alive.get(process.parent_pid)
        if parent is None or parent.start_ticks > process.start_ticks:  # younger than its child: the pid came again
            uncertain = uncertain[0] + process.total_cpu_seconds, uncertain[1] + 1
        else:
            seconds, count = owed.get(parent.pid, (0.0, 0))
            owed[parent.pid] = seconds + process.total_cpu_seconds, count + 1
    return owed, uncertain
