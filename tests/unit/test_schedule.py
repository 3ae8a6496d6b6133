"""When samples are due, on a clock that the test does not wait for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.step.schedule import Schedule


def ramped(interval_seconds: float) -> Schedule:
    """A schedule past its dense beginning."""
    schedule = Schedule(interval_seconds)
    schedule.begin()
    while schedule.is_ramping:
        schedule.took(0.0, 0.0)
    return schedule


@given(st.floats(0.1, 600.0))
def test_the_first_samples_are_dense_and_then_the_interval_holds(interval_seconds: float) -> None:
    schedule = Schedule(interval_seconds)
    schedule.begin()
    taken = 0
    while schedule.is_ramping:
        before = schedule.next_time
        assert schedule.took(0.0, 0.0) == ""
        assert schedule.next_time >= before
        taken += 1
    assert 5 <= taken <= 20
    assert schedule.interval_seconds == interval_seconds


def test_costly_samples_lengthen_the_interval_and_cheap_ones_bring_it_back() -> None:
    schedule = ramped(1.0)
    assert "backed off from every 1 s" in schedule.took(0.05, 0.0)
    assert schedule.interval_seconds > 1.0
    notes = [schedule.took(0.0001, 0.0) for _ in range(100)]
    assert any("came back" in note for note in notes)
    assert schedule.interval_seconds == 1.0


def test_what_samples_cost_and_how_late_they_were_is_kept() -> None:
    schedule = Schedule(1.0)
    schedule.begin()
    schedule.took(0.002, 0.5)
    schedule.took(0.004, 0.1)
    figures = schedule.figures()
    assert figures["sample_count"] == 2
    assert figures["mean_sample_seconds"] == 0.003
    assert figures["max_lateness_seconds"] == 0.5
