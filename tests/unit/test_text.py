"""Foreign text on a terminal: nothing in it takes effect, and every answer stays one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.common.text import printable, storable


@given(st.text(alphabet=st.characters()), st.none() | st.integers(1, 50))
def test_nothing_unprintable_gets_through(text: str, most: int | None) -> None:
    shown = printable(text, most)
    assert shown.isprintable()
    assert not text.isprintable() or most is not None or shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name", "plain name"),
        ("[red]größe[/red] 名前", "[red]größe[/red] 名前"),
        ("two\nlines\t\r", "two\\nlines\\t\\r"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),  # the one-byte form of ESC [
        ("txt\u202egpj", "txt\\u202egpj"),  # changes the direction of writing
        ("\udcff", "\\udcff"),  # a byte of a file name that is not UTF-8
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_a_terminal_would_act_on_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut() -> None:
    assert printable("x" * 10_000, 5) == "xxxx…"
    assert printable("xxxxx", 5) == "xxxxx"


@given(st.binary())
def test_any_decoded_bytes_can_be_stored_and_distinguished(name: bytes) -> None:
    kept = str(storable(name.decode("utf-8", "surrogateescape")))
    kept.encode()
    assert kept == name.decode("utf-8", "backslashreplace")


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=[])))
def test_any_text_can_be_kept_and_good_text_stays(text: str) -> None:
    kept = str(storable(text))
    kept.encode()
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert kept == text
