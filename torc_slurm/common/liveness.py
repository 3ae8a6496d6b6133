"""Identifies a process and checks whether it still runs, for locks and claims that name their owner in a file.

A process number alone is not enough, because numbers are reused. Here a process is its host, the boot of that host, its
PID namespace, its number and the clock tick at which it started (field 22 of /proc/PID/stat). A name or a command line
is never used: another program can have the same.

Standard library only.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
from dataclasses import dataclass

_STATE, _START_TICKS = 0, 19  # after the name in /proc/PID/stat, see proc_pid_stat(5)
_CLOCK_TOLERANCE_SECONDS = 2.0


class Life(enum.Enum):
    """What this process can tell about another one."""

    runs = "runs"
    ended = "has ended"
    ended_by_reboot = "has ended: its host was rebooted"
    elsewhere = "cannot be seen from here"
    not_known = "may still run: a process has its number, and /proc does not identify it"


@dataclass(frozen=True)
class Process:
    """A process as a file names it; an empty text: the file's writer did not know it or did not write it.

    ``seen_at``: a Unix time at which it ran, for a process whose start is unknown.
    """

    host: str
    pid: int
    boot_id: str = ""
    pid_namespace: str = ""
    start_ticks: str = ""
    seen_at: float | None = None


def this_process() -> Process:
    """The calling process."""
    return process_here(os.getpid())


def process_here(pid: int) -> Process:
    """The process with this number here and now; without its start if /proc does not show it."""
    return Process(
        host=os.uname().nodename,
        pid=pid,
        boot_id=_text_of("/proc/sys/kernel/random/boot_id"),
        pid_namespace=_pid_namespace(),
        start_ticks=_stat(pid)[1],
    )


def life_of(process: Process) -> Life:
    """Whether a process still runs, as far as this host can tell. A zombie has ended."""
    here = this_process()
    if process.host != here.host:
        return Life.elsewhere
    if _differ(process.boot_id, here.boot_id):
        return Life.ended_by_reboot
    if _differ(process.pid_namespace, here.pid_namespace):
        return Life.elsewhere
    if not _number_is_used(process.pid):
        return Life.ended
    state, ticks = _stat(process.pid)
    if state in ("Z", "X"):
        return Life.ended
    if not ticks:
        return Life.not_known
    if process.start_ticks:
        return Life.runs if ticks == process.start_ticks else Life.ended
    return _life_by_time(process.seen_at, int(ticks))


def signal_process(process: Process, number: int = signal.SIGTERM) -> bool:
    """Send a signal to exactly this process. Returns False if it has ended, or if it may be another process.

    Raises:
        PermissionError: it belongs to another user.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # a kernel before 5.3
        return _signal_by_number(process, number)
    try:
        if life_of(process) is not Life.runs:  # the descriptor is open, so the number cannot be reused
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _signal_by_number(process: Process, number: int) -> bool:
    if life_of(process) is not Life.runs:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
        return True
    return False


def _life_by_time(seen_at: float | None, ticks: int) -> Life:
    """For a process whose start is unknown: one that started after it was seen is another process."""
    booted = next((line.split()[1] for line in _text_of("/proc/stat").splitlines() if line.startswith("btime ")), "")
    if seen_at is None or not booted:
        return Life.not_known
    started = int(booted) + ticks / os.sysconf("SC_CLK_TCK")
    return Life.runs if started <= seen_at + _CLOCK_TOLERANCE_SECONDS else Life.ended


def _differ(one: str, other: str) -> bool:
    return bool(one and other and one != other)


def _number_is_used(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _stat(pid: int) -> tuple[str, str]:
    """The state and the start of a process; empty if /proc does not show it, or belongs to another PID namespace."""
    if not _proc_is_ours():
        return "", ""
    fields = _text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[_STATE], fields[_START_TICKS]) if len(fields) > _START_TICKS else ("", "")


def _proc_is_ours() -> bool:
    """Whether /proc belongs to this PID namespace: in a container it can be the host's."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
