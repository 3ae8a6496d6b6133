"""Why Slurm's MaxRSS and the wrapper's peak differ."""

from __future__ import annotations

import pytest

from torc_slurm.reports.causes import Row
from torc_slurm.reports.differences import differences
from torc_slurm.reports.step_stats import ITEM_COLUMNS

MB = 10**6


def item(**known: int | str) -> Row:
    nodes: dict[str, int | float | str | None] = {"task_count": 1, "measured_node_count": 1}
    return dict.fromkeys(ITEM_COLUMNS) | nodes | known


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"max_rss_bytes": 900 * MB, "gather_type": "jobacct_gather/linux"}, "adds up what several processes share"),
        ({"max_rss_bytes": 900 * MB, "gather_type": "jobacct_gather/cgroup", "slurm_version": "23.11.4"}, "page cache"),
        ({"max_rss_bytes": 7 * MB, "state": "OUT_OF_MEMORY"}, "before the kernel killed the step"),
        ({"max_rss_bytes": 30 * MB, "task_count": 4}, "the largest task"),
        ({"max_rss_bytes": 30 * MB, "gather_frequency": "task=30"}, "polls (JobAcctGatherFrequency=task=30)"),
    ],
)
def test_the_reason(known: dict[str, int | str], reason: str) -> None:
    (difference,) = differences([("7.0", item(peak_memory_bytes=100 * MB, **known))])
    assert reason in difference.reason
    assert (difference.slurm_bytes, difference.own_bytes) == (known["max_rss_bytes"], 100 * MB)


@pytest.mark.parametrize(("slurm", "own"), [(100, 100), (119, 100), (95, 100), (1050, 1000)])
def test_what_is_no_difference(slurm: int, own: int) -> None:
    assert not differences([("7.0", item(peak_memory_bytes=own * MB, max_rss_bytes=slurm * MB))])


def test_nothing_is_compared_with_null() -> None:
    assert not differences([("7.0", item(peak_memory_bytes=10**9)), ("7.1", item(max_rss_bytes=10**9))])


def test_one_entry_per_reason_with_its_largest_case() -> None:
    cases = [(f"7.{own}", item(peak_memory_bytes=own * MB, max_rss_bytes=MB)) for own in (100, 300, 200)]
    (difference,) = differences(cases)
    assert difference.steps == ("7.300", "7.100", "7.200")
    assert difference.own_bytes == 300 * MB
