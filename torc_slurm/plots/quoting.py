"""The only place that makes foreign text safe for a figure: shown as it is, never as markup, of limited length.

Plotly interprets a few HTML tags and entities in titles, names and labels, and ``%{...}`` in templates. Foreign text is
never put into a template; elsewhere its ``&``, ``<`` and ``>`` become entities, which Plotly decodes after it has
looked for tags. jinja2 escapes HTML, and the page's script sets text as text.
"""

from __future__ import annotations

from torc_slurm.common.text import printable, shortened

MOST_CHARACTERS = 80
MOST_CHARACTERS_OF_A_TICK = 28
MOST_CHARACTERS_OF_A_TEXT = 2000
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def plain(text: str, most: int = MOST_CHARACTERS) -> str:
    """For places that show plain text: one line, control characters and direction marks as escapes, limited length.

    A long name loses its middle, because similar names differ at the end.
    """
    return printable(shortened(text, most))


def figure_text(text: str, most: int = MOST_CHARACTERS) -> str:
    """For a name, title, label or hover text of a figure."""
    return plain(text, most).translate(_MARKUP)
