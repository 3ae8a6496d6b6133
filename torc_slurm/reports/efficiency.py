"""How much of its allocation a step used: CPUs, memory per node, time; pure. None: one of the two is unknown."""

from __future__ import annotations

from collections.abc import Mapping

from torc_slurm.database.rows import number_or_none
from torc_slurm.records.tres import parse_resources

Value = int | float | str | None
Row = Mapping[str, Value]

EFFICIENCY_COLUMNS = (
    "allocated_cpus",
    "used_cpus",
    "cpu_efficiency_percent",
    "requested_memory_bytes",
    "memory_efficiency_percent",
    "time_efficiency_percent",
)


def efficiency(item: Row) -> dict[str, Value]:
    """The columns `EFFICIENCY_COLUMNS` of an item of a report of steps.

    CPUs are summed over all nodes. Memory is per node, like ``--mem``: the largest node's peak in percent of the
    allocation on each. Slurm reports the allocation; until then, memory uses the limit of the step's cgroup.
    """
    text = item["allocated_tres"]
    given = parse_resources(None if text is None else str(text))
    nodes = given.nodes or number_or_none(item["node_count"]) or 1
    memory = None if not given.memory_bytes else given.memory_bytes / nodes
    limit = memory if memory is not None else number_or_none(item["memory_limit_bytes"])
    elapsed = _first(item, "exec_time_seconds", "elapsed_seconds")
    cpu_seconds = _first(item, "all_nodes_cpu_seconds", "total_cpu_seconds")
    used = None if cpu_seconds is None or not elapsed else cpu_seconds / elapsed
    return {
        "allocated_cpus": given.cpus,
        "used_cpus": used,
        "cpu_efficiency_percent": _share(used, given.cpus),
        "requested_memory_bytes": None if limit is None else round(limit),
        "memory_efficiency_percent": _share(_first(item, "peak_memory_bytes", "max_rss_bytes"), limit),
        "time_efficiency_percent": _share(elapsed, number_or_none(item["time_limit_seconds"])),
    }


def _share(used: float | None, given: float | None) -> float | None:
    return None if used is None or not given else used / given * 100


def _first(item: Row, *names: str) -> float | None:
    """The first known value."""
    return next((value for name in names if (value := number_or_none(item[name])) is not None), None)
