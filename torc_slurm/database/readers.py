"""Reads many node files in a second process, while this one stores what was read.

The reader is a fork that sends what it read through a pipe. It waits while the pipe is full, so the files of a large
collect are never all in memory; and it ends when nobody reads the pipe any more. One reader reads faster than one
process can store; more of them take time from each other and from that process.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import tempfile
from collections.abc import Generator, Iterator, Sequence
from typing import BinaryIO

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.node_records import NodeRecords, read_node_file
from torc_slurm.database.packed_records import pack, unpack
from torc_slurm.database.snapshot import private_directory

_HEADER = struct.Struct("<?Q")  # of a message: whether it is an error, and its size
_WORTH_A_READER = 16  # files: fewer are read before a process has begun

Read = NodeRecords | OSError | DatabaseError


def read_node_files(paths: Sequence[str]) -> Generator[Read]:
    """What `read_node_file` returns or raises for each of these paths, in their order."""
    with private_directory() as directory, contextlib.ExitStack() as stack:
        here = tempfile.mkdtemp(dir=directory)
        pipe = stack.enter_context(_reader(paths, directory)) if len(paths) >= _WORTH_A_READER else None
        for path in paths:
            yield _read(path, here) if pipe is None else _next(pipe, path, here)


def _read(path: str, directory: str) -> Read:
    try:
        return read_node_file(path, directory)
    except (OSError, DatabaseError) as error:
        return error


def _next(pipe: BinaryIO, path: str, directory: str) -> Read:
    """What its reader sends, or what is read here if the reader was killed."""
    header = pipe.read(_HEADER.size)
    if len(header) == _HEADER.size:
        is_error, size = _HEADER.unpack(header)
        data = pipe.read(size)
        if len(data) == size:
            return pickle.loads(data) if is_error else unpack(data)  # noqa: S301 - from a fork of this process
    return _read(path, directory)


@contextlib.contextmanager
def _reader(paths: Sequence[str], directory: str) -> Iterator[BinaryIO]:
    own = tempfile.mkdtemp(dir=directory)
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        _send(paths, own, reading, writing)
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            yield pipe
    finally:
        with contextlib.suppress(ChildProcessError):  # its caller waits for all children
            os.waitpid(pid, 0)


def _send(paths: Sequence[str], directory: str, reading: int, writing: int) -> None:
    """The life of a reader process; never returns. Nothing that it has from its parent may be closed or written."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.close(reading)
        with open(writing, "wb") as pipe:
            for path in paths:
                found = _read(path, directory)
                data = pack(found) if isinstance(found, NodeRecords) else pickle.dumps(found)
                pipe.write(_HEADER.pack(not isinstance(found, NodeRecords), len(data)))
                pipe.write(data)
                pipe.flush()
    finally:
        os._exit(0)
