"""Reading rows distinguishes NULL from 0."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.checked_rows import Columns, check, check_all
from torc_slurm.database.rows import (
    Value,
    compact_row,
    compact_rows,
    insert,
    insert_columns,
    number,
    number_or_none,
    whole,
    whole_or_none,
)
from torc_slurm.database.store import update_results


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


@pytest.mark.parametrize("count", [1, 3, 400, 1000])
def test_columns_are_inserted_with_their_nulls_and_counted(count: int) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, size REAL)")
    names = [None if number % 3 else "a" for number in range(count)]
    columns: dict[str, Sequence[Value]] = {"id": range(count), "name": names, "size": [None] * count}
    assert insert_columns(connection, "t", columns) == count
    assert connection.execute("SELECT * FROM t ORDER BY id").fetchall() == list(zip(*columns.values(), strict=True))
    later: dict[str, Sequence[Value]] = {"id": range(1, count + 2), "size": [1.0] * (count + 1)}
    assert insert_columns(connection, "t", later, "ON CONFLICT DO NOTHING") == 2


def test_rows_of_nulls_alone_are_inserted_and_updated_too() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE results (id INTEGER PRIMARY KEY, oom_kills INTEGER, status TEXT)")
    assert insert_columns(connection, "results", {"oom_kills": [None, None], "status": [None, None]}) == 2
    connection.execute("UPDATE results SET oom_kills = 1, status = 'failed'")
    update_results(connection, [(1, {"oom_kills": None, "status": None}), (2, {"oom_kills": None, "status": "oom"})])
    assert connection.execute("SELECT * FROM results").fetchall() == [(1, None, None), (2, None, "oom")]


ROWS = [(1, "n1", 1.5), (2, "n1", None)] * 800
ODD = [(1, "n1", math.inf), (1, "n1", "text"), (1, "n1", b""), (1, None, 1.5), (1, 2, 1.5), (None, "n1", 1.5)]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", [0, 1, 1599])
def test_the_rows_of_a_node_file_are_checked_column_by_column(odd: tuple[Any, ...], place: int) -> None:
    columns = Columns(("job_id", "node", "cpu_seconds"), set())
    check_all(columns, ROWS, "a file")
    check_all(columns, [], "a file")
    with pytest.raises(DatabaseError) as alone:
        check(columns, odd, "a file")
    with pytest.raises(DatabaseError) as among_others:
        check_all(columns, [*ROWS[:place], odd, *ROWS[place:]], "a file")
    assert str(among_others.value) == str(alone.value)


def test_a_compact_row_is_the_same_row() -> None:
    row: dict[str, int | float | str | None] = {"a": 1, "b": None, "c": "text"}
    (read,) = compact_rows(("a", "b", "c"), [(1, None, "text")])
    for compact in (compact_row(row), read):
        assert dict(compact) == row
        assert list(compact) == list(row)
        assert (compact.get("b", 3), compact.get("d", 3)) == (None, 3)
