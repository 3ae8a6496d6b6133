"""Tables: aligned, one line per row, and no wider than the terminal if names or columns can be shortened."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.cli.table import Cell, Column, Table, chosen, fitting, lines_of

columns = st.lists(
    st.builds(Column, st.just("t"), st.booleans(), st.integers(0, 5), st.sampled_from([0, 0, 4, 12])),
    min_size=1,
    max_size=8,
)


@given(columns, st.integers(0, 100), st.data())
def test_what_fits_is_shown_and_what_must_be_shown_stays(table: list[Column], room: int, data: st.DataObject) -> None:
    needed = data.draw(st.lists(st.integers(1, 40), min_size=len(table), max_size=len(table)))
    kept = fitting(table, needed, room)
    assert set(kept) >= {index for index, column in enumerate(table) if not column.optional}
    total = sum(width + 2 for width in kept.values()) - 2
    shortest = sum(min(needed[place], table[place].least or needed[place]) + 2 for place in kept) - 2
    assert total <= room or (not any(table[index].optional for index in kept) and total == shortest)
    hidden = set(range(len(table))) - set(kept)
    assert all(table[out].optional >= table[stays].optional for out in hidden for stays in kept)
    assert all(width <= needed[place] for place, width in kept.items())
    assert all(width == needed[place] for place, width in kept.items() if not table[place].least)


def test_names_are_shortened_before_a_column_is_left_out() -> None:
    table = [Column("Name", least=8), Column("State"), Column("Note", optional=1)]
    assert fitting(table, [30, 9, 10], 80) == {0: 30, 1: 9, 2: 10}
    assert fitting(table, [30, 9, 10], 40) == {0: 17, 1: 9, 2: 10}
    assert fitting(table, [30, 9, 10], 30) == {0: 19, 1: 9}


def lines(table: Table, room: int | None = None) -> list[str]:
    return list(lines_of(table, room=room, colour=False))


def test_columns_are_aligned_also_with_wide_characters() -> None:
    table = Table([Column("Name"), Column("n", right=True)], [["名前", "1"], ["abc", "200"]])
    assert lines(table) == ["Name    n", "----  ---", "名前    1", "abc   200"]


def test_a_table_without_rows_has_its_header() -> None:
    assert lines(Table([Column("Name")], [])) == ["Name", "----"]


def test_a_name_is_shortened_in_its_middle() -> None:
    table = Table([Column("Name", least=8), Column("n", right=True)], [["train_resnet50_fold_17", "1"]])
    last = lines(table, 16)[-1]
    assert len(last) == 16
    assert last.startswith("train_")
    assert "…" in last
    assert last.endswith("_17  1")


def test_what_is_left_out_is_named() -> None:
    table = Table([Column("Name"), Column("Note", optional=1)], [["a", "x" * 50]], all_by="--all-columns")
    assert lines(table, 20) == ["Name", "----", "a", "No room for: Note (--all-columns shows them)"]


@given(st.text(alphabet="ab名é", max_size=60), st.integers(20, 90))
def test_no_line_is_wider_than_the_room(name: str, room: int) -> None:
    from rich.cells import cell_len

    table = Table([Column("Name", least=6), Column("State"), Column("Note", optional=1)], [[name, "running", "note"]])
    assert all(cell_len(line) <= room for line in lines(table, room)[:3])


def test_columns_are_chosen_by_name_in_the_order_given() -> None:
    table = Table([Column("Job ID"), Column("Name", optional=1), Column("by", key="source")], [["1", "a", "b"]])
    assert lines(chosen(table, ["source", "job_id"])) == ["by  Job ID", "--  ------", "b   1"]


def test_a_level_is_a_colour_and_changes_no_width() -> None:
    table = Table([Column("Use", right=True)], [[Cell("7%", "bad")], ["100%"]])
    coloured = list(lines_of(table, colour=True))
    assert coloured[2] == "  \x1b[31m7%\x1b[0m"
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in coloured] == lines(table)
