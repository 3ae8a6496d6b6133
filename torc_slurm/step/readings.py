"""What one sample of a process tree returns, through procfs or psutil. Plain classes: the monitor starts quickly."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # typing costs the monitor 10 ms


class ProcessReading:
    """One process at one time: CPU in seconds, memory in bytes."""

    __slots__ = (
        "children_cpu_seconds",
        "clock_ns",
        "cpu_seconds",
        "is_zombie",
        "major_faults",
        "minor_faults",
        "parent_pid",
        "pid",
        "rss_bytes",
        "start_ticks",
        "threads",
    )

    def __init__(
        self,
        pid: int,
        start_ticks: int,
        parent_pid: int,
        cpu_seconds: float,
        children_cpu_seconds: float,
        rss_bytes: int,
        threads: int,
        major_faults: int,
        minor_faults: int | None,
        is_zombie: bool,
        clock_ns: int = 0,
    ) -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        self.parent_pid = parent_pid
        self.cpu_seconds = cpu_seconds
        self.children_cpu_seconds = children_cpu_seconds
        self.rss_bytes = rss_bytes
        self.threads = threads
        self.major_faults = major_faults
        self.minor_faults = minor_faults  # its own; None if unknown
        self.is_zombie = is_zombie
        self.clock_ns = clock_ns  # its CPU clock: if it has not advanced, the process did not run; 0 if unknown

    @property
    def total_cpu_seconds(self) -> float:
        """Its own CPU time and that of the children it has waited for."""
        return self.cpu_seconds + self.children_cpu_seconds


class TreeReading:
    """The living processes (and zombies), and the last readings of those that have exited since the sample before.

    The counts leave out zombies, which hold and run nothing. ``is_unchanged``: nothing ran since the reading before,
    and
    this one repeats it.
    """

    __slots__ = (
        "cpu_seconds",
        "is_unchanged",
        "major_faults",
        "minor_faults",
        "num_processes",
        "num_threads",
        "processes",
        "rss_bytes",
        "vanished",
    )

    def __init__(self, processes: list[ProcessReading], vanished: list[ProcessReading]) -> None:
        self.processes = processes
        self.vanished = vanished
        self.is_unchanged = False
        self.cpu_seconds = 0.0  # of its processes and of the children they have reaped
        self.rss_bytes = self.num_processes = self.num_threads = self.major_faults = 0
        self.minor_faults: int | None = 0
        for process in processes:
            self._count(process, 1)

    def _count(self, process: ProcessReading, sign: int) -> None:
        self.cpu_seconds += sign * (process.cpu_seconds + process.children_cpu_seconds)
        self.rss_bytes += sign * process.rss_bytes
        self.major_faults += sign * process.major_faults
        if process.minor_faults is None or self.minor_faults is None:
            self.minor_faults = None
        else:
            self.minor_faults += sign * process.minor_faults
        if not process.is_zombie:
            self.num_processes += sign
            self.num_threads += sign * process.threads

    def with_new(self, replacements: list[tuple[int, ProcessReading]]) -> TreeReading:
        """The same processes with some new readings: pairs of an index in ``processes`` and the reading."""
        tree = TreeReading([], [])
        tree.processes = self.processes.copy()
        tree.cpu_seconds, tree.rss_bytes = self.cpu_seconds, self.rss_bytes
        tree.num_processes, tree.num_threads = self.num_processes, self.num_threads
        tree.major_faults, tree.minor_faults = self.major_faults, self.minor_faults
        for place, new in replacements:  # each sample does this: fewer calls than two of _count
            old, tree.processes[place] = tree.processes[place], new
            if old.is_zombie or new.is_zombie or old.minor_faults is None or new.minor_faults is None:
                tree._count(old, -1)
                tree._count(new, 1)
                continue
            tree.cpu_seconds += new.cpu_seconds + new.children_cpu_seconds - old.cpu_seconds - old.children_cpu_seconds
            tree.rss_bytes += new.rss_bytes - old.rss_bytes
            tree.num_threads += new.threads - old.threads
            tree.major_faults += new.major_faults - old.major_faults
            if tree.minor_faults is not None:
                tree.minor_faults += new.minor_faults - old.minor_faults
        return tree


class TreeReader(Protocol):
    """The methods that ProcfsTree and PsutilTree share. Sizes in bytes, times in seconds."""

    name: str

    def read(self, wrappers: dict[int, frozenset[int]], thorough: bool = False) -> TreeReading:
        """Take a sample. ``wrappers`` maps each living wrapper's pid to its children that are not the job's."""

    def children_of(self, pid: int) -> list[int]: ...

    def high_water_bytes(self, pid: int) -> int: ...

    def proportional_bytes(self, pid: int) -> int: ...

    def anonymous_bytes(self, pid: int) -> int: ...

    def unshared_bytes(self, pid: int) -> int: ...

    def io_counters(self, pid: int) -> tuple[int, int, int, int] | None: ...

    def waited_cpu_seconds(self, wrapper: int) -> float: ...

    def wrapper_cpu_seconds(self, wrapper: int) -> float: ...
