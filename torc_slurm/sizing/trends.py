"""Memory and run time that follow a number: a note of torc-step, a workflow's parameter, an array index.

numpy, which is an extra of the package, fits the straight line. A line is shown only if the evidence is clear, so that
torc reports no trend where there is none.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from torc_slurm.common.units import format_memory, scaled
from torc_slurm.sizing.evidence import Resource, is_sure, measured, show_used
from torc_slurm.sizing.facts import AttemptEnd, Facts, Requirement

ARRAY_INDEX = "array index"
NEEDS_NUMPY = (
    "torc did not check whether memory or run time depends on a note, a parameter or the array index, because numpy is "
    "missing: install it into torc's environment (pip install numpy)"
)
_LEAST_POINTS = 8
_LEAST_VALUES = 4  # different values of the number
_LEAST_R_SQUARED = 0.9
_LEAST_T = 4.0  # the slope over its standard error
_LEAST_SHARE = 0.2  # of the largest use: the least change over the values seen
_MOST_DRIFT = 0.3  # of the slope: the largest change without the points at the largest value
_SPARE = Decimal("1.2")

Point = tuple[Mapping[str, float], float]


class Trend(NamedTuple):
    """use = intercept + slope x key, over ``number`` attempts with values from ``lowest`` to ``highest``."""

    key: str
    intercept: float
    slope: float
    number: int
    r_squared: float
    lowest: float
    highest: float

    def at(self, value: float) -> float:
        """The predicted use."""
        return self.intercept + self.slope * value


class Found(NamedTuple):
    """A trend of one resource of a requirement, and the largest use of its attempts."""

    requirement: Requirement
    resource: Resource
    trend: Trend
    most_used: float

    @property
    def sentence(self) -> str:
        """The line, its predictions plus 20 % at both ends, and the request from the largest use alone."""
        trend, resource = self.trend, self.resource
        word = "memory" if resource is Resource.memory else "run time"
        ends = [
            f"{show_used(scaled(max(trend.at(value), 0.0), _SPARE), resource)} at {trend.key} {value:g}"
            for value in (trend.lowest, trend.highest)
        ]
        quality = f"{trend.number} attempts, R² {trend.r_squared:.2f}"
        return (
            f"{self.requirement.name}: {word} ≈ {_formula(trend, resource)} ({quality}): "
            f"times {_SPARE:f} that is {' and '.join(ends)}; one request for all of them "
            f"needs {show_used(scaled(self.most_used, _SPARE), resource)}"
        )

    def document(self) -> dict[str, object]:
        """For JSON: bytes or seconds."""
        return {
            "resource_requirements_id": self.requirement.resource_requirements_id,
            "name": self.requirement.name,
            "resource_type": self.resource.value,
            **self.trend._asdict(),
            "predicted_at_lowest": self.trend.at(self.trend.lowest),
            "predicted_at_highest": self.trend.at(self.trend.highest),
            "most_used": self.most_used,
        }


class Trends(NamedTuple):
    """The trends found. ``needs_numpy``: there are numbers to fit, but numpy is missing."""

    found: tuple[Found, ...] = ()
    needs_numpy: bool = False

    @property
    def sentences(self) -> list[str]:
        return [NEEDS_NUMPY] if self.needs_numpy else [each.sentence for each in self.found]


NO_TRENDS = Trends()


def trends_of(facts: Facts) -> Trends:
    """For each requirement, the memory and the run time that follow a number in its completed attempts."""
    found = []
    for requirement in sorted(facts.requirements, key=lambda each: each.resource_requirements_id):
        for resource in (Resource.memory, Resource.runtime):
            points = list(_points(facts, requirement, resource))
            series = {key: pairs for key, pairs in _by_key(points).items() if _is_enough(pairs)}
            if not series:
                continue
            try:
                import numpy  # noqa: F401 - an extra: loaded only if there is something to fit
            except ImportError:
                return Trends(needs_numpy=True)
            lines = [line for key, pairs in series.items() if (line := fit(key, pairs)) is not None]
            if lines:
                best = max(lines, key=lambda each: each.r_squared)
                found.append(Found(requirement, resource, best, max(used for _, used in points)))
    return Trends(tuple(found))


def fit(key: str, pairs: Sequence[tuple[float, float]]) -> Trend | None:
    """The straight line through pairs of a number and a use; None if they are not clearly on a line."""
    line = _line(pairs)
    numbers, uses = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    lowest, highest = min(numbers), max(numbers)
    if line is None or line[2] < _LEAST_R_SQUARED:
        return None
    slope, intercept, r_squared = line
    t_squared = r_squared * (len(pairs) - 2) / max(1 - r_squared, 1e-12)
    if t_squared < _LEAST_T**2 or abs(slope) * (highest - lowest) < _LEAST_SHARE * max(uses):
        return None
    without_last = _line([pair for pair in pairs if pair[0] < highest])
    if without_last is None or abs(without_last[0] - slope) > _MOST_DRIFT * abs(slope):
        return None  # only the points at the largest value make the line
    return Trend(key, intercept, slope, len(pairs), r_squared, lowest, highest)


def numbers_in(text: object) -> dict[str, float]:
    """The numbers of a JSON object, in which notes and parameters are stored; none for other JSON."""
    try:
        values = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    if not isinstance(values, dict):
        return {}
    numbers = {key: value for key, value in values.items() if type(value) in (int, float)}
    return {key: float(value) for key, value in numbers.items() if abs(value) <= sys.float_info.max}


def _points(facts: Facts, requirement: Requirement, resource: Resource) -> Iterator[Point]:
    for job in facts.sharing(requirement):
        for attempt in job.attempts:
            used = measured(attempt, resource)
            is_good = resource is not Resource.memory or is_sure(attempt, resource)
            if attempt.end is AttemptEnd.completed and is_good and used is not None:
                yield attempt.numbers, float(used)


def _by_key(points: Sequence[Point]) -> dict[str, list[tuple[float, float]]]:
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for numbers, used in points:
        for key, value in numbers.items():
            found[key].append((value, used))
    return found


def _is_enough(pairs: Sequence[tuple[float, float]]) -> bool:
    return len(pairs) >= _LEAST_POINTS and len({number for number, _ in pairs}) >= _LEAST_VALUES


def _line(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float] | None:
    """Slope, intercept and R² by least squares; None if either side does not vary."""
    import numpy as np

    x, y = np.array(pairs, dtype=float).reshape(-1, 2).T
    if len(set(x.tolist())) < 2 or len(set(y.tolist())) < 2:
        return None
    scale = float(np.abs(x).max())  # large numbers make the fit badly conditioned
    slope, intercept = np.polyfit(x / scale, y, 1)
    r_squared = float(np.corrcoef(x, y)[0, 1] ** 2)
    values = (float(slope) / scale, float(intercept), r_squared)
    return values if np.isfinite(values).all() else None


def _formula(trend: Trend, resource: Resource) -> str:
    def write(amount: float) -> str:
        return format_memory(amount) if resource is Resource.memory and amount >= 10 else f"{amount:.3g} {unit}"

    unit = "B" if resource is Resource.memory else "s"
    sign = "+" if trend.slope >= 0 else "−"
    if trend.intercept < 0 <= trend.slope:
        return f"{write(trend.slope)} × {trend.key} − {write(-trend.intercept)}"
    return f"{write(abs(trend.intercept))} {sign} {write(abs(trend.slope))} × {trend.key}"
