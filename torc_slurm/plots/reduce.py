"""Shortens a long series without losing a peak or a trough; pure.

The series is cut into pieces with the same number of samples. Of each piece remain its first and last sample, for every
column its highest and its lowest sample, a sample without a value, and both ends of its longest gap. So the line
reaches as high and as low as the full series in every piece, a short spike does not look wider than a piece, and a
broken line stays broken.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torc_slurm.plots.model import Column, Series

_GAP_FACTOR = 3.5  # this many intervals without a sample are a gap


def series_of(times: Sequence[float], columns: Sequence[Column], interval_seconds: float | None) -> Series:
    """A series and its gaps: longer than a few of the intervals at which samples were due.

    Args:
        interval_seconds: None: unknown; then the median interval is used.
    """
    interval = interval_seconds or _median_interval(times)
    longest = interval * _GAP_FACTOR
    breaks = [place for place, (one, next_one) in enumerate(pairwise(times)) if next_one - one > longest]
    return Series(times, tuple(columns), tuple(breaks) if longest > 0 else ())


def _median_interval(times: Sequence[float]) -> float:
    intervals = sorted(next_one - one for one, next_one in pairwise(times))
    return intervals[len(intervals) // 2] if intervals else 0.0


def reduced(series: Series, most: int) -> Series:
    """The series with about ``most`` samples, more if it has many gaps; unchanged if it is not longer than that."""
    if len(series) <= most:
        return series
    of_a_stretch = 2 * len(series.columns) + 2  # highest and lowest of each column, first and last; gaps add to this
    width = -(-len(series) // max(1, most // of_a_stretch))
    kept = positions_to_keep(series, width)
    return Series(
        _picked(series.times, kept),
        tuple(_picked(column, kept) for column in series.columns),
        _breaks_between(kept, series.breaks),
    )


def _picked(values: Sequence[Any], places: Sequence[int]) -> Any:  # noqa: ANN401 - the same type of sequence
    """The values at these places; of an array an array, which takes a quarter of a list's memory."""
    picked = map(values.__getitem__, places)
    return array(values.typecode, picked) if isinstance(values, array) else list(picked)


def positions_to_keep(series: Series, width: int) -> list[int]:
    """The samples to keep, in order, with ``width`` samples per piece."""
    kept: set[int] = set()
    for begin in range(0, len(series), width):
        kept.update((begin, min(begin + width, len(series)) - 1))
        for column in series.columns:
            kept.update(_extremes(column[begin : begin + width], begin))
        kept.update(_ends_of_longest_gap(series, begin, begin + width))
    return sorted(kept)


def _extremes(values: Column, begin: int) -> list[int]:
    if isinstance(values, array) or None not in values:
        return [begin + values.index(max(values)), begin + values.index(min(values))]
    known = [value for value in values if value is not None]
    places = [values.index(max(known)), values.index(min(known))] if known else []
    return [begin + place for place in (*places, values.index(None))]


def _ends_of_longest_gap(series: Series, begin: int, end: int) -> tuple[int, ...]:
    places = series.breaks[bisect_left(series.breaks, begin) : bisect_left(series.breaks, end)]
    if not places:
        return ()
    longest = max(places, key=lambda place: series.times[place + 1] - series.times[place])
    return longest, longest + 1


def _breaks_between(kept: Sequence[int], breaks: Sequence[int]) -> tuple[int, ...]:
    """The breaks of the shortened series: wherever there was one between two kept samples."""
    return tuple(sorted({max(0, bisect_left(kept, place + 1) - 1) for place in breaks}))
