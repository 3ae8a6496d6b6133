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
        self._children_before: dict[tuple[int, int], float] = {}
        self._waited_before = 0.0
        self._unwaited_seconds = 0.0
        self.total_seconds = 0.0

    def add(self, tree: TreeReading, waited_seconds: float) -> float:
        """Take in a sample; ``waited_seconds`` is what all wrappers' waited-for children used so far.

        Returns the CPU seconds used since the step's begin.
        """
        self._unwaited_seconds += self._never_waited_for(tree, waited_seconds)
        alive_seconds = sum(process.total_cpu_seconds for process in tree.processes)
        self._children_before = {_key(process): process.children_cpu_seconds for process in tree.processes}
        self._waited_before = waited_seconds
        self.total_seconds = max(self.total_seconds, alive_seconds + waited_seconds + self._unwaited_seconds)
        return self.total_seconds

    def _never_waited_for(self, tree: TreeReading, waited_seconds: float) -> float:
        """What vanished processes had used that came to nobody's counter of waited-for children."""
        owed = _owed_by_survivor(tree)
        alive = {process.pid: process for process in tree.processes}
        missing = 0.0
        for pid, (owed_seconds, count) in owed.items():
            survivor = alive.get(pid)
            if survivor is None:
                arrived = waited_seconds - self._waited_before
            else:
                arrived = survivor.children_cpu_seconds - self._children_before.get(_key(survivor), 0.0)
            short = owed_seconds - arrived
            if short > TICK_SLACK_SECONDS * count:
                missing += short
        return missing


def _key(process: ProcessReading) -> tuple[int, int]:
    return process.pid, process.start_ticks


def _owed_by_survivor(tree: TreeReading) -> dict[int, tuple[float, int]]:
    """For each living ancestor (0: a wrapper) the CPU seconds of the vanished below it, and how many they were."""
    vanished = {process.pid: process for process in tree.vanished}
    alive = {process.pid for process in tree.processes}
    owed: dict[int, tuple[float, int]] = {}
    for process in tree.vanished:
        ancestor = process.parent_pid
        for _ in range(len(vanished)):
            if ancestor in alive or ancestor not in vanished:
                break
            ancestor = vanished[ancestor].parent_pid
        survivor = ancestor if ancestor in alive else 0
        seconds, count = owed.get(survivor, (0.0, 0))
        owed[survivor] = seconds + process.total_cpu_seconds, count + 1
    return owed
