"""Whether a job hung, from its series or its totals."""

from __future__ import annotations

from torc_slurm.sizing.idleness import was_certainly_busy, was_idle_in_last_half, was_idle_throughout

TIMES = [float(second) for second in range(10, 101, 10)]


def percents(*, first: float, last: float) -> list[float | None]:
    return [*[first] * 5, *[last] * 5]


def test_idle_in_the_last_half() -> None:
    assert was_idle_in_last_half(TIMES, percents(first=100, last=0.2), 0, 100) is True
    assert was_idle_in_last_half(TIMES, percents(first=0, last=5), 0, 100) is False
    assert was_idle_in_last_half(TIMES, percents(first=100, last=100), 0, 100) is False


def test_one_burst_in_the_last_half_is_use() -> None:
    assert was_idle_in_last_half(TIMES, [0.0] * 8 + [100.0, 0.0], 0, 100) is False


def test_a_sample_over_the_middle_counts_for_its_later_part() -> None:
    assert was_idle_in_last_half([60.0, 100.0], [1.0, 0.0], 0, 100) is True  # 10 s of 1 % are 0.1 s of 50


def test_a_series_that_ends_early_does_not_tell() -> None:
    assert was_idle_in_last_half(TIMES[:5], percents(first=100, last=0)[:5], 0, 100) is None
    assert was_idle_in_last_half(TIMES, [None] * 10, 0, 100) is None
    assert was_idle_in_last_half([], [], 0, 100) is None


def test_totals_tell_only_where_there_was_hardly_any_use_at_all() -> None:
    assert was_idle_throughout(0.1, 3600.0)
    assert not was_idle_throughout(100.0, 3600.0)
    assert not was_idle_throughout(0.0, 0.0)


BUSY_STEP: dict[str, float | None] = {
    "last_half_cpu_seconds": 45.0,
    "elapsed_seconds": 100.0,
    "peak_cpu_percent": 99.0,
    "sample_interval_seconds": 1.0,
    "monitor_final_interval_seconds": None,
}


def test_figures_alone_show_a_busy_last_half_only_if_nothing_speaks_against_it() -> None:
    assert was_certainly_busy(BUSY_STEP)
    unclear: tuple[dict[str, float | None], ...] = (
        {"last_half_cpu_seconds": 0.0},
        {"last_half_cpu_seconds": None},
        {"peak_cpu_percent": None},
        {"peak_cpu_percent": 200.0},  # all of it may be from the quarter before the middle
        {"sample_interval_seconds": 20.0},
        {"monitor_final_interval_seconds": 20.0},
        {"elapsed_seconds": 0.0},
    )
    assert not any(was_certainly_busy(BUSY_STEP | known) for known in unclear)
