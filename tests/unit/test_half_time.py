"""The CPU of the last half, from few pairs, compared with the full truth."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.step.half_time import HalfTime

STEPS = st.lists(st.tuples(st.floats(0.01, 10.0), st.floats(0.0, 1.0)), min_size=1, max_size=500)


@given(STEPS)
def test_never_less_than_was_used_in_the_last_half(steps: list[tuple[float, float]]) -> None:
    half, history, elapsed, used = HalfTime(), [(0.0, 0.0)], 0.0, 0.0
    for seconds, share in steps:
        elapsed, used = elapsed + seconds, used + seconds * share
        history.append((elapsed, used))
        half.note(elapsed, used)
    truth = sum(
        (after[1] - before[1]) * max(0.0, after[0] - max(before[0], elapsed / 2)) / (after[0] - before[0])
        for before, after in pairwise(history)
    )
    told = half.last_half_cpu_seconds(elapsed, used)
    assert told is not None
    assert truth - 1e-6 <= told <= used + 1e-6


def test_a_job_that_stopped_working_early_is_detected() -> None:
    hung, busy = HalfTime(), HalfTime()
    for second in range(1, 3601):
        hung.note(float(second), min(second, 600.0))
        busy.note(float(second), float(second))
    assert hung.last_half_cpu_seconds(3600.0, 600.0) == 0.0
    assert (busy.last_half_cpu_seconds(3600.0, 3600.0) or 0.0) >= 1800.0


def test_without_a_sample_nothing_is_known() -> None:
    assert HalfTime().last_half_cpu_seconds(1.0, 1.0) is None


def test_cpu_time_that_is_not_known_is_no_idle_half() -> None:
    half = HalfTime()
    half.note(1.0, 1.0)
    assert half.last_half_cpu_seconds(10.0, None) is None
