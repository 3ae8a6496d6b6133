"""The step's process tree through procfs: found by child lists, never by a scan of the node.

Every process hangs below a wrapper: orphans are re-parented to it (it is a subreaper). What was seen once is also kept
by identity, so that it stays found when its wrapper has ended. Descriptors into /proc stay open between samples: such a
descriptor belongs to one process for ever (reading it after that process's end fails with ESRCH), so a reused pid
cannot be taken for the old process.

A process none of whose threads ran since the last sample cannot have changed: its CPU clock (0.4 µs) is asked first,
and its stat and children (12 µs) are read only where that has moved.
"""

from __future__ import annotations

import os
import resource
import time

from torc_slurm.step.readings import ProcessReading, TreeReading

_TICK_SECONDS = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_FULL_READ_EVERY = 30  # samples: what changes without running (reclaimed memory) is seen at last then
_MOST_PASSES = 4  # over processes of which one ends while they are read
_MOST_KEPT_DESCRIPTORS = 4096  # 2 per process; further processes are opened anew at each sample
_OTHER_DESCRIPTORS = 64

_LONG_LIST_BYTES = 3000  # of pids; the kernel gives a page at most, 4096 bytes, and there may be more

# Positions in /proc/PID/stat after the command's closing parenthesis (proc(5) counts from 1, two before it).
_STATE, _PPID, _MINFLT, _MAJFLT, _CMAJFLT, _UTIME, _STIME, _CUTIME, _CSTIME = 0, 1, 7, 9, 10, 11, 12, 13, 14
_NUM_THREADS, _STARTTIME, _RSS = 17, 19, 21


class _Process:
    """What is kept of one process between samples.

    ``clock_ns`` is its CPU clock when it was asked last, 0 where it has none; ``read_ns`` what that was at its reading.
    """

    __slots__ = ("children", "children_fd", "clock", "clock_ns", "pid", "place", "read_ns", "reading", "stat_fd")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.stat_fd = self.children_fd = -1
        # The number of glibc's clock_getcpuclockid: the pid's complement, shifted, and CPUCLOCK_SCHED.
        self.clock = (~pid << 3) | 2
        self.clock_ns = self.read_ns = 0
        self.place = -1  # of its reading in the tree's
        self.children: list[int] = []
        self.reading: ProcessReading | None = None


class ProcfsTree:
    """Reads the tree below the wrappers; one object lives as long as the step's monitor."""

    name = "procfs"

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._known: dict[int, _Process] = {}
        self._wrappers: dict[int, _Process] = {}
        self._descriptors = 0
        self._most_descriptors = _may_keep_open()
        self._samples = 0
        self._asked: dict[int, frozenset[int]] = {}  # the wrappers of the last sample
        self._helpers: frozenset[int] = frozenset()
        self._watched: list[_Process] = []  # wrappers and known
        self._gone: list[_Process] = []  # of this sample
        self._has_ended = False  # in this sample: whether a process has gone, or is a zombie now
        self._last = TreeReading([], [])

    def read(self, wrappers: dict[int, frozenset[int]], thorough: bool = False) -> TreeReading:
        """One sample. ``wrappers`` maps each living wrapper's pid to its children that are not the job's.

        ``thorough`` reads everything anew, as every 30th sample does.
        """
        thorough = thorough or self._samples % _FULL_READ_EVERY == 0
        self._samples += 1
        if wrappers != self._asked:
            self._attend_to(wrappers)
            thorough = True
        ran = self._those_that_ran(thorough)
        if not ran:
            self._last.vanished, self._last.is_unchanged = [], True
            return self._last
        self._gone, self._has_ended = [], False
        self._bring_up_to_date(ran)
        if thorough or self._has_ended or self._has_unknown_child(ran):
            self._last = self._walk()
        else:
            self._last = self._last.with_new(
                [(process.place, process.reading) for process in ran if process.reading and process.place >= 0]
            )
        return self._last

    def _attend_to(self, wrappers: dict[int, frozenset[int]]) -> None:
        for pid in self._wrappers.keys() - wrappers.keys():
            self._close(self._wrappers.pop(pid))
        for pid in wrappers.keys() - self._wrappers.keys():
            process = self._wrappers[pid] = _Process(pid)
            self._open_files(process)
        self._asked, self._helpers = wrappers, frozenset().union(*wrappers.values())
        self._watched = [*self._wrappers.values(), *self._known.values()]

    def _those_that_ran(self, everything: bool) -> list[_Process]:
        """The processes of which a thread ran since their last reading, and those that have gone."""
        ran = []
        clock_ns_of = time.clock_gettime_ns
        for process in self._watched:
            try:
                clock_ns = clock_ns_of(process.clock)
            except OSError:
                clock_ns = 0  # it has gone; or this kernel does not tell
            if clock_ns != process.read_ns or everything or not clock_ns:
                process.clock_ns = clock_ns
                ran.append(process)
        return ran

    def _bring_up_to_date(self, ran: list[_Process]) -> None:
        """Read these, parents before their children; again where one went meanwhile, and was waited for.

        What it used passes to its parent in that moment: read before it, the parent lacks what nobody has any more.
        """
        for _ in range(_MOST_PASSES):
            known_gone = len(self._gone)
            went_meanwhile = self._read_in_order(ran)
            ran = self._to_be_read_again(self._gone[known_gone:], ran, went_meanwhile)
            if not ran:
                return

    def _read_in_order(self, ran: list[_Process]) -> bool:
        """Whether one of them went after its clock was asked, or may have (a kernel that tells no clocks)."""
        went_meanwhile = False
        for process in ran:
            before = process.reading
            if not self._read_whole(process):
                went_meanwhile |= process.clock_ns > 0 or before is None or not before.clock_ns
                self._forget(process)
            elif before is not None and not before.is_zombie and process.reading is not None:
                self._has_ended |= process.reading.is_zombie
        return went_meanwhile

    def _to_be_read_again(self, gone: list[_Process], ran: list[_Process], went_meanwhile: bool) -> list[_Process]:
        """Who may have waited for those that have gone since they were read themselves; in the order of reading."""
        if not gone:
            return []
        read = {process.pid for process in ran}
        pids = {process.reading.parent_pid for process in gone if process.reading is not None}
        pids = pids | read | self._wrappers.keys() if went_meanwhile else pids - read
        if pids.isdisjoint(self._known.keys() | self._wrappers.keys()):
            return []
        self._watched = [*self._wrappers.values(), *self._known.values()]
        pids |= {process.pid for process in self._those_that_ran(everything=False)}
        return [process for process in self._watched if process.pid in pids]

    def _has_unknown_child(self, ran: list[_Process]) -> bool:
        """Whether one of these, or a wrapper (it adopts orphans without running), has a child that is not known yet."""
        for process in self._wrappers.values():
            process.children = self._children(process)
        for process in (*self._wrappers.values(), *ran):
            for pid in process.children:
                if pid not in self._known and pid not in self._helpers:
                    return True
        return False

    def _walk(self) -> TreeReading:
        """Find out anew who belongs to the tree; who is known has been read."""
        if self._has_ended:
            self._read_children_again()
        gone, seen = len(self._gone), self._find()
        if len(self._gone) > gone:  # meanwhile: its children have passed to another, whose list was read already
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
        """A process ended: by that one that has not run may have lost a child, or have got others (a subreaper)."""
        for process in (*self._wrappers.values(), *self._known.values()):
            process.children = self._children(process)

    def _find(self) -> dict[int, _Process]:
        """By pid: all below the wrappers, and all that is known besides, which no list names where a wrapper ended."""
        seen: dict[int, _Process] = {}
        for process in self._wrappers.values():
            self._follow(list(process.children), seen)
        self._follow(list(self._known), seen)
        return seen

    def _follow(self, pids: list[int], seen: dict[int, _Process]) -> None:
        """These processes and all below them."""
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
            pass  # it has gone, which its files will say; or this kernel does not tell
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
        """Its reading and its children, after its clock; False where it has gone."""
        text = self._reread(process.stat_fd, process.pid, "stat", 1024)
        fields = text[text.rfind(b")") + 2 :].split(None, _RSS + 1)  # what follows is not asked for
        if len(fields) <= _RSS:
            return False
        start_ticks = int(fields[_STARTTIME])
        if process.reading is not None and process.reading.start_ticks != start_ticks:
            return False
        process.read_ns = process.clock_ns
        threads = int(fields[_NUM_THREADS])
        # The clock has all its threads' time to the nanosecond; it is 0 where the kernel does not tell.
        used_ticks = int(fields[_UTIME]) + int(fields[_STIME])
        process.reading = ProcessReading(
            process.pid,
            start_ticks,
            int(fields[_PPID]),
            max(used_ticks * _TICK_SECONDS, process.clock_ns * 1e-9),
            (int(fields[_CUTIME]) + int(fields[_CSTIME])) * _TICK_SECONDS,
            int(fields[_RSS]) * _PAGE_BYTES,
            threads,
            int(fields[_MAJFLT]) + int(fields[_CMAJFLT]),
            int(fields[_MINFLT]),
            fields[_STATE] in (b"Z", b"X", b"x"),
            process.clock_ns,
        )
        process.children = self._children(process)
        return True

    def _children(self, process: _Process) -> list[int]:
        if process.reading is None or process.reading.threads <= 1:
            text = self._reread(process.children_fd, process.pid, f"task/{process.pid}/children", _PAGE_BYTES)
            if len(text) > _LONG_LIST_BYTES:
                return self.children_of(process.pid)
            return [int(pid) for pid in text.split()]
        return self.children_of(process.pid)

    def children_of(self, pid: int) -> list[int]:
        """The children of all threads of a process: each thread has its own list."""
        try:
            threads = os.listdir(f"{self._proc}/{pid}/task")
        except OSError:
            return []
        children: list[int] = []
        for thread in threads:
            children += [int(child) for child in self._read_list(f"{pid}/task/{thread}/children").split()]
        return children

    def _forget(self, process: _Process) -> None:
        process.children = []
        if process.pid in self._wrappers:
            return  # until the monitor knows that it was killed
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

    # --- further figures of a process, read less often -----------------------------------------------------------

    def high_water_bytes(self, pid: int) -> int:
        """VmHWM and, on top, VmSwap: the most memory a process ever had; 0 where it has none (a zombie) or is gone."""
        high_water = swap = 0
        for line in self._read_file(f"{pid}/status", 8192).splitlines():
            if line.startswith(b"VmHWM:"):
                high_water = int(line.split()[1]) * 1024
            elif line.startswith(b"VmSwap:"):
                swap = int(line.split()[1]) * 1024
        return high_water + swap

    def proportional_bytes(self, pid: int | str) -> int:
        """PSS and SwapPss: shared pages are counted once over all who share them."""
        total = 0
        for line in self._read_file(f"{pid}/smaps_rollup", 8192).splitlines():
            if line.startswith((b"Pss:", b"SwapPss:")):
                total += int(line.split()[1]) * 1024
        return total

    def anonymous_bytes(self, pid: int | str) -> int:
        """PSS of anonymous memory: what a cgroup is charged for a process, pages shared by a fork once over all."""
        for line in self._read_file(f"{pid}/smaps_rollup", 8192).splitlines():
            if line.startswith(b"Pss_Anon:"):
                return int(line.split()[1]) * 1024
        return 0

    def unshared_bytes(self, pid: int) -> int:
        """Resident memory without files and shared memory: as near to anonymous as another user's process tells."""
        words = self._read_file(f"{pid}/statm", 256).split()
        return (int(words[1]) - int(words[2])) * _PAGE_BYTES if len(words) > 2 else 0

    def io_counters(self, pid: int) -> tuple[int, int, int, int] | None:
        """Bytes from storage, to storage, read and written at all (cache and pipes too), waited-for children included.

        None where it may not be read: a process of another user, or one that has gone.
        """
        values = {}
        for line in self._read_file(f"{pid}/io", 512).splitlines():
            name, _, value = line.partition(b": ")
            values[name] = int(value)
        if b"write_bytes" not in values:
            return None
        return values[b"read_bytes"], values[b"write_bytes"], values[b"rchar"], values[b"wchar"]

    def waited_cpu_seconds(self, wrapper: int) -> float:
        """CPU time of the children that a wrapper has reaped, and their reaped children, at the last sample."""
        process = self._wrappers.get(wrapper)
        return process.reading.children_cpu_seconds if process is not None and process.reading is not None else 0.0

    # --- files ---------------------------------------------------------------------------------------------------

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

    def _reread(self, descriptor: int, pid: int, path: str, most_bytes: int) -> bytes:
        if descriptor < 0:
            return self._read_file(f"{pid}/{path}", most_bytes)
        try:
            return os.pread(descriptor, most_bytes, 0)
        except OSError:
            return b""

    def _read_list(self, path: str) -> bytes:
        """The whole of a list, of which the kernel gives a page at a time."""
        text = b""
        try:
            with open(f"{self._proc}/{path}", "rb", buffering=0) as file:
                while part := file.read(65536):
                    text += part
        except OSError:
            pass  # the thread has ended
        return text

    def _read_file(self, path: str, most_bytes: int) -> bytes:
        try:
            descriptor = os.open(f"{self._proc}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.read(descriptor, most_bytes)
        except OSError:
            return b""
        finally:
            os.close(descriptor)


def _may_keep_open() -> int:
    """Raise this process's own limit on open files as far as it may be, and leave some for other uses."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_KEPT_DESCRIPTORS + _OTHER_DESCRIPTORS
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(0, allowed - _OTHER_DESCRIPTORS)


def is_supported(proc: str = "/proc") -> bool:
    """Whether the kernel has child lists (CONFIG_PROC_CHILDREN)."""
    me = os.getpid()
    return os.path.exists(f"{proc}/{me}/task/{me}/children")
