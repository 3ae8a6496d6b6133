"""The fork server of ``torc run`` outside Slurm: forks wrappers that have their modules, instead of starting Pythons.

runner -> server   one message for each job: the launcher's path, or a word without a slash; with three descriptors:
                   the job's channel, its stdout, its stderr
runner -> wrapper  through the channel: the request (see `_take_over`), then ``go``
wrapper -> runner  through the channel: ``ready PID``; or ``no PID`` if it cannot be prepared, and it exits

A wrapper is a child of the runner, not of the server (clone(2), CLONE_PARENT): the runner waits for it and signals it
like one that it started by exec, and a wrapper does not need the server once it is forked. It starts its job only after
``go``. A runner that gets no answer closes the channel and starts the job by exec, so no job starts twice.
"""

from __future__ import annotations

import _socket
import gc
import os
import sys

from torc_slurm.common.errors import InputError
from torc_slurm.common.process_name import set_command_line, set_process_name
from torc_slurm.step import shared_writer
from torc_slurm.step.cgroup import load_mounts
from torc_slurm.step.job import receive_environment, received_signals, start_jobs_with
from torc_slurm.step.spawned_job import Spawner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from torc_slurm.step.job import Job, Received

PROCESS_NAME = "torc-forkserver"
READY, REFUSED, GO = b"ready", b"no", b"go"
_MOST_REQUEST_BYTES = 1 << 20
_MOST_PATH_BYTES = 4096
_NUMBER_BYTES = 4  # of a descriptor in a message
_CLONE_PARENT = 0x8000
_CLONE = {"x86_64": 56, "aarch64": 220}  # the number of the system call


def serve() -> None:
    """Fork a wrapper for each message on stdin, a socket. Returns only in the wrappers, as if each had just started.

    Raises:
        InputError: stdin is not a socket.
    """
    if os.uname().machine not in _CLONE or sys.maxsize < 1 << 32 or len(os.listdir("/proc/self/task")) > 1:
        os._exit(0)  # not known here; or a library has started a thread, and a fork would lack it
    try:
        connection = _socket.socket(fileno=os.dup(0))
    except OSError as error:
        raise InputError(
            f"--fork-server is for the runner of torc: stdin is not a socket ({error.strerror})"
        ) from error
    _open_null_as_stdin()
    _load()
    connection.send(READY)
    set_process_name(PROCESS_NAME)
    set_command_line([PROCESS_NAME])
    approved: dict[str, bool] = {}
    while True:
        launcher, descriptors = _receive(connection)
        if launcher not in approved:
            approved[launcher] = "/" in launcher and Spawner(launcher, received_signals()).can_start_jobs()
        if _fork_or_refuse(descriptors[0]) == 0:
            connection.close()
            if approved[launcher]:
                start_jobs_with(_spawn_with(launcher))
            _take_over(*descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _open_null_as_stdin() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)


def _load() -> None:
    """Import what a wrapper, its monitor and their writers need for a short job."""
    import pwd  # noqa: F401

    import torc_slurm.database.node_file
    import torc_slurm.step.monitor
    import torc_slurm.step.wrapper  # noqa: F401

    load_mounts()
    try:
        shared_writer.start()
    except OSError:
        pass  # a limit on processes: each monitor starts a writer
    gc.collect()
    gc.freeze()  # a collection in a wrapper would copy all pages that it shares with this process


def _spawn_with(launcher: str) -> Callable[[list[str], dict[bytes, bytes], Received], Job]:
    return lambda command, environment, received: Spawner(launcher, received).start(command, environment)


def _receive(connection: _socket.socket) -> tuple[str, list[int]]:
    """The launcher and the descriptors of the next job. Ends this process when the runner has ended."""
    size = 3 * _NUMBER_BYTES
    text, found, _, _ = connection.recvmsg(_MOST_PATH_BYTES, _socket.CMSG_SPACE(size), _socket.MSG_CMSG_CLOEXEC)
    numbers = found[0][2] if found else b""
    if len(numbers) != size:  # at the runner's end; or this process may not open so many files
        os._exit(0)
    places = range(0, size, _NUMBER_BYTES)
    descriptors = [int.from_bytes(numbers[place : place + _NUMBER_BYTES], sys.byteorder) for place in places]
    return os.fsdecode(text), descriptors


def _fork_or_refuse(channel: int) -> int:
    try:
        return _fork_for_parent()
    except OSError:  # a limit on processes
        try:
            os.write(channel, REFUSED + b" 0")
        except OSError:
            pass  # the runner waits no longer
        return -1


def _fork_for_parent() -> int:
    """``os.fork``, but the new process is a child of this process's parent.

    Raises:
        OSError: no further process can start.
    """
    import ctypes

    python = ctypes.PyDLL(None, use_errno=True)
    words = (_CLONE[os.uname().machine], _CLONE_PARENT, 0, 0, 0, 0)
    python.PyOS_BeforeFork()
    pid = int(python.syscall(*map(ctypes.c_long, words)))
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno()
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, os.strerror(error))
    return pid


def _take_over(channel: int, stdout: int, stderr: int) -> None:
    """Become the torc-step of a request. Ends this process unless the runner says that it may start the job.

    A request is one message of texts, each followed by NUL: the working directory, the number of torc-step's words,
    these words, the variables.
    """
    may_go = False
    try:
        os.setsid()
        if os.getsid(0) == os.getpid():  # glibc before 2.25 remembers the server's number
            may_go = _prepare(channel, stdout, stderr) and os.read(channel, 64) == GO
    finally:
        if not may_go:
            os._exit(1)
    for descriptor in (channel, stdout, stderr):
        os.close(descriptor)


def _prepare(channel: int, stdout: int, stderr: int) -> bool:
    answer = REFUSED
    try:
        directory, count, *texts = os.read(channel, _MOST_REQUEST_BYTES).split(b"\0")[:-1]
        os.chdir(directory)
        _open_null_as_stdin()
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        sys.argv[1:] = map(os.fsdecode, texts[: int(count)])
        receive_environment(texts[int(count) :])
        answer = READY
    finally:
        os.write(channel, b"%s %d" % (answer, os.getpid()))
    return True
