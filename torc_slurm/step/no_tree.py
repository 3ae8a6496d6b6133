"""The reader used if /proc is not ours: a PID namespace with the /proc of another one, or without any.

There the numbers in /proc name other processes. Only ``wait4`` and the cgroup are read; nothing else is measured.
"""

from __future__ import annotations

import os

from torc_slurm.step.process_tree import ProcfsTree
from torc_slurm.step.readings import TreeReading


class NoTree:
    """Has the methods of ``ProcfsTree``. It reads only this process, through /proc/self."""

    name = "none"

    def __init__(self) -> None:
        self._own = ProcfsTree()

    def read(self, wrappers: dict[int, frozenset[int]], thorough: bool = False) -> TreeReading:  # noqa: ARG002
        return TreeReading([], [])

    def children_of(self, pid: int) -> list[int]:  # noqa: ARG002
        return []

    def high_water_bytes(self, pid: int) -> int:  # noqa: ARG002
        return 0

    def proportional_bytes(self, pid: int) -> int:
        return self._own.proportional_bytes("self") if pid == os.getpid() else 0

    def anonymous_bytes(self, pid: int) -> int:
        return self._own.anonymous_bytes("self") if pid == os.getpid() else 0

    def unshared_bytes(self, pid: int) -> int:  # noqa: ARG002
        return 0

    def io_counters(self, pid: int) -> tuple[int, int, int, int] | None:  # noqa: ARG002
        return None

    def waited_cpu_seconds(self, wrapper: int) -> float:  # noqa: ARG002
        return 0.0

    def wrapper_cpu_seconds(self, wrapper: int) -> float:  # noqa: ARG002
        return 0.0
