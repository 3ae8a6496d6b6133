"""The reduced series compared with the full one: no peak and no trough disappears, gaps stay the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from torc_slurm.plots.model import Column, Series
from torc_slurm.plots.reduce import positions_to_keep, reduced, series_of

VALUES = some.one_of(some.none(), some.integers(-50, 50), some.floats(-1e12, 1e12))


@some.composite
def any_series(draw: some.DrawFn) -> Series:
    length = draw(some.integers(1, 400))
    intervals = draw(some.lists(some.sampled_from((1.0, 1.0, 1.0, 2.0, 60.0)), min_size=length, max_size=length))
    times = [sum(intervals[: place + 1]) for place in range(length)]
    columns = draw(some.lists(some.lists(VALUES, min_size=length, max_size=length), min_size=1, max_size=3))
    return series_of(times, columns, 1.0)


def extremes(values: Column) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


@given(any_series(), some.integers(1, 40))
def test_every_stretch_keeps_its_highest_and_lowest_of_every_column(series: Series, width: int) -> None:
    kept = set(positions_to_keep(series, width))
    for begin in range(0, len(series), width):
        stretch = range(begin, min(begin + width, len(series)))
        for column in series.columns:
            full = [column[place] for place in stretch]
            assert extremes([column[place] for place in stretch if place in kept]) == extremes(full)


@given(any_series(), some.integers(1, 200))
def test_the_whole_reaches_as_high_and_as_low_and_as_far(series: Series, most: int) -> None:
    short = reduced(series, most)
    assert [extremes(column) for column in short.columns] == [extremes(column) for column in series.columns]
    assert (short.times[0], short.times[-1]) == (series.times[0], series.times[-1])


@given(any_series(), some.integers(1, 200))
def test_what_stays_are_samples_in_their_order_with_their_own_values(series: Series, most: int) -> None:
    short = reduced(series, most)
    full = list(zip(series.times, *series.columns, strict=True))
    left = list(zip(short.times, *short.columns, strict=True))
    assert left == sorted(left, key=lambda row: row[0])
    assert set(left) <= set(full)


@given(any_series(), some.integers(1, 200))
def test_a_line_is_broken_exactly_where_the_full_one_is(series: Series, most: int) -> None:
    short = reduced(series, most)
    gaps = [(series.times[place], series.times[place + 1]) for place in series.breaks]
    for place in range(len(short) - 1):
        begin, end = short.times[place], short.times[place + 1]
        assert (place in short.breaks) == any(begin <= one and other <= end for one, other in gaps)


@given(any_series(), some.integers(1, 200))
def test_the_longest_gap_of_all_keeps_its_ends(series: Series, most: int) -> None:
    if not series.breaks:
        return
    longest = max(series.times[place + 1] - series.times[place] for place in series.breaks)
    short = reduced(series, most)
    assert any(short.times[place + 1] - short.times[place] == longest for place in short.breaks)


@given(any_series(), some.integers(1, 40))
def test_where_nothing_was_measured_for_a_whole_stretch_nothing_is_drawn(series: Series, width: int) -> None:
    kept = positions_to_keep(series, width)
    for column in series.columns:
        for begin in range(0, len(series), width):
            if all(value is None for value in column[begin : begin + width]):
                inside = [place for place in kept if begin <= place < begin + width]
                assert inside
                assert all(column[place] is None for place in inside)


def test_the_reduced_series_has_the_requested_length() -> None:
    series = series_of(list(range(86_400)), [[(i * 7919) % 1000 for i in range(86_400)]] * 3, 1.0)
    assert 1_500 < len(reduced(series, 4_000)) <= 4_000


def test_a_short_series_is_left_alone() -> None:
    series = series_of([1.0, 2.0], [[1, 2]], 1.0)
    assert reduced(series, 2) is series


def test_a_gap_is_longer_than_a_few_intervals() -> None:
    times = [0.0, 1, 2, 5, 6, 10, 11]
    assert series_of(times, [times], 1.0).breaks == (4,)
    assert series_of(times, [times], None).breaks == (4,)  # the median interval is 1
    assert series_of(times, [times], 10.0).breaks == ()
    assert series_of([], [[]], None).breaks == ()


def test_dense_samples_at_a_step_s_begin_make_no_gaps_of_the_rest() -> None:
    times = [0.005 * 2**i for i in range(8)] + [float(i) for i in range(1, 9)]
    assert series_of(times, [times], 1.0).breaks == ()
