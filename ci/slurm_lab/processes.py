"""Finds and ends processes with /proc."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from .waiting import wait_until

PROC = Path("/proc")
# proc(5), stat: indices of its fields, counted from the state, which is the third field.
STATE, FLAGS, END_CODE, ENV_START, ENV_END = (number - 3 for number in (3, 9, 27, 50, 51))
GONE = "ZX"
KERNEL_THREAD = 0x00200000  # PF_KTHREAD in the kernel's include/linux/sched.h
EXEC_LIMIT_SECONDS = 20.0
ENVIRONMENT_BYTES = 2**21  # execve(2): arguments and environment have a quarter of the stack's usual 8 MiB


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir(PROC) if name.isdigit()]


def was_started_with(pid: int, entries: Iterable[str]) -> bool:
    """Whether this is a running process that was started with one of these `NAME=value` entries in its environment.

    During an exec the kernel shows no environment: for microseconds, or while it reads the program from a slow disk.
    The function then waits.
    """
    wanted = {entry.encode() for entry in entries}
    found: list[bytes] | None = None

    def known() -> bool:
        nonlocal found
        found = _environment(pid)
        return found is not None

    wait_until(known, EXEC_LIMIT_SECONDS)
    return bool(wanted.intersection(found or [])) and is_running(pid)


def _environment(pid: int) -> list[bytes] | None:
    """The environment that a process was started with; None during an exec, when it is unknown.

    Empty for a process that has exited, that we may not read, or that was started with an empty one.
    """
    while True:
        try:
            text = _read_at_once(PROC / str(pid) / "environ")
        except OSError:
            return []
        if text:
            return text.split(b"\0")
        fields = _stat_fields(pid)
        if not fields or fields[STATE] in GONE or int(fields[FLAGS]) & KERNEL_THREAD:
            return []
        # create_elf_tables() in the kernel's fs/binfmt_elf.c begins with an end that equals the start; the
        # addresses of the code are set after it.
        if fields[END_CODE] == "0":
            return None
        if fields[ENV_START] == fields[ENV_END]:
            return []
        # The exec ended between the two reads: now the environment is there.


def _read_at_once(path: Path) -> bytes:
    """A single read: with an exec between two reads, the second returns nothing and the text would be cut off."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, ENVIRONMENT_BYTES)
    finally:
        os.close(descriptor)


def is_running(pid: int) -> bool:
    """A zombie is not running: only its parent can remove it."""
    fields = _stat_fields(pid)
    return bool(fields) and fields[STATE] not in GONE


def _stat_fields(pid: int) -> list[str]:
    """`/proc/PID/stat` from the state on; empty for a process that has exited."""
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def user_id(pid: int) -> int | None:
    try:
        return (PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def with_environment(entries: Iterable[str]) -> set[int]:
    """The running processes that were started with one of these `NAME=value` entries."""
    wanted = list(entries)
    return {pid for pid in all_pids() if was_started_with(pid, wanted)}


def of_user(uid: int) -> set[int]:
    return {pid for pid in all_pids() if user_id(pid) == uid and is_running(pid)}


def kill(pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> None:
    """Signal all of them except the caller; those that have exited do not matter."""
    for pid in pids:
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def stop_signal() -> int:
    """A descriptor that becomes readable on SIGTERM; signals of a terminal or a hang-up are ignored."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(write_end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the caller may have blocked it
    return read_end
