"""Facts about jobs as text for a page: tables of attempts, leads, notes. Plain text, escaped where it is inserted."""

from __future__ import annotations

from collections.abc import Sequence

from torc_slurm.common.units import format_memory, format_run_time
from torc_slurm.plots.measured import Measured
from torc_slurm.plots.model import Attempt, Job, Run
from torc_slurm.plots.page import Table
from torc_slurm.plots.quoting import plain
from torc_slurm.records.figures import HEADINGS, NOT_MEASURED, format_figure
from torc_slurm.records.statuses import RUNNING

HOW_TO_GET_A_SERIES = (
    "write `resource_monitor: {granularity: time_series}` in the workflow file, or `torc-step --granularity "
    "time_series` in your own script, and run it again"
)
_FIGURES = ("avg_memory_bytes", "avg_cpu_percent", "peak_cpu_percent")
_ATTEMPT_TITLES = (
    "Attempt",
    "Node",
    "State",
    "Exit",
    HEADINGS["elapsed_seconds"],
    HEADINGS["peak_memory_bytes"],
    "by",
    *(HEADINGS[name] for name in _FIGURES),
    "Samples",
)


def job_heading(run: Run, job: Job) -> str:
    """``job 3 · train``."""
    return f"{run.word} {job.number} · {plain(job.name, 160)}"


def job_lead(run: Run, job: Job) -> str:
    """The run of the job, and its request."""
    request = job.last.request
    requested = [
        f"{request.cpus:g} CPU{'' if request.cpus == 1 else 's'}" if request.cpus is not None else "",
        format_memory(request.memory_bytes) if request.memory_bytes is not None else "",
        format_run_time(request.runtime_seconds) if request.runtime_seconds is not None else "",
    ]
    words = ", ".join(filter(None, requested))
    per_node = " on each node" if len(job.last.parts) > 1 else ""
    return f"{run.title}. " + (f"Requested: {words}{per_node}." if words else "Its request is unknown.")


def attempts_table(measured: Sequence[Measured], job: Job) -> Table:
    """One row for each attempt on each node."""
    attempts = [attempt for attempt in job.attempts for _ in attempt.parts]
    rows = [_attempt_row(job, attempt, each) for attempt, each in zip(attempts, measured, strict=True)]
    return Table(_ATTEMPT_TITLES, rows)


def _attempt_row(job: Job, attempt: Attempt, each: Measured) -> list[str]:
    figures = each.part.figures
    return [
        f"{attempt.attempt_id} of run {attempt.run_id}" if job.word == "attempt" else job.label(attempt),
        each.part.node,
        attempt.how_it_was_ended or attempt.status or NOT_MEASURED,
        NOT_MEASURED if attempt.return_code is None else str(attempt.return_code),
        format_run_time(round(each.part.end_time - each.part.begin_time, 3))
        + ("" if each.part.has_ended else " so far" if _may_run(attempt) else " or more"),
        format_figure("peak_memory_bytes", each.peak_memory_bytes),
        figures.peak_memory_source or "samples",
        *(format_figure(name, getattr(each, name)) for name in _FIGURES),
        f"{len(each.series):,}",
    ]


def _may_run(attempt: Attempt) -> bool:
    return attempt.status in (None, RUNNING)


def job_notes(job: Job, measured: Sequence[Measured], shown: Sequence[Measured]) -> list[str]:
    """Notes on the figure: shortened, without samples, still running."""
    notes = []
    full, kept = sum(len(each.series) for each in measured), sum(len(each.series) for each in shown)
    if kept < full:
        notes.append(f"{full:,} samples are drawn as {kept:,} points: of each part the highest and the lowest.")
    attempts = [attempt for attempt in job.attempts for _ in attempt.parts]
    for attempt, each in zip(attempts, measured, strict=True):
        if not len(each.series):
            notes.append(f"No samples from {each.part.node}: {HOW_TO_GET_A_SERIES}.")
        if not each.part.has_ended:
            perhaps = "it still ran, or was" if _may_run(attempt) else "it was"
            notes.append(f"No end was recorded on {each.part.node}: {perhaps} killed without warning.")
    return notes
