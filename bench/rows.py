"""A row of the result: one figure of every tool, its reference, and whether the goal is met. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bench.figures import times
from bench.tools import TORC_STEP

TIMES_SIGN = "\N{MULTIPLICATION SIGN}"

# The value in brackets after a figure.
TIMES_OURS = "times ours"  # a peer's cost relative to torc-step's
TIMES_BASE = "times base"  # relative to the base: a bare Python
ERROR = "error"  # relative to the truth
NOTHING = "nothing"


class Row(NamedTuple):
    """``figures`` by tool: None if the tool has no such figure; a tool that is absent was not run."""

    case: str
    what: str
    unit: str  # a key of UNITS in table.py
    figures: Mapping[str, float | None]
    shown: str = NOTHING
    ratios: Mapping[str, float | None] = {}
    base: float | None = None
    base_name: str = ""
    goal: str = ""
    met: bool | None = None


def cost_row(
    case: str, what: str, unit: str, figures: Mapping[str, float | None], limit: float | None = None, base: float = 0.0
) -> Row:
    """A monitoring cost; in brackets how many times torc-step's figure a peer's is; ``base``: a bare Python's."""
    ours = figures.get(TORC_STEP)
    ratios = {name: times(figure, ours) for name, figure in figures.items() if name != TORC_STEP}
    row = Row(case, what, unit, figures, TIMES_OURS, ratios, *_python(base))
    return row if limit is None else _with_goal(row, f"≤ {limit:g}", ours, limit)


def versus_row(
    case: str, what: str, unit: str, figures: Mapping[str, float | None], base: float, limit: float | None
) -> Row:
    """In brackets how many times a bare Python's figure each is; the limit applies to that."""
    ratios = {name: times(figure, base) for name, figure in figures.items()}
    row = Row(case, what, unit, figures, TIMES_BASE, ratios, *_python(base))
    return row if limit is None else _with_goal(row, f"≤ {limit:g} {TIMES_SIGN}", ratios.get(TORC_STEP), limit)


def error_row(
    case: str,
    what: str,
    unit: str,
    figures: Mapping[str, float | None],
    errors: Mapping[str, float | None],
    truth: float | None,
    truth_name: str,
    limit: float,
) -> Row:
    """A measured figure; in brackets its error, which may be up to ``limit`` (0.01 is 1 %)."""
    row = Row(case, what, unit, figures, ERROR, errors, truth, truth_name)
    error = errors.get(TORC_STEP)
    return _with_goal(row, f"± {limit * 100:g} %", None if error is None else abs(error), limit)


def _python(base: float) -> tuple[float | None, str]:
    return (base, "bare Python") if base else (None, "")


def _with_goal(row: Row, goal: str, ours: float | None, limit: float) -> Row:
    """``met`` stays None if torc-step was not run; a missing figure misses the goal."""
    if TORC_STEP not in row.figures:
        return row._replace(goal=goal)
    return row._replace(goal=goal, met=ours is not None and ours <= limit)
