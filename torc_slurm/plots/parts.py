"""Parts of figures: axes, panel titles, lines, request lines, marks; plain dictionaries.

The page's script adds to Plotly's keys: ``series`` and ``column`` of a trace name the page's measured values,
``points`` and ``spans`` have times, ``at`` is the time of a shape or an annotation; each with ``origin``, the time that
is zero on a relative axis. ``only`` is the clock under which it is drawn. Times are milliseconds since 1970.
"""

from __future__ import annotations

from typing import Any

from torc_slurm.plots.encode import milliseconds
from torc_slurm.plots.model import Number
from torc_slurm.plots.quoting import figure_text

Dictionary = dict[str, Any]

_TITLE_FONT = {"size": 12, "color": "@muted"}
CPU_AXIS = {"ticksuffix": " %", "title": {"text": "% of one core", "font": _TITLE_FONT}, "rangemode": "tozero"}
MEMORY_AXIS = {
    "tickformat": "~s",
    "ticksuffix": "B",
    "title": {"text": "bytes", "font": _TITLE_FONT},
    "rangemode": "tozero",
}
COUNT_AXIS = {"title": {"text": "processes", "font": _TITLE_FONT}, "rangemode": "tozero", "tickformat": "d"}
TIME_AXIS: Dictionary = {"ticksuffix": " min", "rangemode": "tozero", "nticks": 5}
IO_AXIS: Dictionary = {"tickformat": "~s", "ticksuffix": "B/s", "rangemode": "tozero", "nticks": 4}
IO_HOVER = "%{y:.3s}B/s"
CPU_HOVER = "%{y:.1f} %"
MEMORY_HOVER = "%{y:.4s}B"
COUNT_HOVER = "%{y}"
OWN_NAME = "<extra>%{fullData.name}</extra>"  # by reference: a foreign name in a template could be a template itself

_FAR_ABOVE = 12.0  # a request this many times above all use would flatten the data


def axis_name(letter: str, number: int) -> str:
    """``x``, ``x2``, …: the name of an axis in a trace; the first is 0."""
    return letter if number == 0 else f"{letter}{number + 1}"


def axis_key(letter: str, number: int) -> str:
    """``xaxis``, ``xaxis2``, …: the key of an axis in a layout."""
    return f"{letter}axis" if number == 0 else f"{letter}axis{number + 1}"


def panel_title(text: str, top: float) -> Dictionary:
    """A line of text above a panel; ``text`` must be safe for a figure."""
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": top,
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 4,
        "showarrow": False,
        "align": "left",
        "font": {"size": 14, "color": "@text"},
        "bgcolor": "@background/0.8",  # lines through all panels pass behind it
    }


def is_beyond(value: Number, top_of_data: Number | None, times: float = _FAR_ABOVE) -> bool:
    """Whether a line at this value, so many times above all data, would flatten the data."""
    return top_of_data is not None and value > top_of_data * times


def level_note(label: str, axis: int, role: str, value: Number) -> Dictionary:
    """The label of a horizontal line at ``value``, above its left end."""
    return _note(label, role) | {"yref": axis_name("y", axis), "y": value, "yanchor": "bottom"}


def beyond_note(label: str, axis: int, role: str) -> Dictionary:
    """A note at a panel's right end, instead of a line that is far above all data."""
    where = {"yref": f"{axis_name('y', axis)} domain", "y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"}
    return _note(f"↑ {label}, beyond this view", role) | where


def _note(text: str, role: str) -> Dictionary:
    return {
        "text": text,
        "xref": "paper",
        "x": 0,
        "xanchor": "left",
        "showarrow": False,
        "font": {"size": 11, "color": f"@{role}"},
        "bgcolor": "@background/0.7",
    }


def level(value: Number, label: str, axis: int, role: str, dash: str) -> Dictionary:
    """A horizontal line over the whole panel with its label: ``{"shapes": [...], "annotations": [...]}``."""
    y_axis = axis_name("y", axis)
    line: Dictionary = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "yref": y_axis,
        "y0": value,
        "y1": value,
        "line": {"color": f"@{role}", "width": 1.5, "dash": dash},
    }
    return {"shapes": [line], "annotations": [level_note(label, axis, role, value)]}


def moment(time: float, origin: float, label: str, role: str, top: float) -> Dictionary:
    """A vertical line through all panels at a Unix time, labelled along the line from ``top`` of the figure down."""
    when = {"at": milliseconds(time), "origin": milliseconds(origin)}
    line: Dictionary = when | {
        "type": "line",
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": f"@{role}", "width": 1.5 if role == "killed" else 1, "dash": "dot"},
    }
    note: Dictionary = when | {
        "text": label,
        "textangle": -90,
        "yref": "paper",
        "y": top,
        "xanchor": "right",
        "yanchor": "top",
        "showarrow": False,
        "font": {"size": 11, "color": f"@{role}"},
        "bgcolor": "@background/0.7",
    }
    return {"shapes": [line], "annotations": [note]}


def by_the_wall_clock(pieces: Dictionary) -> Dictionary:
    """The same, drawn only by wall-clock time: relative to their start, all attempts overlap."""
    return {name: [{**piece, "only": "wall"} for piece in items] for name, items in pieces.items()}


def add(layout: Dictionary, *pieces: Dictionary) -> None:
    """Add shapes and annotations to a layout."""
    for piece in pieces:
        for name, items in piece.items():
            layout.setdefault(name, []).extend(items)


def job_label(job_id: int | str, name: str, most: int = 48) -> str:
    """``3 · train``, safe for a figure; the number distinguishes jobs of the same name."""
    return f"{job_id} · {figure_text(name, most)}"


def counted(number: int, word: str) -> str:
    """``1 job``, ``1,000 jobs``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
