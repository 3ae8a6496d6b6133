"""Finds out whether a signal went to the whole group or only to the wrapper, so that the job gets it exactly once.

The sentinel is a process beside the job with the same parent, group and session. Signals that Slurm's linuxproc and
pgid plugins, a terminal, or ``kill -- -PGID`` send to the job, they also send to the sentinel. It reports each signal
as one byte through a pipe (the C handler of ``set_wakeup_fd`` writes it, so that two equal signals are two bytes). A
signal that the sentinel did not get was sent only to the wrapper, and the wrapper passes it on. The monitor is the
sentinel of the task that started it; other tasks fork a bare one. Only SIGKILL ends it.
"""

from __future__ import annotations

import fcntl
import os
import time

from torc_slurm.common.identity import proc_is_ours
from torc_slurm.common.process_name import set_command_line, set_process_name
from torc_slurm.step import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Collection
else:
    import _signal

# How long after the wrapper's own signal the sentinel's report may arrive, and how long before it.
REPORT_WAIT_SECONDS = 0.03
REPORT_AGE_SECONDS = 0.05
_LOOK_SECONDS = 0.001

# Not the wrapper's: `pkill torc-step` is meant for the job, and would look like a signal to the whole group.
PROCESS_NAME = "torc-sampler"

_NOT_TO_BE_HANDLED = {_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD}
_FAULTS = {_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGABRT, _signal.SIGTRAP}


def report_signals(pipe: int, wake: int = -1) -> None:
    """Make this process survive signals and write the number of each, as one byte, into ``pipe``.

    A SIGTERM also writes a byte into ``wake``, for a process that sleeps in poll.
    """

    def handle(number: int, _frame: object) -> None:
        if number == _signal.SIGTERM and wake >= 0:
            os.write(wake, b"t")

    set_process_name(PROCESS_NAME)
    set_command_line([PROCESS_NAME])
    os.set_blocking(pipe, False)
    _signal.set_wakeup_fd(pipe, warn_on_full_buffer=False)
    for number in _signal.valid_signals() - _NOT_TO_BE_HANDLED - _FAULTS - {_signal.SIGPIPE}:
        _signal.signal(number, handle)
    # Keep SIGPIPE blocked. A handler would report it through the pipe, and if the wrapper is dead that raises the next
    # SIGPIPE, without end.
    _signal.pthread_sigmask(_signal.SIG_SETMASK, _FAULTS | {_signal.SIGPIPE})


def fork_without_signals() -> int:
    """``os.fork`` for a helper of the sentinel: no signal stops it, and it does not report signals."""
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    if pid == 0:
        _signal.set_wakeup_fd(-1)
    return pid


def start_bare_sentinel(pipe: int) -> int:
    """Fork a process that only reports signals and dies with its parent. Returns its pid.

    Raises:
        OSError: no further process can start.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        kernel.die_with_parent(_signal.SIGKILL)
        kernel.close_inherited_files(keep=(pipe,))
        report_signals(pipe)
        while os.getppid() == parent:
            _signal.pause()
    finally:
        os._exit(0)


class SignalReports:
    """The wrapper's end of the sentinel's pipe. Each report raises SIGCHLD in the wrapper, which reads it at once."""

    def __init__(self, pipe: int, sentinel_pid: int) -> None:
        self._pipe = pipe
        self._sentinel_pid = sentinel_pid
        self._arrived: dict[int, list[float]] = {}  # times of reports whose signal the wrapper has not got yet
        self._awaited: dict[int, int] = {}  # reports still to come for signals that were counted as the group's
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, _signal.SIGCHLD)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_NONBLOCK | os.O_ASYNC)
        self.take_in()

    def close(self) -> None:
        os.close(self._pipe)

    def take_in(self) -> None:
        """Read new reports. The wrapper calls this whenever it wakes."""
        try:
            numbers = os.read(self._pipe, 65536)
        except BlockingIOError:
            return
        now = time.monotonic()
        for number in numbers:
            if self._awaited.get(number, 0):
                self._awaited[number] -= 1
            else:
                self._arrived.setdefault(number, []).append(now)

    def forget_old(self, pending: Collection[int] = ()) -> None:
        """Drop old reports of signals that the wrapper has not got; ``pending``: those that it has yet to take."""
        oldest = time.monotonic() - REPORT_AGE_SECONDS
        for number, times in self._arrived.items():
            if number not in pending:
                self._arrived[number] = [when for when in times if when >= oldest]

    def sentinel_got(self, number: int) -> bool:
        """Whether the sentinel got the signal that the wrapper has just got; waits briefly for the report."""
        deadline = time.monotonic() + REPORT_WAIT_SECONDS
        while True:
            self.take_in()
            if self._arrived.get(number):
                del self._arrived[number][0]  # one report belongs to one signal
                return True
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_SECONDS)
        if not self._is_pending(number):
            return False
        self._awaited[number] = self._awaited.get(number, 0) + 1  # the sentinel is stopped, or has had no CPU yet
        return True

    def _is_pending(self, number: int) -> bool:
        if not proc_is_ours():
            return False
        try:
            with open(f"/proc/{self._sentinel_pid}/status", "rb", buffering=0) as file:
                lines = file.read().splitlines()
        except OSError:
            return False
        masks = [int(line.split()[1], 16) for line in lines if line.startswith((b"SigPnd:", b"ShdPnd:"))]
        return any(mask >> (number - 1) & 1 for mask in masks)
