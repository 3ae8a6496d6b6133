"""Reads one node file: what the processes of one node wrote, checked, as plain data.

The file may be broken, foreign, half written or of another version; then the error says so and names it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, repeat
from operator import itemgetter
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.checked_rows import Cells, Columns, check, check_all, checked_rows, unchecked_rows
from torc_slurm.database.journal import SELECT_JOB_STATES, SELECT_RUNS
from torc_slurm.database.last_half import BUSY, Span, last_halves
from torc_slurm.database.migrations import migrate, missing_column, schema_version
from torc_slurm.database.node_schema import NODE_SCHEMA
from torc_slurm.database.rows import Row, Value, by_column, compact_row, number
from torc_slurm.database.snapshot import fingerprint, has_open_transaction, snapshot
from torc_slurm.records.accounting import COLUMN_NAMES, AccountingRecord, from_row
from torc_slurm.records.figures import MONITOR_COLUMNS, USAGE_COLUMNS
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
# Most files have no row in these: to prepare a query of each takes longer than to ask.
_OFTEN_EMPTY = ("step_notes", "slurm_stats", "runs", "job_states")
_ARE_FILLED = f"SELECT {', '.join(f'EXISTS (SELECT 1 FROM {table})' for table in _OFTEN_EMPTY)}"  # noqa: S608 - constants
_Found = TypeVar("_Found")
_MAGIC = b"SQLite format 3\0"
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"


class StepRecord(NamedTuple):
    """One step on one node: its row of ``steps`` with the usage, the exits of its tasks, its notes.

    ``last_half`` says whether it was idle then, in the words of `torc_slurm.database.last_half`; None: not examined.
    """

    step: Row
    exits: tuple[Row, ...]
    notes: tuple[tuple[float, str], ...]
    last_half: str | None = None


@dataclass(frozen=True)
class StepRows(Collection[StepRecord]):
    """The steps of a node file as they were read. A record is made only when it is asked for.

    Args:
        names: of the cells of a step.
        exit_names: of the cells of an exit.
        rows: of each step its cells, its exits, its notes, and its last half.
    """

    names: tuple[str, ...]
    exit_names: tuple[str, ...]
    rows: Sequence[tuple[Cells, list[Cells], list[tuple[float, str]], str | None]]

    def __len__(self) -> int:
        """How many steps there are."""
        return len(self.rows)

    def __contains__(self, record: object) -> bool:
        """Whether one of the records is equal to this."""
        return any(each == record for each in self)

    def at(self, places: Sequence[int]) -> StepRows:
        """The steps at these places, in ascending order."""
        if len(places) == len(self.rows):
            return self
        return StepRows(self.names, self.exit_names, [self.rows[place] for place in places])

    def record(self, place: int) -> StepRecord:
        """The record of the step at this place."""
        cells, exits, notes, last_half = self.rows[place]
        return StepRecord(
            dict(zip(self.names, cells, strict=True)),
            tuple([dict(zip(self.exit_names, each, strict=True)) for each in exits]),
            tuple(notes),
            last_half,
        )

    @functools.cached_property
    def columns(self) -> dict[str, Sequence[Value]]:
        """The cells of the steps by column. There must be a step."""
        return by_column(self.names, [row[0] for row in self.rows])

    def __iter__(self) -> Iterator[StepRecord]:
        """The record of each step."""
        return map(self.record, range(len(self.rows)))


@dataclass(frozen=True)
class NodeRecords:
    """All records of one node file except the sample series; ``fingerprint`` is the file's state when it was read.
    ``runs`` and ``job_states`` are the runner's journal, which only the batch host's file has.
    """

    path: str
    fingerprint: str
    steps: Collection[StepRecord]
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
    steps = records.steps
    assert isinstance(steps, StepRows)
    rows = list(steps.rows)
    suspects = _may_have_hung(steps)
    unclear = [place for place, step in suspects.items() if not was_certainly_busy(step)]
    spans = [Span(*columns_of(suspects[place], ("job_id", "begin_time", "end_time"))) for place in unclear]  # type: ignore[arg-type]
    examined = dict(zip(unclear, last_halves(connection, spans), strict=True)) if spans else {}
    for place in suspects:
        rows[place] = (*rows[place][:3], examined.get(place, BUSY))
    return dataclasses.replace(records, steps=dataclasses.replace(steps, rows=rows))


def _may_have_hung(steps: StepRows) -> dict[int, Row]:
    """The steps with a series that ended without an exit record or with a failure, by their place."""
    granularity, end_time = map(steps.names.index, ("granularity", "end_time"))
    return_code = steps.exit_names.index("return_code")
    return {
        place: dict(zip(steps.names, cells, strict=True))
        for place, (cells, exits, _, _) in enumerate(steps.rows)
        if cells[granularity] == "time_series"
        and cells[end_time] is not None
        and (not exits or any(each[return_code] for each in exits))
    }


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
    has_notes, has_slurm_stats, has_runs, has_job_states = connection.execute(_ARE_FILLED).fetchone()
    slurm_stats = checked_rows(connection, _SLURM_STATS, path) if has_slurm_stats else ()
    return NodeRecords(
        path,
        fingerprint,
        steps=_steps(connection, path, with_notes=bool(has_notes)),
        slurm_stats=tuple(map(from_row, slurm_stats)),
        runs=checked_rows(connection, SELECT_RUNS, path) if has_runs else (),
        job_states=checked_rows(connection, SELECT_JOB_STATES, path) if has_job_states else (),
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


def _steps(connection: sqlite3.Connection, path: str, *, with_notes: bool) -> StepRows:
    exits, exits_of = _by_step(connection, _EXITS)
    notes, notes_of = _by_step(connection, _NOTES) if with_notes else (exits, {})
    columns, answer = unchecked_rows(connection, _STEPS)
    id_of = itemgetter(columns.names.index("id"))
    cells = answer.fetchall()
    check_all(columns, cells, path)
    steps = list(map(id_of, cells))
    own_exits = [exits_of.get(step, []) for step in steps]
    check_all(exits, list(chain.from_iterable(own_exits)), path)
    own_notes = [[_note(notes, each, path) for each in notes_of.get(step, ())] for step in steps]
    return StepRows(columns.names, exits.names, list(zip(cells, own_exits, own_notes, repeat(None), strict=False)))


def _by_step(connection: sqlite3.Connection, query: str) -> tuple[Columns, dict[Value, list[Cells]]]:
    """The rows of a query whose first column is the step, by step."""
    columns, rows = unchecked_rows(connection, query)
    found: dict[Value, list[Cells]] = {}
    for cells in rows:
        found.setdefault(cells[0], []).append(cells)
    return columns, found


def _note(columns: Columns, cells: Cells, path: str) -> tuple[float, str]:
    check(columns, cells, path)
    row = dict(zip(columns.names, cells, strict=True))
    return number(row, "time"), str(row["note"])


def columns_of(row: Row, names: tuple[str, ...]) -> tuple[Value, ...]:
    """The named columns of a row, in that order; at least two."""
    found: tuple[Value, ...] = _getter(names)(row)
    return found


_getter = functools.cache(lambda names: itemgetter(*names))
