"""Floor, best and ceiling: which figure counts, and its source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.step.memory import MemoryFigures, Peak, RationedPss
from torc_slurm.step.readings import ProcessReading, TreeReading

MIB = 1 << 20


def test_a_peak_is_the_largest_with_its_source() -> None:
    peak = Peak()
    peak.see(5, "first")
    peak.see(9, "second")
    peak.see(9, "as large, later")
    peak.see(3, "third")
    assert (peak.bytes, peak.source) == (9, "second")


@pytest.mark.parametrize("nothing", [0, -1])
def test_nothing_measured_stays_unknown(nothing: int) -> None:
    peak = Peak()
    peak.see(nothing, "a reader that could not read")
    assert (peak.bytes, peak.source) == (None, None)


def test_no_figure_at_all() -> None:
    figures = MemoryFigures()
    assert figures.peak() == (None, None)
    assert figures.average() == (None, None)
    assert figures.sampled_rss_peak_bytes is None


def test_the_peak_is_the_best_figure_and_never_below_the_floor() -> None:
    figures = MemoryFigures()
    figures.see_sample(0.0, 100 * MIB, "pss", 300 * MIB)
    assert figures.peak() == (100 * MIB, "pss")
    figures.floor.see(400 * MIB, "vmhwm")
    assert figures.peak() == (400 * MIB, "vmhwm")
    assert figures.sampled_rss_peak_bytes == 300 * MIB


def test_ru_maxrss_that_may_be_the_wrappers_is_an_upper_bound_only() -> None:
    figures = MemoryFigures()
    figures.see_exit(9 * MIB, 9 * MIB)
    assert figures.peak() == (9 * MIB, "wait4_at_most")
    assert figures.average() == (9 * MIB, "peak")
    figures.see_sample(0.0, 2 * MIB, "sampled_rss", 2 * MIB)
    assert figures.peak() == (2 * MIB, "sampled_rss")


def test_ru_maxrss_clearly_above_the_wrappers_is_the_jobs() -> None:
    figures = MemoryFigures()
    figures.see_exit(400 * MIB, 9 * MIB)
    assert figures.peak() == (400 * MIB, "wait4")


def test_the_average_weighs_by_time() -> None:
    figures = MemoryFigures()
    figures.see_sample(0.0, 100, "pss", 100)
    assert figures.average() == (100, "peak")
    figures.see_sample(9.0, 100, "pss", 100)
    figures.see_sample(10.0, 300, "pss", 300)
    assert figures.average() == (round((9 * 100 + 1 * 200) / 10), "samples")


@given(st.lists(st.tuples(st.floats(0.001, 100.0), st.integers(1, 1 << 40)), min_size=2, max_size=30))
def test_the_average_is_between_the_minimum_and_the_peak(samples: list[tuple[float, int]]) -> None:
    figures = MemoryFigures()
    now = 0.0
    for gap, amount in samples:
        now += gap
        figures.see_sample(now, amount, "pss", amount)
    average, _ = figures.average()
    peak, _ = figures.peak()
    assert average is not None
    assert peak == max(amount for _, amount in samples)
    assert min(amount for _, amount in samples) - 1 <= average <= peak + 1


def test_an_estimate_stands_in_only_as_long_as_it_must() -> None:
    figures = MemoryFigures()
    figures.see_sample(0.0, 100, "pss", 100)
    figures.estimated_bytes = 250
    assert figures.peak() == (250, "pss_estimated")
    figures.estimated_bytes = 0
    assert figures.peak() == (100, "pss")


def test_estimated_samples_are_no_peaks() -> None:
    figures = MemoryFigures()
    figures.see_sample(0.0, 100, "pss", 900)
    figures.see_sample(1.0, 700, "pss_estimated", 900)
    assert figures.peak() == (100, "pss")


class SharingTree:
    """Four processes that share 200 MiB, each with its part; reading the maps takes time."""

    name = "sharing"

    def __init__(self, ends: set[int], comes: set[int]) -> None:
        self.alive = {1, 2, 3, 4}
        self.asked = 0
        self._ends, self._comes = ends, comes

    def reading(self) -> TreeReading:
        alive = sorted(self.alive)
        return TreeReading([ProcessReading(p, p, 0, 0.0, 0.0, 200 * MIB, 1, 0, 0, False) for p in alive], [])

    def proportional_bytes(self, pid: int) -> int:
        part = 200 * MIB // len(self.alive) if pid in self.alive else 0
        self.asked += 1
        if self.asked == 2:
            self.alive = (self.alive - self._ends) | self._comes
        return part

    def high_water_bytes(self, pid: int) -> int:
        return 200 * MIB if pid in self.alive else 0

    def children_of(self, pid: int) -> list[int]:
        return sorted(self.alive - {1}) if pid == 1 else []


@pytest.mark.parametrize(
    ("ends", "comes"), [({2}, set()), ({4}, set()), ({1, 2}, set()), (set(), {5}), ({4}, {5})], ids=str
)
def test_shared_pages_are_not_counted_while_sharers_come_and_go(ends: set[int], comes: set[int]) -> None:
    tree = SharingTree(ends, comes)
    pss = RationedPss(tree)  # type: ignore[arg-type]  # it has all methods that are used
    pss.best_bytes(tree.reading(), 0.0)  # measured once the tree is stable
    assert pss.best_bytes(tree.reading(), 1e9)[1] == "pss_estimated"


def test_shared_pages_count_once_where_the_tree_stands() -> None:
    tree = SharingTree(set(), set())
    pss = RationedPss(tree)  # type: ignore[arg-type]  # as above
    pss.best_bytes(tree.reading(), 0.0)
    assert pss.best_bytes(tree.reading(), 1e9) == (200 * MIB, "pss")
