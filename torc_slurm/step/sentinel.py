"""Tells whether a signal went to the whole group or to the wrapper alone, so that the job gets it exactly once.

The sentinel is a process beside the job: same parent, group and session. What Slurm's linuxproc and pgid plugins, a
terminal, or ``kill -- -PGID`` send to the job as well, they send to the sentinel too; it reports each signal as one
byte through a pipe (``set_wakeup_fd``: written by the C handler, so that two of a kind are two bytes). A signal that
the sentinel did not get was meant for the wrapper alone, and is passed on. The monitor is its step's sentinel; tasks
without one fork a bare one. It dies of SIGKILL only.
"""

from __future__ import annotations

import fcntl
import os
import time

from torc_slurm.identity import proc_is_ours
from torc_slurm.process_name import set_command_line, set_process_name
from torc_slurm.step import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

# How long after the wrapper's own signal the sentinel's report may come, and how long before it.
REPORT_WAIT_SECONDS = 0.03
REPORT_AGE_SECONDS = 0.05
_LOOK_SECONDS = 0.001

# Not the wrapper's: `pkill torc-step` is meant for the job, and would look like a signal to the whole group.
PROCESS_NAME = "torc-sampler"

_NOT_TO_BE_HANDLED = {_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD}
_FAULTS = {_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGABRT, _signal.SIGTRAP}


def report_signals(pipe: int, wake: int = -1) -> None:
    """From now on this process survives signals and writes the number of each, one byte, into ``pipe``.

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
    # SIGPIPE stays blocked, and is found pending: handled, it would be reported through the pipe of a wrapper that is
    # dead, which makes another one, for ever
    _signal.pthread_sigmask(_signal.SIG_SETMASK, _FAULTS | {_signal.SIGPIPE})


def fork_deaf() -> int:
    """``os.fork`` for a sentinel's helper: no signal stops it, and it reports none in the sentinel's place."""
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
    """Fork a process that does nothing but report signals and dies with its parent; returns its pid.

    Raises:
        OSError: there can be no further process.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        kernel.die_with_parent(_signal.SIGKILL)
        kernel.let_go_of_files(keep=(pipe,))
        report_signals(pipe)
        while os.getppid() == parent:
            _signal.pause()
    finally:
        os._exit(0)


class SignalReports:
    """The wrapper's end of the sentinel's pipe; each report sends the wrapper a SIGCHLD, so that it is read at once."""

    def __init__(self, pipe: int, sentinel_pid: int) -> None:
        self._pipe = pipe
        self._sentinel_pid = sentinel_pid
        self._arrived: dict[int, list[float]] = {}  # when the reports of each signal came that await the wrapper's own
        self._awaited: dict[int, int] = {}  # reports that are still to come of signals already taken for both's
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, _signal.SIGCHLD)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_NONBLOCK | os.O_ASYNC)
        self.take_in()

    def close(self) -> None:
        os.close(self._pipe)

    def take_in(self) -> None:
        """Read what came; to be called whenever the wrapper wakes."""
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

    def forget_old(self) -> None:
        """The wrapper had nothing to do: a report from before that was of a signal that only the sentinel got."""
        oldest = time.monotonic() - REPORT_AGE_SECONDS
        for number, times in self._arrived.items():
            self._arrived[number] = [when for when in times if when >= oldest]

    def sentinel_got(self, number: int) -> bool:
        """Whether the sentinel got the signal that the wrapper has just got; waits for the report for a moment."""
        deadline = time.monotonic() + REPORT_WAIT_SECONDS
        while True:
            self.take_in()
            if self._arrived.get(number):
                del self._arrived[number][0]  # one report answers for one signal
                return True
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_SECONDS)
        if not self._is_pending(number):
            return False
        self._awaited[number] = self._awaited.get(number, 0) + 1  # it is stopped, or has not had a CPU yet
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
