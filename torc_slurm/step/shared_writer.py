"""One process writes the last batches of all monitors below a fork server, instead of a writer for each: 5 ms less.

monitor -> shared writer   a batch, with the write end of a pipe
shared writer -> monitor   through the pipe: ``written``; nothing if it could not write

What it does not confirm within a second, the monitor's own writer writes again (step/flush.py). So only batches that
may be written twice come here: those without a time series.
"""

from __future__ import annotations

import _socket
import marshal
import os
import select
import sys

from torc_slurm.common.process_name import set_command_line, set_process_name
from torc_slurm.step import kernel
from torc_slurm.step.flush import Flusher
from torc_slurm.step.sentinel import PROCESS_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from torc_slurm.database.batch import Batch
else:
    import _signal

ANSWER_SECONDS = 1.0
_LOCK_WAIT_SECONDS = 0.5
_MOST_BYTES = 32768
_MOST_AT_ONCE = 64
_NUMBER_BYTES = 4  # of a descriptor in a message
_WRITTEN = b"written"

_sockets: list[_socket.socket] = []  # to the shared writer, if this process is a fork of its server


def start() -> None:
    """Start the shared writer of the processes that this one forks. It dies with this process.

    Raises:
        OSError: there is a limit on processes or files.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    parent = os.getpid()
    if os.fork() == 0:
        try:
            kernel.die_with_parent(_signal.SIGKILL)
            kernel.close_inherited_files(keep=(theirs.fileno(),))
            kernel.keep_files_usable()
            set_process_name(PROCESS_NAME)
            set_command_line([PROCESS_NAME])
            while os.getppid() == parent:
                _serve(theirs)
        finally:
            os._exit(0)
    theirs.close()
    kernel.keep_open(ours.fileno())
    _sockets.append(ours)
    Flusher.shared_write = staticmethod(write)


def write(path: str, batch: Batch) -> bool:
    """Whether the shared writer has written a batch (without a time series) into the node file; False without one."""
    if not _sockets:
        return False
    try:
        text = marshal.dumps(
            (path, batch.step, batch.usage, batch.usage_at_exit, batch.monitor, batch.exits, batch.notes)
        )
        pipe_read, pipe_write = os.pipe()
    except (OSError, ValueError):
        return False
    try:
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pipe_write.to_bytes(_NUMBER_BYTES, sys.byteorder))
        flags = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL
        is_sent = len(text) <= _MOST_BYTES and _sockets[0].sendmsg([text], [rights], flags) == len(text)
    except OSError:  # it was killed, or its queue is full
        is_sent = False
    finally:
        os.close(pipe_write)
    try:
        poll = select.poll()
        poll.register(pipe_read, select.POLLIN)
        return is_sent and bool(poll.poll(ANSWER_SECONDS * 1000)) and os.read(pipe_read, 64) == _WRITTEN
    finally:
        os.close(pipe_read)


def _serve(socket: _socket.socket) -> None:
    """Write what has arrived, in one transaction for each file."""
    waiting = _receive(socket, 0)
    while len(waiting) < _MOST_AT_ONCE and (more := _receive(socket, _socket.MSG_DONTWAIT)):
        waiting += more
    for path in {path for path, _, _ in waiting}:
        of_this_file = [(batch, pipe) for each, batch, pipe in waiting if each == path]
        is_written = _is_written(path, tuple(batch for batch, _ in of_this_file))
        for _, pipe in of_this_file:
            if is_written:
                _tell(pipe)
            os.close(pipe)


def _receive(socket: _socket.socket, flags: int) -> list[tuple[str, Batch, int]]:
    """The next path, batch and pipe; nothing if there is none."""
    from torc_slurm.database.batch import Batch

    try:
        text, found, _, _ = socket.recvmsg(_MOST_BYTES, _socket.CMSG_SPACE(_NUMBER_BYTES), flags)
    except BlockingIOError:
        return []
    if not text:
        os._exit(0)  # the server and all its forks have ended
    if not found or len(found[0][2]) != _NUMBER_BYTES:
        return []
    path, step, usage, usage_at_exit, monitor, exits, notes = marshal.loads(text)  # noqa: S302 - from our own forks
    batch = Batch(step)
    batch.usage, batch.usage_at_exit, batch.monitor, batch.exits, batch.notes = (
        usage,
        usage_at_exit,
        monitor,
        exits,
        notes,
    )
    return [(path, batch, int.from_bytes(found[0][2], sys.byteorder))]


def _is_written(path: str, batches: tuple[Batch, ...]) -> bool:
    from torc_slurm.database.node_file import write_batches

    try:
        write_batches(path, batches, _LOCK_WAIT_SECONDS)
    except Exception:  # each monitor's own writer says why
        return False
    return True


def _tell(pipe: int) -> None:
    try:
        os.write(pipe, _WRITTEN)
    except OSError:
        pass  # the monitor waits no longer
