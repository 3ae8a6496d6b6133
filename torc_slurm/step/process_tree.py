"""The step's process tree through procfs, found by child lists, without a scan of all processes of the node.

Every process descends from a wrapper, which is a subreaper and adopts orphans. The tree remembers known processes by
identity and finds them after their wrapper has exited. It keeps descriptors into /proc open: such a descriptor always
refers to one process (after its exit, reads fail with ESRCH), so a reused pid is not mistaken for the old process.

If no thread of a process ran since the last sample, the process cannot have changed. So the tree reads each CPU clock
first (0.4 µs), and reads stat and children (12 µs) only if the clock has advanced.
"""

from __future__ import annotations

import os
import resource
import time

from torc_slurm.step.process_files import ProcessFiles
from torc_slurm.step.readings import ProcessReading, TreeReading

_TICK_SECONDS = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_FULL_READ_EVERY = 30  # samples: to see changes that happen without running (reclaimed memory)
_MOST_PASSES = 4  # if processes exit while they are read
_MOST_KEPT_DESCRIPTORS = 4096  # 2 per process; files of further processes are opened at each sample
_OTHER_DESCRIPTORS = 64

_LONG_LIST_BYTES = 3000  # of pids; the kernel returns at most a page (4096 bytes) at once, so there may be more


class _Process:
    """What is kept of one process between samples.

    ``clock_ns`` is its CPU clock at the last look (0: it has none); ``read_ns`` is the clock when its files were read.
    """

    __slots__ = ("children", "children_fd", "clock", "clock_ns", "pid", "place", "read_ns", "reading", "stat_fd")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.stat_fd = self.children_fd = -1
        # glibc's clock_getcpuclockid: the pid's complement, shifted, and CPUCLOCK_SCHED.
        self.clock = (~pid << 3) | 2
        self.clock_ns = self.read_ns = 0
        self.place = -1  # index of its reading in the tree's list
        self.children: list[int] = []
        self.reading: ProcessReading | None = None


class ProcfsTree(ProcessFiles):
    """Reads the tree below the wrappers. One object serves the step's monitor for its whole life."""

    name = "procfs"

    def __init__(self, proc: str = "/proc") -> None:
        super().__init__(proc)
        self._known: dict[int, _Process] = {}
        self._wrappers: dict[int, _Process] = {}
        self._descriptors = 0
        self._most_descriptors = _may_keep_open()
        self._samples = 0
        self._last_wrappers: dict[int, frozenset[int]] = {}  # the wrappers of the last sample
        self._helpers: frozenset[int] = frozenset()
        self._watched: list[_Process] = []  # wrappers and known processes
        self._gone: list[_Process] = []  # exited since the last sample
        self._has_ended = False  # whether a process exited or became a zombie since the last sample
        self._last = TreeReading([], [])

    def read(self, wrappers: dict[int, frozenset[int]], thorough: bool = False) -> TreeReading:
        """Take a sample. ``wrappers`` maps each living wrapper's pid to those of its children that are not the job's.

        ``thorough`` reads every process again, as every 30th sample does.
        """
        thorough = thorough or self._samples % _FULL_READ_EVERY == 0
        self._samples += 1
        if wrappers is not self._last_wrappers and wrappers != self._last_wrappers:
            self._set_wrappers(wrappers)
            thorough = True
        ran = self._changed_processes(thorough)
        if not ran:
            self._last.vanished, self._last.is_unchanged = [], True
            return self._last
        self._gone, self._has_ended = [], False
        went_meanwhile = self._read_in_order(ran)
        if self._gone:
            self._bring_up_to_date(ran, went_meanwhile)
        if thorough or self._has_ended or self._has_unknown_child(ran):
            self._last = self._walk()
        else:
            new = []
            for process in ran:
                if process.place >= 0 and process.reading is not None:
                    new.append((process.place, process.reading))
            self._last = self._last.with_new(new)
        return self._last

    def _set_wrappers(self, wrappers: dict[int, frozenset[int]]) -> None:
        for pid in self._wrappers.keys() - wrappers.keys():
            self._close(self._wrappers.pop(pid))
        for pid in wrappers.keys() - self._wrappers.keys():
            process = self._wrappers[pid] = _Process(pid)
            self._open_files(process)
        self._last_wrappers, self._helpers = wrappers, frozenset().union(*wrappers.values())
        self._watched = [*self._wrappers.values(), *self._known.values()]

    def _changed_processes(self, everything: bool) -> list[_Process]:
        """The processes that ran since their last reading, and those that have exited."""
        ran = []
        clock_ns_of = time.clock_gettime_ns
        for process in self._watched:
            try:
                clock_ns = clock_ns_of(process.clock)
            except OSError:
                clock_ns = 0  # it has exited, or this kernel has no such clock
            if clock_ns != process.read_ns or everything or not clock_ns:
                process.clock_ns = clock_ns
                ran.append(process)
        return ran

    def _bring_up_to_date(self, ran: list[_Process], went_meanwhile: bool) -> None:
        """Read processes again after some of those in ``ran`` exited and were reaped.

        On reaping, its CPU time moves to its parent. A parent that was read before that would lack it.
        """
        known_gone = 0
        for _ in range(_MOST_PASSES - 1):
            gone, known_gone = self._gone[known_gone:], len(self._gone)
            ran = self._processes_to_reread(gone, ran, went_meanwhile)
            if not ran:
                return
            went_meanwhile = self._read_in_order(ran)

    def _read_in_order(self, ran: list[_Process]) -> bool:
        """Read these processes, parents before children.

        Returns whether one of them exited after its clock was read, or may have (on a kernel without CPU clocks).
        """
        went_meanwhile = False
        for process in ran:
            before = process.reading
            if not self._read_whole(process):
                went_meanwhile |= process.clock_ns > 0 or before is None or not before.clock_ns
                self._forget(process)
            elif process.reading is not None and process.reading.is_zombie and before is not None:
                self._has_ended = self._has_ended or not before.is_zombie
        return went_meanwhile

    def _processes_to_reread(self, gone: list[_Process], ran: list[_Process], went_meanwhile: bool) -> list[_Process]:
        """The processes that may have reaped those in ``gone`` after their own reading, in the order of reading."""
        if not gone:
            return []
        read = {process.pid for process in ran}
        pids = {process.reading.parent_pid for process in gone if process.reading is not None}
        pids = pids | read | self._wrappers.keys() if went_meanwhile else pids - read
        if pids.isdisjoint(self._known.keys() | self._wrappers.keys()):
            return []
        self._watched = [*self._wrappers.values(), *self._known.values()]
        pids |= {process.pid for process in self._changed_processes(everything=False)}
        return [process for process in self._watched if process.pid in pids]

    def _has_unknown_child(self, ran: list[_Process]) -> bool:
        """Whether one of these processes or a wrapper has a new child. (A wrapper adopts orphans without running.)"""
        for process in self._wrappers.values():
            process.children = self._children(process)
        known, helpers = self._known, self._helpers
        for processes in (self._wrappers.values(), ran):
            for process in processes:
                for pid in process.children:
                    if pid not in known and pid not in helpers:
                        return True
        return False

    def _walk(self) -> TreeReading:
        """Find again all processes of the tree. Known processes have been read already."""
        if self._has_ended:
            self._read_children_again()
        gone, seen = len(self._gone), self._find()
        if len(self._gone) > gone:  # its children moved to another process, whose list was read before
            self._read_children_again()
            seen = self._find()
        self._watched = [*self._wrappers.values(), *seen.values()]
        readings: list[ProcessReading] = []
        for process in seen.values():
            if process.reading is not None:
                process.place = len(readings)
                readings.append(process.reading)
        return TreeReading(readings, [process.reading for process in self._gone if process.reading is not None])

    def _read_children_again(self) -> None:
        """Read all child lists: if a process exits, others can lose a child or adopt orphans without running."""
        for process in (*self._wrappers.values(), *self._known.values()):
            process.children = self._children(process)

    def _find(self) -> dict[int, _Process]:
        """By pid: all processes below the wrappers, and known processes whose wrapper has exited."""
        seen: dict[int, _Process] = {}
        for process in self._wrappers.values():
            self._follow(list(process.children), seen)
        self._follow(list(self._known), seen)
        return seen

    def _follow(self, pids: list[int], seen: dict[int, _Process]) -> None:
        """Add these processes and all their descendants."""
        while pids:
            pid = pids.pop()
            if pid in seen or pid in self._helpers:
                continue
            process = self._known.get(pid) or self._take_up(pid)
            if process is not None:
                seen[pid] = process
                pids.extend(process.children)

    # --- one process ---------------------------------------------------------------------------------------------

    def _take_up(self, pid: int) -> _Process | None:
        process = _Process(pid)
        self._open_files(process)
        try:
            process.clock_ns = time.clock_gettime_ns(process.clock)
        except OSError:
            pass  # it has exited, and so reading its files will fail; or this kernel has no such clock
        if self._read_whole(process):
            self._known[pid] = process
            return process
        self._forget(process)
        return None

    def _open_files(self, process: _Process) -> None:
        if self._descriptors < self._most_descriptors:
            pid = process.pid
            process.stat_fd = self._open(f"{pid}/stat")
            process.children_fd = self._open(f"{pid}/task/{pid}/children")

    def _read_whole(self, process: _Process) -> bool:
        """Read its stat file and its children, after its clock. Returns False if it has exited."""
        try:
            text = (
                self._read_file(f"{process.pid}/stat", 1024)
                if process.stat_fd < 0
                else os.pread(process.stat_fd, 1024, 0)
            )
        except OSError:
            return False
        # The fields of proc(5) from "state" on, behind the parenthesis that closes the command.
        fields = text[text.rfind(b")") + 2 :].split(None, 22)
        if len(fields) < 22:
            return False
        state, parent, _, _, _, _, _, minor_faults, _, major_faults, waited_major_faults = fields[:11]
        user, system, waited_user, waited_system, _, _, threads, _, start, _, rss_pages = fields[11:22]
        start_ticks = int(start)
        before, clock_ns = process.reading, process.clock_ns
        if before is not None and before.start_ticks != start_ticks:
            return False
        process.read_ns = clock_ns
        # The clock has the nanoseconds of all its threads; it is 0 if the kernel has none.
        own_seconds = (int(user) + int(system)) * _TICK_SECONDS
        clock_seconds = clock_ns * 1e-9
        process.reading = ProcessReading(
            process.pid,
            start_ticks,
            int(parent),
            own_seconds if own_seconds > clock_seconds else clock_seconds,
            (int(waited_user) + int(waited_system)) * _TICK_SECONDS,
            int(rss_pages) * _PAGE_BYTES,
            int(threads),
            int(major_faults) + int(waited_major_faults),
            int(minor_faults),
            state in (b"Z", b"X", b"x"),
            clock_ns,
        )
        process.children = self._children(process)
        return True

    def _children(self, process: _Process) -> list[int]:
        if process.reading is not None and process.reading.threads > 1:
            return self.children_of(process.pid)
        try:
            text = (
                self._read_file(f"{process.pid}/task/{process.pid}/children", _PAGE_BYTES)
                if process.children_fd < 0
                else os.pread(process.children_fd, _PAGE_BYTES, 0)
            )
        except OSError:
            text = b""
        if len(text) > _LONG_LIST_BYTES:
            return self.children_of(process.pid)
        return list(map(int, text.split())) if text else []

    def _forget(self, process: _Process) -> None:
        process.children = []
        if process.pid in self._wrappers:
            return  # the monitor removes a wrapper when it learns that it was killed
        self._known.pop(process.pid, None)
        self._gone.append(process)
        self._has_ended = True
        self._close(process)

    def _close(self, process: _Process) -> None:
        for descriptor in (process.stat_fd, process.children_fd):
            if descriptor >= 0:
                os.close(descriptor)
                self._descriptors -= 1
        process.stat_fd = process.children_fd = -1

    def waited_cpu_seconds(self, wrapper: int) -> float:
        """CPU time of the children that a wrapper has reaped, and of their reaped children, at the last sample."""
        process = self._wrappers.get(wrapper)
        return process.reading.children_cpu_seconds if process is not None and process.reading is not None else 0.0

    def wrapper_cpu_seconds(self, wrapper: int) -> float:
        """A wrapper's own CPU time at the last sample."""
        process = self._wrappers.get(wrapper)
        return process.reading.cpu_seconds if process is not None and process.reading is not None else 0.0

    def _open(self, path: str) -> int:
        try:
            descriptor = os.open(f"{self._proc}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1
        self._descriptors += 1
        return descriptor


def _may_keep_open() -> int:
    """Raise this process's limit on open files, and return how many of them the tree may keep open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_KEPT_DESCRIPTORS + _OTHER_DESCRIPTORS
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(0, allowed - _OTHER_DESCRIPTORS)


def is_supported(proc: str = "/proc") -> bool:
    """Whether the kernel has child lists (CONFIG_PROC_CHILDREN)."""
    me = os.getpid()
    return os.path.exists(f"{proc}/{me}/task/{me}/children")
