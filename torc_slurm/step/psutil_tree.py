"""The same tree through psutil, for kernels without child lists and systems without procfs. Slower, but complete.

As in the procfs reader, a process is remembered by identity after its wrapper has exited. psutil compares start times,
so a reused pid is not mistaken for the old process.
"""

from __future__ import annotations

import psutil

from torc_slurm.step.readings import ProcessReading, TreeReading

_MOST_PASSES = 4


class PsutilTree:
    """Has the methods of ``ProcfsTree``. A figure that psutil or the system does not offer is 0 or None."""

    name = "psutil"

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}
        self._readings: dict[int, ProcessReading] = {}

    def read(self, wrappers: dict[int, frozenset[int]], thorough: bool = False) -> TreeReading:  # noqa: ARG002 - always is
        """One sample of all processes below the wrappers and of those known from before."""
        for _ in range(_MOST_PASSES):
            found = self._find(wrappers)
            readings = {pid: reading for pid, process in found.items() if (reading := _read(process)) is not None}
            if len(readings) == len(found):
                break  # else the CPU time of a process that exited may have moved to a parent that was read before
        vanished = [reading for pid, reading in self._readings.items() if pid not in readings]
        self._known = {pid: found[pid] for pid in readings}
        self._readings = readings
        return TreeReading(list(readings.values()), vanished)

    def _find(self, wrappers: dict[int, frozenset[int]]) -> dict[int, psutil.Process]:
        found: dict[int, psutil.Process] = {}
        for wrapper, helpers in wrappers.items():
            for child in _children(wrapper):
                if child.pid not in helpers:
                    _add_with_descendants(child, found)
        for pid, process in self._known.items():
            if pid not in found and process.is_running():
                _add_with_descendants(process, found)
        return found

    def children_of(self, pid: int) -> list[int]:
        return [child.pid for child in _children(pid)]

    def high_water_bytes(self, pid: int) -> int:
        """The current resident size: psutil has no high-water mark."""
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0

    def proportional_bytes(self, pid: int) -> int:
        try:
            memory = psutil.Process(pid).memory_full_info()
        except psutil.Error:
            return 0
        return int(getattr(memory, "pss", 0)) + int(getattr(memory, "swap", 0))

    def anonymous_bytes(self, pid: int) -> int:
        try:
            return int(psutil.Process(pid).memory_full_info().uss)
        except psutil.Error:
            return 0

    def unshared_bytes(self, pid: int) -> int:
        try:
            memory = psutil.Process(pid).memory_info()
        except psutil.Error:
            return 0
        return int(memory.rss) - int(getattr(memory, "shared", 0))

    def io_counters(self, pid: int) -> tuple[int, int, int, int] | None:
        try:
            io = psutil.Process(pid).io_counters()
        except (psutil.Error, AttributeError):
            return None
        return io.read_bytes, io.write_bytes, io.read_chars, io.write_chars

    def waited_cpu_seconds(self, wrapper: int) -> float:
        try:
            times = psutil.Process(wrapper).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.children_user + times.children_system)

    def wrapper_cpu_seconds(self, wrapper: int) -> float:
        try:
            times = psutil.Process(wrapper).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.Error:
        return []


def _add_with_descendants(process: psutil.Process, found: dict[int, psutil.Process]) -> None:
    found[process.pid] = process
    try:
        for descendant in process.children(recursive=True):
            found[descendant.pid] = descendant
    except psutil.Error:
        pass


def _read(process: psutil.Process) -> ProcessReading | None:
    try:
        with process.oneshot():
            times = process.cpu_times()
            zombie = process.status() == psutil.STATUS_ZOMBIE
            return ProcessReading(
                process.pid,
                round(process.create_time() * 100),
                process.ppid(),
                times.user + times.system,
                times.children_user + times.children_system,
                0 if zombie else process.memory_info().rss,
                process.num_threads(),
                0,
                None,
                zombie,
            )
    except psutil.Error:
        return None
