"""An answer is the same in every format; items are written as they come, and read once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.cli.answer import Answer, Item, one, write
from torc_slurm.cli.json_text import indented
from torc_slurm.cli.options import Format
from torc_slurm.cli.table import Column, Table
from torc_slurm.common.same_keys import SameKeys


@pytest.mark.parametrize("count", [0, 1, 200, 201, 1500])
def test_many_items_are_the_same_document_as_few(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    items = [{"number": number, "none": None, "text": "\x1b\n\u202e"} for number in range(count)]
    write(Answer(items=iter(items)), Format.json)
    text = capsys.readouterr().out
    assert json.loads(text) == {"items": items}
    assert all(character == "\n" or character.isprintable() for character in text)


@pytest.mark.parametrize("count", [0, 1, 200, 201, 1500])
@pytest.mark.parametrize("chosen_format", [Format.json, Format.csv])
def test_rows_and_their_keys_are_written_as_mappings_are(
    count: int, chosen_format: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(number, None, "\u202e", number / 7 if number % 3 else None) for number in range(count)]
    items = SameKeys(("number", "none", "text", "size"), rows)
    written = []
    for each in (items, list(items)):
        write(Answer(keys=items.keys, items=each), chosen_format)
        written.append(capsys.readouterr().out)
    assert written[0] == written[1]


@pytest.mark.parametrize("count", [0, 1, 501])
def test_csv_has_a_line_for_each_item(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    write(Answer(keys=["n"], items=({"n": number, "more": 1} for number in range(count))), Format.csv)
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [["n"], *([str(n)] for n in range(count))]


def test_csv_quotes_and_leaves_null_empty(capsys: pytest.CaptureFixture[str]) -> None:
    items: list[Item] = [{"a": 'x,"y"', "b": None}, {"a": "two\nlines", "b": 0}, {"a": [1, "z"], "b": True}]
    write(Answer(keys=["a", "b"], items=items), Format.csv)
    assert capsys.readouterr().out == 'a,b\n"x,""y""",\ntwo\\nlines,0\n"[1, ""z""]",1\n'


def test_an_object_is_one_document_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    answer = one({"id": 3, "what": None}, "Done.")
    written = []
    for chosen_format in Format:
        write(answer, chosen_format)
        written.append(capsys.readouterr().out)
    assert written == ["Done.\n", '{\n  "id": 3,\n  "what": null\n}\n', "id,what\n3,\n"]


def test_tables_and_notes_stand_apart_and_an_empty_table_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    tables = [Table([Column("A")], []), Table([Column("B")], [["1"]]), Table([Column("C")], [["2"]])]
    write(Answer(tables=tables, notes=["note"], aside=["aside"]), Format.table)
    assert capsys.readouterr().out.splitlines() == ["B", "-", "1", "", "C", "-", "2", "", "note", "aside"]
    write(Answer(tables=[tables[0]], notes=["nothing"]), Format.table)
    assert capsys.readouterr().out == "nothing\n"


def test_aside_goes_to_stderr_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    write(Answer(document={"a": 1}, notes=["note"], aside=["the difference"]), Format.json)
    captured = capsys.readouterr()
    assert (json.loads(captured.out), captured.err) == ({"a": 1}, "the difference\n")


def test_nothing_is_made_for_another_format(capsys: pytest.CaptureFixture[str]) -> None:
    def never() -> Iterator[str]:
        raise AssertionError("notes are for tables")
        yield ""

    write(Answer(items=[{"a": 1}], notes=never()), Format.json)
    assert json.loads(capsys.readouterr().out) == {"items": [{"a": 1}]}


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("-20.0%", "-20.0%"),
        ("a=b", "a=b"),
        (-5, -5),
    ],
)
def test_a_csv_cell_is_no_formula(value: str | int, cell: str | int, capsys: pytest.CaptureFixture[str]) -> None:
    write(Answer(items=iter([{"value": value}]), keys=("value",)), Format.csv)
    assert list(csv.reader(io.StringIO(capsys.readouterr().out)))[1] == [str(cell)]


_VALUES: list[object] = [
    None,
    0,
    -(2**70),
    1.5,
    -0.0,
    1e300,
    1e-7,
    True,
    False,
    "",
    'é"\\\n\x7f100%s: inf',
    [],
    {},
    [1, None],
    {"a": {"b": ": nan"}},
]


def test_many_items_are_written_as_json_writes_each(capsys: pytest.CaptureFixture[str]) -> None:
    """The keys may differ, and contain what a template would take for its own."""
    items = [{f"a{number % 3}%": value, '"%s': value} for number, value in enumerate(_VALUES * 20)]
    write(Answer(items=iter(items)), Format.json)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ['{"items": [', *(json.dumps(item) + "," for item in items[:-1]), json.dumps(items[-1]), "]}"]


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_many_items_never_hold_what_is_no_json(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write(Answer(items=[{"a": number}] * 201), Format.json)
    with pytest.raises(ValueError, match="JSON"):
        write(Answer(document={"a": [{"b": 1, "c": number}] * 3}), Format.json)


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_DOCUMENTS = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)
)


@given(_DOCUMENTS, st.lists(st.text(), unique=True), st.lists(_DOCUMENTS, max_size=12))
def test_a_document_is_written_as_json_writes_it(document: object, keys: list[str], values: list[object]) -> None:
    """Also with many items of the same keys in it."""
    items = [dict.fromkeys(keys, value) for value in values]
    for whole in (document, items, {"a": items, "%s": document}):
        assert indented(whole) == json.dumps(whole, indent=2, allow_nan=False)
