"""The list of figures compared with the migrated schemas: each column is declared, each figure has a column."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from torc_slurm.database.main_schema import MAIN_SCHEMA
from torc_slurm.database.migrations import Schema, migrate
from torc_slurm.database.node_schema import NODE_SCHEMA
from torc_slurm.records.figures import (
    FIGURES,
    HEADINGS,
    MONITOR_COLUMNS,
    MONITOR_FIGURES,
    RESULT_COLUMNS,
    USAGE_COLUMNS,
    figures_in,
    format_figure,
)
from torc_slurm.reports.step_stats import ITEM_COLUMNS

# About the step on the node, not its use: see _STEPS in node_schema.
_OF_THE_STEP = {
    "id",
    "result",
    "node",
    "node_file",
    "invocation",
    "node_index",
    "node_count",
    "local_task_count",
    "task_count",
    "begin_time",
    "end_time",
    "last_flush_time",
    "last_half",
}


def columns(schema: Schema, table: str) -> dict[str, str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, schema)
        return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}


def test_the_node_file_has_exactly_the_declared_figures() -> None:
    assert set(columns(NODE_SCHEMA, "step_usage")) - {"step"} == set(USAGE_COLUMNS)
    own = {f"monitor_{name}" for name in columns(NODE_SCHEMA, "monitor_usage")}
    assert own - {"monitor_step", "monitor_sample_count"} == set(MONITOR_COLUMNS)


def test_the_main_database_has_exactly_the_declared_figures() -> None:
    assert set(columns(MAIN_SCHEMA, "step_nodes")) - _OF_THE_STEP == {*USAGE_COLUMNS, *MONITOR_COLUMNS}
    assert set(columns(MAIN_SCHEMA, "results")) - {"id"} == set(RESULT_COLUMNS)


@pytest.mark.parametrize(("schema", "table"), [(NODE_SCHEMA, "step_usage"), (MAIN_SCHEMA, "step_nodes")])
def test_types_are_those_of_the_schema(schema: Schema, table: str) -> None:
    found = columns(schema, table)
    for figure in FIGURES:
        assert found[figure.name] == figure.type
        assert figure.source is None or found[figure.source] == "TEXT"
    if table == "step_nodes":
        assert all(found[each.name] == each.type for each in MONITOR_FIGURES)


def test_every_figure_of_an_attempt_is_in_every_report_of_steps() -> None:
    assert set(RESULT_COLUMNS) - {"status", "status_evidence"} <= set(ITEM_COLUMNS)
    assert "last_half_cpu_seconds" in ITEM_COLUMNS


def test_no_column_is_named_twice() -> None:
    for names in (USAGE_COLUMNS, MONITOR_COLUMNS, RESULT_COLUMNS):
        assert len(names) == len(set(names))


def test_each_table_has_its_figures_by_the_declaration() -> None:
    assert [figure.name for figure in figures_in("results")][-2:] == ["monitor_cpu_seconds", "monitor_memory_bytes"]
    assert figures_in("nothing is shown here") == ()
    assert all(HEADINGS[figure.name] == figure.heading for figure in FIGURES)


def test_a_value_is_written_by_the_unit_in_its_columns_name() -> None:
    assert format_figure("peak_memory_bytes", 10_500_000_000) == "10.50 GB"
    assert format_figure("avg_cpu_percent", 523.4) == "523.4%"
    assert format_figure("exec_time_seconds", 9900) == "2h 45m 0s"
    assert format_figure("num_processes_peak", 3) == "3"
    assert format_figure("peak_memory_source", "cgroup") == "cgroup"
    assert format_figure("peak_memory_bytes", None) == "-"
    assert format_figure("peak_memory_bytes", 0) == "0 B"
