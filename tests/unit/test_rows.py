"""Reading rows distinguishes NULL from 0."""

from __future__ import annotations

import sqlite3

import pytest

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.rows import (
    compact_row,
    compact_rows,
    insert,
    insert_rows,
    number,
    number_or_none,
    whole,
    whole_or_none,
)


def test_null_is_no_number() -> None:
    with pytest.raises(DatabaseError, match="run_id"):
        whole({"run_id": None}, "run_id")
    with pytest.raises(DatabaseError, match="time"):
        number({"time": "soon"}, "time")
    assert (number_or_none(None), whole_or_none(None)) == (None, None)
    assert (number({"time": 0}, "time"), whole_or_none(0)) == (0, 0)


def test_an_inserted_row_has_an_id() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
    assert [insert(connection, "INSERT INTO t (name) VALUES (?)", (name,)) for name in "ab"] == [1, 2]


def test_many_rows_are_inserted_with_their_nulls_and_counted() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, size REAL)")
    columns = ("id", "name", "size")
    rows = [(1, "a", None), (2, "b", 2.0), (3, None, 0.0), (4, "d", None)]
    assert insert_rows(connection, "t", columns, rows) == 4
    assert connection.execute("SELECT * FROM t ORDER BY id").fetchall() == rows
    assert insert_rows(connection, "t", columns, [(4, "e", 1.0), (5, "f", 1.0)], "ON CONFLICT DO NOTHING") == 1
    assert insert_rows(connection, "t", columns, []) == 0


def test_a_compact_row_is_the_same_row() -> None:
    row: dict[str, int | float | str | None] = {"a": 1, "b": None, "c": "text"}
    (read,) = compact_rows(("a", "b", "c"), [(1, None, "text")])
    for compact in (compact_row(row), read):
        assert dict(compact) == row
        assert list(compact) == list(row)
        assert (compact.get("b", 3), compact.get("d", 3)) == (None, 3)
