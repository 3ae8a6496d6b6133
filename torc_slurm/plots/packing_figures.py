"""The figures of an allocation: each node's use over time compared with its capacity, and when each job ran where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from torc_slurm.common.units import format_cpu_count, format_memory, format_run_time
from torc_slurm.plots.encode import milliseconds
from torc_slurm.plots.model import Attempt, Capacity, Job, Number, Run
from torc_slurm.plots.packing import Grid, NodeLoad, Placed, first_lanes, lanes
from torc_slurm.plots.palette import STATUS, UNKNOWN_STATUS, colour
from torc_slurm.plots.parts import (
    CPU_AXIS,
    CPU_HOVER,
    MEMORY_AXIS,
    MEMORY_HOVER,
    OWN_NAME,
    Dictionary,
    add,
    axis_key,
    axis_name,
    beyond_note,
    counted,
    is_beyond,
    job_label,
    level_note,
    panel_title,
)
from torc_slurm.plots.quoting import figure_text

MOST_ALONE = 6  # steps of a node that are drawn individually: as many as there are colours
MOST_NODES = 16
_DOMAINS = ((0.56, 1.0), (0.0, 0.42))
_LANE_PIXELS = 20
_NAMED_LANE_PIXELS = 26
_FLAT_ABOVE = 4  # a line this many times above use and request becomes a note
_ROUNDING = 1.001  # requests are sums of shares of time
_GANTT_HEIGHTS = (200, 1600)
_MOST_NAMED_BARS = 200
_MOST_BARS = 3000
_NAME_ON_A_BAR = 32


def packing_figures(loads: Sequence[NodeLoad], run: Run) -> list[Dictionary]:
    """One figure for each node: CPU and memory of its steps stacked, their allocation, the node's capacity."""
    return [_node_figure(place, load, run) for place, load in enumerate(loads[:MOST_NODES])]


def _node_figure(place: int, load: NodeLoad, run: Run) -> Dictionary:
    capacity = _plausible_capacity(run.capacity_of(load.node), load)
    tops = _tops(load)
    layout: Dictionary = {"hovermode": "x unified", "hoversubplots": "axis", "margin": {"t": 64}}
    layout["xaxis"] = {"anchor": "y2"}
    for number, (domain, axis) in enumerate(zip(_DOMAINS, (CPU_AXIS, MEMORY_AXIS), strict=True)):
        layout[axis_key("y", number)] = {**axis, "domain": list(domain)}
    for title, (_, top) in zip(_node_titles(load, capacity, run), _DOMAINS, strict=True):
        add(layout, {"annotations": [panel_title(title, top)]})
    if capacity.cpus is not None:
        label = f"available {format_cpu_count(int(capacity.cpus))}"
        add(layout, {"annotations": [_available_note(label, 0, capacity.cpus * 100, tops[0])]})
    if capacity.memory_bytes is not None:
        label = f"available {format_memory(capacity.memory_bytes)}"
        add(layout, {"annotations": [_available_note(label, 1, capacity.memory_bytes, tops[1])]})
    return {
        "id": f"node{place}",
        "title": f"Node {load.node}",
        "height": 460,
        "time": "wall",
        "seconds": run.end_time - run.begin_time,
        "traces": [*_stack(load, run), *_request_bands(load, run), *_available(capacity, run, tops)],
        "layout": layout,
    }


def _plausible_capacity(capacity: Capacity, load: NodeLoad) -> Capacity:
    """The capacity without impossible values: for whole nodes, accounting can say less than the steps were
    allocated.
    """
    cpus, memory = capacity.cpus, capacity.memory_bytes
    return replace(
        capacity,
        cpus=None if cpus is None or max(load.requested_cpu) > cpus * 100 * _ROUNDING else cpus,
        memory_bytes=None if not memory or max(load.requested_memory) > memory * _ROUNDING else memory,
    )


def _node_titles(load: NodeLoad, capacity: Capacity, run: Run) -> tuple[str, str]:
    """How much of the node's capacity was used, over the time of the run (of several: of all of them)."""
    stretches = max(1.0, sum(end - begin for begin, end in run.spans) / load.grid.stretch_seconds)
    used = [sum(_total(load, name)) / stretches for name in ("cpu_percent", "memory_bytes")]
    titles = []
    for word, mean, has, unit in (
        ("CPU", used[0] / 100, capacity.cpus, lambda value: f"{value:.1f} cores"),
        ("Memory", used[1], capacity.memory_bytes, format_memory),
    ):
        share = f" of {unit(has)}, {mean / has:.0%}" if has else ""
        titles.append(f"<b>{word}</b> &nbsp; used {unit(mean)}{share} on average")
    return titles[0], titles[1]


def _total(load: NodeLoad, name: str) -> list[float]:
    columns = [getattr(use, name) for use in (*load.uses.values(), load.others)]
    return [sum(values) for values in zip(*columns, strict=True)]


def _stack(load: NodeLoad, run: Run) -> list[Dictionary]:
    traces: list[Dictionary] = []
    uses = dict(load.uses)
    if load.other_count:
        uses[counted(load.other_count, "other")] = load.others
    for number, (label, use) in enumerate(uses.items()):
        shade = "@muted" if label not in load.uses else colour(number)
        for axis, (values, hover) in enumerate(((use.cpu_percent, CPU_HOVER), (use.memory_bytes, MEMORY_HOVER))):
            traces.append(
                _over_time(load.grid, run, _rounded(values), axis)
                | {"name": label, "legendgroup": str(number), "showlegend": axis == 0, "stackgroup": f"s{axis}"}
                | {"line": {"width": 0.5, "color": shade}, "fillcolor": f"{shade}/0.55"}
                | {"hovertemplate": hover + OWN_NAME}
            )
    return traces


def _request_bands(load: NodeLoad, run: Run) -> list[Dictionary]:
    traces: list[Dictionary] = []
    for axis, (values, hover) in enumerate(((load.requested_cpu, CPU_HOVER), (load.requested_memory, MEMORY_HOVER))):
        if any(values):
            traces.append(
                _over_time(load.grid, run, values, axis)
                | {"name": "requested", "legendgroup": "requested", "showlegend": axis == 0}
                | {"line": {"width": 1.5, "color": "@request", "dash": "dash", "shape": "hvh"}}
                | {"hovertemplate": hover + OWN_NAME}
            )
    return traces


def _tops(load: NodeLoad) -> tuple[float, float]:
    """The highest use or request on a node: CPU and memory."""
    return (
        max([*_total(load, "cpu_percent"), *load.requested_cpu]),
        max([*_total(load, "memory_bytes"), *load.requested_memory]),
    )


def _available_note(label: str, axis: int, value: Number, top: float) -> Dictionary:
    """The label of the node's capacity: on its line, or over the panel if a line would flatten the data."""
    if is_beyond(value, top or None, _FLAT_ABOVE):
        return beyond_note(label, axis, "text")
    return level_note(label, axis, "text", value)


def _available(capacity: Capacity, run: Run, tops: tuple[float, float]) -> list[Dictionary]:
    """Lines at the node's capacity, unless they are far above all else; none between two runs."""
    traces: list[Dictionary] = []
    percent = None if capacity.cpus is None else capacity.cpus * 100
    for axis, value in enumerate((percent, capacity.memory_bytes)):
        if value is not None and not is_beyond(value, tops[axis] or None, _FLAT_ABOVE):
            times = [time for begin, end in run.spans for time in (begin, end, end)]
            traces.append(
                {"type": "scatter", "mode": "lines", "origin": milliseconds(run.begin_time), "hoverinfo": "skip"}
                | {"points": list(map(milliseconds, times)), "y": [value, value, None] * len(run.spans)}
                | {"yaxis": axis_name("y", axis), "name": "available", "legendgroup": "available"}
                | {"showlegend": not traces, "line": {"width": 1.5, "color": "@text"}}
            )
    return traces


def _over_time(grid: Grid, run: Run, values: Sequence[Number], axis: int) -> Dictionary:
    return {
        "type": "scatter",
        "mode": "lines",
        "points": [milliseconds(time) for time in grid.times()],
        "origin": milliseconds(run.begin_time),
        "y": list(values),
        "yaxis": axis_name("y", axis),
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 1) for value in values]


def gantt_figure(run: Run) -> Dictionary:
    """When each job ran on which node, in the colour and pattern of its status."""
    shown = _bars_shown(run)
    placed = lanes(shown)
    first = first_lanes(placed)
    bars: defaultdict[str, list[tuple[int, Placed]]] = defaultdict(list)
    for node, members in placed.items():
        for each in members:
            bars[each.attempt.status or "not known"].append((first[node] + each.lane, each))
    rows = max(row for members in bars.values() for row, _ in members) + 1
    with_names = sum(map(len, bars.values())) <= _MOST_NAMED_BARS
    height = min(
        max(rows * (_NAMED_LANE_PIXELS if with_names else _LANE_PIXELS) + 130, _GANTT_HEIGHTS[0]), _GANTT_HEIGHTS[1]
    )
    return {
        "id": "gantt",
        "title": "Which job ran when and where"
        + (f": {len(shown):,} of {counted(len(run.jobs), run.word)}" if len(shown) < len(run.jobs) else ""),
        "height": height,
        "time": "wall",
        "seconds": run.end_time - run.begin_time,
        "traces": [_bars_of(status, bars[status], run, with_names=with_names) for status in _in_order(bars)],
        "layout": _gantt_layout(placed, first, rows),
    }


def _bars_shown(run: Run) -> Sequence[Job]:
    """The jobs that have bars: all; or, of very many, those that stand out."""
    if sum(len(job.parts) for job in run.jobs) <= _MOST_BARS:
        return run.jobs
    return [job for job in run.jobs if job.job_id in run.notable]


def _in_order(bars: dict[str, list[tuple[int, Placed]]]) -> list[str]:
    known = list(STATUS)
    return sorted(bars, key=lambda status: known.index(status) if status in known else len(known))


def _names(members: list[tuple[int, Placed]]) -> Dictionary:
    """The jobs' names on their bars, if a bar is long enough."""
    return {
        "text": [job_label(each.job.number, each.job.name, _NAME_ON_A_BAR) for _, each in members],
        "textposition": "inside",
        "insidetextanchor": "start",
        "textangle": 0,
        "textfont": {"color": "@background", "size": 11, "shadow": "auto"},
    }


def _bars_of(status: str, members: list[tuple[int, Placed]], run: Run, *, with_names: bool) -> Dictionary:
    shade, pattern = STATUS.get(status, UNKNOWN_STATUS)
    begins = [each.part.begin_time for _, each in members]
    lengths = [each.part.end_time - each.part.begin_time for _, each in members]
    return {
        "type": "bar",
        "orientation": "h",
        "name": f"{status} ({len(members)})",
        "y": [row for row, _ in members],
        "width": 0.84,
        "origin": milliseconds(run.begin_time),
        "spans": {"begin": list(map(milliseconds, begins)), "length": list(map(milliseconds, lengths))},
        "hovertext": [_hover(each) for _, each in members],
        "hovertemplate": "%{hovertext}<extra></extra>",
        **(_names(members) if with_names else {}),
        "marker": {
            "color": shade,
            "line": {"color": "@background", "width": 1},
            "pattern": {"shape": pattern, "fgcolor": "@background", "fillmode": "overlay", "size": 6, "solidity": 0.3},
        },
    }


def _hover(each: Placed) -> str:
    attempt, part = each.attempt, each.part
    tries = f", {each.job.label(attempt)}" if len(each.job.attempts) > 1 else ""
    took = format_run_time(round(part.end_time - part.begin_time, 3))
    return (
        f"<b>{job_label(each.job.number, each.job.name)}</b>{tries}<br>"
        f"{_how_it_ended(attempt)} on {figure_text(part.node)} after {took}"
    )


def _how_it_ended(attempt: Attempt) -> str:
    code = f" (exit {attempt.return_code})" if attempt.return_code else ""
    return f"{attempt.how_it_was_ended or attempt.status or 'ended'}{code}"


def _gantt_layout(placed: dict[str, list[Placed]], first: dict[str, int], rows: int) -> Dictionary:
    middles = [first[node] + max(each.lane for each in members) / 2 for node, members in placed.items()]
    return {
        "barmode": "overlay",
        "hovermode": "closest",
        "margin": {"t": 24},
        "legend": {"traceorder": "normal"},
        "uniformtext": {"mode": "hide", "minsize": 10},
        "yaxis": {
            "autorange": False,
            "range": [rows - 0.4, -0.6],
            "tickmode": "array",
            "tickvals": middles,
            "ticktext": [figure_text(node, 32) for node in placed],
            "showgrid": False,
            "zeroline": False,
        },
    }
