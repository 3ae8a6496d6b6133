"""The reader where /proc is not ours: a PID namespace with another's /proc mounted, or none.

Its numbers name strangers' processes there. What ``wait4`` and the cgroup tell stays; everything else is not measured.
"""

from __future__ import annotations

import os

from torc_slurm.step.process_tree import ProcfsTree
from torc_slurm.step.readings import TreeReading


class NoTree:
    """Has the methods of ``ProcfsTree``; only this process itself can be read, which /proc/self leads to."""

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
