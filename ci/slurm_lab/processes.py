"""Finding and ending processes by what /proc says of them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir(PROC) if name.isdigit()]


def environment(pid: int) -> list[bytes]:
    """The environment that a process was started with; empty for one that is gone or not ours to see."""
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def is_running(pid: int) -> bool:
    """A zombie is not running: only its parent can make it go away."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def user_id(pid: int) -> int | None:
    try:
        return (PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def with_environment(entries: Iterable[str]) -> set[int]:
    """The running processes that were started with one of these `NAME=value` entries."""
    wanted = {entry.encode() for entry in entries}
    return {pid for pid in all_pids() if wanted.intersection(environment(pid)) and is_running(pid)}


def of_user(uid: int) -> set[int]:
    return {pid for pid in all_pids() if user_id(pid) == uid and is_running(pid)}


def kill(pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> None:
    """Signal them all, the caller excepted; those already gone do not matter."""
    for pid in pids:
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
