"""When samples are due, by the schedule's own clock; nothing here waits."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.step.schedule import Schedule


def begun(interval_seconds: float) -> Schedule:
    schedule = Schedule(interval_seconds)
    schedule.begin()
    return schedule


def times_after(schedule: Schedule, count: int) -> list[float]:
    """Due times, in seconds since the begin, if each sample is taken when it is due."""
    begin = schedule.next_time
    times = []
    for _ in range(count):
        schedule.took(0.0, 0.0)
        times.append(schedule.next_time - begin)
    return times


def test_dense_at_first_then_at_the_interval() -> None:
    schedule = begun(1.0)
    gaps = times_after(schedule, 8)
    assert gaps[:5] == sorted(gaps[:5])
    assert gaps[0] == pytest.approx(0.005, abs=0.004)
    assert gaps[-1] == pytest.approx(1.0, abs=0.05)
    assert not schedule.is_ramping


@given(st.floats(0.1, 3600.0), st.floats(0.0, 0.0009))
def test_the_next_time_is_ahead_and_within_an_interval(interval: float, cost_share: float) -> None:
    schedule = begun(interval)
    for _ in range(20):
        schedule.took(interval * cost_share, 0.0)
        now = time.monotonic()
        assert now - 0.05 < schedule.next_time <= now + interval + 0.001


def test_missed_samples_are_not_caught_up() -> None:
    """A machine that was suspended for an hour takes one sample, not 3600."""
    schedule = begun(1.0)
    times_after(schedule, 10)
    schedule.next_time -= 3600.0
    assert schedule.is_due(time.monotonic())
    assert schedule.lateness(time.monotonic()) == pytest.approx(3600, abs=2)
    schedule.took(0.0, 3600.0)
    assert not schedule.is_due(time.monotonic())
    assert schedule.next_time <= time.monotonic() + 1.0
    assert schedule.figures()["max_lateness_seconds"] == 3600.0


def test_after_a_back_off_the_first_samples_are_over() -> None:
    """They read everything; a longer interval must not begin them again."""
    schedule = begun(1.0)
    times_after(schedule, 10)
    schedule.took(0.1, 0.0)
    assert schedule.interval_seconds > 2
    assert not schedule.is_ramping


def test_it_backs_off_when_a_sample_costs_more_than_a_hundredth_and_comes_back() -> None:
    schedule = begun(1.0)
    times_after(schedule, 10)
    notes = [schedule.took(0.1, 0.0) for _ in range(40)]
    assert any("backed off from every 1 s" in note for note in notes)
    assert schedule.interval_seconds >= 10.0
    assert schedule.figures()["final_interval_seconds"] == schedule.interval_seconds
    notes = [schedule.took(0.0001, 0.0) for _ in range(60)]
    assert any("came back" in note for note in notes)
    assert schedule.interval_seconds == pytest.approx(1.0, abs=0.5)


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=50))
def test_the_interval_never_falls_below_the_requested_one(costs: list[float]) -> None:
    schedule = begun(2.0)
    for cost in costs:
        schedule.took(cost, 0.0)
        assert 2.0 <= schedule.interval_seconds <= 90.0


def test_a_sample_that_costs_nothing_is_no_reason() -> None:
    schedule = begun(0.1)
    assert all(schedule.took(0.0005, 0.0) == "" for _ in range(100))
    assert schedule.interval_seconds == 0.1


def test_figures_of_no_sample() -> None:
    assert begun(1.0).figures() == {
        "sample_count": 0,
        "mean_sample_seconds": None,
        "max_lateness_seconds": 0.0,
        "final_interval_seconds": 1.0,
    }
