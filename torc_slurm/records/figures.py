"""Every figure that torc measures, declared once: its column, type, unit, merge rule, heading, and the tables it is in.

Derived from this list: the columns that are read from a node file and written to ``torc.db``, how the rows of several
nodes become one row of ``results``, the keys of JSON and CSV, ``--all-columns``, and the tables. To add a figure, add
it here and add the migrations (frozen text) that create its columns; a test compares the two.

The unit of a column is the end of its name (``_bytes``, ``_seconds``, ``_percent``); ``unit_of`` returns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from torc_slurm.common.units import format_cpu_percent, format_memory, format_run_time

Merge = Literal["largest", "sum", None]
Value = int | float | str | None

NOT_MEASURED = "-"
TOTAL_PREFIX = "all_nodes_"


class Figure(NamedTuple):
    """One figure that the wrapper writes per step and node.

    ``merge`` says what ``results`` keeps of several nodes: the ``largest`` node's value (``--mem`` is per node), the
    ``sum``, or nothing under this name. ``source`` is the column that says how it was measured, ``node`` the column of
    ``results`` that names its node; both belong to the value. With ``total``, ``results`` also has
    ``all_nodes_<name>``: the sum, NULL unless every node reported. ``tables`` maps a table to the order in which the
    column is left out of a narrow table: 0 never, else the highest first.
    """

    name: str
    type: str
    heading: str
    merge: Merge = "largest"
    source: str | None = None
    node: str | None = None
    total: bool = False
    tables: Mapping[str, int] = {}


FIGURES: tuple[Figure, ...] = (
    # results has the attempt's exec_time_seconds instead: the longest of nodes and tasks
    Figure("elapsed_seconds", "REAL", "Elapsed", merge=None),
    Figure("cpu_seconds", "REAL", "CPU time", source="cpu_source", total=True),
    Figure("avg_cpu_percent", "REAL", "Avg CPU", total=True, tables={"results": 0, "report": 0}),
    Figure("peak_cpu_percent", "REAL", "Peak CPU", tables={"results": 0, "report": 0}),
    Figure(
        "peak_memory_bytes",
        "INTEGER",
        "Peak memory",
        source="peak_memory_source",
        node="peak_memory_node",
        total=True,
        tables={"results": 0, "report": 0},
    ),
    Figure("memory_floor_bytes", "INTEGER", "Largest process", source="memory_floor_source"),
    Figure("memory_best_bytes", "INTEGER", "Charged", source="memory_best_source"),
    Figure("memory_ceiling_bytes", "INTEGER", "cgroup peak", source="memory_ceiling_source"),
    Figure("sampled_rss_peak_bytes", "INTEGER", "RSS sum"),
    Figure(
        "avg_memory_bytes",
        "INTEGER",
        "Avg memory",
        source="avg_memory_source",
        total=True,
        tables={"results": 2, "report": 0},
    ),
    Figure("memory_limit_bytes", "INTEGER", "Memory limit"),
    Figure("oom_kills", "INTEGER", "OOM kills", merge="sum"),
    Figure("num_processes_peak", "INTEGER", "Processes"),
    Figure("num_threads_peak", "INTEGER", "Threads"),
    Figure("storage_read_bytes", "INTEGER", "Storage read", merge=None, total=True),
    Figure("storage_written_bytes", "INTEGER", "Storage written", merge=None, total=True),
    Figure("read_chars", "INTEGER", "Read", merge=None, total=True),
    Figure("written_chars", "INTEGER", "Written", merge=None, total=True),
    Figure("major_faults", "INTEGER", "Major faults", merge=None, total=True),
    Figure("sample_count", "INTEGER", "Samples"),
    Figure("last_half_cpu_seconds", "REAL", "CPU time, last half"),
    Figure("cpu_wait_seconds", "REAL", "Waited for a CPU", source="cpu_wait_source", total=True),
)


class MonitorFigure(NamedTuple):
    """What the measuring itself used; ``aggregate`` is the SQL function over the nodes of a step."""

    name: str
    type: str
    heading: str
    aggregate: str
    tables: Mapping[str, int] = {}


MONITOR_FIGURES: tuple[MonitorFigure, ...] = (
    MonitorFigure("monitor_cpu_seconds", "REAL", "Monitor CPU", "sum", {"results": 0}),
    MonitorFigure("monitor_memory_bytes", "INTEGER", "Monitor memory", "max", {"results": 0}),
    MonitorFigure("monitor_mean_sample_seconds", "REAL", "Mean sample", "max"),
    MonitorFigure("monitor_max_lateness_seconds", "REAL", "Max lateness", "max"),
    MonitorFigure("monitor_final_interval_seconds", "REAL", "Final interval", "max"),
    MonitorFigure("monitor_reader", "TEXT", "Reader", "min"),
)
MONITOR_COLUMNS: tuple[str, ...] = tuple(each.name for each in MONITOR_FIGURES)


def _with_sources(figure: Figure) -> tuple[str, ...]:
    return (figure.name,) if figure.source is None else (figure.name, figure.source)


# What a node writes about a step's use: the columns of step_usage, and of step_nodes.
USAGE_COLUMNS: tuple[str, ...] = tuple(name for figure in FIGURES for name in _with_sources(figure))
LARGEST: tuple[Figure, ...] = tuple(figure for figure in FIGURES if figure.merge == "largest")
SUMS: tuple[str, ...] = tuple(figure.name for figure in FIGURES if figure.merge == "sum")
TOTALS: dict[str, str] = {TOTAL_PREFIX + figure.name: figure.name for figure in FIGURES if figure.total}
# The Rust torc's names for two figures, in 10^9 bytes.
GIGABYTES = {"peak_memory_gb": "peak_memory_bytes", "avg_memory_gb": "avg_memory_bytes"}

IDENTITY_COLUMNS = (
    "workflow_id",
    "job_id",
    "job_name",
    "run_id",
    "attempt_id",
    "slurm_job_id",
    "slurm_array",
    "step_id",
)
OUTCOME_COLUMNS = (
    "return_code",
    "return_signal",
    "status",
    "status_evidence",
    "start_time",
    "end_time",
    "end_time_source",
    "exec_time_seconds",
)
COVERAGE_COLUMNS = ("measured_nodes", "measured_node_count", "node_count", "recorded_task_count", "task_count")
DESCRIPTION_COLUMNS = (
    "user_name",
    "local_host",
    "command",
    "working_dir",
    "user_notes",
    "granularity",
    "sample_interval_seconds",
)


def _merged_columns() -> tuple[str, ...]:
    found = []
    for figure in FIGURES:
        if figure.merge is not None:
            found += [*_with_sources(figure), *([figure.node] if figure.node else [])]
    return (*GIGABYTES, *found, *TOTALS)


# The figures of one attempt, and all columns of ``results`` (its key ``id`` has no meaning outside the database).
MERGED_COLUMNS: tuple[str, ...] = _merged_columns()
RESULT_COLUMNS: tuple[str, ...] = (
    *IDENTITY_COLUMNS,
    *OUTCOME_COLUMNS,
    *MERGED_COLUMNS,
    *COVERAGE_COLUMNS,
    *DESCRIPTION_COLUMNS,
)
TEXT_FIGURES = frozenset(
    [name for figure in FIGURES for name in (figure.source, figure.node) if name is not None]
    + [each.name for each in MONITOR_FIGURES if each.type == "TEXT"]
)

# The names of accounting's figures, and of an attempt's columns that are not a node's figures.
HEADINGS: dict[str, str] = {
    **{figure.name: figure.heading for figure in FIGURES},
    **{figure.name: figure.heading for figure in MONITOR_FIGURES},
    "exec_time_seconds": "Elapsed",
    "cpu_efficiency_percent": "CPU eff",
    "memory_efficiency_percent": "Mem eff",
    "time_efficiency_percent": "Time eff",
    "max_rss_bytes": "MaxRSS",
    "max_vm_size_bytes": "MaxVMSize",
    "max_disk_read_bytes": "MaxDiskRead",
    "max_disk_write_bytes": "MaxDiskWrite",
    "ave_cpu_seconds": "AveCPU",
    "total_cpu_seconds": "TotalCPU",
    "total_disk_read_bytes": "Disk read",
    "total_disk_write_bytes": "Disk write",
}


def figures_in(table: str) -> tuple[Figure | MonitorFigure, ...]:
    """The figures that a table has columns for, in the order of this list."""
    every: list[Figure | MonitorFigure] = [*FIGURES, *MONITOR_FIGURES]
    return tuple(figure for figure in every if table in figure.tables)


def format_figure(column: str, value: Value) -> str:
    """A value as a table shows it, by its column's unit; a dash if it was not measured."""
    if value is None:
        return NOT_MEASURED
    if not isinstance(value, (int, float)):
        return value
    writers = {"bytes": format_memory, "seconds": format_run_time, "percent": format_cpu_percent}
    write = writers.get(column.rpartition("_")[2])
    return str(value) if write is None else write(value)
