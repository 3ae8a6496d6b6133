"""The encoded numbers of a page are the measured ones, to the promised precision."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as some

from torc_slurm.plots.encode import Encoded, encode_cpu, encode_series, encode_times, encode_whole
from torc_slurm.plots.model import Column, Series


def decoded(column: Encoded) -> list[float | None]:
    """As the page's script reads it."""
    values: list[float | None] = []
    total = 0
    for difference in json.loads(json.dumps(column["d"])):
        total += difference or 0
        values.append(None if difference is None else total * column.get("mul", 1) / column.get("div", 1))
    return values


@given(some.lists(some.one_of(some.none(), some.integers(0, 2**50))))
def test_whole_numbers_are_exact(values: Column) -> None:
    assert decoded(encode_whole(values)) == values


@given(some.lists(some.integers(1, 10**6).map(lambda pages: pages * 4096), min_size=2))
def test_memory_in_pages_is_written_in_pages(values: Column) -> None:
    assert encode_whole(values)["mul"] % 4096 == 0
    assert decoded(encode_whole(values)) == values


@given(some.lists(some.one_of(some.none(), some.floats(0, 1e6))))
def test_cpu_is_right_to_two_places(values: Column) -> None:
    for one, other in zip(decoded(encode_cpu(values)), values, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or abs(one - other) <= 0.00501


@given(some.lists(some.floats(1e9, 2e9), min_size=1))
def test_times_are_right_to_a_millisecond(times: list[float]) -> None:
    for one, other in zip(decoded(encode_times(times)), times, strict=True):
        assert one is not None
        assert abs(one / 1000 - other) <= 0.000_51


def test_a_series_keeps_its_gaps_and_columns() -> None:
    written = encode_series(Series([1.0, 2.0], ([1.5, None], [4096, 8192], [1, 2]), (0,)))
    assert written["breaks"] == [0]
    assert [decoded(column) for column in written["columns"]] == [[1.5, None], [4096, 8192], [1, 2]]
