"""Foreign text in figures: never markup, never a control character, of limited length."""

from __future__ import annotations

import html

from hypothesis import given
from hypothesis import strategies as some
from plot_files import HOSTILE

from torc_slurm.common.text import printable
from torc_slurm.plots.quoting import figure_text, plain


@given(some.text())
def test_figure_text_has_no_markup_and_says_the_same(text: str) -> None:
    made = figure_text(text)
    assert not set("<>") & set(made)
    assert html.unescape(made) == plain(text) or "&" in plain(text)
    assert made.isprintable() or not made


def test_what_looks_like_an_entity_is_shown_as_it_is() -> None:
    assert figure_text("&lt;b&gt;") == "&amp;lt;b&amp;gt;"


def test_hostile_names_are_one_printable_line() -> None:
    made = plain(HOSTILE, 1000)
    assert made.isprintable()
    assert "\\u202e" in made
    assert "\\n" in made
    assert len(plain("x" * 10_000)) == 80


def test_the_terminal_and_the_page_quote_alike() -> None:
    assert plain(HOSTILE, 1000) == printable(HOSTILE)
