"""Starts the job. Only what must happen before COMMAND runs is here, because everybody waits for it.

Signals are blocked from here on, and the wrapper takes them one by one. The job gets back the signal mask and the
dispositions that this process was started with. ``_signal`` replaces ``signal``, which imports enum: 6 ms.
"""

from __future__ import annotations

import errno
import gc
import os
import time

from torc_slurm.common.identity import ACTIVE_VARIABLE
from torc_slurm.step import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterable
    from typing import Any

    from torc_slurm.common.identity import StepIdentity
else:
    import _signal

OOM_SCORE_RAISE = 100
_STDERR_WAIT_MILLISECONDS = 200
_PIPE_BYTES = 4096  # PIPE_BUF: a write of this size does not block if poll reports room
ASIDE = b"TORC_ASIDE_"  # the same prefix as in launcher/torc_step.c
_ONLY_FOR_JOBS = (b"LD_", b"PYTHON", b"MALLOC_", b"GLIBC_TUNABLES", b"GCONV_PATH", b"LOCPATH")
NOT_FOUND, NOT_EXECUTABLE = 127, 126
_PYTHON_IGNORES = (_signal.SIGPIPE, _signal.SIGXFSZ)


class Job:
    """The started job: its pid, and when it began (Unix seconds; monotonic seconds).

    ``is_spawned``: until its exec it shared this process's memory, and was no copy of it.
    """

    __slots__ = ("begin_monotonic", "begin_time", "is_spawned", "pid")

    def __init__(self, pid: int, begin_time: float, begin_monotonic: float, is_spawned: bool = False) -> None:
        self.pid = pid
        self.begin_time = begin_time
        self.begin_monotonic = begin_monotonic
        self.is_spawned = is_spawned


class Received:
    """The signal mask and the SIGCHLD handler that this process was started with."""

    __slots__ = ("mask", "sigchld")

    def __init__(self, mask: set[int], sigchld: Any) -> None:  # noqa: ANN401 - as `signal.getsignal` has it
        self.mask = mask
        self.sigchld = sigchld


def start_job(command: list[str], identity: StepIdentity) -> Job:
    """Fork the job. When this returns, this process has blocked all signals and adopts orphans.

    If no further process can start, this process becomes the job, unmeasured, and does not return.

    Raises:
        OSError: the job could not be prepared; nothing has changed.
    """
    environment = given_environment() | {ACTIVE_VARIABLE.encode(): os.fsencode(identity.active_mark)}
    received = take_signals()
    if _spawn is not None:
        try:
            return _spawn(command, environment, received)
        except OSError:
            pass  # the launcher is gone, or there is a limit on processes
    try:
        return fork_job(command, environment, received)
    except OSError as error:
        say(f"no other process could be started ({error.strerror}); the command runs unmeasured")
    kernel.adopt_orphans(False)
    try:
        _become_as_received(command, environment, received)
    finally:
        os._exit(NOT_EXECUTABLE)


_spawn: Callable[[list[str], dict[bytes, bytes], Received], Job] | None = None


def start_jobs_with(spawn: Callable[[list[str], dict[bytes, bytes], Received], Job]) -> None:
    """Let `start_job` use this instead of a fork."""
    global _spawn
    _spawn = spawn


def take_signals() -> Received:
    """Block all signals and adopt orphans; returns what each job gets back."""
    gc.disable()  # nothing here makes cycles, and a collection would copy pages that the forks share
    received = received_signals(_signal.valid_signals())
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # an ignored SIGCHLD would reap the job unseen
    kernel.adopt_orphans()
    return received


def received_signals(block: Iterable[int] = ()) -> Received:
    """What this process was started with; and block these signals."""
    return Received(set(_signal.pthread_sigmask(_signal.SIG_BLOCK, block)), _signal.getsignal(_signal.SIGCHLD))


def fork_job(command: list[str], environment: dict[bytes, bytes], received: Received) -> Job:
    """Fork a job, after `take_signals`.

    Raises:
        OSError: no other process could be started.
    """
    wrapper_pid, begin_time, begin_monotonic = os.getpid(), time.time(), time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            kernel.die_with_parent(_signal.SIGKILL)  # if the wrapper is killed by SIGKILL, so is the job
            kernel.raise_oom_score(OOM_SCORE_RAISE)
            if wrapper_pid == os.getppid():
                _become_as_received(command, environment, received)
        finally:
            os._exit(NOT_EXECUTABLE)
    return Job(pid, begin_time, begin_monotonic)


def _become_as_received(command: list[str], environment: dict[bytes, bytes], received: Received) -> None:
    _signal.signal(_signal.SIGCHLD, received.sigchld)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, received.mask)
    become(command, environment)


def wait_only(job: Job) -> tuple[int, int]:
    """Wait for the job, without a monitor: the signal that killed it (0: none), and its exit code."""
    try:
        _, status = os.waitpid(job.pid, 0)
    except ChildProcessError:
        say("the command's exit status is lost: torc-step exits with 1")
        return 0, 1
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return number, 128 + number if number else os.WEXITSTATUS(status)


def is_measured_already(identity: StepIdentity) -> bool:
    """Whether an outer torc-step already measures this step: its tree includes this process."""
    return os.environ.get(ACTIVE_VARIABLE) == identity.active_mark


def set_aside(environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The environment with the variables renamed that a Python would obey, as the launcher does."""
    return {ASIDE + name if name.startswith(_ONLY_FOR_JOBS) else name: value for name, value in environment.items()}


_received_environment: dict[bytes, bytes] = {}


def receive_environment(variables: list[bytes]) -> None:
    """Take these ``NAME=VALUE`` as what this process was started with: it is a fork of the fork server."""
    for variable in variables:
        name, _, value = variable.partition(b"=")
        _received_environment[name] = value
    wanted = set_aside(_received_environment)
    for name in os.environb.keys() - wanted.keys():
        del os.environb[name]
    for name, value in wanted.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def given_environment() -> dict[bytes, bytes]:
    """The environment that torc-step was started with.

    The launcher renames variables that a Python would obey. Python itself sets LC_CTYPE in the C locale (PEP 538).
    """
    if _received_environment:
        return dict(_received_environment)
    environment = {name[len(ASIDE) :] if name.startswith(ASIDE) else name: value for name, value in os.environb.items()}
    if b"LC_CTYPE" in environment:
        try:
            with open("/proc/self/environ", "rb", buffering=0) as file:
                given = file.read().split(b"\0")
        except OSError:
            return environment
        values = [entry[len(b"LC_CTYPE=") :] for entry in given if entry.startswith(b"LC_CTYPE=")]
        if values:
            environment[b"LC_CTYPE"] = values[0]
        else:
            del environment[b"LC_CTYPE"]
    return environment


def become(command: list[str], environment: dict[bytes, bytes]) -> None:
    """Exec the command. If that fails, print why and exit as a shell would: 127 not found, 126 not executable."""
    for number in _PYTHON_IGNORES:
        _signal.signal(number, _signal.SIG_DFL)
    try:
        _exec(command, environment)
    except FileNotFoundError as error:
        status, why = NOT_FOUND, error.strerror if "/" in command[0] else "not found on PATH"
    except (OSError, ValueError) as error:
        status, why = NOT_EXECUTABLE, getattr(error, "strerror", None) or str(error)
    if status == NOT_EXECUTABLE and "/" not in command[0] and not _stands_on_path(command[0], environment):
        status, why = NOT_FOUND, "not found on PATH"
    if status == NOT_FOUND and os.path.isfile(command[0]) and "/" in command[0]:
        why = f"the interpreter that its first line names does not exist ({why})"
        status = NOT_EXECUTABLE
    say(f"{command[0]}: {why}")
    os._exit(status)


def _exec(command: list[str], environment: dict[bytes, bytes]) -> None:
    """As ``os.execvpe``, which imports ``warnings`` in each job's process: 0.6 ms.

    Raises:
        OSError: that no file on PATH was found, or why the first that was found cannot run.
    """
    if "/" in command[0]:
        os.execve(command[0], command, environment)
    failed: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for place in environment.get(b"PATH", os.defpath.encode()).split(b":") if command[0] else []:
        try:
            os.execve(os.path.join(place, os.fsencode(command[0])), command, environment)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            failed = failed if not isinstance(failed, FileNotFoundError) else error
    raise failed


def _stands_on_path(name: str, environment: dict[bytes, bytes]) -> bool:
    """Whether a directory of PATH has it. A directory that may not be searched is skipped, as in a shell."""
    path = os.fsdecode(environment.get(b"PATH", os.defpath.encode()))
    return any(os.path.isfile(os.path.join(place, name)) for place in path.split(os.pathsep))


def die(signal: int, code: int) -> int:
    """End this process as the job ended: by the same signal, without a core file of our own, or with its exit code."""
    if signal:
        kernel.forbid_core_dumps()
        try:
            _signal.signal(signal, _signal.SIG_DFL)
        except (OSError, ValueError):
            pass  # SIGKILL, and the two that glibc reserves (32, 33): they are never handled or blocked
        os.kill(os.getpid(), signal)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {signal})
    os._exit(code)


def say(text: str) -> None:
    """Print one line on stderr, unless that would block: a full or closed pipe must not delay the job."""
    import select  # rarely needed

    try:
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        if poll.poll(_STDERR_WAIT_MILLISECONDS):
            os.write(2, f"torc-step: {text}".encode("utf-8", "backslashreplace")[: _PIPE_BYTES - 1] + b"\n")
    except OSError:
        pass
