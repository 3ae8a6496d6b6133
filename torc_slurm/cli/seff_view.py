"""The answer of `torc seff`: its table of jobs, its JSON and CSV. `torc_slurm.cli.seff_block` shows a single job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torc_slurm.cli.answer import Answer
from torc_slurm.cli.seff_block import block, state_text, with_advice
from torc_slurm.cli.table import NOT_KNOWN, Cell, Column, Table
from torc_slurm.common.text import printable
from torc_slurm.common.units import format_memory, format_run_time, parse_slurm_time
from torc_slurm.sizing.advice import CPUS, TIME, Advice
from torc_slurm.sizing.job_use import JobUse
from torc_slurm.sizing.thresholds import Level, level_of, level_of_state
from torc_slurm.slurm.max_rss import MaxRssMeaning
from torc_slurm.usecases.efficiency import JobGroup, group_of, grouped


class _Shown(NamedTuple):
    """A column and its cell for a group of jobs."""

    column: Column
    cell: Callable[[JobGroup], str]
    is_default: bool = True


def _percent(kind: str, value: Callable[[JobUse], float | None]) -> Callable[[JobGroup], str]:
    def cell(group: JobGroup) -> str:
        ended = kind == "time" or all(job.has_ended for job in group.jobs)
        values = [found for job in group.jobs if ended and (found := value(job)) is not None]
        if not values:
            return NOT_KNOWN
        shown = sum(values) / len(values) if kind == "cpu" else max(values)
        return Cell(f"{shown:.0f}%", level_of(kind, shown))

    return cell


def _job_id(group: JobGroup) -> str:
    first = group.first
    return printable(first.job_id) if len(group.jobs) == 1 else f"{first.array_job_id}[{len(group.jobs)}]"


def _text(value: Callable[[JobUse], str | None]) -> Callable[[JobGroup], str]:
    return lambda group: printable(value(group.first) or NOT_KNOWN)


def _state(group: JobGroup) -> str:
    counts: dict[str, int] = {}
    for job in group.jobs:
        counts[job.state or NOT_KNOWN] = counts.get(job.state or NOT_KNOWN, 0) + 1
    if len(counts) == 1:
        text = state_text(group.first) if len(group.jobs) == 1 else next(iter(counts))
        return Cell(text, level_of_state(group.first.state))
    levels: list[Level] = [level_of_state(state) for state in counts]
    by_count = sorted(counts.items(), key=lambda item: -item[1])
    words = ", ".join(f"{count} {state}" for state, count in by_count)
    return Cell(words, "bad" if "bad" in levels else "")


def _elapsed(group: JobGroup) -> str:
    times = [
        job.elapsed_seconds for job in group.jobs if job.elapsed_seconds is not None and job.start_time is not None
    ]
    return format_run_time(max(times)) if times else NOT_KNOWN


def _memory(group: JobGroup) -> str:
    peaks = [job.peak_memory_bytes for job in group.jobs if job.peak_memory_bytes is not None]
    requested = group.first.requested_memory_bytes
    of = "" if requested is None else f" of {format_memory(requested)}"
    if not peaks:
        return f"{NOT_KNOWN}{of}"
    mark = "" if all(job.is_measured for job in group.jobs) else "~"
    return f"{mark}{format_memory(max(peaks))}{of}"


def _gpu(group: JobGroup) -> str:
    used = [job.gpu_utilization_percent for job in group.jobs if job.gpu_utilization_percent is not None]
    count = group.first.gpu_count
    if not count:
        return ""
    return f"{count} GPU" + (f" {sum(used) / len(used):.0f}%" if used else "")


def short_advice(advice: Sequence[Advice]) -> str:
    """``600M 2c 20m``: memory, CPUs, time."""
    return " ".join(map(_short, advice))


def _short(advice: Advice) -> str:
    if advice.resource == CPUS:
        return f"{advice.suggested}c"
    seconds = parse_slurm_time(str(advice.suggested)) if advice.resource == TIME else None
    if seconds is None:
        return str(advice.suggested)
    return "".join(part for part in format_run_time(seconds).split() if not part.startswith("0"))


_SHOWN: tuple[_Shown, ...] = (
    _Shown(Column("JobID", key="jobid"), _job_id),
    _Shown(Column("User", key="user"), _text(lambda job: job.user_name), is_default=False),
    _Shown(Column("Name", least=8), _text(lambda job: job.name)),
    _Shown(Column("Partition"), _text(lambda job: job.partition), is_default=False),
    _Shown(Column("State", least=13), _state),
    _Shown(Column("Elapsed", right=True, optional=6), _elapsed),
    _Shown(Column("Time", right=True), _percent("time", lambda job: job.time_efficiency_percent)),
    _Shown(Column("CPU", right=True), _percent("cpu", lambda job: job.cpu_efficiency_percent)),
    _Shown(Column("Mem", right=True), _percent("memory", lambda job: job.memory_efficiency_percent)),
    _Shown(Column("Peak memory", right=True, optional=7, key="memory"), _memory),
    _Shown(Column("GPU", optional=5), _gpu),
    _Shown(Column("Suggested", optional=4), lambda group: short_advice(group.advice)),
)
COLUMN_NAMES = tuple(shown.column.name for shown in _SHOWN)
OLDER_NAMES = {"ask": "suggested"}


def answer(
    jobs: Sequence[JobUse], meaning: MaxRssMeaning, *, columns: Sequence[str], expand: bool, is_named: bool
) -> Answer:
    """JSON and CSV have every job; a terminal gets a table, or a block if one job was named.

    Args:
        columns: the table's columns by name; none: the usual ones.
        is_named: whether the jobs were named on the command line.
    """
    items = map(item, jobs)  # read only for JSON; the next only for CSV
    flat = (_flat(item(job)) for job in jobs)
    keys = list(_flat(item(jobs[0]))) if jobs else []
    if len(jobs) == 1 and is_named and not columns:
        notes = block(jobs[0], group_of(jobs), meaning)
        return Answer(keys=keys, items=items, csv_items=flat, notes=notes)
    groups = grouped(jobs, expand=expand)
    has_gpus = any(group.first.gpu_count for group in groups)
    shown = [
        each
        for each in _SHOWN
        if (each.column.name in columns if columns else each.is_default and (has_gpus or each.column.name != "gpu"))
    ]
    table = Table([each.column for each in shown], [[each.cell(group) for each in shown] for group in groups])
    notes = []
    if any(not job.is_measured and job.peak_memory_bytes is not None for job in jobs):
        notes.append(f"~ {meaning.text}.")
    if len(groups) == 1 and not columns:
        notes += with_advice(groups[0])
    return Answer(keys=keys, items=items, csv_items=flat, tables=[table], notes=notes)


# --- items --------------------------------------------------------------------------------------------------------


def item(job: JobUse) -> dict[str, Any]:
    """One job for JSON; percentages with one decimal."""
    group = group_of([job])
    return {
        "slurm_job_id": job.slurm_job_id,
        "job_id": job.job_id,
        "array_job_id": job.array_job_id,
        "name": job.name,
        "user_name": job.user_name,
        "partition": job.partition,
        "state": job.state,
        "slurm_state": job.slurm_state,
        "reason": job.reason,
        "exit_code": job.exit_code,
        "exit_signal": job.exit_signal,
        "submit_time": job.submit_time,
        "start_time": job.start_time,
        "end_time": job.end_time,
        "elapsed_seconds": job.elapsed_seconds,
        "suspended_seconds": job.suspended_seconds,
        "time_limit_seconds": job.time_limit_seconds,
        "cpu_seconds": job.cpu_seconds,
        "allocated_cpus": job.allocated_cpus,
        "cpu_efficiency_percent": _rounded(job.cpu_efficiency_percent),
        "cpu_wait_seconds": job.cpu_wait_seconds,
        "peak_memory_bytes": job.peak_memory_bytes,
        "peak_memory_source": job.peak_memory_source,
        "requested_memory_bytes": job.requested_memory_bytes,
        "memory_efficiency_percent": _rounded(job.memory_efficiency_percent),
        "time_efficiency_percent": _rounded(job.time_efficiency_percent),
        "node_count": job.node_count,
        "node_list": job.nodes,
        "gpu_count": job.gpu_count,
        "gpu_utilization_percent": job.gpu_utilization_percent,
        "gpu_memory_bytes": job.gpu_memory_bytes,
        "advice": [each.item() for each in group.advice],
        "sbatch_lines": list(group.sbatch_lines),
        "steps": [vars(step) | {"nodes": list(step.nodes)} for step in job.steps],
    }


def _rounded(percent: float | None) -> float | None:
    return None if percent is None else round(percent, 1)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON item as a row of CSV: the advice as sbatch options, no steps."""
    flat = {name: value for name, value in values.items() if name not in ("sbatch_lines", "steps")}
    return flat | {"advice": " ".join(line.removeprefix("#SBATCH ") for line in values["sbatch_lines"])}
