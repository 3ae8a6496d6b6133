"""Checks the rows of a node file as they are read. SQLite accepts any type in any column, but their readers do not."""

from __future__ import annotations

import functools
import math
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.rows import Row, Value
from torc_slurm.records.accounting import TEXT_COLUMNS
from torc_slurm.records.figures import TEXT_FIGURES

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
_INFINITE = frozenset((math.inf, -math.inf))
_AT_ONCE = 1000  # rows
_NEVER_NULL = frozenset(("invocation", "run_id", "job_id", "attempt_id", "node", "begin_time", "last_flush_time"))

Cells = tuple[Value, ...]


class Columns(NamedTuple):
    """The columns of a query, and the types of the rows that passed the check: most rows have the same."""

    names: tuple[str, ...]
    good_types: set[tuple[type, ...]]


class UncheckedRows(NamedTuple):
    """The answer to a query."""

    columns: Columns
    rows: sqlite3.Cursor


@functools.cache
def _columns(names: tuple[str, ...]) -> Columns:
    return Columns(names, set())


def unchecked_rows(connection: sqlite3.Connection, query: str) -> UncheckedRows:
    """The rows of a query as tuples, read one at a time."""
    cursor = connection.cursor()
    cursor.row_factory = None
    cursor.execute(query)
    return UncheckedRows(_columns(tuple(column[0] for column in cursor.description)), cursor)


def check(columns: Columns, cells: Cells, path: str) -> None:
    """Check a row of the node file at ``path``.

    Raises:
        DatabaseError: text or bytes instead of a number, an infinite number, or NULL in a required column.
    """
    types = tuple(map(type, cells))
    if types not in columns.good_types or not _INFINITE.isdisjoint(cells):
        _refuse_odd_values(columns.names, cells, path)
        columns.good_types.add(types)


def check_all(columns: Columns, rows: Sequence[Cells], path: str) -> None:
    """Like `check` of each of these rows, column by column: a fraction of the time for many of them."""
    for first in range(0, len(rows), _AT_ONCE):
        some = rows[first : first + _AT_ONCE]
        of_columns = zip(*some, strict=True)
        if not all(_is_good(name, values) for name, values in zip(columns.names, of_columns, strict=True)):
            for cells in some:  # names the first odd value
                check(columns, cells, path)


def _is_good(column: str, values: tuple[Value, ...]) -> bool:
    types = set(map(type, values))
    return types <= _good_types_of(column) and (float not in types or _INFINITE.isdisjoint(values))


def checked_rows(connection: sqlite3.Connection, query: str, path: str) -> tuple[Row, ...]:
    """The rows of a query of the node file at ``path`` as mappings.

    Raises:
        DatabaseError: as `check`.
    """
    columns, rows = unchecked_rows(connection, query)
    found = []
    for cells in rows:
        check(columns, cells, path)
        found.append(dict(zip(columns.names, cells, strict=True)))
    return tuple(found)


def _refuse_odd_values(names: Sequence[str], cells: Iterable[Value], path: str) -> None:
    for name, value in zip(names, cells, strict=True):
        if type(value) not in _good_types_of(name) or value in _INFINITE:
            raise DatabaseError(f"{path} is damaged: column {name} holds {str(value)[:40]!r}")


@functools.cache
def _good_types_of(column: str) -> frozenset[type]:
    return frozenset(_types_of(column) if column in _NEVER_NULL else (*_types_of(column), type(None)))


@functools.cache
def _types_of(column: str) -> tuple[type, ...]:
    return (str,) if column in _TEXT_COLUMNS else (int, float)
