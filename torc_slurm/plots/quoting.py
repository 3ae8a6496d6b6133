"""The one place where foreign text becomes text of a figure: shown as it is, never as markup, never endless.

Plotly takes a few HTML tags and entities in titles, names and labels, and ``%{...}`` in templates. Foreign text stands
in no template; elsewhere its ``&``, ``<`` and ``>`` are entities, which Plotly decodes after it has looked for tags.
HTML itself is escaped by jinja2, and what the page's script shows it sets as text.
"""

from __future__ import annotations

from torc_slurm.text import printable, shortened

MOST_CHARACTERS = 80
MOST_CHARACTERS_OF_A_TICK = 28
MOST_CHARACTERS_OF_A_TEXT = 2000
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def plain(text: str, most: int = MOST_CHARACTERS) -> str:
    """For a place that takes text as text: one line, control characters and direction marks as escapes, not endless.

    A long name loses its middle: names that belong together differ at the end.
    """
    return printable(shortened(text, most))


def figure_text(text: str, most: int = MOST_CHARACTERS) -> str:
    """For a name, title, label or hover text of a figure."""
    return plain(text, most).translate(_MARKUP)
