"""Watches the started job: starts the monitor, passes signals on, exits as the job exited.

Data: the job's exit from the kernel (wait4) -> one Exit message to the monitor -> its answer, within 5 s.
All signals are blocked, and sigwaitinfo takes them one by one: none is lost and no handler runs. This module is loaded
while the job runs. It uses ``_signal`` and ``_socket``, because ``signal`` and ``socket`` import enum.
"""

from __future__ import annotations

import os
import time

from torc_slurm.step import kernel, link, sentinel
from torc_slurm.step.job import say, wait_only
from torc_slurm.step.task_facts import begin_of, complete_exit, exit_of, how_it_ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal as _signal

    from torc_slurm.common.identity import StepIdentity
    from torc_slurm.step.job import Job
    from torc_slurm.step.lone_exit import LoneExit
    from torc_slurm.step.options import Options
else:
    import _signal

END_WAIT_SECONDS = 5.0
_MONITOR_WAIT_SECONDS = 4.2  # the monitor gives up after 3.5; then the wrapper records the exit without it
_LONE_WRITE_SECONDS = 2.5  # to record the exit without it, if that much time is left
_LEAST_LONE_WRITE_SECONDS = 0.4
_MOST_RECORDERS = 2  # if one is killed before it reports, the next is started
_SPOOL_SECONDS = 1.5  # how long the recorder may take after that
_WELCOME_WAIT_SECONDS = 1.0
CONNECT_RETRY_SECONDS = 0.1
CLAIM_SECONDS = 0.5  # the first local task starts the monitor; if it has not by then, the next task does
CONNECT_GIVE_UP_SECONDS = 10.0
_SI_KERNEL = 0x80
_FROM_TERMINALS = {_signal.SIGINT, _signal.SIGQUIT, _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGWINCH}
LAST_CONNECT_SECONDS = 0.5
_GIVE_BACK_SECONDS = 1.0  # the job runs longer than most that only start and exit
LAST_BREATH_SECONDS = 0.2


class Wrapper:
    """One task's wrapper, from the job's start to the wrapper's own exit."""

    def __init__(self, options: Options, identity: StepIdentity, job: Job) -> None:
        self._options = options
        self._identity = identity
        self._job = job
        self._socket: _socket.socket | None = None
        self._reports: sentinel.SignalReports | None = None
        self._begin = begin_of(identity, job)
        self._monitor_pid = 0
        self._monitor_end = ""
        self._orphans_cpu_seconds = 0.0
        self._orphans_max_rss_bytes = 0
        self._run_delay_seconds: float | None = None
        self._exit: link.Exit | None = None
        self._may_claim = True
        self._has_given_back_code = False
        self._has_met_a_monitor = False
        self._ended_helpers: set[int] = set()
        self._deadline = 0.0

    def run(self) -> tuple[int, int]:
        """The signal that killed the job (0: none), and its exit code. Waits for the job even if this class fails."""
        for work in (self._start, self._watch):
            try:
                work()
            except Exception as error:
                say(f"the command runs unmeasured from here on ({_in_words(error)})")
        if self._exit is None:
            return wait_only(self._job)  # signals are no longer passed on
        try:
            self._finish()
        except Exception as error:
            say(f"the exit record is lost ({_in_words(error)})")
        assert self._exit is not None
        return self._exit.signal, self._exit.return_code

    def _start(self) -> None:
        """Start the monitor or, if another task of the step starts it, only a sentinel."""
        kernel.close_inherited_files(keep=(2,))
        if not self._identity.shares_a_monitor:
            self._start_monitor(None)
        elif self._identity.local_task != 0 or not self._claim_the_monitor():
            self._start_bare_sentinel()
            self._try_to_connect()

    def _claim_the_monitor(self) -> bool:
        """Start the monitor of the step's tasks on this node; False if another task did, or if no task can."""
        self._may_claim = False
        listener = None
        try:
            listener = link.claim(self._identity.step_key)
        except OSError as error:
            if self._identity.local_task != 0:
                return False
            say(f"the tasks of this node cannot share a monitor ({error.strerror}): only the first task is measured")
        else:
            if listener is None:
                return False
        self._has_met_a_monitor = True
        self._start_monitor(listener)
        return True

    def _start_monitor(self, listener: _socket.socket | None) -> None:
        """Start the monitor; it is this task's sentinel too."""
        self._end_bare_sentinel()
        pipe_read, pipe_write = os.pipe()
        self._fork_monitor(pipe_read, pipe_write, listener)
        os.close(pipe_write)
        if listener is not None:
            listener.close()
        self._reports = sentinel.SignalReports(pipe_read, self._monitor_pid)

    def _end_bare_sentinel(self) -> None:
        if self._begin.helper_pid > 0:
            self._kill(self._begin.helper_pid)
            self._ended_helpers.add(self._begin.helper_pid)
            self._begin.helper_pid = 0
        if self._reports is not None:
            self._reports.close()
            self._reports = None

    def _start_bare_sentinel(self) -> None:
        """Start a sentinel, if no monitor of this wrapper is alive."""
        self._end_bare_sentinel()
        pipe_read, pipe_write = os.pipe()
        try:
            self._begin.helper_pid = sentinel.start_bare_sentinel(pipe_write)
            self._reports = sentinel.SignalReports(pipe_read, self._begin.helper_pid)
        except OSError:
            os.close(pipe_read)  # a limit on processes: the wrapper passes on every signal
        os.close(pipe_write)

    def _fork_monitor(self, pipe_read: int, pipe_write: int, listener: _socket.socket | None) -> None:
        ours, theirs = link.pair()
        self._monitor_pid = self._fork_or_warn("monitor")
        if self._monitor_pid == 0:
            os.close(pipe_read)
            ours.close()
            self._run_as_monitor(theirs, pipe_write, listener)
        theirs.close()
        ours.settimeout(END_WAIT_SECONDS)
        self._socket = ours
        link.send(ours, link.encode(self._begin))

    def _fork_or_warn(self, what: str) -> int:
        try:
            return os.fork()
        except OSError as error:  # a limit on processes: the job matters more than its monitor
            say(f"the {what} could not be started ({error.strerror}); the command runs unmeasured")
            return -1

    def _run_as_monitor(self, socket: _socket.socket, pipe: int, listener: _socket.socket | None) -> None:
        try:
            wake_read, wake_write = os.pipe()
            os.set_blocking(wake_write, False)
            sentinel.report_signals(pipe, wake_write)
            kernel.keep_files_usable()
            listening = () if listener is None else (listener.fileno(),)
            kernel.close_inherited_files(keep=(pipe, socket.fileno(), wake_read, wake_write, *listening))
            from torc_slurm.step.monitor import Monitor

            Monitor(self._options, self._identity, socket, wake_read, listener).run()
        except BaseException as error:
            link.send(socket, f"failed {type(error).__name__}: {error}".encode("utf-8", "backslashreplace"))
        finally:
            os._exit(0)

    def _try_to_connect(self) -> None:
        """Register with the step's monitor, which another task of the node starts; retry while the job runs."""
        path = link.meeting_place(self._identity.step_key)
        socket = None if path is None else link.connect(path)
        if socket is None:
            return
        socket.settimeout(_WELCOME_WAIT_SECONDS)
        link.send(socket, link.encode(self._begin))
        try:
            answer = link.receive(socket)
            while answer.startswith((b"run ", b"say ")):  # its writer's messages to all connected wrappers
                answer = link.receive(socket)
        except OSError:
            answer = b"welcome"  # it is slow, and reads this task's message when it can
        if answer == b"welcome":
            self._has_met_a_monitor = True
            socket.settimeout(END_WAIT_SECONDS)
            self._socket = socket
            return
        socket.close()
        if answer == b"taken":
            self._identity.make_independent()
            self._start_monitor(None)

    # --- while the job runs --------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Pass signals on and reap until the job has ended."""
        while self._exit is None:
            if self._reports is not None:  # also if one signal follows another and this process is never idle
                self._reports.forget_old(_signal.sigpending())
            signal = _signal.sigtimedwait(_signal.valid_signals(), 0) or self._wait_for_signal()
            if self._reports is not None:
                self._reports.take_in()
            if signal is not None and signal.si_signo != _signal.SIGCHLD:
                self._pass_on(signal)
            self._reap()

    def _wait_for_signal(self) -> _signal.struct_siginfo | None:
        everything = _signal.valid_signals()
        if self._wants_to_connect():
            signal = _signal.sigtimedwait(everything, CONNECT_RETRY_SECONDS)
            if time.monotonic() - self._job.begin_monotonic < CLAIM_SECONDS or not self._claim_the_monitor():
                self._try_to_connect()
        else:
            signal = None if self._has_given_back_code else _signal.sigtimedwait(everything, _GIVE_BACK_SECONDS)
            if signal is None:
                if not self._has_given_back_code:
                    self._has_given_back_code = True
                    kernel.give_back_code()
                signal = _signal.sigwaitinfo(everything)
        if self._reports is not None:
            self._reports.forget_old()
        return signal

    def _wants_to_connect(self) -> bool:
        return (
            self._socket is None
            and self._may_claim
            and self._identity.shares_a_monitor
            and time.monotonic() - self._job.begin_monotonic < CONNECT_GIVE_UP_SECONDS
        )

    def _pass_on(self, signal: _signal.struct_siginfo) -> None:
        if self._job_got_it_too(signal):
            return
        try:
            os.kill(self._job.pid, signal.si_signo)
        except OSError:
            pass  # it has just exited, or runs as another user

    def _job_got_it_too(self, signal: _signal.struct_siginfo) -> bool:
        if self._reports is not None:
            return self._reports.sentinel_got(signal.si_signo)
        return signal.si_code == _SI_KERNEL and signal.si_signo in _FROM_TERMINALS

    def _reap(self) -> None:
        while True:
            if self._exit is None:
                self._run_delay_seconds = kernel.run_delay_at_end(self._job.pid)
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self._stop_as_the_job(pid, os.WSTOPSIG(status))
            elif pid == self._job.pid:
                self._exit = exit_of(self._begin, status, usage)
            elif pid == self._monitor_pid:
                self._monitor_pid = -1
                self._monitor_end = how_it_ended(status)
                self._start_bare_sentinel()
            elif pid != self._begin.helper_pid and pid not in self._ended_helpers:
                self._orphans_cpu_seconds += usage.ru_utime + usage.ru_stime
                self._orphans_max_rss_bytes = max(self._orphans_max_rss_bytes, usage.ru_maxrss * 1024)

    def _stop_as_the_job(self, pid: int, number: int) -> None:
        """Stop this process, so that a shell that stopped the job with Ctrl-Z sees its own child, the wrapper, stop.

        Without a terminal no process would continue the wrapper when it continues the job.
        """
        if pid == self._job.pid and kernel.has_terminal():
            os.kill(os.getpid(), number)  # merges with the terminal's own signal, if that is pending: one stop, not two
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {number})
            _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())

    # --- the end -------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Get the record written, by the monitor or without it, within END_WAIT_SECONDS."""
        self._complete_exit()
        begin = time.monotonic()
        self._deadline = begin + _MONITOR_WAIT_SECONDS
        self._connect_at_last()
        answer = self._notify_monitor()
        self._deadline = begin + END_WAIT_SECONDS
        if answer == b"late":
            self._monitor_end = f"did not answer for {_MONITOR_WAIT_SECONDS:g} s"
            self._kill(self._monitor_pid)
        if answer in (b"gone", b"late"):
            is_recorded = self._record_without_monitor()
            if self._monitor_end:
                result = ", the exit is recorded" if is_recorded else ""
                say(f"the monitor {self._monitor_end}; its unwritten measurements are lost{result}")
            if not is_recorded and self._exit is not None:
                say(self._lone_exit().keep_on_node(self._exit))
            if answer == b"gone":
                self._notify_late_monitor()
        self._end_helpers(answer)

    def _complete_exit(self) -> None:
        assert self._exit is not None
        complete_exit(self._exit, self._orphans_cpu_seconds, self._orphans_max_rss_bytes, self._run_delay_seconds)

    def _connect_at_last(self) -> None:
        """A job of milliseconds can end before the step's monitor listens: give it a moment, then start it."""
        give_up = time.monotonic() + LAST_CONNECT_SECONDS
        while self._socket is None and self._may_claim and self._identity.shares_a_monitor:
            self._try_to_connect()
            if self._socket is None and time.monotonic() > give_up:
                self._claim_the_monitor()
            elif self._socket is None:
                time.sleep(0.005)

    def _notify_monitor(self) -> bytes:
        """Send the exit. The answer: ``done`` or ``go``; ``gone``: there is no monitor; ``late``: it is silent."""
        assert self._exit is not None
        if self._socket is None:
            return b"gone"
        link.send(self._socket, link.encode(self._exit))  # a dead monitor's messages can still be read
        while True:
            try:
                self._socket.settimeout(max(0.01, self._deadline - time.monotonic()))
                answer = link.receive(self._socket)
            except (TimeoutError, OSError):
                return b"late"
            if answer in (b"", b"go", b"done"):
                return answer or b"gone"
            if answer.startswith(b"say "):
                say(answer[4:].decode("utf-8", "replace"))
            elif answer.startswith(b"failed "):
                self._monitor_end = f"failed ({answer[7:].decode('utf-8', 'replace')})"
            elif answer.startswith(b"run "):
                self._identity.run_id = int(answer[4:])

    def _record_without_monitor(self) -> bool:
        """Let another process write the exit record. It may hang too: returns False if it is not written in time."""
        answer = b""
        for _ in range(_MOST_RECORDERS):
            ours, theirs = link.pair()
            self._monitor_pid = self._fork_or_warn("recorder")
            if self._monitor_pid == 0:
                self._run_as_recorder(theirs)
            theirs.close()
            self._socket = ours
            answer = self._notify_monitor() if self._monitor_pid > 0 else b"gone"
            if answer != b"gone":
                break
        return answer not in (b"late", b"gone")

    def _lone_exit(self) -> LoneExit:
        from torc_slurm.step.lone_exit import LoneExit

        return LoneExit(self._options, self._identity, self._begin, self._monitor_end, self._has_met_a_monitor)

    def _notify_late_monitor(self) -> None:
        """Tell a monitor that starts to listen only now, on a busy node, before slurmstepd kills it."""
        self._socket = None
        if self._identity.shares_a_monitor:
            self._try_to_connect()
            self._notify_monitor()

    def _run_as_recorder(self, socket: _socket.socket) -> None:
        try:
            kernel.close_inherited_files(keep=(socket.fileno(),))
            kernel.keep_files_usable()
            lone_exit = self._lone_exit()  # its import takes a part of the time that is left
            wait_seconds = min(_LONE_WRITE_SECONDS, self._deadline - time.monotonic() - _SPOOL_SECONDS)
            is_kept = lone_exit.record(socket, max(wait_seconds, _LEAST_LONE_WRITE_SECONDS))
            if is_kept:
                link.send(socket, b"done")
        finally:
            os._exit(0)

    def _end_helpers(self, answer: bytes) -> None:
        """Wait for the helpers: slurmstepd waits a whole second if a process is left after the last task's end."""
        self._kill(self._begin.helper_pid)
        if time.monotonic() >= self._deadline:
            self._kill(self._monitor_pid)
        give_up = time.monotonic() + LAST_BREATH_SECONDS
        for pid in (self._begin.helper_pid, 0 if answer == b"go" else self._monitor_pid):
            while pid > 0 and not kernel.has_ended(pid) and time.monotonic() < give_up:
                time.sleep(0.0005)

    def _kill(self, pid: int) -> None:
        if pid > 0:  # 0 and -1 (no such helper) would signal many processes
            try:
                os.kill(pid, _signal.SIGKILL)
            except OSError:
                pass  # it has exited


def _in_words(error: Exception) -> str:
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
