"""The figures with all jobs in one panel: one line for each attempt, a few in colour.

The page's script draws the lines: those of jobs that stand out, or were searched for, each in its own colour, and all
others together in grey, so that a thousand jobs are as quick to read as ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torc_slurm.plots.encode import encode_cpu, encode_series, encode_whole, milliseconds
from torc_slurm.plots.measured import Measured
from torc_slurm.plots.model import Attempt, Job, Number, Series
from torc_slurm.plots.parts import CPU_AXIS, CPU_HOVER, MEMORY_AXIS, MEMORY_HOVER, Dictionary, job_label
from torc_slurm.plots.quoting import figure_text, plain
from torc_slurm.plots.reduce import reduced

MOST_POINTS = 300_000  # of all jobs together, in the page
_FEWEST_POINTS = 40
_MOST_DRAWN_IN_GREY = 60_000  # more makes the page slow, and no screen shows more
_MOST_COLOURED = 8


@dataclass(frozen=True)
class Line:
    """One attempt on one node, short enough for the overview, with its sort keys."""

    label: str
    search: str
    origin: int
    seconds: float
    cpu: Series
    memory: Series
    peaks: tuple[Number | None, Number | None]
    averages: tuple[Number | None, Number | None]


def points_for_each(jobs: Iterable[Job]) -> int:
    """The number of points per line, if each part of these jobs is a line."""
    return max(_FEWEST_POINTS, MOST_POINTS // max(1, sum(len(job.parts) for job in jobs)))


def lines_of(job: Job, measured: Sequence[Measured], most: int) -> list[Line]:
    """A line for each attempt and node of a job that has samples, each with about ``most`` points or fewer."""
    attempts = [attempt for attempt in job.attempts for _ in attempt.parts]
    lines = []
    for attempt, each in zip(attempts, measured, strict=True):
        if len(each.series):
            label = job_label(job.number, job.name) + _where(job, attempt, each)
            lines.append(_line(label, f"{job.number} · {plain(job.name)}", each, attempt.begin_time, most))
    return lines


def _where(job: Job, attempt: Attempt, each: Measured) -> str:
    tries = f", {job.label(attempt)}" if len(job.attempts) > 1 else ""
    return tries + (f" on {figure_text(each.part.node)}" if len(attempt.parts) > 1 else "")


def _line(label: str, search: str, each: Measured, begin: float, most: int) -> Line:
    series = each.series
    return Line(
        label=label,
        search=search,
        origin=milliseconds(begin),
        seconds=each.part.end_time - begin,
        cpu=reduced(Series(series.times, series.columns[:1], series.breaks), most),
        memory=reduced(each.memory, most),
        peaks=(each.peak_cpu_percent, each.peak_memory_bytes),
        averages=(each.avg_cpu_percent, each.avg_memory_bytes),
    )


def compare_cpu(lines: Sequence[Line]) -> tuple[Dictionary, Dictionary]:
    """The figure of CPU over all jobs, and the series that it uses."""
    figure = _compare("cpu", lines, 0) | {"hover": CPU_HOVER, "title": "CPU of all jobs"}
    figure["layout"]["yaxis"] = CPU_AXIS
    return figure, {f"cpu{place}": encode_series(line.cpu, (encode_cpu,)) for place, line in enumerate(lines)}


def compare_memory(lines: Sequence[Line]) -> tuple[Dictionary, Dictionary]:
    """The figure of memory over all jobs, and the series that it uses."""
    figure = _compare("memory", lines, 1) | {"hover": MEMORY_HOVER, "title": "Memory of all jobs"}
    figure["layout"]["yaxis"] = MEMORY_AXIS
    return figure, {f"memory{place}": encode_series(line.memory, (encode_whole,)) for place, line in enumerate(lines)}


def _compare(name: str, lines: Sequence[Line], which: int) -> Dictionary:
    return {
        "id": name,
        "kind": "compare",
        "height": 560,
        "time": "relative",
        "seconds": max((line.seconds for line in lines), default=1.0),
        "most_coloured": _MOST_COLOURED,
        "grey_points": max(_FEWEST_POINTS, _MOST_DRAWN_IN_GREY // max(1, len(lines))),
        "lines": [
            {
                "series": f"{name}{place}",
                "label": line.label,
                "search": line.search,
                "origin": line.origin,
                "order": [line.peaks[which], line.averages[which], line.seconds],
            }
            for place, line in enumerate(lines)
        ],
        "orders": ["highest peak", "highest average", "longest run"],
        "layout": {"hovermode": "closest", "margin": {"t": 24}},
    }
