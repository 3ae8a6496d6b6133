"""The step's process tree through procfs: found by child lists, never by a scan of the node.

Every process hangs below a wrapper: orphans are re-parented to it (it is a subreaper). What was seen once is also kept
by identity, so that it stays found when its wrapper has ended. Descriptors into /proc stay open between samples: such a
descriptor belongs to one process for ever (reading it after that process's end fails with ESRCH), so a reused pid
cannot be taken for the old process. A process that was not scheduled since the last sample cannot have changed: its
schedstat (1.5 µs) is read instead of its stat and children (12 µs).
"""

from __future__ import annotations

import os
import resource

from torc_slurm.step.readings import ProcessReading, TreeReading

_TICK_SECONDS = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_FULL_READ_EVERY = 10  # samples: what changes without being scheduled (reclaimed memory) is seen at last then
_MOST_KEPT_DESCRIPTORS = 6144  # 3 per process; further processes are opened anew at each sample
_OTHER_DESCRIPTORS = 64

_LONG_LIST_BYTES = 3000  # of pids; the kernel gives a page at most, 4096 bytes, and there may be more

# Positions in /proc/PID/stat after the command's closing parenthesis (proc(5) counts from 1, two before it).
_STATE, _PPID, _MINFLT, _MAJFLT, _CMAJFLT, _UTIME, _STIME, _CUTIME, _CSTIME = 0, 1, 7, 9, 10, 11, 12, 13, 14
_NUM_THREADS, _STARTTIME, _RSS = 17, 19, 21


class _Process:
    """What is kept of one process between samples."""

    __slots__ = (
        "always_single_threaded",
        "children",
        "children_fd",
        "pid",
        "reading",
        "sched_fd",
        "schedule",
        "stat_fd",
    )

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.stat_fd = self.children_fd = self.sched_fd = -1
        self.schedule = b""
        self.always_single_threaded = True
        self.children: list[int] = []
        self.reading: ProcessReading | None = None


class ProcfsTree:
    """Reads the tree below the wrappers; one object lives as long as the step's monitor."""

    name = "procfs"

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._known: dict[int, _Process] = {}
        self._descriptors = 0
        self._most_descriptors = _may_keep_open()
        self._samples = 0
        self._thorough = True
        self._quiet: list[_Process] = []  # of this sample: not scheduled since the last one
        self._gone: list[_Process] = []  # of this sample
        self._wrappers: dict[int, _Process] = {}
        self._last: TreeReading | None = None
        self._schedules: list[tuple[int, bytes]] = []  # what proves that nothing ran; empty where nothing can

    def read(self, wrappers: dict[int, frozenset[int]], thorough: bool = False) -> TreeReading:
        """One sample. ``wrappers`` maps each living wrapper's pid to its children that are not the job's.

        ``thorough`` reads everything anew, as every tenth sample does.
        """
        thorough = thorough or self._samples % _FULL_READ_EVERY == 0
        self._samples += 1
        if not thorough and self._last is not None and self._nothing_ran(wrappers):
            self._last.vanished, self._last.is_unchanged = [], True
            return self._last
        self._thorough, self._quiet, self._gone = thorough, [], []
        seen: dict[int, _Process] = {}
        self._schedules = []
        for wrapper, helpers in wrappers.items():
            self._follow([pid for pid in self._wrapper(wrapper).children if pid not in helpers], seen)
        self._keep_what_lost_its_parents(seen)
        if self._gone:
            self._look_for_adopted(seen)
        self._watch_schedules(wrappers, seen)
        readings = [process.reading for process in seen.values() if process.reading is not None]
        vanished = [process.reading for process in self._gone if process.reading is not None]
        self._last = TreeReading(readings, vanished)
        return self._last

    def _nothing_ran(self, wrappers: dict[int, frozenset[int]]) -> bool:
        """Whether neither a wrapper nor a process of the tree was scheduled since the last sample.

        The quick way through a sample of a waiting tree: one short read per process.
        """
        if not self._schedules or wrappers.keys() != self._wrappers.keys():
            return False
        try:
            for descriptor, schedule in self._schedules:
                if os.pread(descriptor, 96, 0) != schedule:
                    return False
        except OSError:
            return False
        return True

    def _watch_schedules(self, wrappers: dict[int, frozenset[int]], seen: dict[int, _Process]) -> None:
        for pid in self._wrappers.keys() - wrappers.keys():
            self._close(self._wrappers.pop(pid))
        if len(self._quiet) < len(seen) and not self._thorough:
            return  # a tree at work: asking first whether nothing ran would only cost
        for process in (*self._wrappers.values(), *seen.values()):
            if not process.schedule or process.sched_fd < 0 or not self._may_be_quiet(process):
                self._schedules = []
                return
            self._schedules.append((process.sched_fd, process.schedule))

    def _wrapper(self, pid: int) -> _Process:
        """A wrapper, read like any process; its schedule is read before its children."""
        process = self._wrappers.get(pid)
        if process is None:
            process = self._wrappers[pid] = _Process(pid)
            self._open_files(process)
        schedule = self._schedule(process)
        if schedule and schedule == process.schedule:
            process.children = self._children(process, 1)  # it may have adopted some all the same
        else:
            self._read_whole(process, schedule)
        return process

    def _keep_what_lost_its_parents(self, seen: dict[int, _Process]) -> None:
        """Known processes that no child list names any more: their wrapper has ended, or they have."""
        for process in [process for pid, process in self._known.items() if pid not in seen]:
            if self._refresh(process):
                seen[process.pid] = process
                self._follow(list(process.children), seen)
            else:
                self._forget(process)

    def _look_for_adopted(self, seen: dict[int, _Process]) -> None:
        """A process ended: only so can one that was not scheduled have got children (it is a subreaper)."""
        for process in self._quiet:
            process.children = self._children(process, 1)
            self._follow(list(process.children), seen)

    def _follow(self, pids: list[int], seen: dict[int, _Process]) -> None:
        """Read these processes and all below them."""
        while pids:
            pid = pids.pop()
            if pid in seen:
                continue
            process = self._known.get(pid)
            if process is not None and not self._refresh(process):
                self._forget(process)
                process = None
            if process is None:
                process = self._take_up(pid)
            if process is not None:
                seen[pid] = process
                pids.extend(process.children)

    # --- one process ---------------------------------------------------------------------------------------------

    def _take_up(self, pid: int) -> _Process | None:
        process = _Process(pid)
        self._known[pid] = process
        self._open_files(process)
        if self._read_whole(process, self._schedule(process)):
            return process
        self._forget(process)
        return None

    def _open_files(self, process: _Process) -> None:
        if self._descriptors < self._most_descriptors:
            pid = process.pid
            process.stat_fd = self._open(f"{pid}/stat")
            process.children_fd = self._open(f"{pid}/task/{pid}/children")
            process.sched_fd = self._open(f"{pid}/schedstat")

    def _refresh(self, process: _Process) -> bool:
        """Bring the reading up to date; False where the process has gone."""
        schedule = self._schedule(process)
        if schedule == process.schedule and schedule and not self._thorough and self._may_be_quiet(process):
            self._quiet.append(process)
            return True
        return self._read_whole(process, schedule)

    def _may_be_quiet(self, process: _Process) -> bool:
        reading = process.reading
        return reading is not None and process.always_single_threaded and not reading.is_zombie

    def _schedule(self, process: _Process) -> bytes:
        """``<ns on cpu> <ns waiting> <times scheduled>`` of its main thread; empty where the kernel does not say."""
        if process.sched_fd < 0:
            text = self._read_file(f"{process.pid}/schedstat", 96)
        else:
            try:  # not by _reread: of a sample of a tree that mostly waits this is the most
                text = os.pread(process.sched_fd, 96, 0)
            except OSError:
                return b""
        return b"" if text.startswith(b"0 0 0") else text

    def _read_whole(self, process: _Process, schedule: bytes) -> bool:
        text = self._reread(process.stat_fd, process.pid, "stat", 1024)
        fields = text[text.rfind(b")") + 2 :].split(None, _RSS + 1)  # what follows is not asked for
        if len(fields) <= _RSS:
            return False
        start_ticks = int(fields[_STARTTIME])
        if process.reading is not None and process.reading.start_ticks != start_ticks:
            return False
        threads = int(fields[_NUM_THREADS])
        process.always_single_threaded &= threads <= 1
        process.schedule = schedule
        process.reading = ProcessReading(
            process.pid,
            start_ticks,
            int(fields[_PPID]),
            self._own_cpu_seconds(process, fields, schedule),
            (int(fields[_CUTIME]) + int(fields[_CSTIME])) * _TICK_SECONDS,
            int(fields[_RSS]) * _PAGE_BYTES,
            threads,
            int(fields[_MAJFLT]) + int(fields[_CMAJFLT]),
            int(fields[_MINFLT]),
            fields[_STATE] in (b"Z", b"X", b"x"),
        )
        process.children = self._children(process, threads)
        return True

    def _own_cpu_seconds(self, process: _Process, fields: list[bytes], schedule: bytes) -> float:
        """To the nanosecond for a process that never had a second thread; else in clock ticks."""
        ticks = (int(fields[_UTIME]) + int(fields[_STIME])) * _TICK_SECONDS
        exact = int(schedule.split()[0]) * 1e-9 if schedule and process.always_single_threaded else 0.0
        return max(ticks, exact)

    def _children(self, process: _Process, threads: int) -> list[int]:
        if threads <= 1:
            text = self._reread(process.children_fd, process.pid, f"task/{process.pid}/children", 65536)
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
        del self._known[process.pid]
        self._gone.append(process)
        self._close(process)

    def _close(self, process: _Process) -> None:
        for descriptor in (process.stat_fd, process.children_fd, process.sched_fd):
            if descriptor >= 0:
                os.close(descriptor)
                self._descriptors -= 1
        process.stat_fd = process.children_fd = process.sched_fd = -1

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

    def proportional_bytes(self, pid: int) -> int:
        """PSS and SwapPss: shared pages are counted once over all who share them."""
        total = 0
        for line in self._read_file(f"{pid}/smaps_rollup", 8192).splitlines():
            if line.startswith((b"Pss:", b"SwapPss:")):
                total += int(line.split()[1]) * 1024
        return total

    def anonymous_bytes(self, pid: int) -> int:
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
