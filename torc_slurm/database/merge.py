"""Merges the figures that the nodes of a step wrote into one row; pure.

Memory and CPU are those of the largest node, each figure with that node's source, because Slurm's --mem is per node.
all_nodes_* are sums over the nodes, NULL unless every node has reported the figure: an incomplete sum would look like
a small job.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from torc_slurm.database.checked_rows import Cells
from torc_slurm.database.node_records import StepRows
from torc_slurm.database.rows import Row, Value, number, number_or_none
from torc_slurm.records.figures import GIGABYTES, LARGEST, SUMS, TOTALS, Figure

Number = int | float
_BYTES_PER_GB = 10**9


def _copied(figure: Figure) -> list[tuple[str, str, str]]:
    """What `results` has of the largest node: the name there, the node's column, and the figure that both belong to."""
    pairs = ((figure.name, figure.name), (figure.source, figure.source), (figure.node, "node"))
    return [(name, column, figure.name) for name, column in pairs if name is not None and column is not None]


_COPIED = [each for figure in LARGEST for each in _copied(figure)]
_OF_ONE = {name: column for name, column, _ in _COPIED} | {name: name for name in SUMS} | TOTALS
_columns_of_one = itemgetter(*_OF_ONE.values())
_NEEDED_OF_EXITS = ("return_code", "end_time", "elapsed_seconds")
_MEANS_NOTHING_WITHOUT = tuple((name, of) for name, column, of in _COPIED if column != of)


def merge_nodes(nodes: Sequence[Row], exits: Sequence[Row]) -> dict[str, Value]:
    """The figures of ``results`` for one attempt, apart from its identity and status.

    Args:
        nodes: its rows of ``step_nodes``, at least one.
        exits: its rows of ``task_exits``, of all nodes.

    ``end_time`` is None unless all nodes and tasks of the step have written their end.
    """
    expected = _expected_nodes(nodes)
    merged = _of_one(nodes[0], expected) if len(nodes) == 1 else _of_many(nodes, expected)
    for name, in_bytes in GIGABYTES.items():
        size_bytes = number_or_none(merged[in_bytes])
        merged[name] = None if size_bytes is None else size_bytes / _BYTES_PER_GB
    merged.update(_extent(nodes, exits, expected))
    merged.update(_worst_exit(exits))
    return merged


def complete_alone(steps: StepRows) -> list[int]:
    """The places of the steps that had one node only, and whose node or tasks have all written their end."""
    of_step = itemgetter(*map(steps.names.index, ("node_count", "task_count", "end_time")))
    of_exit = itemgetter(*map(steps.exit_names.index, _NEEDED_OF_EXITS))
    found = []
    for place, (cells, exits, _, _) in enumerate(steps.rows):
        node_count, task_count, end_time = of_step(cells)
        is_alone = node_count is None or node_count <= 1
        has_ended = end_time is not None or len(exits) >= max(1, task_count or 1)
        if is_alone and has_ended and all(None not in of_exit(each) for each in exits):
            found.append(place)
    return found


def merge_alone(steps: StepRows) -> dict[str, Sequence[Value]]:
    """What `merge_nodes` returns for each of these steps, by column: a fraction of its time for many of them.

    Args:
        steps: those of `complete_alone`, at least one.
    """
    of_step = steps.columns
    merged: dict[str, Sequence[Value]] = {name: of_step[column] for name, column in _OF_ONE.items()}
    for name, of in _MEANS_NOTHING_WITHOUT:
        if None in merged[of]:
            merged[name] = [
                None if figure is None else value for value, figure in zip(merged[name], merged[of], strict=True)
            ]
    for name, in_bytes in GIGABYTES.items():
        merged[name] = [None if size is None else float(size) / _BYTES_PER_GB for size in merged[in_bytes]]
    exits = [row[1] for row in steps.rows]
    code, end_time, elapsed = map(steps.exit_names.index, _NEEDED_OF_EXITS)
    signal = steps.exit_names.index("signal")
    worst = [each[0] if len(each) == 1 else max(each, key=itemgetter(code), default=None) for each in exits]
    ones = [1] * len(exits)
    return merged | {
        "start_time": of_step["begin_time"],
        "end_time": _largest_of_exits(of_step["end_time"], exits, end_time),
        "exec_time_seconds": _largest_of_exits(of_step["elapsed_seconds"], exits, elapsed),
        "measured_nodes": of_step["node"],
        "measured_node_count": ones,
        "node_count": ones,
        "recorded_task_count": list(map(len, exits)),
        "task_count": [int(max(1, each or 1)) for each in of_step["task_count"]],
        "return_code": [None if each is None else each[code] for each in worst],
        "return_signal": [None if each is None else each[signal] for each in worst],
    }


def _largest_of_exits(of_steps: Sequence[Value], exits: Sequence[Sequence[Cells]], place: int) -> list[Value]:
    """Of each step the largest value, its own or that at this place of an exit."""
    if set(map(len, exits)) == {1} and None not in of_steps:
        return list(map(max, of_steps, [cells[place] for (cells,) in exits]))  # type: ignore[arg-type] # numbers
    return [
        max([value for value in (own, *[cells[place] for cells in each]) if value is not None], default=None)
        for own, each in zip(of_steps, exits, strict=True)
    ]


def _of_one(node: Row, expected: int) -> dict[str, Value]:
    merged: dict[str, Value] = dict(zip(_OF_ONE, _columns_of_one(node), strict=True))
    for name, of in _MEANS_NOTHING_WITHOUT:
        if merged[of] is None:
            merged[name] = None
    if expected > 1:
        merged.update(dict.fromkeys(TOTALS))
    return merged


def _of_many(nodes: Sequence[Row], expected: int) -> dict[str, Value]:
    largest = {figure.name: _largest(nodes, figure.name) for figure in LARGEST}
    merged = {name: node[column] if (node := largest[of]) else None for name, column, of in _COPIED}
    for name in SUMS:
        measured = _numbers(nodes, name)
        merged[name] = sum(measured) if measured else None
    for total, name in TOTALS.items():
        measured = _numbers(nodes, name)
        merged[total] = sum(measured) if len(measured) >= expected else None
    return merged


def is_complete(nodes: Sequence[Row], exits: Sequence[Row]) -> bool:
    """Whether every node of the step has written its end, or every task its exit."""
    return _have_ended(nodes, exits, _expected_nodes(nodes), _expected_tasks(nodes))


def _have_ended(nodes: Sequence[Row], exits: Sequence[Row], expected_nodes: int, expected_tasks: int) -> bool:
    if len(exits) >= expected_tasks:
        return True
    return len(nodes) >= expected_nodes and all(node["end_time"] is not None for node in nodes)


def last_seen(nodes: Sequence[Row]) -> float:
    """When the attempt's last record was written (Unix time); 0.0 without any."""
    return max(map(float, _numbers(nodes, "last_flush_time")), default=0.0)


def _extent(nodes: Sequence[Row], exits: Sequence[Row], expected_nodes: int) -> dict[str, Value]:
    expected_tasks = _expected_tasks(nodes)
    rows = [*nodes, *exits]
    ends = _numbers(rows, "end_time")
    elapsed = _numbers(rows, "elapsed_seconds")
    return {
        "start_time": min(_numbers(nodes, "begin_time")),
        "end_time": max(ends) if ends and _have_ended(nodes, exits, expected_nodes, expected_tasks) else None,
        "exec_time_seconds": max(elapsed) if elapsed else None,
        "measured_nodes": ",".join([str(node["node"]) for node in nodes]),
        "measured_node_count": len(nodes),
        "node_count": expected_nodes,
        "recorded_task_count": len(exits),
        "task_count": expected_tasks,
    }


def _worst_exit(exits: Sequence[Row]) -> dict[str, Value]:
    """The highest exit record of the tasks. srun's and sacct's codes differ from it after an OOM kill."""
    if not exits:
        return {"return_code": None, "return_signal": None}
    worst = exits[0] if len(exits) == 1 else max(exits, key=lambda record: number(record, "return_code"))
    return {"return_code": worst["return_code"], "return_signal": worst["signal"]}


def _largest(nodes: Sequence[Row], figure: str) -> Row | None:
    """The node with the largest value; None if no node measured it."""
    measured = [(value, node) for node in nodes if isinstance(value := node[figure], (int, float))]
    return max(measured, key=lambda pair: pair[0])[1] if measured else None


def _expected_nodes(nodes: Sequence[Row]) -> int:
    return int(max([len(nodes), *_numbers(nodes, "node_count")]))


def _expected_tasks(nodes: Sequence[Row]) -> int:
    return int(max([1, *_numbers(nodes, "task_count")]))


def _numbers(rows: Sequence[Row], column: str) -> list[Number]:
    return [value for row in rows if isinstance(value := row[column], (int, float))]
