"""The wrapper's, the cgroup's and Slurm's figures of each step side by side, and why they differ; pure.

The others are compared with the peak memory and the CPU time that the wrapper recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torc_slurm.reports.causes import (
    Cause,
    Row,
    absent_cause,
    cgroup_cause,
    cgroup_peak_cause,
    cpu_cause,
    disk_cause,
    max_rss_cause,
    rss_sum_cause,
    unmeasured_cause,
)
from torc_slurm.reports.step_stats import Item

DIFFERS_FROM_PERCENT = 10.0
# Smaller differences are ignored: two clock ticks of a process and of its monitor.
LEAST_CPU_SECONDS = 0.05
# torc-step's own reads at its start, which Slurm counts for the step.
LEAST_IO_BYTES = 2_000_000

_IDENTITY = ("workflow_id", "job_id", "job_name", "run_id", "attempt_id", "slurm_job_id", "slurm_array", "step_id")
_FACTS = ("job_status", "return_signal", "state", "status", "gather_type", "slurm_version", "backend")
FIGURES = (
    "peak_memory_bytes",
    "peak_memory_source",
    "memory_floor_bytes",
    "sampled_rss_peak_bytes",
    "cgroup_memory_bytes",
    "cgroup_peak_bytes",
    "max_rss_bytes",
    "total_rss_bytes",
    "wrapper_cpu_seconds",
    "cpu_source",
    "total_cpu_seconds",
    "all_nodes_read_chars",
    "total_disk_read_bytes",
    "all_nodes_written_chars",
    "total_disk_write_bytes",
)
COMPARISON_COLUMNS: tuple[str, ...] = (*_IDENTITY, *_FACTS, *FIGURES)


@dataclass(frozen=True)
class Apart:
    """A figure that differs from its reference by more than 10 %, or that one of the two lacks.

    ``difference_percent`` is None if one of them is unknown.
    """

    figure: str
    against: str
    difference_percent: float | None
    cause: Cause


@dataclass(frozen=True)
class Comparison:
    """One step: ``figures`` has the keys `COMPARISON_COLUMNS`; None is not measured."""

    figures: Item
    apart: tuple[Apart, ...]


def compare(items: Iterable[Item]) -> tuple[Comparison, ...]:
    """One comparison per item of a report of steps (see `torc_slurm.reports.step_stats`)."""
    return tuple(Comparison(_figures(item), tuple(_apart(item))) for item in items)


def steps_by_cause(comparisons: Sequence[Comparison]) -> dict[tuple[str, Cause], list[Comparison]]:
    """The steps in which a figure differs, grouped by figure and cause, the most frequent first."""
    found: dict[tuple[str, Cause], list[Comparison]] = {}
    for comparison in comparisons:
        for apart in comparison.apart:
            found.setdefault((apart.figure, apart.cause), []).append(comparison)
    return dict(sorted(found.items(), key=lambda pair: -len(pair[1])))


def _figures(item: Item) -> Item:
    own = item | _derived(item)
    return {name: own[name] for name in COMPARISON_COLUMNS}


def _derived(item: Item) -> Item:
    by_cgroup = str(item["memory_best_source"] or "").startswith("cgroup")
    return {
        "cgroup_memory_bytes": item["memory_best_bytes"] if by_cgroup else None,
        "cgroup_peak_bytes": item["memory_ceiling_bytes"],
        "wrapper_cpu_seconds": item["all_nodes_cpu_seconds"],
    }


def _apart(item: Item) -> Iterator[Apart]:
    figures = item | _derived(item)
    memory: tuple[tuple[str, Callable[[Row, float, float], Cause]], ...] = (
        ("sampled_rss_peak_bytes", rss_sum_cause),
        ("cgroup_memory_bytes", cgroup_cause),
        ("cgroup_peak_bytes", cgroup_peak_cause),
        ("max_rss_bytes", max_rss_cause),
    )
    for name, cause in memory:
        yield from _compare_figures(figures, name, "peak_memory_bytes", cause, least=0.0)
    yield from _compare_figures(figures, "total_cpu_seconds", "wrapper_cpu_seconds", cpu_cause, least=LEAST_CPU_SECONDS)
    for name, own in (
        ("total_disk_read_bytes", "all_nodes_read_chars"),
        ("total_disk_write_bytes", "all_nodes_written_chars"),
    ):
        if figures[name] is not None and figures[own] is not None:
            yield from _compare_figures(figures, name, own, disk_cause, least=LEAST_IO_BYTES)


def _compare_figures(
    item: Row, name: str, base: str, cause: Callable[[Row, float, float], Cause], *, least: float
) -> Iterator[Apart]:
    value, own = item[name], item[base]
    if isinstance(value, (int, float)) and isinstance(own, (int, float)):
        larger = max(value, own)
        if abs(value - own) > max(least, larger * DIFFERS_FROM_PERCENT / 100):
            percent = None if own == 0 else (value - own) / own * 100
            yield Apart(name, base, percent, cause(item, value, own))
    elif own is not None and name in ("max_rss_bytes", "total_cpu_seconds"):
        yield Apart(name, base, None, absent_cause(item))
    elif value is not None and own is None:
        yield Apart(name, base, None, unmeasured_cause(item))
