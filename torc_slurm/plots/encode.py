"""Encodes numbers for the page: integers as differences, which compress well, with a factor.

``{"d": [first, difference, ...], "mul": m, "div": n}`` means running sum x m / n. null stays null, and the sum
continues after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from operator import sub
from typing import Any

from torc_slurm.plots.model import Column, Series

Encoded = dict[str, Any]
Writer = Callable[[Column], Encoded]
_CPU_STEPS_PER_PERCENT = 100  # 0.01 %, finer than any displayed figure
_MILLISECONDS = 1000


def encode_cpu(values: Column) -> Encoded:
    """CPU percentages with two decimals."""
    return _differences([_scaled(value, _CPU_STEPS_PER_PERCENT) for value in values]) | {"div": _CPU_STEPS_PER_PERCENT}


def encode_whole(values: Column) -> Encoded:
    """Whole numbers, exactly; memory as a number of pages if all of it is whole pages."""
    whole = [_scaled(value, 1) for value in values]
    unit = math.gcd(*(value for value in set(whole) if value is not None)) or 1
    if unit > 1:
        whole = [None if value is None else value // unit for value in whole]
    return _differences(whole) | {"mul": unit}


def encode_times(times: Sequence[float]) -> Encoded:
    """Unix seconds as milliseconds."""
    return _differences([round(time * _MILLISECONDS) for time in times])


def encode_series(series: Series, writers: Sequence[Writer] = ()) -> Encoded:
    """Times, gaps and columns, each with its writer; without ``writers``: CPU, memory and processes."""
    chosen = writers or (encode_cpu, encode_whole, encode_whole)
    columns = [write(column) for write, column in zip(chosen, series.columns, strict=True)]
    return {"t": encode_times(series.times), "breaks": list(series.breaks), "columns": columns}


def milliseconds(time: float) -> int:
    """A Unix time in milliseconds."""
    return round(time * _MILLISECONDS)


def _scaled(value: float | None, steps: int) -> int | None:
    return None if value is None else round(value * steps)


def _differences(values: Sequence[int | None]) -> Encoded:
    if not values:
        return {"d": []}
    if None not in values:
        return {"d": list(chain((values[0],), map(sub, values[1:], values)))}
    found: list[int | None] = []
    before = 0
    for value in values:
        found.append(None if value is None else value - before)
        before = before if value is None else value
    return {"d": found}
