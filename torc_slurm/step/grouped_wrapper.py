"""The wrapper of one job of a group. It starts a monitor only if the job runs longer than a moment."""

from __future__ import annotations

import os
import time

from torc_slurm.step import kernel, link
from torc_slurm.step.process_tree import ProcfsTree
from torc_slurm.step.wrapper import LAST_BREATH_SECONDS, Wrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from torc_slurm.common.identity import StepIdentity
    from torc_slurm.step.group import Group
    from torc_slurm.step.job import Job
    from torc_slurm.step.options import Options
else:
    import _signal

WATCHED_AFTER_SECONDS = 0.1
END_SIGNALS = {_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT}


class GroupedWrapper(Wrapper):
    """Waits for one job, and for the answer of its monitor if it has one."""

    def __init__(
        self, group: Group, options: Options, identity: StepIdentity, job: Job, limit_seconds: float | None
    ) -> None:
        super().__init__(options, identity, job)
        self._group = group
        self.begin = self._begin
        self.begin.helper_pid, self.begin.recorder_pid = group.sentinel_pid, group.recorder_pid
        self._reports = group.reports
        self._ended_helpers = self.ended_helpers = {*group.helpers, group.recorder_pid}
        self.is_watched = False
        self.is_over_time = False
        self._watch_at = job.begin_monotonic + WATCHED_AFTER_SECONDS
        self._limit_at = None if limit_seconds is None else job.begin_monotonic + limit_seconds

    @property
    def exit(self) -> link.Exit | None:
        return self._exit

    def _start(self) -> None:
        """Nothing, as yet."""

    def _wait_for_signal(self) -> _signal.struct_siginfo | None:
        now = time.monotonic()
        if not self.is_watched and self._options.sampling and now >= self._watch_at:
            self.is_watched = True
            self._start_monitor(None)
            self._group.reports = self._reports
        if self._limit_at is not None and now >= self._limit_at:
            self._end_at_limit(now)
        due = [] if self.is_watched or not self._options.sampling else [self._watch_at]
        due += [] if self._limit_at is None else [self._limit_at]
        everything = _signal.valid_signals()
        wait_seconds = max(0.0, min(due) - now) if due else 0.0
        signal = _signal.sigtimedwait(everything, wait_seconds) if due else _signal.sigwaitinfo(everything)
        if self._reports is not None:
            self._reports.forget_old()
        return signal

    def _end_bare_sentinel(self) -> None:
        """And see it off: the monitor, which takes its place, must not take it for a process of the job."""
        pid = self.begin.helper_pid
        super()._end_bare_sentinel()
        give_up = time.monotonic() + LAST_BREATH_SECONDS
        while pid > 0 and not kernel.has_ended(pid) and time.monotonic() < give_up:
            time.sleep(0.0005)

    def _end_at_limit(self, now: float) -> None:
        """As Slurm does at a step's time limit: all its processes get SIGTERM, and after a grace SIGKILL."""
        number = _signal.SIGKILL if self.is_over_time else _signal.SIGTERM
        self.is_over_time = True
        self._limit_at = now + self._group.grace_seconds
        for pid in _with_descendants(ProcfsTree(), self._job.pid):
            try:
                os.kill(pid, number)
            except OSError:
                pass  # it has just ended

    def _pass_on(self, signal: _signal.struct_siginfo) -> None:
        if signal.si_signo in END_SIGNALS:
            self._group.is_stopping = True
        super()._pass_on(signal)

    def _finish(self) -> None:
        if self.is_watched:
            super()._finish()
            self._group.reports = self._reports
            return
        self._complete_exit()
        assert self._exit is not None
        self._exit.wrapper_cpu_seconds = 0.0


def _with_descendants(tree: ProcfsTree, pid: int) -> list[int]:
    found = [pid]
    for each in found:
        found += tree.children_of(each)
    return found
