"""Jobs with known truth: each does one thing that is hard to sample, and writes down the kernel's figures of it.

``python -I -S workloads.py NAME NUMBER... DIRECTORY``. The truth goes to DIRECTORY/truth.json: CPU seconds from
getrusage (its own and, from ``wait4``, its reaped children's), memory in bytes with its source. It is written last,
after the memory was freed, so that the process uses at most a millisecond after it. A killed bench leaves nothing
behind: a tree ends with it, everything else ends by itself within seconds.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LIFETIME_SECONDS = 600
_PR_SET_PDEATHSIG = 1
_MB = 1_000_000


def tree(processes: int, active: int, directory: str) -> None:
    """``processes`` of them, this one included; ``active`` of its children use 1 ms each second, the others sleep.

    DIRECTORY/ready has the root's pid when all exist. Ends with the bench at the latest.
    """
    bench = select.poll()
    bench.register(os.pidfd_open(int(os.environ["BENCH_PID"])), select.POLLIN)
    libc, me = ctypes.CDLL(None), os.getpid()
    for number in range(processes - 1):
        if os.fork() == 0:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == me:
                _live(number < active)
            os._exit(0)
    _write(directory, "ready", str(me))
    bench.poll()


def _live(active: bool) -> None:
    signal.alarm(_LIFETIME_SECONDS)
    while active:
        time.sleep(1)
        _burn(0.001)
    signal.pause()


def sleep(seconds: float, directory: str) -> None:
    """Does nothing; DIRECTORY/truth.json has its begin and end, in Unix seconds."""
    begin = time.time()
    time.sleep(seconds)
    _write(directory, "truth.json", json.dumps({"begin_time": begin, "end_time": time.time()}))


def children(seconds: float, each: float, directory: str) -> None:
    """Children of ``each`` CPU seconds, one after another, until they have used ``seconds`` together."""
    for _ in range(round(seconds / each)):
        child = os.fork()
        if child == 0:
            _burn(each)
            os._exit(0)
        os.wait4(child, 0)
    _tell(directory)


def spike(size_mb: int, begin: float, held: float, directory: str) -> None:
    """``size_mb`` of memory for ``held`` seconds, ``begin`` seconds after the start; 2.5 s as a whole."""
    started = time.monotonic()
    time.sleep(begin)
    with _memory(size_mb):
        time.sleep(held)
    time.sleep(max(0.0, 2.5 - (time.monotonic() - started)))
    _tell(directory)


def daemon(size_mb: int, seconds: float, directory: str) -> None:
    """A grandchild in its own session (double fork, setsid) has the memory and uses the CPU; this one waits."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            with _memory(size_mb):
                _burn(seconds)
            os.write(writer, json.dumps([_used_seconds(), _high_water_bytes()]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    used_seconds, high_water_bytes = json.loads(os.read(reader, 4096))
    _tell(directory, used_seconds, high_water_bytes)


def shared(size_mb: int, processes: int, seconds: float, directory: str, cgroup: str = "") -> None:
    """``processes`` (this one included) share ``size_mb`` that this one touched before it forked.

    The truth is what their memory cgroup is charged (anonymous and shared memory), else their PSS.
    """
    with _memory(size_mb):
        pids = [_sleeping_child(seconds) for _ in range(processes - 1)]
        time.sleep(seconds / 2)
        truth = _charged(cgroup) if cgroup else sum(_pss(pid) for pid in [*pids, os.getpid()])
        for pid in pids:
            os.waitpid(pid, 0)
    source = "memory cgroup: anonymous and shared" if cgroup else "PSS"
    _write(directory, "truth.json", json.dumps({"peak_memory_bytes": truth, "source": source}))


def _sleeping_child(seconds: float) -> int:
    pid = os.fork()
    if pid == 0:
        time.sleep(seconds)
        os._exit(0)
    return pid


def _charged(cgroup: str) -> int:
    with open(f"{cgroup}/memory.stat", encoding="ascii") as file:
        table = dict(line.split() for line in file)
    names = ("total_rss", "total_shmem") if "total_rss" in table else ("anon", "shmem")
    return sum(int(table.get(name, 0)) for name in names)


def _pss(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


def short(size_mb: int, seconds: float, directory: str) -> None:
    """A job that exits after ``seconds``, all of them CPU time, most of them with ``size_mb`` of memory."""
    with _memory(size_mb):
        _burn(seconds * 0.9 - time.process_time())
    _burn(seconds - time.process_time())
    _tell(directory)


class _memory:  # noqa: N801 - a context manager; contextlib would cost the short job milliseconds
    """Private memory, all of it resident (the kernel fills it at once); freed at the end of the ``with`` block."""

    def __init__(self, size_mb: int) -> None:
        self._size_bytes = size_mb * _MB

    def __enter__(self) -> None:
        kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        self._block = mmap.mmap(-1, self._size_bytes, kind)

    def __exit__(self, *_: object) -> None:
        self._block.close()


def _burn(cpu_seconds: float) -> None:
    end = time.process_time() + cpu_seconds
    while time.process_time() < end:
        pass


def _tell(directory: str, more_seconds: float = 0.0, high_water_bytes: int = 0) -> None:
    """Write the truth of this process; the arguments give that of one it does not wait for."""
    truth = {
        "cpu_seconds": _used_seconds() + more_seconds,
        "peak_memory_bytes": max(_high_water_bytes(), high_water_bytes),
        "source": "CPU: getrusage; memory: VmHWM",
    }
    _write(directory, "truth.json", json.dumps(truth))


def _used_seconds() -> float:
    """Its own CPU time and, from wait4, that of the children it has reaped."""
    own, waited = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + waited.ru_utime + waited.ru_stime


def _high_water_bytes() -> int:
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def _write(directory: str, name: str, text: str) -> None:
    """Write the file whole: a reader never sees a part of it."""
    with open(f"{directory}/{name}.new", "w", encoding="ascii") as file:
        file.write(text)
    os.rename(f"{directory}/{name}.new", f"{directory}/{name}")


_WORKLOADS: dict[str, Callable[..., None]] = {
    workload.__name__: workload for workload in (tree, sleep, children, spike, daemon, shared, short)
}


def main(name: str, words: list[str]) -> None:
    signal.alarm(_LIFETIME_SECONDS)
    _WORKLOADS[name](*(_number_or_text(word) for word in words))
    os._exit(0)


def _number_or_text(word: str) -> float | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass  # the next kind
    return word


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
