"""Rows as text for a terminal, as Markdown for the README, as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from bench.rows import ERROR, NOTHING, TIMES_BASE, TIMES_SIGN, Row
from bench.tools import NAMES

_HEAD = ("case", "goal", *NAMES, "measured against", "met")
# unit -> (factor from the measured unit: seconds, bytes, numbers; the printed unit)
UNITS = {
    "ms/s": (1e3, "ms/s"),
    "ms": (1e3, "ms"),
    "s": (1.0, "s"),
    "MB": (1e-6, "MB"),
    "": (1.0, ""),
}
NOT_RUN, NO_FIGURE = "", "none"


def in_unit(figure: float, unit: str) -> str:
    """Three digits and the unit."""
    factor, name = UNITS[unit]
    value = figure * factor
    if value and abs(value) < 1000:
        digits = max(0, 2 - _magnitude(value))
        return f"{value:.{digits}f} {name}".rstrip()
    return f"{value:.0f} {name}".rstrip()


def _magnitude(value: float) -> int:
    """0 for 1 to 9.99, 1 for 10 to 99.9, -1 for 0.1 to 0.999."""
    return int(f"{value:.2e}".partition("e")[2])


def ratio_text(shown: str, ratio: float | None) -> str:
    """The text after a figure: 64 times, or -98.1 %."""
    if ratio is None or shown == NOTHING:
        return ""
    if shown == ERROR:
        return f" ({ratio * 100:+.1f} %)".replace("-", "\N{MINUS SIGN}")
    return f" ({ratio:.2f} {TIMES_SIGN})" if shown == TIMES_BASE or ratio < 10 else f" ({ratio:.0f} {TIMES_SIGN})"


def cell(row: Row, tool: str) -> str:
    """A tool's figure; empty if it was not run, ``none`` if it has no such figure."""
    if tool not in row.figures:
        return NOT_RUN
    figure = row.figures[tool]
    if figure is None:
        return NO_FIGURE
    return in_unit(figure, row.unit) + ratio_text(row.shown, row.ratios.get(tool))


def _cells(row: Row) -> list[str]:
    base = "" if row.base is None else f"{in_unit(row.base, row.unit)} {row.base_name}"
    met = {True: "yes", False: "NO", None: ""}[row.met]
    return [row.what, row.goal, *(cell(row, tool) for tool in NAMES), base, met]


def as_text(rows: Sequence[Row]) -> str:
    """Columns padded with spaces."""
    lines = [list(_HEAD), *(_cells(row) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(_HEAD))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def as_markdown(rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """A table for the README, and below it when, where and with what it was measured."""
    lines = [list(_HEAD), ["---"] * len(_HEAD), *(_cells(row) for row in rows)]
    table = "\n".join(f"| {' | '.join(text.replace('|', '/') for text in line)} |" for line in lines)
    return f"{table}\n\n{sentence(facts)}\n"


def sentence(facts: Mapping[str, str]) -> str:
    """``date: 2025-01-01; cores: 2; …``"""
    return "; ".join(f"{name}: {text}" for name, text in facts.items() if text) + "."


def as_json(rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """Everything in base units (seconds, bytes), unrounded."""
    return json.dumps({"machine": dict(facts), "rows": [row._asdict() for row in rows]}, indent=1, default=dict)
