"""Stands in the job's place: forks the job, then the monitor, passes signals on, ends as the job ended.

Data: the kernel's word on the job's end (wait4) -> one Exit message to the monitor -> its answer, 5 s at most.
All signals are blocked here and taken one by one with sigwaitinfo, so nothing is lost and no handler runs; the job gets
back the mask and the dispositions that the wrapper was started with. Loaded before the job starts: ``_signal`` and
``_socket`` because ``signal`` and ``socket`` bring enum with them, 6 ms.
"""

from __future__ import annotations

import gc
import os
import time

from torc_slurm.identity import ACTIVE_VARIABLE, identify
from torc_slurm.step import kernel, link, sentinel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import resource
    import signal as _signal

    from torc_slurm.identity import StepIdentity
    from torc_slurm.step.options import Options
else:
    import _signal

END_WAIT_SECONDS = 5.0
CONNECT_RETRY_SECONDS = 0.1
CONNECT_GIVE_UP_SECONDS = 10.0
OOM_SCORE_RAISE = 100
NOT_FOUND, NOT_EXECUTABLE = 127, 126
_PYTHON_IGNORES = (_signal.SIGPIPE, _signal.SIGXFSZ)


def run(options: Options) -> int:
    """Run the command under watch and end this process as the command ended (so it returns only in a nested step)."""
    environ = dict(os.environ)
    identity = identify(environ, options.identity)
    if environ.get(ACTIVE_VARIABLE) == _active_mark(identity):  # the outer torc-step's tree includes this one's
        _become(options.command, dict(os.environb))
    wrapper = Wrapper(options, identity)
    wrapper.start()
    wrapper.watch()
    wrapper.finish()
    return wrapper.die()


def _active_mark(identity: StepIdentity) -> str:
    """Names what is measured here; each wrapper outside Slurm and workflows is a record of its own."""
    if identity.slurm_job_id is not None:
        return f"slurm {identity.slurm_job_id}.{identity.step_id}"
    if identity.workflow_id is not None:
        return f"workflow {identity.workflow_id}.{identity.run_id}.{identity.job_id}.{identity.attempt_id}"
    return f"local {os.getpid()}"


def _job_environment(identity: StepIdentity) -> dict[bytes, bytes]:
    """What the wrapper was given, plus the mark that this step is measured.

    Python itself adds LC_CTYPE where the locale is C (PEP 538); the job must not see it.
    """
    environment = dict(os.environb)
    if b"LC_CTYPE" in environment and not _was_given("LC_CTYPE"):
        del environment[b"LC_CTYPE"]
    environment[ACTIVE_VARIABLE.encode()] = _active_mark(identity).encode()
    return environment


def _was_given(name: str) -> bool:
    try:
        with open("/proc/self/environ", "rb", buffering=0) as file:
            given = file.read()
    except OSError:
        return True
    return any(entry.startswith(name.encode() + b"=") for entry in given.split(b"\0"))


def _become(command: list[str], environment: dict[bytes, bytes]) -> None:
    """Exec the command; where that fails say why and exit as a shell would: 127 not found, 126 not executable."""
    for number in _PYTHON_IGNORES:
        _signal.signal(number, _signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError as error:
        status, why = NOT_FOUND, error.strerror
    except (OSError, ValueError) as error:
        status, why = NOT_EXECUTABLE, getattr(error, "strerror", None) or str(error)
    if status == NOT_FOUND and os.path.isfile(command[0]) and "/" in command[0]:
        why = f"the interpreter that its first line names does not exist ({why})"
        status = NOT_EXECUTABLE
    _say(f"{command[0]}: {why}")
    os._exit(status)


def _say(text: str) -> None:
    try:
        os.write(2, f"torc-step: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody reads stderr: the job matters more


class Wrapper:
    """One task's wrapper, from fork to death."""

    def __init__(self, options: Options, identity: StepIdentity) -> None:
        self._options = options
        self._identity = identity
        self._received_mask: set[int] = set()
        self._received_sigchld = _signal.getsignal(_signal.SIGCHLD)
        self._socket: _socket.socket | None = None
        self._reports: sentinel.SignalReports | None = None
        self._begin = link.Begin()
        self._begin_monotonic = 0.0
        self._monitor_pid = 0
        self._monitor_end = ""
        self._orphans_cpu_seconds = 0.0
        self._exit: link.Exit | None = None
        self._last_connect_try = 0.0
        self._deadline = 0.0

    # --- start ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Fork the job first: it is what everybody waits for; then the monitor or, in its stead, a bare sentinel."""
        gc.disable()  # nothing here makes cycles, and a collection would copy pages that the forks share
        self._received_mask = set(_signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals()))
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # an ignored SIGCHLD would reap the job unseen
        kernel.adopt_orphans()
        self._fork_job()
        self._let_the_job_have_its_files()
        pipe_read, pipe_write = os.pipe()
        if self._identity.starts_the_monitor:
            self._fork_monitor(pipe_read, pipe_write)
        else:
            self._begin.helper_pid = sentinel.start_bare_sentinel(pipe_write)
            self._try_to_connect()
        os.close(pipe_write)
        self._reports = sentinel.SignalReports(pipe_read)

    def _fork_job(self) -> None:
        environment = _job_environment(self._identity)
        begin, me = self._begin, os.getpid()
        begin.wrapper_pid, begin.helper_pid = me, 0
        begin.task, begin.local_task = self._identity.task, self._identity.local_task
        begin.begin_time, self._begin_monotonic = time.time(), time.monotonic()
        begin.job_pid = os.fork()
        if begin.job_pid == 0:
            self._be_the_job(me, environment)
        begin.wrapper_rss_bytes = kernel.resident_bytes()
        begin.wrapper_cpu_seconds = time.process_time()
        (
            begin.own_storage_read_bytes,
            begin.own_storage_written_bytes,
            begin.own_read_chars,
            begin.own_written_chars,
        ) = kernel.own_io()

    def _be_the_job(self, wrapper_pid: int, environment: dict[bytes, bytes]) -> None:
        try:
            kernel.die_with_parent(_signal.SIGKILL)  # a SIGKILL for the wrapper is one for the job
            if os.getppid() == wrapper_pid:
                kernel.raise_oom_score(OOM_SCORE_RAISE)
                _signal.signal(_signal.SIGCHLD, self._received_sigchld)
                _signal.pthread_sigmask(_signal.SIG_SETMASK, self._received_mask)
                _become(self._options.command, environment)
        finally:
            os._exit(NOT_EXECUTABLE)

    def _let_the_job_have_its_files(self) -> None:
        kernel.let_go_of_files(keep=(2,))

    def _fork_monitor(self, pipe_read: int, pipe_write: int) -> None:
        ours, theirs = link.pair()
        self._monitor_pid = self._fork_or_say("sampler")
        if self._monitor_pid == 0:
            os.close(pipe_read)
            ours.close()
            self._be_the_monitor(theirs, pipe_write)
        theirs.close()
        ours.settimeout(END_WAIT_SECONDS)
        self._socket = ours
        link.send(ours, link.encode(self._begin))

    def _fork_or_say(self, what: str) -> int:
        try:
            return os.fork()
        except OSError as error:  # a limit on processes: the job goes before its watcher
            _say(f"the {what} could not be started ({error.strerror}); this task is not measured")
            return -1

    def _be_the_monitor(self, socket: _socket.socket, pipe: int) -> None:
        try:
            wake_read, wake_write = os.pipe()
            os.set_blocking(wake_write, False)
            sentinel.report_signals(pipe, wake_write)
            kernel.let_go_of_files(keep=(pipe, socket.fileno(), wake_read, wake_write))
            from torc_slurm.step.monitor import run_monitor

            run_monitor(self._options, self._identity, socket, wake_read)
        except BaseException as error:
            link.send(socket, f"say the sampler failed ({type(error).__name__}: {error})".encode())
        finally:
            os._exit(0)

    def _try_to_connect(self) -> None:
        """Register with the step's monitor, which another task of the node starts; retried while the job runs."""
        self._last_connect_try = time.monotonic()
        path = link.meeting_place(self._identity.step_key)
        self._socket = None if path is None else link.connect(path)
        if self._socket is not None:
            self._socket.settimeout(END_WAIT_SECONDS)
            link.send(self._socket, link.encode(self._begin))

    # --- while the job runs --------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Pass signals on and reap until the job has ended."""
        everything = _signal.valid_signals()
        while self._exit is None:
            if self._wants_to_connect():
                signal = _signal.sigtimedwait(everything, CONNECT_RETRY_SECONDS)
                self._try_to_connect()
            else:
                signal = _signal.sigwaitinfo(everything)
            if signal is not None and signal.si_signo != _signal.SIGCHLD:
                self._pass_on(signal)
            self._reap()

    def _wants_to_connect(self) -> bool:
        return (
            self._socket is None
            and not self._identity.starts_the_monitor
            and time.monotonic() - self._begin_monotonic < CONNECT_GIVE_UP_SECONDS
        )

    def _pass_on(self, signal: _signal.struct_siginfo) -> None:
        if self._job_got_it_too(signal):
            return
        try:
            os.kill(self._begin.job_pid, signal.si_signo)
        except OSError:
            pass  # it ended just now, or runs as another user

    def _job_got_it_too(self, signal: _signal.struct_siginfo) -> bool:
        if signal.si_code > 0:
            return True  # from the kernel: the terminal signals its whole foreground group
        if self._reports is not None and self._reports.sentinel_got(signal.si_signo):
            return True
        sentinel_lives = self._reports is not None and self._reports.alive
        return not sentinel_lives and signal.si_pid == os.getppid() and _slurm_signals_every_process()

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self._stop_as_the_job(pid, os.WSTOPSIG(status))
            elif pid == self._begin.job_pid:
                self._note_exit(status, usage)
            elif pid == self._monitor_pid:
                self._monitor_pid = -1
                self._monitor_end = _how_it_ended(status)
            elif pid != self._begin.helper_pid:
                self._orphans_cpu_seconds += usage.ru_utime + usage.ru_stime

    def _stop_as_the_job(self, pid: int, number: int) -> None:
        """A shell that stopped the job with Ctrl-Z must see its own child, the wrapper, stop."""
        if pid == self._begin.job_pid:
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {number})
            os.kill(os.getpid(), number)
            _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())

    def _note_exit(self, status: int, usage: resource.struct_rusage) -> None:
        end = self._exit = link.Exit()
        end.task, end.job_pid = self._begin.task, self._begin.job_pid
        end.begin_time = self._begin.begin_time
        end.elapsed_seconds = time.monotonic() - self._begin_monotonic
        end.end_time = end.begin_time + end.elapsed_seconds
        end.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        end.return_code = 128 + end.signal if end.signal else os.WEXITSTATUS(status)
        end.user_cpu_seconds, end.system_cpu_seconds = usage.ru_utime, usage.ru_stime
        end.max_rss_bytes = usage.ru_maxrss * 1024
        end.major_faults = usage.ru_majflt

    # --- the end -------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Have the record written, by the monitor or without it; never longer than END_WAIT_SECONDS."""
        assert self._exit is not None
        self._exit.orphans_cpu_seconds = self._orphans_cpu_seconds
        self._exit.wrapper_cpu_seconds = time.process_time()
        self._deadline = time.monotonic() + END_WAIT_SECONDS
        if self._socket is None and not self._identity.starts_the_monitor:
            self._try_to_connect()
        answer = self._tell_the_monitor()
        if answer == b"gone":
            if self._monitor_end:
                _say(f"the sampler {self._monitor_end}; what it had not yet written is lost, the exit is recorded")
            self._record_without_monitor()
        elif answer == b"late":
            _say(f"its record was not written within {END_WAIT_SECONDS:g} s (is the file system hung?)")
        self._end_helpers()

    def _tell_the_monitor(self) -> bytes:
        """``done`` or ``go`` as it answers; ``gone``: there is none; ``late``: it does not answer."""
        assert self._exit is not None
        if self._socket is None or not link.send(self._socket, link.encode(self._exit)):
            return b"gone"
        while True:
            try:
                self._socket.settimeout(max(0.01, self._deadline - time.monotonic()))
                answer = link.receive(self._socket)
            except (TimeoutError, OSError):
                return b"late"
            if answer in (b"", b"go", b"done"):
                return answer or b"gone"
            if answer.startswith(b"say "):
                _say(answer[4:].decode("utf-8", "replace"))

    def _record_without_monitor(self) -> None:
        """The monitor is dead, or was never met: another process writes the exit record (it too might hang)."""
        ours, theirs = link.pair()
        self._monitor_pid = self._fork_or_say("recorder")
        if self._monitor_pid == 0:
            self._be_the_recorder(theirs)
        theirs.close()
        self._socket = ours
        if self._monitor_pid > 0 and self._tell_the_monitor() == b"late":
            _say("its exit record could not be written in time")

    def _be_the_recorder(self, socket: _socket.socket) -> None:
        try:
            kernel.let_go_of_files(keep=(socket.fileno(),))
            from torc_slurm.step.monitor import record_exit_alone

            record_exit_alone(self._options, self._identity, socket, self._begin, self._monitor_end)
        except BaseException as error:
            link.send(socket, f"say the exit record is lost ({type(error).__name__}: {error})".encode())
        finally:
            link.send(socket, b"done")
            os._exit(0)

    def _end_helpers(self) -> None:
        late = time.monotonic() >= self._deadline
        if self._begin.helper_pid:
            self._kill(self._begin.helper_pid)
        if late and self._monitor_pid > 0:
            self._kill(self._monitor_pid)

    def _kill(self, pid: int) -> None:
        try:
            os.kill(pid, _signal.SIGKILL)
        except OSError:
            pass

    def die(self) -> int:
        """End as the job did: the same exit code, or of the same signal, without a core file of our own."""
        assert self._exit is not None
        if self._exit.signal:
            kernel.forbid_core_dumps()
            _signal.signal(self._exit.signal, _signal.SIG_DFL) if self._exit.signal not in (9, 19) else None
            os.kill(os.getpid(), self._exit.signal)
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {self._exit.signal})
        os._exit(self._exit.return_code)


def _how_it_ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was killed by signal {os.WTERMSIG(status)}"
    return f"ended early with status {os.WEXITSTATUS(status)}"


def _slurm_signals_every_process() -> bool:
    """Without proctrack/cgroup Slurm signals each process of a step; with it, only slurmstepd's children."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return True
    tracks = [line for line in lines if ":freezer:" in line or line.startswith("0::")]
    return not any("/step_" in line for line in tracks)
