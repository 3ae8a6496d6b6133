"""Tables: aligned, one line a row, and never wider than the terminal where columns may be left out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.cli.render import Column, emit_csv, emit_items, emit_table, fitting

columns = st.lists(st.builds(Column, st.just("t"), st.booleans(), st.integers(0, 5)), min_size=1, max_size=8)


@given(columns, st.integers(0, 100), st.data())
def test_what_fits_is_shown_and_what_must_be_shown_stays(table: list[Column], room: int, data: st.DataObject) -> None:
    widths = data.draw(st.lists(st.integers(0, 40), min_size=len(table), max_size=len(table)))
    kept = fitting(table, widths, room)
    assert set(kept) >= {index for index, column in enumerate(table) if not column.optional}
    total = sum(widths[index] + 2 for index in kept) - 2
    assert total <= room or not any(table[index].optional for index in kept)
    hidden = set(range(len(table))) - set(kept)
    assert all(table[out].optional >= table[stays].optional for out in hidden for stays in kept)


def test_columns_are_aligned_also_with_wide_characters(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table([Column("Name"), Column("n", right=True)], [["名前", "1"], ["abc", "200"]])
    assert capsys.readouterr().out.splitlines() == ["Name    n", "----  ---", "名前    1", "abc   200"]


def test_a_table_without_rows_has_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table([Column("Name")], [])
    assert capsys.readouterr().out.splitlines() == ["Name", "----"]


@pytest.mark.parametrize("count", [0, 1, 200, 201])
def test_many_items_are_the_same_document_as_few(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    items = [{"number": number, "none": None, "text": "\x1b\n\u202e"} for number in range(count)]
    emit_items(items)
    text = capsys.readouterr().out
    assert json.loads(text) == {"items": items}
    assert all(character == "\n" or character.isprintable() for character in text)


def test_csv_quotes_and_leaves_null_empty(capsys: pytest.CaptureFixture[str]) -> None:
    emit_csv(["a", "b"], [{"a": 'x,"y"', "b": None}, {"a": "two\nlines", "b": 0}])
    assert capsys.readouterr().out == 'a,b\n"x,""y""",\ntwo\\nlines,0\n'
