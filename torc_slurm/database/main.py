"""Opens the main database ``<output_dir>/torc.db``: one writer at a time, migrated, and always readable.

If the output directory cannot be written (a colleague's, a read-only mount), a private copy in memory replaces it, so
that reading commands still work; ``MainDatabase.read_only_reason`` says so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pwd
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from torc_slurm.common.errors import DatabaseError, InputError, UnwritableError
from torc_slurm.database.main_schema import MAIN_SCHEMA
from torc_slurm.database.migrations import migrate, missing_column, schema_version
from torc_slurm.database.snapshot import snapshot
from torc_slurm.database.write_lock import LOCK_SUFFIX, write_lock
from torc_slurm.files.output_names import MAIN_DATABASE_NAME, PLANS_DIR, RESOURCE_DIR
from torc_slurm.files.shared_directory import is_directory, make_shared_directory, refuse_foreign_link
from torc_slurm.files.whole_files import private_mode, remove_abandoned_drafts

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
_BUSY_TIMEOUT_SECONDS = 10.0
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
_OURS = {"results", "schema_migrations"}
_WORDS_OF_DAMAGE = ("decode", "malformed", "no such table", "no such column", "has no column")
_WORDS_OF_A_FULL_DISK = ("is full", "disk I/O error")
_Prepared = TypeVar("_Prepared")


class DiskFullError(DatabaseError):
    """The main database cannot be written because no space is left."""


class MainDatabase(NamedTuple):
    """An open main database; ``read_only_reason`` is None, or why it is a copy in memory."""

    connection: sqlite3.Connection
    output_dir: str
    read_only_reason: str | None = None


def main_database_path(output_dir: str) -> str:
    """The path of an output directory's main database."""
    return os.path.join(output_dir, MAIN_DATABASE_NAME)


@contextlib.contextmanager
def open_main(
    output_dir: str,
    *,
    timeout_seconds: float = 30.0,
    on_wait: Callable[[str], None] = lambda _message: None,
    create_directory: bool = False,
) -> Iterator[MainDatabase]:
    """Open the main database of ``output_dir`` in autocommit mode, locked for this process until the body ends.

    Args:
        timeout_seconds: how long to wait for another writer.
        on_wait: called with one line for the user while it waits.
        create_directory: for commands that write; others refuse a directory that does not exist.

    Raises:
        InputError: there is no such directory.
        LockTimeoutError: another process held the lock too long.
        DatabaseError: it is damaged, or of a newer version.
    """
    if create_directory:
        make_shared_directory(output_dir)
    if not is_directory(output_dir):
        raise _no_directory(output_dir)
    path = main_database_path(output_dir)
    with contextlib.ExitStack() as stack:
        reason = _lock_or_reason(stack, path, timeout_seconds, on_wait)
        if reason is None:
            _make(path)
            remove_abandoned_drafts(output_dir)
            remove_abandoned_drafts(os.path.join(output_dir, PLANS_DIR))
        try:
            connection = _named(path, _connect_copy if reason else _connect)
        except DiskFullError:
            reason = f"{output_dir} cannot be written (no space is left)"
            connection = _named(path, _connect_copy)
        stack.enter_context(closing(connection))
        try:
            yield MainDatabase(connection, output_dir, reason)
        except (sqlite3.Error, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise _unusable(path, error) from error
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            if is_sound(connection):
                raise  # not an error of this file
            raise _unusable(path, error) from error


def _no_directory(output_dir: str) -> InputError:
    if os.path.exists(output_dir):
        return InputError(
            f"{output_dir} is a file, not an output directory; give your jobs' directory with --output-dir"
        )
    message = f"there is no output directory {output_dir}"
    parent = os.path.dirname(output_dir)
    for above in (parent, os.path.dirname(parent)):  # the user is inside an output directory
        if any(os.path.exists(os.path.join(above, name)) for name in (MAIN_DATABASE_NAME, RESOURCE_DIR)):
            return InputError(f"{message}, but {above} is one; give it: --output-dir {_short(above)}")
    return InputError(f"{message}; give your jobs' directory with --output-dir")


def _short(directory: str) -> str:
    """``.`` or ``..`` if it is one of these."""
    for short in (".", ".."):
        with contextlib.suppress(OSError):
            if os.path.samefile(directory, short):
                return short
    return directory


@contextlib.contextmanager
def open_to_write(output_dir: str, *, on_wait: Callable[[str], None] = lambda _message: None) -> Iterator[MainDatabase]:
    """Like `open_main`, for commands that write: makes the directory, and refuses to work on a copy.

    Raises:
        InputError: the directory's name is not UTF-8: paths could not be stored.
        UnwritableError: the directory cannot be made.
        DatabaseError: the database cannot be written; or as `open_main`.
    """
    try:
        output_dir.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name of {output_dir} is not UTF-8; give another --output-dir") from None
    try:
        make_shared_directory(output_dir)
    except OSError as error:
        raise UnwritableError(output_dir, error, "give another --output-dir") from error
    with open_main(output_dir, on_wait=on_wait) as database:
        if database.read_only_reason is not None:
            raise DatabaseError(f"{database.read_only_reason}; give another --output-dir")
        yield database


@contextlib.contextmanager
def open_copy(output_dir: str, reason: str) -> Iterator[MainDatabase]:
    """Open a temporary copy in memory of the main database, or of an empty one: no change stays.

    Args:
        reason: for ``MainDatabase.read_only_reason``.

    Raises:
        DatabaseError: it is damaged, or of a newer version.
    """
    with closing(_named(main_database_path(output_dir), _connect_copy)) as connection:
        yield MainDatabase(connection, output_dir, reason)


def detached_copy(database: MainDatabase) -> sqlite3.Connection:
    """A private copy, so that a long answer can wait for its reader without locking the database.

    Its file is already deleted, so nothing stays on disk.
    """
    with tempfile.TemporaryDirectory(prefix="torc-read-") as directory:
        copy = sqlite3.connect(os.path.join(directory, "copy.db"), isolation_level=None)
        database.connection.backup(copy)
        copy.row_factory = sqlite3.Row
    return copy


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit all of the body's changes, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # a full disk has already rolled it back
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextlib.contextmanager
def savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    """Keep all of the body's changes, or none; the surrounding transaction continues in both cases."""
    connection.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # a full disk has already rolled all of it back
            connection.execute("ROLLBACK TO part")
            connection.execute("RELEASE part")
        raise
    connection.execute("RELEASE part")


def _lock_or_reason(
    stack: contextlib.ExitStack, path: str, timeout_seconds: float, on_wait: Callable[[str], None]
) -> str | None:
    """Lock until the stack ends. Returns the reason if the directory cannot be written."""
    try:
        stack.enter_context(write_lock(path, timeout_seconds=timeout_seconds, on_wait=on_wait))
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise DatabaseError(f"{path} cannot be locked: {error}") from error
        return f"{os.path.dirname(path)} cannot be written ({error.strerror})"
    if os.path.exists(path) and not os.access(path, os.W_OK):
        return f"{path} cannot be written (it belongs to another user, or is protected)"
    return None


def _named(path: str, connect: Callable[[str], sqlite3.Connection]) -> sqlite3.Connection:
    """Connect; an error names the file."""
    try:
        return connect(path)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _unusable(path, error) from error
    except PermissionError as error:
        raise DatabaseError(f"{path} {_no_permission(path)}") from error
    except OSError as error:
        raise DatabaseError(f"{path} cannot be read: {error.strerror}") from error


def _make(path: str) -> None:
    """Create an empty file if there is none. It will contain values of ``env:``, so only its owner can read it."""
    try:
        refuse_foreign_link(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, private_mode())
    except FileExistsError:
        return
    except OSError as error:
        raise DatabaseError(f"{path} cannot be written: {error.strerror}") from error
    try:
        _give_to_owner(descriptor, os.path.dirname(path))
    finally:
        os.close(descriptor)


def _give_to_owner(descriptor: int, directory: str) -> None:
    """If root creates a database in a user's directory, make the user its owner.

    Through the descriptor: the user can replace the file by a link at any time.
    """
    found = os.stat(directory)
    if os.geteuid() == 0 and found.st_uid != 0:
        os.fchown(descriptor, found.st_uid, found.st_gid)


def _no_permission(path: str) -> str:
    try:
        owner = pwd.getpwuid(os.stat(path).st_uid).pw_name
    except KeyError:
        owner = f"the user with the id {os.stat(path).st_uid}"
    except OSError:
        return "cannot be read: Permission denied; give an --output-dir of your own"
    return f"belongs to {owner}, who keeps it private; give an --output-dir of your own"


def _unusable(path: str, error: Exception) -> DatabaseError:
    """The error for an unusable database: full, locked or damaged."""
    if is_full(error):
        return DiskFullError(f"{path} cannot be written: no space is left for it ({error})")
    if isinstance(error, sqlite3.OperationalError) and not any(word in str(error) for word in _WORDS_OF_DAMAGE):
        return DatabaseError(f"{path} cannot be used: {error}")
    return _damaged(path, _in_one_line(error))


def _damaged(path: str, why: str) -> DatabaseError:
    return DatabaseError(
        f"{path} cannot be used: it is damaged ({why}); move it away, and torc slurm collect rebuilds it from the "
        "node files, without the workflows' own rows"
    )


def _in_one_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if isinstance(error, sqlite3.Error) else f"{type(error).__name__}: {words}"


def is_full(error: Exception) -> bool:
    """Whether SQLite failed because the disk, or the user's quota, is full."""
    return isinstance(error, sqlite3.OperationalError) and any(word in str(error) for word in _WORDS_OF_A_FULL_DISK)


def is_sound(connection: sqlite3.Connection) -> bool:
    """Whether SQLite finds no damage in a main database."""
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        return found == "ok" and missing_column(connection, MAIN_SCHEMA) is None
    except (sqlite3.Error, UnicodeDecodeError):
        return False


@contextlib.contextmanager
def open_prepared(
    output_dir: str,
    prepare: Callable[[MainDatabase], _Prepared],
    *,
    on_wait: Callable[[str], None] = lambda _message: None,
) -> Iterator[tuple[MainDatabase, _Prepared]]:
    """Like `open_main`, after `prepare` has updated the database. If the disk is too full for that, it updates a copy
    in memory instead, so that the answer is still correct.

    Raises:
        InputError, DatabaseError: as `open_main`.
    """
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(open_main(output_dir, on_wait=on_wait))
        try:
            prepared = prepare(database)
        except sqlite3.OperationalError as error:
            if not is_full(error) or database.read_only_reason is not None:
                raise
            stack.close()
            reason = f"{output_dir} cannot be written (no space is left)"
            database = stack.enter_context(open_copy(output_dir, reason))
            prepared = prepare(database)
        yield database, prepared


def _connect(path: str) -> sqlite3.Connection:
    vfs = "" if _locks_work(path + LOCK_SUFFIX) else "?vfs=unix-none"  # our lock file excludes torc's other processes
    connection = sqlite3.connect(
        f"file:{quote(path)}{vfs}", uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_SECONDS
    )
    return _ready(connection, path)


def _connect_copy(path: str) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:", isolation_level=None)
    if os.path.exists(path):
        with snapshot(path) as (copy, _), closing(sqlite3.connect(copy)) as source:
            source.backup(memory)
    return _ready(memory, path)


def _ready(connection: sqlite3.Connection, path: str) -> sqlite3.Connection:
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        _check_ours(connection, path)
        migrate(connection, MAIN_SCHEMA)
        lacking = missing_column(connection, MAIN_SCHEMA)
        if lacking is not None:
            raise _damaged(path, lacking)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_ours(connection: sqlite3.Connection, path: str) -> None:
    version = schema_version(connection)
    if version > len(MAIN_SCHEMA):
        raise DatabaseError(
            f"{path} was written by a newer torc-slurm (schema {version}, "
            f"this one knows {len(MAIN_SCHEMA)}); use that version"
        )
    tables = {row[0] for row in connection.execute(_TABLES)}
    if tables & _OURS and not tables >= _OURS:
        raise _damaged(path, f"it has no table {sorted(_OURS - tables)[0]}")
    if tables and not tables >= _OURS:
        raise DatabaseError(f"{path} is a SQLite file, but not a main database of torc-slurm; move it away")


def _locks_work(path: str) -> bool:
    """Whether this file system has POSIX locks, tried on our own lock file. Lustre without flock has none."""
    try:
        with open(path, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    return True
