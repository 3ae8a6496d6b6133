"""Tells whether a signal went to the whole group or to the wrapper alone, so that the job gets it exactly once.

The sentinel is a process beside the job: same parent, group and session. What Slurm's linuxproc and pgid plugins, a
terminal, or ``kill -- -PGID`` send to the job as well, they send to the sentinel too; it reports each signal with its
time through a pipe. A signal that the sentinel did not get was meant for the wrapper alone, and is passed on.
The monitor is its step's sentinel; tasks without one fork a bare one. It dies of SIGKILL only.
"""

from __future__ import annotations

import os
import time

from torc_slurm.step import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

# How long after the wrapper's own signal the sentinel's report may come, and how old a report may be to count.
REPORT_WAIT_SECONDS = 0.03
REPORT_AGE_SECONDS = 0.5

_NOT_TO_BE_HANDLED = {_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD}
_FAULTS = {_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGABRT, _signal.SIGTRAP}


def report_signals(pipe: int, wake: int = -1) -> None:
    """From now on this process survives signals and writes ``<number> <monotonic ns>`` lines into ``pipe``.

    A SIGTERM also writes a byte into ``wake``, for a process that sleeps in poll.
    """

    def report(number: int, _frame: object) -> None:
        if number == _signal.SIGTERM and wake >= 0:
            os.write(wake, b"t")
        try:
            os.write(pipe, b"%d %d\n" % (number, time.monotonic_ns()))
        except OSError:
            pass  # the wrapper is gone, or 64 kB of reports were never read

    os.set_blocking(pipe, False)
    for number in _signal.valid_signals() - _NOT_TO_BE_HANDLED - _FAULTS:
        _signal.signal(number, report)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, _FAULTS)


def start_bare_sentinel(pipe: int) -> int:
    """Fork a process that does nothing but report signals and dies with its parent; returns its pid."""
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
    """The wrapper's end of the sentinel's pipe."""

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self._pipe = pipe
        self._latest: dict[int, int] = {}
        self.alive = True

    def sentinel_got(self, number: int) -> bool:
        """Whether the sentinel got the signal that the wrapper has just got; waits for the report for a moment."""
        now = time.monotonic_ns()
        deadline = now + int(REPORT_WAIT_SECONDS * 1e9)
        oldest = now - int(REPORT_AGE_SECONDS * 1e9)
        while True:
            self._read()
            if self._latest.get(number, 0) >= oldest:
                del self._latest[number]  # one report answers for one signal
                return True
            if not self.alive or time.monotonic_ns() > deadline:
                return False
            time.sleep(0.001)

    def _read(self) -> None:
        try:
            text = os.read(self._pipe, 65536)
        except BlockingIOError:
            return
        if not text:
            self.alive = False
        for line in text.splitlines():
            number, _, when = line.partition(b" ")
            self._latest[int(number)] = int(when or 0)
