"""How the figures of several nodes become one row: the largest node; sums only if nothing is missing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.database.merge import is_complete, merge_nodes
from torc_slurm.database.node_records import EXIT_COLUMNS
from torc_slurm.database.rows import Value
from torc_slurm.records.figures import MONITOR_COLUMNS, USAGE_COLUMNS

figures = st.none() | st.integers(0, 2**50)


def node(**known: Value) -> dict[str, Value]:
    columns = (*USAGE_COLUMNS, *MONITOR_COLUMNS, "end_time", "task_count")
    return dict.fromkeys(columns) | {"node": "n1", "begin_time": 1.0, "last_flush_time": 2.0, "node_count": 1} | known


def task_exit(**known: Value) -> dict[str, Value]:
    return dict.fromkeys(EXIT_COLUMNS) | {"return_code": 0, "end_time": 5.0, "elapsed_seconds": 4.0} | known


@given(st.lists(figures, min_size=1, max_size=5))
def test_the_largest_node_counts_and_nothing_unmeasured_becomes_zero(peaks: list[int | None]) -> None:
    nodes = [node(node=f"n{number}", peak_memory_bytes=peak) for number, peak in enumerate(peaks)]
    merged = merge_nodes(nodes, [])
    known = [peak for peak in peaks if peak is not None]
    assert merged["peak_memory_bytes"] == (max(known) if known else None)
    assert merged["peak_memory_gb"] == (max(known) / 10**9 if known else None)
    assert merged["all_nodes_peak_memory_bytes"] == (sum(known) if len(known) == len(peaks) else None)


@given(st.permutations([(10, "a"), (30, "b"), (20, "c")]))
def test_order_does_not_matter_and_a_source_stays_with_its_figure(nodes: list[tuple[int, str]]) -> None:
    rows = [node(node=name, peak_memory_bytes=peak, peak_memory_source=f"of {name}") for peak, name in nodes]
    merged = merge_nodes(rows, [])
    assert (merged["peak_memory_bytes"], merged["peak_memory_source"], merged["peak_memory_node"]) == (30, "of b", "b")


def test_zero_is_a_measured_figure() -> None:
    merged = merge_nodes([node(peak_memory_bytes=0, oom_kills=0), node(node="n2", node_count=2)], [])
    assert (merged["peak_memory_bytes"], merged["peak_memory_gb"], merged["oom_kills"]) == (0, 0.0, 0)
    assert merged["avg_memory_gb"] is None


def test_the_highest_exit_counts_with_its_signal() -> None:
    exits = [task_exit(return_code=1), task_exit(return_code=137, signal=9), task_exit(return_code=2)]
    merged = merge_nodes([node(task_count=3)], exits)
    assert (merged["return_code"], merged["return_signal"], merged["recorded_task_count"]) == (137, 9, 3)


def test_without_exits_there_is_no_return_code() -> None:
    merged = merge_nodes([node(end_time=3.0)], [])
    assert (merged["return_code"], merged["return_signal"]) == (None, None)


def test_an_end_needs_all_nodes_or_all_tasks() -> None:
    ended, running = node(end_time=9.0, node_count=2, task_count=2), node(node="n2", node_count=2, task_count=2)
    assert not is_complete([ended], [task_exit()])
    assert not is_complete([ended, running], [task_exit()])
    assert is_complete([ended, running], [task_exit(), task_exit()])
    assert is_complete([ended, ended], [])
    assert merge_nodes([ended, running], [task_exit()])["end_time"] is None
    assert merge_nodes([ended, ended], [])["end_time"] == 9.0
