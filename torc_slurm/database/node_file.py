"""Writes node files: one transaction per batch, under a lock in the node's own directory, on any shared file system.

SQLite's own locks are missing or hang on some NFS and Lustre mounts. So the processes of one node take turns with a
flock under /tmp and open the file with ``nolock``; only one host ever writes a file. The journal is a rollback journal
(TRUNCATE: no create and unlink per commit): WAL needs shared memory, which a network file system lacks. Standard
library only: the monitor loads it after the job has started.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from torc_slurm.common.errors import DatabaseError
from torc_slurm.common.text import storable
from torc_slurm.database.batch import Batch
from torc_slurm.database.migrations import migrate_within
from torc_slurm.database.node_schema import NODE_SCHEMA
from torc_slurm.files import node_local
from torc_slurm.files.shared_directory import make_shared_directory, refuse_foreign_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from torc_slurm.database.batch import Row
else:
    from torc_slurm.database.bare_sqlite import sqlite3

SqliteError = sqlite3.Error
LOCK_WAIT_SECONDS = 30.0
_LOCK_RETRY_SECONDS = 0.005
_held_directory = -1
_lock_files: dict[int, str] = {}  # of the locks that this process holds, by descriptor

_PLAIN_IN_URI = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-")

_STEP_OF_INVOCATION = "SELECT id, attempt_id FROM steps WHERE invocation = ?"
_LAST_FLUSH = "SELECT last_flush_time FROM steps WHERE invocation = ?"
_NEXT_ATTEMPT = "SELECT coalesce(max(attempt_id), 0) + 1 FROM steps WHERE job_id = ?"
_PUT_METADATA = "INSERT OR REPLACE INTO job_metadata (job_id, job_name) VALUES (?, ?)"
_PUT_NOTE = "INSERT OR IGNORE INTO step_notes (step, time, note) VALUES (?, ?, ?)"
_RAISE_USAGE = """
INSERT INTO step_usage
    (step, elapsed_seconds, cpu_seconds, cpu_source, avg_cpu_percent, peak_cpu_percent,
     peak_memory_bytes, peak_memory_source, memory_floor_bytes, memory_floor_source)
VALUES
    (:step, :elapsed_seconds, :cpu_seconds, :cpu_source, :avg_cpu_percent, :avg_cpu_percent,
     :peak_memory_bytes, :peak_memory_source, :memory_floor_bytes, :memory_floor_source)
ON CONFLICT (step) DO UPDATE SET
    elapsed_seconds = excluded.elapsed_seconds,
    cpu_seconds = max(excluded.cpu_seconds, coalesce(cpu_seconds, 0)),
    cpu_source = excluded.cpu_source,
    avg_cpu_percent = max(excluded.cpu_seconds, coalesce(cpu_seconds, 0)) / excluded.elapsed_seconds * 100,
    peak_cpu_percent = max(coalesce(peak_cpu_percent, 0), excluded.avg_cpu_percent),
    peak_memory_source =
        iif(excluded.memory_floor_bytes > coalesce(peak_memory_bytes, 0),
            excluded.peak_memory_source, peak_memory_source),
    peak_memory_bytes =
        iif(excluded.memory_floor_bytes > coalesce(peak_memory_bytes, 0),
            excluded.peak_memory_bytes, peak_memory_bytes),
    memory_floor_source =
        iif(excluded.memory_floor_bytes > coalesce(memory_floor_bytes, 0), 'wait4', memory_floor_source),
    memory_floor_bytes = nullif(max(coalesce(memory_floor_bytes, 0), coalesce(excluded.memory_floor_bytes, 0)), 0)
"""
_SERIES = {
    "samples": ("job_resource_samples", ("timestamp", "cpu_percent", "memory_bytes", "num_processes")),
    "io_samples": (
        "job_io_samples",
        (
            "timestamp",
            "storage_read_bytes",
            "storage_written_bytes",
            "read_chars",
            "written_chars",
            "num_threads",
            "major_faults",
        ),
    ),
    "memory_samples": ("job_memory_samples", ("timestamp", "memory_bytes", "source")),
}


def write_batch(
    path: str, batch: Batch, lock_wait_seconds: float = LOCK_WAIT_SECONDS, may_be_there: bool = False
) -> None:
    """`write_batches` of one."""
    write_batches(path, (batch,), lock_wait_seconds, may_be_there)


def write_batches(
    path: str, batches: tuple[Batch, ...], lock_wait_seconds: float = LOCK_WAIT_SECONDS, may_be_there: bool = False
) -> None:
    """Write batches in one transaction. Creates the file and updates its schema if needed.

    Figures never replace those of a later flush. ``may_be_there``: skip rows of series that the file already has.

    Raises:
        DatabaseError: it cannot be written; the message names the file and the reason. The file is unchanged.
    """
    with NodeFileWriter(path, lock_wait_seconds) as connection:
        for batch in batches:
            _put_batch(connection, batch, may_be_there)


def _put_batch(connection: sqlite3.Connection, batch: Batch, may_be_there: bool) -> None:
    step_row = {name: storable(value) for name, value in batch.step.items()}
    is_latest = _is_latest(connection, step_row)
    step = _put_step(connection, step_row)
    if batch.usage is not None and is_latest:
        _put(connection, "step_usage", {"step": step, **batch.usage})
    if batch.usage_at_exit is not None:
        connection.execute(_RAISE_USAGE, {"step": step, **batch.usage_at_exit})
    if batch.monitor is not None and is_latest:
        _put(connection, "monitor_usage", {"step": step, **batch.monitor})
    for row in batch.exits:
        _put(connection, "task_exits", {"step": step, **row})
    connection.executemany(_PUT_NOTE, [(step, when, storable(note)) for when, note in batch.notes])
    for name, (table, columns) in _SERIES.items():
        rows = getattr(batch, name)
        if may_be_there and rows:
            rows = _missing_rows(connection, table, batch.step["job_id"], rows)
        _add_series(connection, table, columns, batch.step["job_id"], rows)


class NodeFileWriter:
    """Holds the node's lock on the file and one transaction in it during a ``with`` block."""

    def __init__(self, path: str, lock_wait_seconds: float) -> None:
        self._path = path
        self._lock_wait_seconds = lock_wait_seconds
        self._lock = -1
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> sqlite3.Connection:
        try:
            place = os.path.dirname(self._path)
            if not os.path.isdir(place):  # checked first: it exists for all batches but the first
                make_shared_directory(place)
            self._lock = take_lock(self._path, self._lock_wait_seconds)
            self._connection = _open(self._path, locked=self._lock >= 0)
            self._connection.execute("BEGIN IMMEDIATE")
            migrate_within(self._connection, NODE_SCHEMA)
        except (OSError, sqlite3.Error, DatabaseError) as error:
            self._close()
            raise _explained(self._path, error) from error
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        assert self._connection is not None
        try:
            self._connection.execute("ROLLBACK" if kind else "COMMIT")
        except sqlite3.Error as failed:
            error = error or failed
        finally:
            self._close()
        if isinstance(error, sqlite3.Error):
            raise _explained(self._path, error) from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        release_lock(self._path, self._lock)
        self._lock = -1


def _explained(path: str, error: Exception) -> DatabaseError:
    why = getattr(error, "strerror", None) or str(error)
    return DatabaseError(f"cannot write the node file {path}: {why}")


def take_lock(path: str, wait_seconds: float) -> int:
    """A descriptor that holds this node's lock on the file until it is closed; -1 if there is no directory for locks.

    Raises:
        OSError: another process held it for all of ``wait_seconds``.
    """
    global _held_directory
    place = _lock_file(path)
    if place is None:
        return -1
    deadline = time.monotonic() + wait_seconds
    while True:
        lock, is_file = _open_lock(place)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _has_the_turn(lock, place, is_file):
                if not is_file and _held_directory < 0:
                    _held_directory = lock
                _lock_files[lock] = place
                return lock
        except BlockingIOError:
            pass  # another process holds it: try again
        os.close(lock)
        if time.monotonic() > deadline:
            raise OSError(errno.EAGAIN, f"another process on this node has locked it for {wait_seconds:g} s")
        time.sleep(_LOCK_RETRY_SECONDS)


def release_lock(path: str, lock: int) -> None:
    """Release a lock and remove its file; a descriptor of -1 holds none."""
    global _held_directory
    if lock < 0:
        return
    if lock == _held_directory:
        _held_directory = -1
    try:
        os.unlink(_lock_files.pop(lock, "") or _lock_file(path) or "")
    except OSError:
        pass  # /tmp was cleaned meanwhile
    os.close(lock)


def _lock_file(path: str) -> str | None:
    place = node_local.subdirectory("locks")
    return None if place is None else os.path.join(place, f"{node_local.file_name_of(path)}.lock")


def _open_lock(place: str) -> tuple[int, bool]:
    """A descriptor of the lock's file, and True; of its directory if the disk is too full for a file.

    The process that holds the directory holds all locks of the node, and can take more of them.
    """
    if _held_directory >= 0:
        return os.dup(_held_directory), False
    try:
        return os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), True
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return os.open(os.path.dirname(place), os.O_RDONLY | os.O_CLOEXEC), False


def _has_the_turn(lock: int, place: str, is_file: bool) -> bool:
    """Whether no other process holds the lock in the other way: each looks for the other after it locked its own."""
    if not is_file:
        return not os.path.exists(place)
    directory = os.open(os.path.dirname(place), os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # a file that its holder has removed is no lock: others may hold a new one
        return os.path.samestat(os.fstat(lock), os.stat(place))
    except OSError:
        return False
    finally:
        os.close(directory)


def _open(path: str, locked: bool) -> sqlite3.Connection:
    refuse_foreign_link(path)
    uri = _uri(path, "mode=rwc&nolock=1" if locked else "mode=rwc")
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = NORMAL")  # one fsync of the journal, one of the file
    except BaseException:
        connection.close()
        raise
    return connection


def _is_latest(connection: sqlite3.Connection, step: Row) -> bool:
    """Whether this batch is the step's latest flush: a spool can be brought over late."""
    found = connection.execute(_LAST_FLUSH, (step["invocation"],)).fetchone()
    return found is None or float(str(step["last_flush_time"])) >= found[0]


def _uri(path: str, parameters: str) -> str:
    quoted = "".join(chr(byte) if chr(byte) in _PLAIN_IN_URI else f"%{byte:02x}" for byte in os.fsencode(path))
    return f"file:{quoted}?{parameters}"


def _put_step(connection: sqlite3.Connection, row: Row) -> int:
    """Insert or update the step's row; returns its id."""
    found = connection.execute(_STEP_OF_INVOCATION, (row["invocation"],)).fetchone()
    attempt = row["attempt_id"]
    if found is not None:
        attempt = found[1]
    elif attempt is None:
        attempt = connection.execute(_NEXT_ATTEMPT, (row["job_id"],)).fetchone()[0]
    _put_step_row(connection, {**row, "attempt_id": attempt})
    connection.execute(_PUT_METADATA, (row["job_id"], row["job_name"]))
    return int(connection.execute(_STEP_OF_INVOCATION, (row["invocation"],)).fetchone()[0])


def _put_step_row(connection: sqlite3.Connection, row: Row) -> None:
    columns = ", ".join(row)
    places = ", ".join("?" * len(row))
    # begin_time is the earliest task's; a late writer must not erase a known end
    updates = ", ".join(f"{name} = {_MERGED.get(name, 'excluded.' + name)}" for name in row)
    statement = (
        f"INSERT INTO steps ({columns}) VALUES ({places})"  # noqa: S608 - column names of our own
        f" ON CONFLICT (job_id, attempt_id) DO UPDATE SET {updates}"
    )
    connection.execute(statement, tuple(row.values()))


_MERGED = {
    "begin_time": "min(steps.begin_time, excluded.begin_time)",
    "end_time": "coalesce(excluded.end_time, steps.end_time)",
    "last_flush_time": "max(steps.last_flush_time, excluded.last_flush_time)",
}


def _put(connection: sqlite3.Connection, table: str, row: Row) -> None:
    columns, places = ", ".join(row), ", ".join("?" * len(row))
    statement = f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({places})"  # noqa: S608 - names of our own
    connection.execute(statement, tuple(row.values()))


def _add_series(
    connection: sqlite3.Connection,
    table: str,
    columns: tuple[str, ...],
    job_id: object,
    rows: list[tuple[object, ...]],
) -> None:
    names = ", ".join(("job_id", *columns))
    places = ", ".join("?" * (len(columns) + 1))
    statement = f"INSERT INTO {table} ({names}) VALUES ({places})"  # noqa: S608 - names of our own
    connection.executemany(statement, [(job_id, *row) for row in rows])


def _missing_rows(
    connection: sqlite3.Connection, table: str, job_id: object, rows: list[tuple[float, ...]]
) -> list[tuple[float, ...]]:
    """The rows (timestamp first) whose timestamps the table lacks for this job."""
    query = f"SELECT timestamp FROM {table} WHERE job_id = ? AND timestamp BETWEEN ? AND ?"  # noqa: S608 - our own names
    there = {row[0] for row in connection.execute(query, (job_id, rows[0][0], rows[-1][0]))}
    return [row for row in rows if row[0] not in there]


def read_batches(path: str) -> Iterator[Batch]:
    """The steps of a node file without a writer (a spool), each as the batch that writes it again."""
    connection = sqlite3.connect(_uri(path, "mode=rw"), uri=True, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        for step in connection.execute("SELECT * FROM steps ORDER BY id").fetchall():
            yield _batch_of(connection, dict(step))
    finally:
        connection.close()


def _batch_of(connection: sqlite3.Connection, step: Row) -> Batch:
    number, attempt = step.pop("id"), step["attempt_id"]
    batch = Batch({**step, "attempt_id": attempt if step["workflow_id"] is not None else None})
    batch.usage = _without_step(connection, "step_usage", number)
    if batch.usage is not None and batch.usage["sample_count"] is None:  # written by a recorder, after its monitor died
        batch.usage, batch.usage_at_exit = None, batch.usage
    batch.monitor = _without_step(connection, "monitor_usage", number)
    exits = connection.execute("SELECT * FROM task_exits WHERE step = ?", (number,)).fetchall()
    batch.exits = [{name: row[name] for name in row.keys() if name != "step"} for row in exits]  # noqa: SIM118 - sqlite3.Row
    notes = connection.execute("SELECT time, note FROM step_notes WHERE step = ?", (number,))
    batch.notes = [(row[0], row[1]) for row in notes]
    span = (step["job_id"], step["begin_time"], step["end_time"] or step["last_flush_time"])
    for name, (table, columns) in _SERIES.items():
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE job_id = ? AND timestamp BETWEEN ? AND ?"  # noqa: S608
        setattr(batch, name, [tuple(row) for row in connection.execute(query + " ORDER BY id", span)])
    return batch


def _without_step(connection: sqlite3.Connection, table: str, step: object) -> Row | None:
    row = connection.execute(f"SELECT * FROM {table} WHERE step = ?", (step,)).fetchone()  # noqa: S608 - our own names
    return None if row is None else {name: row[name] for name in row.keys() if name != "step"}  # noqa: SIM118
