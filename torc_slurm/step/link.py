"""The messages between wrapper and monitor: short texts over a Unix socket (SOCK_SEQPACKET keeps each one whole).

wrapper -> monitor   ``Begin`` and ``Exit`` with the fields of these classes
monitor -> wrapper   ``say <text>`` to print for the user; ``go``: other tasks still run; ``done``: all is written;
                     ``run <id>``: the run id that was chosen, outside Slurm; ``failed <why>``: its last message;
                     ``welcome`` to a task that connected, or ``taken``: that task of the step has a wrapper already

A wrapper that starts the monitor shares a socket pair with it. The step's other tasks connect to a socket in the
node's private directory, which the first task claims. A connection that closes without ``Exit`` means that the
wrapper was killed.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import time

from torc_slurm.files import node_local

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from socket import socket as public_socket

_PLACE = "steps"

_MOST_BYTES = 4096
_MOST_WAITING = 1024
_LARGEST_NUMBER = 2**63
_SWEEP_EVERY_SECONDS, _KEPT_SECONDS = 3600.0, 86400.0
_MOST_PATH_BYTES = 100  # sun_path holds 107


class Begin:
    """A task began: its number in the step and on the node, its processes, and the time (Unix seconds)."""

    FIELDS = (
        "task",
        "local_task",
        "parent_pid",
        "wrapper_pid",
        "helper_pid",
        "recorder_pid",
        "job_pid",
        "wrapper_rss_bytes",
        "wrapper_cpu_seconds",
        "waited_before_seconds",
        "own_storage_read_bytes",
        "own_storage_written_bytes",
        "own_read_chars",
        "own_written_chars",
        "begin_time",
        "begin_monotonic",
    )
    __slots__ = FIELDS
    task: int
    local_task: int
    parent_pid: int  # the wrapper's parent: slurmstepd, in a step
    wrapper_pid: int
    helper_pid: int  # the task's bare sentinel; 0 if the monitor is its sentinel
    recorder_pid: int  # the recorder of the job's group; 0 if it is in none
    job_pid: int
    wrapper_cpu_seconds: float  # so far
    waited_before_seconds: float  # CPU of the children that its launcher waited for
    own_storage_read_bytes: int  # this and the next three: the wrapper's own /proc/self/io before the job started
    own_storage_written_bytes: int
    own_read_chars: int
    own_written_chars: int
    wrapper_rss_bytes: int  # at the fork: the kernel starts the job's ru_maxrss with this value
    begin_time: float
    begin_monotonic: float  # the same moment on the node's monotonic clock, which cannot be set


class Exit:
    """A task ended. The figures are those of ``wait4`` (CPU seconds, ru_maxrss in bytes)."""

    FIELDS = (
        "task",
        "job_pid",
        "begin_time",
        "end_time",
        "elapsed_seconds",
        "return_code",
        "signal",
        "user_cpu_seconds",
        "system_cpu_seconds",
        "max_rss_bytes",
        "major_faults",
        "orphans_cpu_seconds",
        "wrapper_cpu_seconds",
        "run_delay_seconds",
    )
    __slots__ = FIELDS
    task: int
    job_pid: int
    begin_time: float
    end_time: float
    elapsed_seconds: float
    return_code: int  # 128 + signal if a signal killed it
    signal: int  # 0 if it exited
    user_cpu_seconds: float
    system_cpu_seconds: float
    max_rss_bytes: int
    major_faults: int
    orphans_cpu_seconds: float
    wrapper_cpu_seconds: float
    run_delay_seconds: float  # the time that its first thread waited for a CPU; -1: unknown


def encode(message: Begin | Exit) -> bytes:
    words = [type(message).__name__] + [repr(getattr(message, name)) for name in message.FIELDS]
    return " ".join(words).encode()


def decode(text: bytes) -> Begin | Exit | None:
    """The message, or None if the text is neither Begin nor Exit."""
    words = text.decode("ascii", "replace").split()
    message: Begin | Exit = Begin() if words[:1] == ["Begin"] else Exit()
    if words[:1] != [type(message).__name__] or len(words) != len(message.FIELDS) + 1:
        return None
    try:
        for name, word in zip(message.FIELDS, words[1:], strict=True):
            number = float(word) if "." in word or "e" in word else int(word)
            if not -_LARGEST_NUMBER < number < _LARGEST_NUMBER:  # also what is no number, and infinite
                return None
            setattr(message, name, number)
    except ValueError:
        return None
    return message


def pair() -> tuple[_socket.socket, _socket.socket]:
    """One end for the wrapper, one for the monitor."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


def meeting_place(step_key: str) -> str | None:
    """The path of the socket for the step's tasks on this node; None if there is no private directory for it."""
    return next(_meeting_places(step_key), None)


def _meeting_places(step_key: str) -> Iterator[str]:
    """The path of a socket that exists, then all possible paths: the first place may be full."""
    there = [_socket_path(place, step_key) for place in node_local.existing_subdirectories(_PLACE)]
    yield from (path for path in there if os.path.exists(path))
    for place in node_local.subdirectories(_PLACE):
        yield _socket_path(place, step_key)


def _socket_path(place: str, step_key: str) -> str:
    path = os.path.join(place, step_key + ".sock")
    is_short = len(os.fsencode(path)) < _MOST_PATH_BYTES
    return path if is_short else os.path.join(place, f"{node_local.digest(step_key)}.sock")


def claim(step_key: str) -> _socket.socket | None:
    """The socket that the step's monitor must listen on; None if another monitor listens already.

    Replaces the socket of an earlier monitor that was killed. Tasks that arrive at the same time take turns.

    Raises:
        OSError: the socket cannot be made in any place.
    """
    failed = OSError(errno.ENOENT, "no private directory")
    for path in _meeting_places(step_key):
        try:
            return _claim(path)
        except OSError as error:
            failed = error
    raise failed


def _claim(path: str) -> _socket.socket | None:
    lock = os.open(os.path.join(os.path.dirname(path), "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = connect(path)
        if other is not None:
            other.close()
            return None
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        socket.bind(path)
        socket.listen(_MOST_WAITING)
        return socket
    finally:
        os.close(lock)


class Use:
    """One use of torc-step by the tasks of a step: its name in the records, and the tasks that registered so far.

    A file next to the socket keeps it: a later monitor of the same use continues the same record. If a task runs
    torc-step a second time, that is another use.
    """

    def __init__(self, path: str | None, step_key: str) -> None:
        self._path = None if path is None else path + ".tasks"
        self.name = step_key
        self.tasks: set[int] = set()
        for line in self._lines():
            if line.isdigit():
                self.tasks.add(int(line))
            elif line:
                self.name = line

    def _lines(self) -> list[str]:
        try:
            with open(self._path or "", encoding="utf-8", errors="surrogateescape") as file:
                return file.read().split("\n")
        except OSError:
            return []

    def register(self, task: int) -> None:
        """Register the first task of a monitor. If it had registered before, it begins another use."""
        if task in self.tasks:
            self.name = f"{self.name.partition(' ')[0]} {time.time_ns()}"
            self.tasks = set()
        self.tasks.add(task)
        if self._path is None:
            return
        try:
            with open(self._path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write("\n".join([self.name, *map(str, sorted(self.tasks))]))
        except OSError:
            pass  # a full disk: a later monitor will not know this task

    def ended(self) -> None:
        """Restart the time for which the file is kept."""
        try:
            os.utime(self._path or "")
        except OSError:
            pass


def sweep(path: str) -> None:
    """Remove files of other uses that are older than a day. Runs at most once an hour."""
    place = os.path.dirname(path)
    mark, now = os.path.join(place, "swept"), time.time()
    try:
        if os.path.exists(mark) and now - os.stat(mark).st_mtime < _SWEEP_EVERY_SECONDS:
            return
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.utime(mark)
        for name in os.listdir(place):
            if name.endswith(".tasks") and os.stat(os.path.join(place, name)).st_mtime < now - _KEPT_SECONDS:
                os.unlink(os.path.join(place, name))
    except OSError:
        pass  # another sweep runs too


def listening(listener: _socket.socket) -> public_socket:
    """The listener as a socket that can accept. The import costs 2 ms and 0.4 MB, only in steps of several tasks."""
    import socket

    return socket.socket(fileno=listener.detach())


def connect(path: str) -> _socket.socket | None:
    """A wrapper's connection to the step's monitor; None if no monitor listens."""
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        socket.connect(path)
    except OSError:
        socket.close()
        return None
    return socket


def send(socket: _socket.socket, text: bytes) -> bool:
    """Send a message. Returns False if the other end is gone. Blocks only for the socket's time limit; never raises."""
    try:
        socket.send(text[:_MOST_BYTES], _socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


def receive(socket: _socket.socket) -> bytes:
    """One message; empty if the other end is gone.

    Raises:
        TimeoutError: nothing came within the socket's time limit.
    """
    try:
        return socket.recv(_MOST_BYTES)
    except ConnectionResetError:  # the other end closed with unread messages; what it sent before can still be read
        return socket.recv(_MOST_BYTES)
