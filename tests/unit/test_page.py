"""A page's data is the JSON of its content, in gzip, however many rows it has; long tables never lie in memory."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as some

from torc_slurm.plots.page import DataTable, json_pieces, packed

CELLS = some.one_of(some.none(), some.integers(), some.floats(allow_nan=False, allow_infinity=False), some.text())
ROWS = some.lists(some.lists(some.one_of(CELLS, some.lists(CELLS, max_size=4)), max_size=5), max_size=20)
VALUES = some.recursive(CELLS, lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner), max_leaves=20)


@given(VALUES, ROWS, some.integers(1, 3))
def test_the_pieces_are_the_json_of_the_whole(value: object, rows: list[list[object]], times: int) -> None:
    columns: list[dict[str, object]] = [{"title": "Ä", "number": True}]
    many = rows * times * 100
    content = {"value": value, "tables": {"jobs": DataTable(columns, lambda: iter(many))}, "end": {}}
    plain = {"value": value, "tables": {"jobs": {"columns": columns, "rows": many}}, "end": {}}
    assert "".join(json_pieces(content)) == json.dumps(plain, separators=(",", ":"))


def test_rows_are_made_while_they_are_written() -> None:
    made: list[int] = []

    def rows() -> Iterator[list[int]]:
        for number in range(100_000):
            made.append(number)
            yield [number]

    pieces = json_pieces({"jobs": DataTable([], rows)})
    assert "".join(islice(pieces, 4)).startswith('{"jobs":{"columns":[],"rows":[[0],[1],')
    assert 0 < len(made) <= 1000


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        "".join(json_pieces({"jobs": DataTable([], lambda: [[float("nan")]])}))


@given(some.lists(some.binary(max_size=200), max_size=30))
def test_packed_in_pieces_is_packed_as_a_whole(pieces: list[bytes]) -> None:
    many = pieces * 40
    assert packed(many) == packed([b"".join(many)])
    assert gzip.decompress(base64.b64decode(packed(many))) == b"".join(many)
