"""Intervals of a series: no percentage that the CPUs could not give, and no CPU second twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.database.batch import Batch
from torc_slurm.step.series import LEAST_INTERVAL_SECONDS, Counters, Series

BEGIN = 1000.0


def close(series: Series, now: float, counters: Counters, cpus: int = 1, final: bool = False) -> None:
    series.close(now, counters, cpus, (now, 1, 1), (now, 1, "pss"), (now, None), final)


def rows_of(series: Series) -> list[tuple[float, float]]:
    """Timestamp and percentage of each row."""
    batch = Batch({})
    series.hand_over(batch, keep_last=False)
    assert [row[0] for row in batch.memory_samples] == [row[0] for row in batch.samples]
    assert [row[0] for row in batch.io_samples] == [row[0] for row in batch.samples]
    return [(row[0], row[1]) for row in batch.samples]


def of_tree(seconds: float) -> Counters:
    return Counters(seconds, None, seconds)


def test_each_interval_has_what_was_used_in_it() -> None:
    series = Series(BEGIN)
    close(series, BEGIN + 1, of_tree(0.5))
    close(series, BEGIN + 2, of_tree(1.5))
    assert series.peak_percent == pytest.approx(100)
    assert rows_of(series) == [pytest.approx((BEGIN + 1, 50)), pytest.approx((BEGIN + 2, 100))]


def test_a_short_rest_at_the_end_is_joined_with_the_row_before() -> None:
    """Even if the tasks' exits are earlier than the sample that found them ended."""
    for end in (BEGIN + 1.05, BEGIN + 0.999):
        series = Series(BEGIN)
        close(series, BEGIN + 0.5, of_tree(0.4))
        close(series, BEGIN + 1, of_tree(0.45))
        close(series, end, of_tree(0.46), final=True)
        assert [when for when, _ in rows_of(series)] == [BEGIN + 0.5, end]
        assert series.peak_percent == pytest.approx(80)


def test_late_cpu_time_is_joined_with_the_interval_of_its_use() -> None:
    """Two tasks once showed 95,000 %: CPU reaped at the end, in a millisecond after the last row."""
    series = Series(BEGIN)
    for tenth in range(1, 10):
        close(series, BEGIN + tenth / 10, of_tree(0.01 * tenth))
    close(series, BEGIN + 0.901, of_tree(0.8), final=True)
    assert series.peak_percent is not None
    assert series.peak_percent <= 100


def test_a_task_that_registers_late_counts_from_its_own_begin() -> None:
    """Two of 64 CPUs are used: not 2,000 % in the interval in which the second task was found."""
    series = Series(BEGIN)
    for tenth in range(1, 11):
        close(series, BEGIN + tenth / 10, of_tree(0.1 * tenth), cpus=64)
    series.task_began(BEGIN)
    close(series, BEGIN + 1.1, of_tree(2.2), cpus=64)
    assert series.peak_percent == pytest.approx(200)
    assert rows_of(series) == [pytest.approx((BEGIN + 1.1, 200))]


def test_a_task_that_registers_after_the_rows_before_it_were_written() -> None:
    series = Series(BEGIN)
    close(series, BEGIN + 1, of_tree(1.0), cpus=64)
    rows_of(series)
    series.task_began(BEGIN)
    close(series, BEGIN + 1.1, of_tree(2.2), cpus=64)
    assert series.peak_percent == pytest.approx(1.2 / 1.1 * 100)


def test_the_switch_to_the_cgroups_counter_is_no_use() -> None:
    """The cgroup's counter was 0.5 s higher all the time."""
    series = Series(BEGIN)
    close(series, BEGIN + 1, Counters(0.1, 0.6, 0.1), cpus=8)
    close(series, BEGIN + 1.1, Counters(0.11, 0.61, 0.61), cpus=8)
    assert [percent for _, percent in rows_of(series)] == [pytest.approx(10), pytest.approx(10)]


def test_a_look_that_took_long_ends_no_interval() -> None:
    series = Series(BEGIN)
    assert series.is_ready(BEGIN + 1, BEGIN + 1.01)
    assert not series.is_ready(BEGIN + 1, BEGIN + 1.2)
    assert not series.is_ready(BEGIN, BEGIN + LEAST_INTERVAL_SECONDS / 2)


def test_no_time_no_row() -> None:
    series = Series(BEGIN)
    close(series, BEGIN, of_tree(0.01), final=True)
    assert rows_of(series) == []
    assert series.peak_percent is None


gaps = st.floats(0, 20)
steps = st.lists(
    st.tuples(gaps, st.floats(0, 60), st.floats(0, 60), st.sampled_from(("", "", "task", "flush"))),
    min_size=1,
    max_size=40,
)


@given(steps=steps, cpus=st.integers(1, 64), end=st.floats(-0.2, 0.2))
def test_never_more_than_the_cpus_could_give_and_never_more_than_was_used(
    steps: list[tuple[float, float, float, str]], cpus: int, end: float
) -> None:
    """Whatever the counters do: late tasks, a cgroup that jumps, an end before the last sample, flushes between."""
    series, now, seen, charged = Series(BEGIN), BEGIN, 0.0, 0.0
    rows: list[tuple[float, float]] = []
    for gap, more_seen, more_charged, event in steps:
        if event == "task":
            series.task_began(now)
        now, seen, charged = now + gap, seen + more_seen, charged + more_charged
        counters = Counters(seen, charged if event != "task" else None, max(seen, charged))
        if series.is_ready(now, now):
            close(series, now, counters, cpus)
        if event == "flush":
            batch = Batch({})
            series.hand_over(batch, keep_last=True)
            rows += [(row[0], row[1]) for row in batch.samples]
    close(series, max(BEGIN, now + end), Counters(seen, charged, max(seen, charged)), cpus, final=True)
    rows += rows_of(series)
    given = 0.0
    for (begin, _), (when, percent) in zip([(BEGIN, 0.0), *rows], rows, strict=False):
        assert when > begin or percent == 0
        assert 0 <= percent <= cpus * 100
        given += percent / 100 * (when - begin)
    assert given <= max(seen, charged) * (1 + 1e-6) + 1e-6
    assert max((percent for _, percent in rows), default=0) <= (series.peak_percent or 0) <= cpus * 100
