"""Series as they are read from a node file: in order of time, compact, and without what is no number."""

from __future__ import annotations

import random
import sqlite3
from array import array
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from node_files import BEGIN
from plot_files import batch, write

from torc_slurm.database import series
from torc_slurm.database.series import Samples, SeriesFiles
from torc_slurm.plots.model import Series
from torc_slurm.plots.reduce import reduced


def read(path: str, job_id: int = 1) -> Samples:
    with SeriesFiles() as files:
        return files.read(path).samples(job_id, BEGIN, BEGIN + 1000)


def rewrite(path: str, rows: list[tuple[object, ...]]) -> None:
    """Other samples of job 1."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM job_resource_samples")
        connection.executemany(
            "INSERT INTO job_resource_samples (job_id, timestamp, cpu_percent, memory_bytes, num_processes)"
            " VALUES (1, ?, ?, ?, ?)",
            rows,
        )


def rows_of(samples: Samples) -> list[tuple[object, ...]]:
    return list(zip(*samples, strict=True))


@pytest.mark.parametrize("jobs", [1, 5])  # many are read through an index
def test_samples_are_compact_and_in_order_of_time(tmp_path: Path, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "_ROWS_AT_ONCE", 7)
    (path,) = write(tmp_path, *(batch(job_id=number) for number in range(1, jobs + 1)))
    rows: list[tuple[object, ...]] = [(BEGIN + i, float(i % 7), 2**40 + i, 1 + i % 3) for i in range(100)]
    rewrite(path, rows)
    found = read(path)
    assert [type(column) for column in found] == [array] * 4
    assert rows_of(found) == rows
    mixed = rows.copy()
    random.Random(3).shuffle(mixed)  # noqa: S311 - no secret
    rewrite(path, mixed)
    assert rows_of(read(path)) == rows


@pytest.mark.parametrize("bad", [None, "text", b"bytes", float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 40, 99])
def test_what_is_no_number_is_none(tmp_path: Path, bad: object, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "_ROWS_AT_ONCE", 7)
    (path,) = write(tmp_path, batch())
    rows: list[tuple[object, ...]] = [(BEGIN + i, float(i % 7), 2**40 + i, 1) for i in range(100)]
    wanted = rows.copy()
    rows[place] = (BEGIN + place, bad, 1.5, 1)  # a fraction among whole numbers stays as it is
    wanted[place] = (BEGIN + place, None, 1.5, 1)
    rewrite(path, rows)
    assert rows_of(read(path)) == wanted


@given(some.lists(some.tuples(some.floats(0, 1e6), some.integers(0, 2**50)), min_size=1), some.integers(1, 40))
def test_an_array_is_shortened_as_a_list(rows: list[tuple[float, int]], most: int) -> None:
    times, (one, other) = [float(place) for place in range(len(rows))], zip(*rows, strict=True)
    plain = reduced(Series(times, ([*one], [*other])), most)
    compact = reduced(Series(array("d", times), (array("d", one), array("q", other))), most)
    assert [*compact.times] == plain.times
    assert [[*column] for column in compact.columns] == [*plain.columns]
