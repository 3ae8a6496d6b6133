"""Reads one node file: what the processes of one node wrote, checked, as plain data.

The file may be broken, foreign, half written or of another version; then the error says so and names it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeVar
from urllib.parse import quote

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.journal import SELECT_JOB_STATES, SELECT_RUNS
from torc_slurm.database.last_half import BUSY, Span, last_halves
from torc_slurm.database.migrations import migrate, missing_column, schema_version
from torc_slurm.database.node_schema import NODE_SCHEMA
from torc_slurm.database.rows import Row, Value, compact_row, mappings, number
from torc_slurm.database.snapshot import fingerprint, has_open_transaction, snapshot
from torc_slurm.records.accounting import COLUMN_NAMES, TEXT_COLUMNS, AccountingRecord, from_row
from torc_slurm.records.figures import MONITOR_COLUMNS, TEXT_FIGURES, USAGE_COLUMNS
from torc_slurm.sizing.idleness import was_certainly_busy

EXIT_COLUMNS = (
    "task",
    "local_task",
    "pid",
    "begin_time",
    "end_time",
    "elapsed_seconds",
    "return_code",
    "signal",
    "user_cpu_seconds",
    "system_cpu_seconds",
    "max_rss_bytes",
    "major_faults",
)
_USAGE_SQL = ", ".join(f"u.{name}" for name in USAGE_COLUMNS)
_MONITOR_SQL = ", ".join(f"m.{name.removeprefix('monitor_')} AS {name}" for name in MONITOR_COLUMNS)
_STEPS = f"""
SELECT s.*, {_USAGE_SQL}, {_MONITOR_SQL} FROM steps s
LEFT JOIN step_usage u ON u.step = s.id LEFT JOIN monitor_usage m ON m.step = s.id ORDER BY s.id
"""  # noqa: S608 - built only from the constants above
_EXITS = f"SELECT step, {', '.join(EXIT_COLUMNS)} FROM task_exits ORDER BY step, task"  # noqa: S608 - constants
_NOTES = "SELECT step, time, note FROM step_notes ORDER BY step, time, note"
_SLURM_STATS = f"SELECT {', '.join(COLUMN_NAMES)} FROM slurm_stats ORDER BY slurm_job_id, run_id, step_id"  # noqa: S608 - constants
# All that is read here, so not the series.
_TABLES_READ = (
    "steps",
    "step_usage",
    "monitor_usage",
    "task_exits",
    "step_notes",
    "slurm_stats",
    "runs",
    "job_states",
)
_Found = TypeVar("_Found")
_MAGIC = b"SQLite format 3\0"
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"

_TEXT_COLUMNS = (
    frozenset(
        [
            "invocation",
            "job_name",
            "slurm_array",
            "step_id",
            "user_name",
            "user_notes",
            "node",
            "command",
            "working_dir",
            "granularity",
            "note",
            "host",
            "launcher",
            "launcher_stderr",
            "nodes",
            "node_sizes",
            "reason",
            "state",
            "step_name",
        ]
    )
    | TEXT_FIGURES
    | TEXT_COLUMNS
)
_GOOD_KINDS: set[tuple[tuple[str, ...], tuple[type, ...]]] = set()  # columns and types that passed the check
_INFINITE = frozenset((math.inf, -math.inf))
_NEVER_NULL = frozenset(("invocation", "run_id", "job_id", "attempt_id", "node", "begin_time", "last_flush_time"))


@dataclass(frozen=True)
class StepRecord:
    """One step on one node: its row of ``steps`` with the usage, the exits of its tasks, its notes.

    ``last_half`` says whether it was idle then, in the words of `torc_slurm.database.last_half`; None: not examined.
    """

    step: Row
    exits: tuple[Row, ...]
    notes: tuple[tuple[float, str], ...]
    last_half: str | None = None


@dataclass(frozen=True)
class NodeRecords:
    """All records of one node file except the sample series; ``fingerprint`` is the file's state when it was read.
    ``runs`` and ``job_states`` are the runner's journal, which only the batch host's file has.
    """

    path: str
    fingerprint: str
    steps: tuple[StepRecord, ...]
    slurm_stats: tuple[AccountingRecord, ...]
    runs: tuple[Row, ...] = ()
    job_states: tuple[Row, ...] = ()


def read_node_file(path: str, directory: str | None = None) -> NodeRecords:
    """Read the node file at ``path``: in place, without its series, or else from a private copy.

    Raises:
        NodeFileBusy: a process is writing it.
        DatabaseError: it is not a node file, is damaged, or of a newer version.
        OSError: it cannot be read or copied.
    """

    def read(connection: sqlite3.Connection) -> NodeRecords:
        check_tables(connection, path)
        return _with_last_halves(connection, read_records(connection, path, ""))

    found = read_in_place(path, read)
    if found is not None:
        records, condition = found
        return dataclasses.replace(records, fingerprint=condition)
    with copied_node_file(path, directory, with_series=False) as (connection, condition):
        if connection is None:
            return NodeRecords(path, condition, (), ())
        return _with_last_halves(connection, read_records(connection, path, condition))


def read_in_place(path: str, read: Callable[[sqlite3.Connection], _Found]) -> tuple[_Found, str] | None:
    """What ``read`` returns for a connection to the file itself, and the file's fingerprint.

    ``immutable`` makes SQLite take no locks and ignore the journal, so it rolls nothing back. None if a transaction is
    open, if it was written meanwhile, is of another version, or cannot be read: a copy then shows what is wrong.

    Raises:
        OSError: it cannot be opened.
        DatabaseError: it is not a regular file.
    """
    before = fingerprint(path)
    if has_open_transaction(path):
        return None
    try:
        uri = f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            if schema_version(connection) != len(NODE_SCHEMA):
                return None
            found = read(connection)
    except (sqlite3.Error, DatabaseError, ValueError, LookupError):
        return None
    return (found, before) if fingerprint(path) == before else None


def _with_last_halves(connection: sqlite3.Connection, records: NodeRecords) -> NodeRecords:
    """Examine the series of those that may have hung until they were ended, if their figures do not tell."""
    steps = list(records.steps)
    suspects = [place for place, record in enumerate(steps) if _may_have_hung(record)]
    unclear = [place for place in suspects if not was_certainly_busy(steps[place].step)]
    spans = [Span(*columns_of(steps[place].step, ("job_id", "begin_time", "end_time"))) for place in unclear]  # type: ignore[arg-type]
    examined = dict(zip(unclear, last_halves(connection, spans), strict=True)) if spans else {}
    for place in suspects:
        steps[place] = dataclasses.replace(steps[place], last_half=examined.get(place, BUSY))
    return dataclasses.replace(records, steps=tuple(steps))


def _may_have_hung(record: StepRecord) -> bool:
    is_over = record.step["granularity"] == "time_series" and record.step["end_time"] is not None
    return is_over and (not record.exits or any(each["return_code"] for each in record.exits))


@contextlib.contextmanager
def copied_node_file(
    path: str, directory: str | None = None, *, with_series: bool = True
) -> Iterator[tuple[sqlite3.Connection | None, str]]:
    """A checked connection to a private copy of the node file; None if its writer has only just created it.

    Also yields the original's fingerprint. The body may change the copy, which is removed at the end.
    ``with_series``: check these too.

    Raises:
        NodeFileBusy, DatabaseError, OSError: as `read_node_file`; also for what the body finds in it.
    """
    with snapshot(path, directory) as (copy, condition), closing(connect_to_copy(copy)) as connection:
        try:
            yield (connection if is_checked(connection, copy, path, with_series=with_series) else None), condition
        except (sqlite3.Error, UnicodeDecodeError, ValueError, LookupError) as error:
            words = " ".join(str(error).split())
            raise DatabaseError(f"{path} cannot be read as a node file: {words or type(error).__name__}") from error


def is_checked(connection: sqlite3.Connection, copy: str, path: str, *, with_series: bool = True) -> bool:
    """Check a private copy of the node file at ``path``, and migrate it to this version's schema.

    Returns:
        Whether it has content: its writer may have only just created it.

    Raises:
        DatabaseError: it is not a node file, is damaged, or of a newer version.
        sqlite3.Error: it cannot be read.
    """
    if _is_empty(connection, copy, path):
        return False
    if with_series:
        _check_pages(connection, path, "1")
    if schema_version(connection) > len(NODE_SCHEMA):
        raise DatabaseError(
            f"{path} was written by a newer torc-slurm (schema {schema_version(connection)}, this one knows "
            f"{len(NODE_SCHEMA)}); collect it with that version"
        )
    migrate(connection, NODE_SCHEMA)
    if with_series:
        _check_columns(connection, path)
    else:
        check_tables(connection, path)
    return True


def read_records(connection: sqlite3.Connection, path: str, fingerprint: str) -> NodeRecords:
    """All but the series, from a connection of `copied_node_file`.

    Raises:
        DatabaseError: a column has a value of the wrong type.
    """
    return NodeRecords(
        path,
        fingerprint,
        steps=tuple(_steps(connection, path)),
        slurm_stats=tuple(map(from_row, _rows(connection, _SLURM_STATS, path))),
        runs=_rows(connection, SELECT_RUNS, path),
        job_states=_rows(connection, SELECT_JOB_STATES, path),
    )


def connect_to_copy(copy: str) -> sqlite3.Connection:
    """A connection to a private copy. Text that is not UTF-8 is replaced."""
    connection = sqlite3.connect(copy, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return connection


def _is_empty(connection: sqlite3.Connection, copy: str, path: str) -> bool:
    """Whether its writer has only just created it.

    Raises:
        DatabaseError: it is not a SQLite file (SQLite accepts a few stray bytes as empty), or another program's.
    """
    tables = {row[0] for row in connection.execute(_TABLES)}
    if tables and not {"steps", "schema_migrations"} <= tables:
        raise DatabaseError(f"{path} is a SQLite file, but not a node file of torc-slurm")
    with open(copy, "rb") as file:
        if not tables and file.read(len(_MAGIC)) not in (_MAGIC, b""):
            raise DatabaseError(f"{path} cannot be read as a node file: file is not a database")
    return not tables


def check_tables(connection: sqlite3.Connection, path: str) -> None:
    """Check the tables that are read here. SQLite before 3.33 checks all of the file at the first of them.

    Raises:
        DatabaseError: one of them is damaged.
    """
    _check_columns(connection, path)
    for table in _TABLES_READ:
        _check_pages(connection, path, table)


def _check_columns(connection: sqlite3.Connection, path: str) -> None:
    lacking = missing_column(connection, NODE_SCHEMA)
    if lacking is not None:
        raise DatabaseError(f"{path} is damaged: {lacking}")


def _check_pages(connection: sqlite3.Connection, path: str, what: str) -> None:
    found = connection.execute(f"PRAGMA quick_check({what})").fetchone()[0]
    if found != "ok":
        raise DatabaseError(f"{path} is damaged: {' '.join(str(found).split())}")


def compact_record(record: StepRecord) -> StepRecord:
    """The same record in little memory, if those of many files are kept."""
    return StepRecord(compact_row(record.step), tuple(map(compact_row, record.exits)), record.notes, record.last_half)


def _steps(connection: sqlite3.Connection, path: str) -> Iterator[StepRecord]:
    exits = _by_step(mappings(connection, _EXITS))
    notes = _by_step(mappings(connection, _NOTES))
    for row in mappings(connection, _STEPS):
        yield StepRecord(
            step=_checked(row, path),
            exits=tuple(_checked(record, path) for record in exits.get(row["id"], ())),
            notes=tuple(_note(_checked(note, path)) for note in notes.get(row["id"], ())),
        )


def _by_step(rows: Iterable[Row]) -> dict[Value, list[Row]]:
    found: dict[Value, list[Row]] = {}
    for row in rows:
        found.setdefault(row["step"], []).append(row)
    return found


def _note(row: Row) -> tuple[float, str]:
    return number(row, "time"), str(row["note"])


def _rows(connection: sqlite3.Connection, query: str, path: str) -> tuple[Row, ...]:
    return tuple(_checked(row, path) for row in list(mappings(connection, query)))


def _checked(values: Row, path: str) -> Row:
    """The row as a mapping. SQLite accepts any type in any column, but the readers of the row do not.

    Raises:
        DatabaseError: text or bytes instead of a number, or NULL in a required column.
    """
    cells = tuple(values.values())
    kinds = (tuple(values), tuple(map(type, cells)))
    if kinds in _GOOD_KINDS and _INFINITE.isdisjoint(cells):
        return values
    for name, value in values.items():
        if value is None and name not in _NEVER_NULL:
            continue
        if not isinstance(value, _types_of(name)) or value in _INFINITE:
            raise DatabaseError(f"{path} is damaged: column {name} holds {str(value)[:40]!r}")
    _GOOD_KINDS.add(kinds)
    return values


@functools.cache
def _types_of(column: str) -> tuple[type, ...]:
    return (str,) if column in _TEXT_COLUMNS else (int, float)


def columns_of(row: Row, names: tuple[str, ...]) -> tuple[Value, ...]:
    """The named columns of a row, in that order; at least two."""
    found: tuple[Value, ...] = _getter(names)(row)
    return found


_getter = functools.cache(lambda names: itemgetter(*names))
