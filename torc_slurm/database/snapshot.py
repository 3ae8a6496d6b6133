"""Makes a private copy of a SQLite file that another host may be writing; SQLite never opens the original.

A SQLite reader of the original would find the writer's journal "hot" (locks are not visible across hosts), roll it back
and so destroy the writer's transaction. So both files are copied as bytes, and only the copy is rolled back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator

from torc_slurm.common.errors import DatabaseError, NodeFileBusy

JOURNAL_SUFFIX = "-journal"
_CHANGE_COUNTER = slice(24, 28)  # https://www.sqlite.org/fileformat.html: every transaction increments it
_ATTEMPTS = 5
_PAUSE_SECONDS = 0.05


def fingerprint(path: str) -> str:
    """The state of a SQLite file and its journal: sizes, modification times and the file's change counter.

    Opening first makes NFS fetch the attributes again. The counter separates two writes within one clock tick.

    Raises:
        OSError: there is no such file, or it cannot be read.
        DatabaseError: it is not a regular file.
    """
    return f"{_condition(path)}+{_journal_condition(path)}"


def has_open_transaction(path: str) -> bool:
    """Whether the file's journal has content: a transaction is open, or was interrupted.

    Raises:
        OSError, DatabaseError: as ``fingerprint``.
    """
    return not _journal_condition(path).startswith(("no journal", "0:"))


@contextlib.contextmanager
def snapshot(path: str, directory: str | None = None) -> Iterator[tuple[str, str]]:
    """Copy the file and its journal to a private local directory, removed at the end.

    Yields:
        The copy's path and the fingerprint of the original at that time.

    Raises:
        NodeFileBusy: it changed during each of a few attempts.
        OSError, DatabaseError: as ``fingerprint``; also if the local disk is full.
    """
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = stack.enter_context(private_directory())
        else:
            stack.callback(_empty, directory)
        copy = os.path.join(directory, "copy.db")
        yield copy, _copy_unchanged(path, copy)


def private_directory() -> tempfile.TemporaryDirectory[str]:
    """A directory for copies, which is removed at the end: one for many of them, because to remove one costs much."""
    return tempfile.TemporaryDirectory(prefix="torc-collect-")


def _empty(directory: str) -> None:
    for entry in list(os.scandir(directory)):
        os.unlink(entry)


def _copy_unchanged(path: str, copy: str) -> str:
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_SECONDS * 2**attempt)
        before = fingerprint(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy + JOURNAL_SUFFIX)
        _copy(path, copy)
        with contextlib.suppress(FileNotFoundError):  # no transaction is open
            _copy(path + JOURNAL_SUFFIX, copy + JOURNAL_SUFFIX)
        if fingerprint(path) == before:
            return before
    raise NodeFileBusy(f"{path} is being written; collect again later")


def _copy(source: str, target: str) -> None:
    with open(_open_regular(source), "rb") as reader, open(target, "wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)


def _condition(path: str) -> str:
    with open(_open_regular(path), "rb") as file:
        status = os.fstat(file.fileno())
        counter = file.read(100)[_CHANGE_COUNTER].hex()
    return f"{status.st_size}:{status.st_mtime_ns}:{counter}"


def _journal_condition(path: str) -> str:
    try:
        with open(_open_regular(path + JOURNAL_SUFFIX), "rb") as file:
            status = os.fstat(file.fileno())
    except FileNotFoundError:
        return "no journal"
    return f"{status.st_size}:{status.st_mtime_ns}"


def _open_regular(path: str) -> int:
    """A descriptor for reading; never waits, as opening a FIFO would."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise DatabaseError(f"{path} is not a regular file")
