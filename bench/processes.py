"""Starts processes, reads the kernel's counters of them, and leaves none behind.

CPU time is the kernel's run time of all threads, also of ended ones: the process's CPU clock (``sum_exec_runtime``, the
first number of each thread's schedstat, in ns), which ``clock_gettime`` returns for any process. Children that a
process has reaped (con-duct's ``ps``) are in its stat file.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.figures import alone_bytes, file_pages_by_mapping, sizes_in, waited_ticks

_PR_SET_CHILD_SUBREAPER = 36
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_LOOK_SECONDS = 0.01
_END_SECONDS = 30.0


class NotReady(Exception):
    """A program did not start; the message says which, and where its output is."""


class Memory(NamedTuple):
    """Of a few processes together, in bytes; ``alone``: as if no other process on the node mapped the same files."""

    pss: int
    rss: int
    alone: int


def adopt_orphans() -> None:
    """Keep everything that is started from here, at any depth, below this process, so that it can be ended."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in path.read_text().split()]
        except OSError:
            pass  # the thread has ended
    return found


def descendants_of(pid: int) -> set[int]:
    found: set[int] = set()
    new = children_of(pid)
    while new:
        child = new.pop()
        if child not in found:
            found.add(child)
            new += children_of(child)
    return found


def end_all() -> None:
    """Kill everything below this process and reap it, until nothing is left."""
    while below := descendants_of(os.getpid()):
        for pid in below:
            send(pid, signal.SIGKILL)
        _reap_all()
        time.sleep(_LOOK_SECONDS)


def _reap_all() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # there is none left


def end_tree(root: int) -> None:
    """Kill a workload's tree and wait until it has ended; reap those that became children of this process."""
    pids = {root} | descendants_of(root)
    for pid in pids:
        send(pid, signal.SIGKILL)
    left = pids - {root}
    deadline = time.monotonic() + _END_SECONDS
    while left:
        left = {pid for pid in left if not _has_gone(pid)}
        if left and time.monotonic() > deadline:
            raise NotReady(f"processes that were killed are still there after {_END_SECONDS:g} s: {sorted(left)[:5]}")
        time.sleep(_LOOK_SECONDS)


def _has_gone(pid: int) -> bool:
    """Whether it has ended. If it is this process's own child, reap it."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not os.path.exists(f"/proc/{pid}")


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended already


def start(argv: list[str], directory: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start with no input, its output in DIRECTORY/output."""
    with open(f"{directory}/output", "wb") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=directory
        )


def spawn(argv: list[str], directory: str, environment: Mapping[str, str]) -> int:
    """Like ``start``, with as little work as possible between this process and the program's start; returns the pid."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, f"{directory}/output", flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(argv[0], argv, environment, file_actions=actions)


def wait_for_file(path: str, seconds: float) -> str:
    """The file's text as soon as the file exists.

    Raises:
        NotReady: it did not appear in time.
    """
    wait_until(lambda: os.path.exists(path), f"{path} to be written (see output beside it)", seconds)
    return Path(path).read_text(encoding="utf-8")


def wait_until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotReady(f"waited {seconds:g} s in vain for {what}")
        time.sleep(_LOOK_SECONDS)


def own_cpu_seconds(pid: int) -> float:
    """All threads' run time so far; 0 after the process's exit. The clock's number is that of glibc's
    clock_getcpuclockid: the pid's complement, shifted, and CPUCLOCK_SCHED.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def used_seconds(pids: Iterable[int]) -> float:
    """CPU seconds of these processes and of the children that they have reaped."""
    return sum(own_cpu_seconds(pid) + _waited_seconds(pid) for pid in pids)


def _waited_seconds(pid: int) -> float:
    text = _read(pid, "stat")
    return waited_ticks(text) * _TICK_SECONDS if text else 0.0


def program_of(pid: int) -> str:
    return _read(pid, "comm").strip()


def memory_of(pids: Iterable[int]) -> Memory:
    rollups = [sizes_in(_read(pid, "smaps_rollup")) for pid in pids]
    files = [file_pages_by_mapping(_read(pid, "smaps")) for pid in pids]
    anonymous = sum(sizes.get("Pss_Anon", 0) for sizes in rollups)
    return Memory(
        sum(sizes.get("Pss", 0) for sizes in rollups),
        sum(sizes.get("Rss", 0) for sizes in rollups),
        alone_bytes(anonymous, files),
    )


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
