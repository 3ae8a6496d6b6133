"""Makes stdin, stdout and stderr usable, whatever the command inherited: closed, non-blocking, or on a full disk."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING

from torc_slurm.common.errors import TorcError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT, _STDERR = 1, 2
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class OutputError(TorcError):
    """stdout cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output cannot be written: {error.strerror or error}; give stdout another place")


def prepare_streams() -> None:
    """Open /dev/null for closed streams, wait where stdout or stderr would block, and never fail because of stderr.

    A job log may be on a full disk or a terminal that is gone: a run must go on without it. Characters that an
    encoding lacks are written as escapes: LC_ALL=C is common in batch jobs. Streams that are not the process's own,
    as in tests, are only given this encoding.
    """
    _open_closed()
    for number, name in ((_STDOUT, "stdout"), (_STDERR, "stderr")):
        stream = getattr(sys, name)
        if stream is None or (stream is getattr(sys, f"__{name}__") and _is_own(stream, number)):
            encoding = getattr(stream, "encoding", None)
            stream = io.TextIOWrapper(
                io.BufferedWriter(_Output(number)),
                encoding=encoding,
                errors="backslashreplace",
                line_buffering=number == _STDERR or os.isatty(number),
            )
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_stdout() -> None:
    """Send what is left in stdout's buffer nowhere: Python writes it at its end, and would report an error."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _STDOUT)
    os.close(null)


def has_no_room(error: OSError) -> bool:
    """Whether a write failed that names no file: one to stdout, by the code that prints help."""
    return error.filename is None and error.errno in _NO_ROOM


def _open_closed() -> None:
    """Otherwise the next file that is opened, a database for example, gets the number and what is printed."""
    for number in (0, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one


def _is_own(stream: object, number: int) -> bool:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # with PYTHONUNBUFFERED there is no buffer
    return isinstance(raw, io.FileIO) and not isinstance(raw, _Output) and raw.fileno() == number


class _Output(io.FileIO):
    """stdout or stderr of this process."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of it, as soon as there is room; what stderr does not take is lost."""
        try:
            while (count := super().write(data)) is None:  # non-blocking, and full
                poll = select.poll()
                poll.register(self.fileno(), select.POLLOUT)
                poll.poll()
        except OSError:
            if self.fileno() == _STDERR:
                return len(memoryview(data))
            raise
        return count
