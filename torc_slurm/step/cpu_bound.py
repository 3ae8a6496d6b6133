"""How many CPUs' time a step can be given: its processes' affinity, and its cgroup's quota where that is less."""

from __future__ import annotations

import os

from torc_slurm.step import kernel
from torc_slurm.step.cgroup import quota_cpus


class CpuBound:
    """As far as the step's processes were asked."""

    def __init__(self) -> None:
        self._allowed: set[int] = set()
        self._quota = quota_cpus()
        self._update()

    def _update(self) -> None:
        self.count = len(self._allowed) or os.cpu_count() or 1  # the CPUs that its processes may run on at once
        # what they give over a time: with a quota a part of a CPU, perhaps
        self.cpus: float = self.count if self._quota is None else min(self.count, self._quota)

    def task_began(self, pid: int) -> None:
        """A task that this process started."""
        self._allowed |= kernel.allowed_cpus(pid)
        self._update()

    def refresh(self, pids: list[int]) -> None:
        """More was used than could be: a process may have widened its affinity, or the quota was raised."""
        self._allowed |= kernel.allowed_cpus_of_threads(pids)
        quota = quota_cpus()
        self._quota = None if quota is None or self._quota is None else max(quota, self._quota)
        self._update()
