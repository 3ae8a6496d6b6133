"""What one look at a process tree gives, through procfs or psutil. Plain classes: the monitor starts quickly."""

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
        "cpu_seconds",
        "is_zombie",
        "major_faults",
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
        is_zombie: bool,
    ) -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        self.parent_pid = parent_pid
        self.cpu_seconds = cpu_seconds
        self.children_cpu_seconds = children_cpu_seconds
        self.rss_bytes = rss_bytes
        self.threads = threads
        self.major_faults = major_faults
        self.is_zombie = is_zombie

    @property
    def total_cpu_seconds(self) -> float:
        """Its own CPU time and that of the children it has waited for."""
        return self.cpu_seconds + self.children_cpu_seconds


class TreeReading:
    """The living processes (zombies among them), and the last readings of those that have gone since."""

    __slots__ = ("processes", "vanished")

    def __init__(self, processes: list[ProcessReading], vanished: list[ProcessReading]) -> None:
        self.processes = processes
        self.vanished = vanished

    @property
    def rss_bytes(self) -> int:
        return sum(process.rss_bytes for process in self.processes)

    @property
    def num_processes(self) -> int:
        """Zombies hold nothing and run nothing: they are not counted."""
        return sum(not process.is_zombie for process in self.processes)

    @property
    def num_threads(self) -> int:
        return sum(process.threads for process in self.processes if not process.is_zombie)

    @property
    def major_faults(self) -> int:
        return sum(process.major_faults for process in self.processes)


class TreeReader(Protocol):
    """How a process tree is read: ProcfsTree or PsutilTree. Sizes in bytes, times in seconds."""

    name: str

    def read(self, wrappers: dict[int, frozenset[int]], thorough: bool = False) -> TreeReading:
        """One sample; ``wrappers`` maps each living wrapper's pid to its children that are not the job's."""

    def children_of(self, pid: int) -> list[int]: ...

    def high_water_bytes(self, pid: int) -> int: ...

    def proportional_bytes(self, pid: int) -> int: ...

    def anonymous_bytes(self, pid: int) -> int: ...

    def io_counters(self, pid: int) -> tuple[int, int, int, int] | None: ...

    def waited_cpu_seconds(self, wrapper: int) -> float: ...
