"""The figure of one job: CPU, memory and processes over time, with its request and how it was ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torc_slurm.common.units import format_cpu_percent, format_memory, format_run_time, largest
from torc_slurm.plots.encode import encode_series, encode_whole, milliseconds
from torc_slurm.plots.measured import Measured
from torc_slurm.plots.model import Attempt, Job, Number
from torc_slurm.plots.palette import colour, dash
from torc_slurm.plots.parts import (
    COUNT_AXIS,
    COUNT_HOVER,
    CPU_AXIS,
    CPU_HOVER,
    IO_AXIS,
    IO_HOVER,
    MEMORY_AXIS,
    MEMORY_HOVER,
    OWN_NAME,
    Dictionary,
    add,
    axis_key,
    axis_name,
    beyond_note,
    by_the_wall_clock,
    is_beyond,
    level,
    moment,
    panel_title,
)
from torc_slurm.plots.quoting import figure_text
from torc_slurm.records.statuses import OOM

# Panels from the top: CPU, memory, processes; and below, if recorded, reads and writes.
_DOMAINS = ((0.70, 1.0), (0.29, 0.62), (0.0, 0.21))
_DOMAINS_WITH_IO = ((0.77, 1.0), (0.46, 0.70), (0.24, 0.39), (0.0, 0.17))
_HEIGHT, _HEIGHT_WITH_IO = 720, 920
_AXES = (CPU_AXIS, MEMORY_AXIS, COUNT_AXIS, IO_AXIS)
_HOVERS = (CPU_HOVER, MEMORY_HOVER, COUNT_HOVER)
_MOST_FILLED = 4
_HIGHER_BY = 1.005
_FEW_PROCESSES = 6  # up to this number every whole number has a tick
_NEAR_RUN_TIME = 0.8
_BESIDE_THE_REQUEST = 0.18  # of the width: the labels of two lines that are close to each other


def job_figure(job: Job, measured: Sequence[Measured]) -> tuple[Dictionary, Dictionary]:
    """The figure, and the series that it uses, by name.

    Args:
        measured: one for each of ``job.parts``, in that order.
    """
    traces: list[Dictionary] = []
    series: Dictionary = {}
    attempts = [attempt for attempt in job.attempts for _ in attempt.parts]
    for number, (each, attempt, label) in enumerate(zip(measured, attempts, _labels(job), strict=True)):
        line = _Line(number, label, milliseconds(attempt.begin_time), filled=len(measured) <= _MOST_FILLED)
        traces += _lines(line, each) + _high_water_mark(line, each) + _io_lines(line, each)
        series[str(number)] = encode_series(each.series)
        series[f"charged{number}"] = encode_series(each.charged, (encode_whole,))
        series[f"io{number}"] = encode_series(each.io, (encode_whole, encode_whole))
    figure = {
        "id": "job",
        "title": "",
        "height": _HEIGHT_WITH_IO if _has_io(measured) else _HEIGHT,
        "time": "relative",
        "seconds": max(attempt.end_time - attempt.begin_time for attempt in job.attempts),
        "traces": traces + _kill_marks(job, measured),
        "layout": _layout(job, measured),
    }
    return figure, series


class _Line(NamedTuple):
    """The style and the name of the lines of one attempt on one node."""

    number: int
    label: str
    origin: int
    filled: bool

    def base(self, axis: int) -> Dictionary:
        return {
            "type": "scatter",
            "mode": "lines",
            "origin": self.origin,
            "yaxis": axis_name("y", axis),
            "line": {"color": colour(self.number), "width": 1.5, "dash": dash(self.number)},
        }


def _labels(job: Job) -> list[str]:
    """What distinguishes the lines of a job: attempt, node, or both."""
    several_nodes = any(len(attempt.parts) > 1 for attempt in job.attempts)
    labels = []
    for attempt in job.attempts:
        for part in attempt.parts:
            words = [job.label(attempt)] if len(job.attempts) > 1 else []
            words += [figure_text(part.node)] if several_nodes or not words else []
            labels.append(" · ".join(words))
    return labels


def _lines(line: _Line, each: Measured) -> list[Dictionary]:
    """CPU, memory and processes. The memory that sizes requests is the solid, filled line; a sum of RSS is thin."""
    group = {"series": str(line.number), "name": line.label, "legendgroup": str(line.number)}
    fill = {"fill": "tozeroy", "fillcolor": f"{colour(line.number)}/0.14"} if line.filled else {}
    found = [
        line.base(axis)
        | group
        | fill
        | {"column": axis, "showlegend": axis == 0, "hovertemplate": f"{hover}{OWN_NAME}"}
        for axis, hover in enumerate(_HOVERS)
    ]
    if len(each.charged):
        found.append(found[1] | {"series": f"charged{line.number}", "column": 0})
        thin = {"line": {"color": f"{colour(line.number)}/0.6", "width": 0.8, "dash": "dot"}}
        found[1] = line.base(1) | group | {"column": 1, "showlegend": False} | thin
        found[1] |= {"name": f"sum of RSS, {line.label}", "hovertemplate": MEMORY_HOVER + OWN_NAME}
    return found


def _io_lines(line: _Line, each: Measured) -> list[Dictionary]:
    """Bytes read (solid) and written (dashed) per second."""
    if not len(each.io):
        return []
    return [
        line.base(3)
        | {"series": f"io{line.number}", "column": column, "name": f"{word}, {line.label}", "showlegend": False}
        | {"legendgroup": str(line.number), "hovertemplate": IO_HOVER + OWN_NAME}
        | {"line": {"color": colour(line.number), "width": 1.2, "dash": look}}
        for column, (word, look) in enumerate((("read", "solid"), ("written", "dash")))
    ]


def _has_io(measured: Sequence[Measured]) -> bool:
    return any(len(each.io) for each in measured)


def _high_water_mark(line: _Line, each: Measured) -> list[Dictionary]:
    """A line at the peak if it is higher than every sample: a spike between two samples, or no samples."""
    peak, sampled = each.part.figures.peak_memory_bytes, each.sampled_peak_bytes
    if peak is None or (sampled is not None and peak <= sampled * _HIGHER_BY):
        return []
    times = [milliseconds(each.part.begin_time), milliseconds(each.part.end_time)]
    look = {"line": {"color": colour(line.number), "width": 2, "dash": "longdash"}}
    name = f"high-water mark, {line.label}"
    more = {"points": times, "y": [peak, peak], "name": name, "hovertemplate": MEMORY_HOVER + OWN_NAME}
    return [line.base(1) | look | more]


def _kill_marks(job: Job, measured: Sequence[Measured]) -> list[Dictionary]:
    """A cross where something else ended an attempt, on each node."""
    marks = []
    for attempt in job.attempts:
        words = attempt.how_it_was_ended
        ended = [each for each in measured if each.part in attempt.parts and _memory_at_end(attempt, each) is not None]
        if words is not None and ended:
            label = f", {job.label(attempt)}" if len(job.attempts) > 1 else ""
            marks.append(_crosses(attempt, words + label, ended))
    return marks


def _memory_at_end(attempt: Attempt, each: Measured) -> Number | None:
    """The node's known memory when the attempt was ended: after out of memory its highest, else its last."""
    samples = [value for value in each.series.columns[1] if value is not None]
    return samples[-1] if samples and attempt.status != OOM else each.peak_memory_bytes


def _crosses(attempt: Attempt, words: str, ended: Sequence[Measured]) -> Dictionary:
    return {
        "type": "scatter",
        "mode": "markers",
        "origin": milliseconds(attempt.begin_time),
        "points": [milliseconds(each.part.end_time) for each in ended],
        "y": [_memory_at_end(attempt, each) for each in ended],
        "yaxis": "y2",
        "name": words,
        "marker": {"symbol": "x", "size": 11, "color": "@killed", "line": {"width": 1, "color": "@background"}},
        "hovertemplate": f"{words}<extra></extra>",
    }


def _layout(job: Job, measured: Sequence[Measured]) -> Dictionary:
    layout: Dictionary = {"hovermode": "x unified", "hoversubplots": "axis", "margin": {"t": 64}}
    domains = _DOMAINS_WITH_IO if _has_io(measured) else _DOMAINS
    for number, (domain, axis) in enumerate(zip(domains, _AXES, strict=False)):
        layout[axis_key("y", number)] = {**axis, "domain": list(domain)}
    layout["xaxis"] = {"anchor": axis_name("y", len(domains) - 1)}
    processes = largest(value for each in measured for value in each.series.columns[2])
    if processes is None or processes <= _FEW_PROCESSES:
        layout["yaxis3"]["dtick"] = 1
    titles = (
        _title("CPU", measured, "cpu_percent", format_cpu_percent),
        _memory_title(measured),
        "<b>Processes</b>",
        "<b>Read and written</b> &nbsp; per second; written dashed",
    )
    for title, (_, top) in zip(titles, domains, strict=False):
        add(layout, {"annotations": [panel_title(title, top)]})
    _add_requests(layout, job.last, measured)
    _add_moments(layout, job, domains)
    return layout


def _title(word: str, measured: Sequence[Measured], figure: str, write: Callable[[Number], str]) -> str:
    parts = [f"<b>{word}</b>"]
    for name, label in (("peak", "peak"), ("avg", "average")):
        values = [value for each in measured if (value := getattr(each, f"{name}_{figure}")) is not None]
        if values:
            parts.append(f"{label} {write(max(values))}")
    return " &nbsp; ".join(parts)


def _memory_title(measured: Sequence[Measured]) -> str:
    title = _title("Memory", measured, "memory_bytes", format_memory)
    known = [(peak, each) for each in measured if (peak := each.part.figures.peak_memory_bytes) is not None]
    if not known:
        return title
    highest = max(known, key=lambda pair: pair[0])[1]
    thin = "; thin: sum of RSS" if any(len(each.charged) for each in measured) else ""
    return f"{title} &nbsp; (peak by {figure_text(highest.part.figures.peak_memory_source or 'samples')}{thin})"


def _add_requests(layout: Dictionary, attempt: Attempt, measured: Sequence[Measured]) -> None:
    """Lines at the last attempt's request, and at the limit that Slurm enforced if that differs."""
    request = attempt.request
    tops = [_highest(measured, name) for name in ("peak_cpu_percent", "peak_memory_bytes")]
    if request.cpus is not None:
        percent = request.cpus * 100
        add(layout, _request_line(percent, f"requested {percent:g} %", 0, tops[0]))
    limits = [part.figures.memory_limit_bytes for part in attempt.parts if part.figures.memory_limit_bytes is not None]
    limit = max(limits, default=0)
    with_limit = limit > (request.memory_bytes or 0) * _HIGHER_BY
    words = f"limit {format_memory(limit)}"
    if request.memory_bytes is not None:
        label = f"requested {format_memory(request.memory_bytes)}"
        if with_limit and is_beyond(request.memory_bytes, tops[1]):
            label, with_limit = f"{label}, {words}", False
        add(layout, _request_line(request.memory_bytes, label, 1, tops[1]))
    if with_limit and is_beyond(limit, tops[1]):
        add(layout, {"annotations": [beyond_note(words, 1, "limit")]})
    elif with_limit:
        pieces = level(limit, words, 1, "limit", "dot")
        pieces["annotations"][0]["x"] = _BESIDE_THE_REQUEST
        add(layout, pieces)


def _request_line(value: Number, label: str, axis: int, top_of_data: Number | None) -> Dictionary:
    if is_beyond(value, top_of_data):
        return {"annotations": [beyond_note(label, axis, "request")]}
    return level(value, label, axis, "request", "dash")


def _highest(measured: Sequence[Measured], name: str) -> Number | None:
    return max((value for each in measured if (value := getattr(each, name)) is not None), default=None)


def _add_moments(layout: Dictionary, job: Job, domains: Sequence[tuple[float, float]]) -> None:
    """When attempts began and were ended; the requested run time, if it was nearly reached.

    The labels of neighbouring attempts are in different panels, where they hide least, and never over the crosses.
    """
    tops = (domains[2][1], domains[0][1])
    seen: set[int] = set()
    for place, attempt in enumerate(job.attempts):
        begin, end, words = attempt.begin_time, attempt.end_time, attempt.how_it_was_ended
        top, next_top = tops[place % len(tops)], tops[(place + 1) % len(tops)]
        if len(job.attempts) > 1:
            pieces = moment(begin, begin, f"{job.label(attempt)} begins", "muted", top)
            pieces["annotations"][0]["xanchor"] = "left"
            add(layout, by_the_wall_clock(pieces))
        if words is not None:
            add(layout, moment(end, begin, words, "killed", top))
        requested = attempt.request.runtime_seconds
        if requested is not None and end - begin >= requested * _NEAR_RUN_TIME:
            pieces = moment(begin + requested, begin, f"requested {format_run_time(requested)}", "request", next_top)
            add(layout, by_the_wall_clock(pieces) if requested in seen else pieces)
            seen.add(requested)
