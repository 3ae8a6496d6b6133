"""The wrapper's, the cgroup's and Slurm's figures side by side, and the named cause of a difference."""

from __future__ import annotations

import pytest

from torc_slurm.reports import causes
from torc_slurm.reports.compare import COMPARISON_COLUMNS, Comparison, compare, steps_by_cause
from torc_slurm.reports.step_stats import ITEM_COLUMNS, Item

MB = 10**6
CGROUP: dict[str, float | str | None] = {
    "gather_type": "jobacct_gather/cgroup",
    "slurm_version": "22.05.8",
    "memory_best_source": "cgroup_v1",
}
LINUX: dict[str, float | str | None] = {"gather_type": "jobacct_gather/linux", "slurm_version": "22.05.8"}


def item(**known: float | str | None) -> Item:
    """A step of one task on one node; both the wrapper and Slurm saw 100 MB and 10 s of CPU time."""
    alike = {
        "attempt_id": 1,
        "slurm_job_id": 7,
        "step_id": "0",
        "status": "found",
        "task_count": 1,
        "measured_node_count": 1,
        "node_count": 1,
        "exec_time_seconds": 20.0,
        "peak_memory_bytes": 100 * MB,
        "peak_memory_source": "vmhwm",
        "memory_floor_bytes": 100 * MB,
        "sampled_rss_peak_bytes": 100 * MB,
        "max_rss_bytes": 100 * MB,
        "all_nodes_cpu_seconds": 10.0,
        "cpu_source": "wait4",
        "total_cpu_seconds": 10.0,
    }
    return dict.fromkeys(ITEM_COLUMNS) | alike | known


def compared(**known: float | str | None) -> Comparison:
    (comparison,) = compare([item(**known)])
    assert tuple(comparison.figures) == COMPARISON_COLUMNS
    return comparison


def found(comparison: Comparison) -> dict[str, str]:
    return {apart.figure: apart.cause.name for apart in comparison.apart}


def test_what_is_alike_is_not_apart() -> None:
    assert not compared().apart
    assert not compared(max_rss_bytes=109 * MB, total_cpu_seconds=9.1).apart
    assert not compared(all_nodes_cpu_seconds=0.01, total_cpu_seconds=0.05).apart


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        (LINUX | {"max_rss_bytes": 800 * MB, "sampled_rss_peak_bytes": 790 * MB}, causes.SHARING),
        (LINUX | {"max_rss_bytes": 800 * MB}, causes.SPIKE),
        (CGROUP | {"max_rss_bytes": 115 * MB}, causes.MONITOR),
        (CGROUP | {"max_rss_bytes": 800 * MB}, causes.SPIKE),  # this version counts no page cache
        (CGROUP | {"max_rss_bytes": 800 * MB, "slurm_version": "24.11.5"}, causes.PAGE_CACHE),
        (CGROUP | {"max_rss_bytes": 800 * MB, "slurm_version": None}, causes.PAGE_CACHE),
        (
            CGROUP | {"max_rss_bytes": 800 * MB, "slurm_version": "26.05.1", "gather_params": "no_file_cache"},
            causes.SPIKE,
        ),
        (CGROUP | {"max_rss_bytes": 7 * MB, "state": "OUT_OF_MEMORY"}, causes.KILLED),
        (CGROUP | {"max_rss_bytes": 30 * MB, "task_count": 4}, causes.LARGEST_TASK),
        (LINUX | {"max_rss_bytes": 30 * MB}, causes.SPIKE),
        (LINUX | {"max_rss_bytes": 130 * MB, "end_time_source": "last flush"}, causes.RECORD_LOST),
        (LINUX | {"max_rss_bytes": 130 * MB, "node_count": 2}, causes.RECORD_LOST),
        (CGROUP | {"max_rss_bytes": 8 * MB, "memory_best_bytes": 5 * MB}, causes.MAPPED_FILES),
        (
            CGROUP
            | {"max_rss_bytes": 7 * MB, "peak_memory_source": "cgroup_v1", "sampled_rss_peak_bytes": 99 * MB}
            | {"memory_best_bytes": 100 * MB},
            causes.SPIKE,
        ),
    ],
)
def test_why_max_rss_differs(known: dict[str, float | str | None], cause: str) -> None:
    assert found(compared(**known))["max_rss_bytes"] == cause


def test_page_cache_is_no_more_than_what_was_read_and_written() -> None:
    known = CGROUP | {"max_rss_bytes": 800 * MB, "slurm_version": "24.11.5", "all_nodes_storage_read_bytes": 0}
    for read, cause in ((900 * MB, causes.PAGE_CACHE), (MB, causes.SPIKE)):
        io: dict[str, float | str | None] = {"all_nodes_read_chars": read, "all_nodes_written_chars": MB}
        assert found(compared(**known | io))["max_rss_bytes"] == cause
        ceiling = compared(**CGROUP | io | {"memory_ceiling_bytes": 800 * MB, "all_nodes_storage_read_bytes": 0})
        assert found(ceiling)["cgroup_peak_bytes"] == cause


def test_memory_that_is_resident_in_no_process() -> None:
    """150 MB in /dev/shm, written by a program of 4 MB."""
    comparison = compared(
        **CGROUP
        | {"peak_memory_source": "cgroup_v1", "peak_memory_bytes": 158 * MB, "memory_best_bytes": 158 * MB}
        | {"sampled_rss_peak_bytes": 4 * MB, "memory_floor_bytes": 3 * MB, "max_rss_bytes": 7 * MB}
    )
    assert set(found(comparison).values()) == {causes.NOT_RESIDENT}
    assert set(found(comparison)) == {"sampled_rss_peak_bytes", "max_rss_bytes"}


def test_memory_of_unreadable_processes_is_not_reported_as_nonresident() -> None:
    comparison = compared(
        **CGROUP
        | {"peak_memory_source": "cgroup_v1", "peak_memory_bytes": 158 * MB, "memory_best_bytes": 158 * MB}
        | {"sampled_rss_peak_bytes": None, "memory_floor_bytes": None, "max_rss_bytes": 7 * MB}
    )
    assert causes.NOT_RESIDENT not in found(comparison).values()


def test_a_spike_that_only_the_kernel_saw() -> None:
    known = CGROUP | {"sampled_rss_peak_bytes": 8 * MB, "memory_best_bytes": 4 * MB, "max_rss_bytes": 9 * MB}
    assert found(compared(**known)) == dict.fromkeys(
        ("sampled_rss_peak_bytes", "cgroup_memory_bytes", "max_rss_bytes"), causes.SPIKE
    )


def test_a_tree_that_shares() -> None:
    comparison = compared(sampled_rss_peak_bytes=900 * MB, **CGROUP, memory_best_bytes=98 * MB)
    (apart,) = comparison.apart
    assert (apart.figure, apart.cause.name, apart.difference_percent) == (
        "sampled_rss_peak_bytes", causes.SHARING, 800.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        ({"total_cpu_seconds": 2.0, "return_signal": 9}, causes.KILLED),
        ({"total_cpu_seconds": 0.1, "cpu_source": "cgroup_v1"}, causes.NOT_WAITED),
        ({"total_cpu_seconds": 8.0, "backend": "pyslurm"}, causes.WHOLE_SECONDS),
        ({"all_nodes_cpu_seconds": 0.01, "total_cpu_seconds": 0.3}, causes.MONITOR),
        ({"all_nodes_cpu_seconds": 0.03, "total_cpu_seconds": 1.0, "monitor_cpu_seconds": 0.6}, causes.MONITOR),
        ({"all_nodes_cpu_seconds": 0.03, "total_cpu_seconds": 5.0, "monitor_cpu_seconds": 0.6}, causes.NOT_KNOWN),
        ({"total_cpu_seconds": 50.0}, causes.NOT_KNOWN),
        ({"total_cpu_seconds": 50.0, "end_time_source": "accounting"}, causes.RECORD_LOST),
    ],
)
def test_why_cpu_time_differs(known: dict[str, float | str | None], cause: str) -> None:
    assert found(compared(**known)) == {"total_cpu_seconds": cause}


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        (CGROUP, causes.FIRST_PROCESS),
        (CGROUP | {"slurm_version": "23.11.1"}, causes.FIRST_PROCESS),  # the figures show it
        (CGROUP | {"slurm_version": "23.11.1", "total_disk_write_bytes": 300 * MB}, causes.SPIKE),
        (CGROUP | {"slurm_version": "24.11.5"}, causes.SPIKE),
        (LINUX, causes.SPIKE),
        (LINUX | {"total_disk_write_bytes": 10**10}, "not known"),
        (
            LINUX | {"all_nodes_written_chars": 10**6, "total_disk_write_bytes": 4 * 10**6, "task_count": 2},
            causes.MONITOR,
        ),
    ],
)
def test_why_disk_figures_differ(known: dict[str, float | str | None], cause: str) -> None:
    written: dict[str, float | str | None] = {"total_disk_write_bytes": 1, "all_nodes_written_chars": 400 * MB}
    assert found(compared(**written | known)) == {"total_disk_write_bytes": cause}


def test_a_figure_that_is_missing_is_named_with_its_reason() -> None:
    for status, cause in (("missing", causes.RECORD_LOST), ("partial", "not polled"), ("pending", "pending")):
        comparison = compared(status=status, reason="so it is", max_rss_bytes=None, total_cpu_seconds=None)
        assert found(comparison) == {"max_rss_bytes": cause, "total_cpu_seconds": cause}
        assert {apart.difference_percent for apart in comparison.apart} == {None}
    assert set(found(compared(slurm_job_id=None, max_rss_bytes=None)).values()) == {"outside Slurm"}
    bare = compared(attempt_id=None, peak_memory_bytes=None, all_nodes_cpu_seconds=None)
    assert found(bare)["max_rss_bytes"] == "without torc-step"


def test_nothing_is_held_against_a_zero() -> None:
    (apart,) = compared(all_nodes_cpu_seconds=0.0, total_cpu_seconds=0.2).apart
    assert apart.difference_percent is None


def test_steps_of_one_cause_stand_together() -> None:
    comparisons = compare([item(max_rss_bytes=10 * MB), item(), item(max_rss_bytes=20 * MB, total_cpu_seconds=99.0)])
    groups = steps_by_cause(comparisons)
    assert [(figure, len(steps)) for (figure, _), steps in groups.items()] == [
        ("max_rss_bytes", 2), ("total_cpu_seconds", 1),
    ]  # fmt: skip
