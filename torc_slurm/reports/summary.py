"""A run in at most 15 lines: jobs by status, the worst memory, CPU and run time against requests, the next command.

plan + node files of the run -> `summary_rows` -> `summary_lines`; all pure. A job in the plan that no file mentions
was not started.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torc_slurm.common.text import printable
from torc_slurm.common.units import format_change, format_cpu_count, format_cpu_percent, format_memory, format_run_time
from torc_slurm.database.merge import merge_nodes
from torc_slurm.database.node_records import NodeRecords, StepRecord
from torc_slurm.database.rows import Row, number_or_none, whole
from torc_slurm.records.statuses import COMPLETED, FAILED, OOM, WORST_FIRST
from torc_slurm.spec.plan import JobPlan, Plan

MOST_LINES = 15
_MOST_NAMED = 6
_LONGEST_NAME = 60
NOT_STARTED = "not started"
_BAD_FIRST = (*WORST_FIRST[:-1], NOT_STARTED, COMPLETED)


@dataclass(frozen=True)
class SummaryRow:
    """One job of the run; None: not measured, or not requested. CPU is in percent of one core."""

    name: str
    status: str
    reason: str | None = None
    peak_memory_bytes: float | None = None
    peak_cpu_percent: float | None = None
    exec_time_seconds: float | None = None
    memory_bytes: int | None = None
    num_cpus: int | None = None
    runtime_seconds: int | None = None
    job_id: int = 0


def summary_rows(plan: Plan, records: Sequence[NodeRecords]) -> list[SummaryRow]:
    """One row per job of the plan, in its order, from the node files of its run."""
    states = {whole(row, "job_id"): row for each in records for row in each.job_states if row["run_id"] == plan.run_id}
    steps: dict[int, list[StepRecord]] = {}
    for each in records:
        for record in each.steps:
            if record.step["run_id"] == plan.run_id:
                steps.setdefault(whole(record.step, "job_id"), []).append(record)
    return [_row(job, states.get(job.job_id), steps.get(job.job_id, [])) for job in plan.jobs]


def _row(job: JobPlan, state: Row | None, steps: list[StepRecord]) -> SummaryRow:
    exits = [dict(record) for step in steps for record in step.exits]
    figures = merge_nodes([step.step for step in steps], exits) if steps else {}
    status, reason = _status(state, figures.get("return_code"), bool(figures.get("oom_kills")))
    asked = job if job.has_requirements else None
    return SummaryRow(
        name=job.name,
        status=status,
        reason=reason,
        peak_memory_bytes=number_or_none(figures.get("peak_memory_bytes")),
        peak_cpu_percent=number_or_none(figures.get("peak_cpu_percent")),
        exec_time_seconds=number_or_none(figures.get("exec_time_seconds")),
        memory_bytes=None if asked is None else asked.memory_bytes,
        num_cpus=None if asked is None else asked.num_cpus,
        runtime_seconds=None if asked is None else asked.runtime_seconds,
        job_id=job.job_id,
    )


def _status(state: Row | None, return_code: object, oom: bool) -> tuple[str, str | None]:
    """The journal's status; or out of memory, if the journal says failed and the wrapper saw an OOM kill."""
    if state is None:
        return NOT_STARTED, None
    status, reason = str(state["state"]), None if state["reason"] is None else str(state["reason"])
    if status == FAILED and oom and return_code != 0:
        return OOM, "the kernel killed one of its processes for memory"
    return status, reason


def summary_lines(
    title: str,
    rows: Sequence[SummaryRow],
    next_commands: Sequence[str] = (),
    states: Mapping[str, int] | None = None,
) -> list[str]:
    """The lines; foreign names are made printable.

    Args:
        title: what the rows belong to, such as ``workflow 3 (demo), run 1``.
        next_commands: what to type next, at most two, each with its purpose.
        states: the number of jobs by status, if the node files may lack some (a full disk); else the rows'.
    """
    counts = Counter(row.status for row in rows) if states is None else states
    lines = [printable(f"{title}: {_counts(counts)}"), *_worst_lines(rows)]
    tail = [f"next: {command}" for command in next_commands]
    troubled = [row for row in rows if row.status not in (COMPLETED, NOT_STARTED)]
    troubled.sort(key=lambda row: _rank(row.status))
    room = min(_MOST_NAMED, MOST_LINES - len(lines) - len(tail) - 1)
    for row in troubled[:room]:
        lines.append(printable(f"  {row.status}: {_short(row.name)}" + (f" ({row.reason})" if row.reason else "")))
    if len(troubled) > room:
        lines.append(f"  … and {len(troubled) - room} more that did not complete")
    return lines + tail


def _rank(status: str) -> int:
    return _BAD_FIRST.index(status) if status in _BAD_FIRST else 0


def _counts(counts: Mapping[str, int]) -> str:
    parts = [f"{count} {status}" for status, count in sorted(counts.items(), key=lambda item: -_rank(item[0])) if count]
    total = sum(counts.values())
    return f"{total} {'job' if total == 1 else 'jobs'}: {', '.join(parts) or 'none'}"


def _worst_lines(rows: Sequence[SummaryRow]) -> list[str]:
    """For each figure, the job that came closest to its request or exceeded it most."""
    found = [
        _worst(
            rows,
            "memory",
            lambda row: (row.peak_memory_bytes, row.memory_bytes),
            lambda used, asked: f"{format_memory(used)} of {format_memory(asked)}",
        ),
        _worst(
            rows,
            "CPU",
            lambda row: (row.peak_cpu_percent, None if row.num_cpus is None else row.num_cpus * 100),
            lambda used, asked: f"{format_cpu_percent(used)} of {format_cpu_count(int(asked) // 100)}",
        ),
        _worst(
            rows,
            "run time",
            lambda row: (row.exec_time_seconds, row.runtime_seconds),
            lambda used, asked: f"{format_run_time(used)} of {format_run_time(asked)}",
        ),
    ]
    return [line for line in found if line is not None]


def _worst(
    rows: Sequence[SummaryRow],
    what: str,
    figures: Callable[[SummaryRow], tuple[float | None, float | None]],
    words: Callable[[float, float], str],
) -> str | None:
    best: tuple[float, str, float, float] | None = None
    for row in rows:
        used, asked = figures(row)
        if used is not None and asked and (best is None or used / asked > best[0]):
            best = (used / asked, row.name, used, asked)
    if best is None:
        return None
    _, name, used, asked = best
    change = format_change(used, asked)
    return printable(f"  most {what} against its request: {_short(name)}, {words(used, asked)} ({change})")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
