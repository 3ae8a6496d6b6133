"""The dashboard of peaks and averages: memory and CPU of each job, next to its request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torc_slurm.common.units import format_run_time, largest
from torc_slurm.plots.measured import Measured
from torc_slurm.plots.model import Job, Number
from torc_slurm.plots.parts import (
    CPU_AXIS,
    MEMORY_AXIS,
    OWN_NAME,
    TIME_AXIS,
    Dictionary,
    add,
    axis_key,
    axis_name,
    job_label,
    panel_title,
)
from torc_slurm.plots.quoting import MOST_CHARACTERS_OF_A_TICK

_DOMAINS = ((0.72, 1.0), (0.37, 0.64), (0.0, 0.29))
_HEIGHT = 860


@dataclass(frozen=True)
class Bar:
    """One job's figures, of its largest node in its last attempt; None: not measured."""

    label: str
    duration_seconds: float
    requested_seconds: Number | None
    has_failed: bool
    name: str
    peak_memory_bytes: Number | None
    avg_memory_bytes: Number | None
    requested_memory_bytes: Number | None
    peak_cpu_percent: Number | None
    avg_cpu_percent: Number | None
    requested_cpu_percent: Number | None


def bar_of(job: Job, measured: Sequence[Measured]) -> Bar:
    """The bars of a job, from its nodes' summaries or, without them, from the samples."""
    attempt = job.last
    own = [each for each in measured if each.part in attempt.parts]
    return Bar(
        label=job_label(job.number, job.name, MOST_CHARACTERS_OF_A_TICK),
        duration_seconds=attempt.end_time - attempt.begin_time,
        requested_seconds=attempt.request.runtime_seconds,
        has_failed=job.has_failed,
        name=job.name,
        peak_memory_bytes=largest(each.peak_memory_bytes for each in own),
        avg_memory_bytes=largest(each.avg_memory_bytes for each in own),
        requested_memory_bytes=attempt.request.memory_bytes,
        peak_cpu_percent=largest(each.peak_cpu_percent for each in own),
        avg_cpu_percent=largest(each.avg_cpu_percent for each in own),
        requested_cpu_percent=None if attempt.request.cpus is None else attempt.request.cpus * 100,
    )


def summary_figure(bars: Sequence[Bar]) -> Dictionary:
    """Bars of all jobs, with buttons to sort them."""
    layout: Dictionary = {"barmode": "overlay", "bargap": 0.25, "hovermode": "x unified", "hoversubplots": "axis"}
    layout |= {
        "margin": {"t": 64, "b": 120},
        "xaxis": {"type": "category", "anchor": "y3", "tickangle": "auto", "showgrid": False},
    }
    for number, (domain, axis) in enumerate(zip(_DOMAINS, (MEMORY_AXIS, CPU_AXIS, TIME_AXIS), strict=True)):
        layout[axis_key("y", number)] = {**axis, "domain": list(domain)}
    titles = [f"<b>{word}</b> &nbsp; peak, average and what was requested" for word in ("Memory", "CPU")]
    for title, (_, top) in zip([*titles, "<b>Run time</b> &nbsp; and what was requested"], _DOMAINS, strict=True):
        add(layout, {"annotations": [panel_title(title, top)]})
    return {
        "id": "summary",
        "title": "Peak against average",
        "height": _HEIGHT,
        "traces": [
            *_bars(bars, "memory_bytes", 0, "%{y:.4s}B"),
            *_bars(bars, "cpu_percent", 1, "%{y:.1f} %"),
            *_run_times(bars),
        ],
        "layout": layout,
        "sorts": _sorts(bars),
    }


def _bars(bars: Sequence[Bar], figure: str, axis: int, hover: str) -> list[Dictionary]:
    labels = [bar.label for bar in bars]
    base = {"x": labels, "yaxis": axis_name("y", axis), "hovertemplate": hover + OWN_NAME, "showlegend": axis == 0}
    looks: dict[str, Dictionary] = {
        "peak": {"type": "bar", "name": "peak", "marker": {"color": "@0/0.45"}, "width": 0.8},
        "avg": {"type": "bar", "name": "average", "marker": {"color": "@1"}, "width": 0.4},
        "requested": {"type": "scatter", "mode": "markers", "name": "requested", "marker": _dash(len(bars))},
    }
    return [
        base | look | {"y": [getattr(bar, f"{name}_{figure}") for bar in bars], "legendgroup": name}
        for name, look in looks.items()
        if name != "requested" or any(getattr(bar, f"requested_{figure}") is not None for bar in bars)
    ]


def _run_times(bars: Sequence[Bar]) -> list[Dictionary]:
    """Run time in minutes, or hours, and the requested one."""
    labels, axis = [bar.label for bar in bars], axis_name("y", 2)
    base = {"x": labels, "yaxis": axis, "hovertemplate": "%{text}" + OWN_NAME, "showlegend": False}
    taken = base | {"type": "bar", "name": "run time", "marker": {"color": "@2/0.6"}, "width": 0.8}
    taken |= {"textposition": "none"}
    found = [taken | _minutes([bar.duration_seconds for bar in bars])]
    requested = [bar.requested_seconds for bar in bars]
    if any(value is not None for value in requested):
        look = {"type": "scatter", "mode": "markers", "name": "requested", "marker": _dash(len(bars))}
        found.append(base | look | {"legendgroup": "requested"} | _minutes(requested))
    return found


def _minutes(seconds: Sequence[Number | None]) -> Dictionary:
    return {
        "y": [None if value is None else value / 60 for value in seconds],
        "text": ["" if value is None else format_run_time(round(value, 1)) for value in seconds],
    }


def _dash(bars: int) -> Dictionary:
    return {
        "symbol": "line-ew-open",
        "size": max(4, min(26, 700 // max(1, bars))),
        "color": "@request",
        "line": {"width": 2},
    }


def _sorts(bars: Sequence[Bar]) -> list[Dictionary]:
    """The orders of the categories, as positions: by id, and by figures."""
    by_name = sorted(range(len(bars)), key=lambda place: (not bars[place].has_failed, bars[place].name, place))
    orders = {
        "failed first, by name": by_name,
        "job id": list(range(len(bars))),
        "peak memory": _by([bar.peak_memory_bytes for bar in bars]),
        "memory requested and not used": _by([_unused(bar) for bar in bars]),
        "average CPU": _by([bar.avg_cpu_percent for bar in bars]),
        "run time": _by([bar.duration_seconds for bar in bars]),
    }
    return [{"name": name, "order": order} for name, order in orders.items()]


def _by(values: Sequence[Number | None]) -> list[int]:
    """Largest first, unknown values last."""
    known = [(-value, place) for place, value in enumerate(values) if value is not None]
    return [place for _, place in sorted(known)] + [place for place, value in enumerate(values) if value is None]


def _unused(bar: Bar) -> Number | None:
    if bar.requested_memory_bytes is None or bar.peak_memory_bytes is None:
        return None
    return bar.requested_memory_bytes - bar.peak_memory_bytes
