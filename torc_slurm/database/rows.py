"""Reads and writes rows by the names of their columns, and distinguishes NULL from 0."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from torc_slurm.common.errors import DatabaseError

Value = int | float | str | None
Row = Mapping[str, Value]
Table = Mapping[str, Sequence[Value]]  # by column; each has as many values as there are rows
_MOST_VARIABLES = 999  # in a statement of any SQLite


def whole(row: Row, column: str) -> int:
    """A whole number that the schema never leaves NULL.

    Raises:
        DatabaseError: it is NULL.
    """
    return int(number(row, column))


def number(row: Row, column: str) -> float:
    """A number that the schema never leaves NULL.

    Raises:
        DatabaseError: it is NULL.
    """
    value = row[column]
    if not isinstance(value, (int, float)):
        raise DatabaseError(f"column {column} holds {value!r}, no number")
    return value


def number_or_none(value: object) -> float | None:
    """The number in a column; None for NULL."""
    return float(value) if isinstance(value, (int, float)) else None


def whole_or_none(value: object) -> int | None:
    """Like `number_or_none`, but a whole number."""
    return int(value) if isinstance(value, (int, float)) else None


def insert(connection: sqlite3.Connection, statement: str, values: Mapping[str, object] | tuple[object, ...]) -> int:
    """Insert one row; returns its id."""
    row_id = connection.execute(statement, values).lastrowid
    assert row_id is not None, statement
    return row_id


def by_column(names: Iterable[str], rows: Iterable[Sequence[Value]]) -> dict[str, Sequence[Value]]:
    """Rows of these columns as a `Table`. There must be a row."""
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def insert_columns(connection: sqlite3.Connection, table: str, columns: Table, otherwise: str = "") -> int:
    """Insert rows that are given by their columns; returns how many were inserted. There must be a row.

    Many rows in one statement: if a trigger follows each insertion, SQLite saves for each statement the pages that it
    changes. A column of NULLs is not named: to bind a None takes Python as long as to bind ten numbers.

    Args:
        otherwise: SQL for the end of the statement, such as what to do on a conflict.
    """
    known = {name: values for name, values in columns.items() if not _is_null(values)} or columns
    count = max(1, _MOST_VARIABLES // len(known))
    rows = list(zip(*known.values(), strict=True))
    many = len(rows) - len(rows) % count
    inserted = 0
    for first in range(0, many, count):
        values = tuple(chain.from_iterable(rows[first : first + count]))
        inserted += connection.execute(_insertion(table, tuple(known), count, otherwise), values).rowcount
    if many < len(rows):
        inserted += connection.executemany(_insertion(table, tuple(known), 1, otherwise), rows[many:]).rowcount
    return inserted


@functools.lru_cache(maxsize=200)
def _insertion(table: str, columns: tuple[str, ...], rows: int, otherwise: str) -> str:
    marks = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([marks] * rows)} {otherwise}"  # noqa: S608 - names of columns


def _is_null(values: Sequence[Value]) -> bool:
    return values[0] is None and values.count(None) == len(values)


class CompactRow(Mapping[str, Value]):
    """A row that shares its names with the other rows of its answer: a fraction of a dict's memory, slower to read."""

    __slots__ = ("_places", "_values")

    def __init__(self, places: Mapping[str, int], values: tuple[Value, ...]) -> None:
        self._places = places
        self._values = values

    def __getitem__(self, name: str) -> Value:
        return self._values[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def compact_row(row: Row) -> CompactRow:
    """The same row, compact."""
    return CompactRow(_places_of(tuple(row)), tuple(row.values()))


@functools.cache
def _places_of(names: tuple[str, ...]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def compact_rows(names: Sequence[str], rows: Iterable[tuple[Value, ...]]) -> Iterator[CompactRow]:
    """Rows of tuples with these names."""
    places = _places_of(tuple(names))
    return (CompactRow(places, values) for values in rows)


def mappings(
    connection: sqlite3.Connection, query: str, parameters: Mapping[str, object] | Sequence[object] = ()
) -> Iterator[dict[str, Value]]:
    """Each row of the answer, as it is read. Much faster than ``dict(sqlite3.Row)``, which searches for each name."""
    cursor = connection.cursor()
    cursor.row_factory = None
    cursor.execute(query, parameters)
    names = [column[0] for column in cursor.description]
    return (dict(zip(names, values, strict=True)) for values in cursor)
