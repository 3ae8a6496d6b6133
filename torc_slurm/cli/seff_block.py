"""The output of `torc seff JOB` for one job: bars, its steps, advice, and lines to paste."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torc_slurm.cli.table import NOT_KNOWN, Cell, Column, Table, coloured, lines_of
from torc_slurm.common.text import printable
from torc_slurm.common.units import format_memory, format_run_time
from torc_slurm.sizing.advice import waiting
from torc_slurm.sizing.job_use import COMPLETED, ENDED_FROM_OUTSIDE, FAILED, JobUse, StepUse
from torc_slurm.sizing.thresholds import level_of, level_of_state
from torc_slurm.slurm.max_rss import MaxRssMeaning
from torc_slurm.usecases.efficiency import JobGroup

_BAR_WIDTH = 24
_MOST_ADVICE = 5
_MOST_STEPS = 20


def state_text(job: JobUse) -> str:
    """The status, with the signal that killed the job, or its exit code."""
    state = job.state or NOT_KNOWN
    if state == FAILED and job.exit_signal:
        return f"{state} (signal {job.exit_signal})"
    return f"{state} ({job.exit_code})" if state == FAILED and job.exit_code else state


def block(job: JobUse, group: JobGroup, meaning: MaxRssMeaning) -> list[str]:
    """The lines of one job's block."""
    title = f"Job {printable(job.job_id)}  {printable(job.name or '', 40)}  "
    lines = [title + coloured(Cell(state_text(job), level_of_state(job.state))), _where(job)]
    lines += [_requested(job)] if job.start_time is None else ["", *_bars(job)]
    steps = [step for step in job.steps if step.step_id != "extern"]
    if steps:
        lines += ["", *lines_of(_steps(steps[:_MOST_STEPS]))]
    if len(steps) > _MOST_STEPS:
        lines.append(f"… and {len(steps) - _MOST_STEPS} more steps: torc stats --slurm-job-id {job.slurm_job_id}")
    waited = waiting(job)
    if waited is not None:
        lines += ["", waited]
    lines += with_advice(group) or ["", _why_no_advice(job)]
    if not job.is_measured and job.peak_memory_bytes is not None:
        lines += ["", f"~ {meaning.text}."]
    return lines


def with_advice(group: JobGroup) -> list[str]:
    """The advice and the lines to paste; nothing without advice."""
    if not group.advice:
        return []
    sentences = [f"- {each.reason} Confidence: {each.confidence}." for each in group.advice[:_MOST_ADVICE]]
    return ["", *sentences, "", "Request next time:", *group.sbatch_lines]


def _where(job: JobUse) -> str:
    parts = [
        f"user {printable(job.user_name)}" if job.user_name else "",
        f"partition {printable(job.partition)}" if job.partition else "",
        f"nodes {printable(job.nodes, 40)}" if job.nodes else "",
        _count(job.allocated_cpus, "CPU") if job.allocated_cpus else "",
        _count(job.gpu_count, "GPU") if job.gpu_count else "",
    ]
    if job.slurm_state is not None and job.state != job.slurm_state:
        parts.append(f"Slurm says {job.slurm_state}")
    return ", ".join(part for part in parts if part)


def _requested(job: JobUse) -> str:
    """The request of a job that has not started."""
    per_node = " a node" if (job.node_count or 1) > 1 else ""
    parts = [
        ""
        if job.requested_memory_bytes is None
        else f"{format_memory(job.requested_memory_bytes)} of memory{per_node}",
        "" if job.time_limit_seconds is None else format_run_time(job.time_limit_seconds),
    ]
    return "Requests " + (", ".join(part for part in parts if part) or "not known")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _bars(job: JobUse) -> Iterator[str]:
    if job.elapsed_seconds is not None:
        limit = "no limit" if job.time_limit_seconds is None else format_run_time(job.time_limit_seconds)
        suspended = ""
        if job.suspended_seconds:
            suspended = f", and suspended for {format_run_time(job.suspended_seconds)} besides"
        words = f"{format_run_time(job.elapsed_seconds)} of {limit}{suspended}"
        yield _bar("Time", "time", job.time_efficiency_percent, words)
    if not job.has_ended:
        return
    yield _bar("CPU", "cpu", job.cpu_efficiency_percent, _cpu_words(job))
    yield _bar("Memory", "memory", job.memory_efficiency_percent, _memory_words(job))
    if job.gpu_count:
        yield _bar("GPU", "gpu", job.gpu_utilization_percent, _gpu_words(job))


def _cpu_words(job: JobUse) -> str:
    if job.cpu_seconds is None or not job.allocated_cpus or not job.elapsed_seconds:
        return "not known"
    time = f"{job.cpu_seconds:.1f}s" if job.cpu_seconds < 60 else format_run_time(round(job.cpu_seconds))
    return f"{job.cpu_seconds / job.elapsed_seconds:.1f} of {_count(job.allocated_cpus, 'CPU')}, {time} of CPU time"


def _gpu_words(job: JobUse) -> str:
    if job.gpu_utilization_percent is None and job.gpu_memory_bytes is None:
        return "not known: Slurm recorded no use of a GPU, or cannot measure it here"
    count = _count(job.gpu_count or 0, "GPU")
    words = [] if job.gpu_utilization_percent is None else [f"of {count}, when Slurm saw it busiest"]
    if job.gpu_memory_bytes is not None:
        words.append(f"{format_memory(job.gpu_memory_bytes)} of GPU memory")
    return ", ".join(words)


def _memory_words(job: JobUse) -> str:
    if job.peak_memory_bytes is None:
        return "not known"
    requested = "" if job.requested_memory_bytes is None else f" of {format_memory(job.requested_memory_bytes)}"
    per_node = " a node" if (job.node_count or 1) > 1 else ""
    return f"{format_memory(job.peak_memory_bytes)}{requested}{per_node}  ({job.peak_memory_source})"


def _bar(title: str, kind: str, percent: float | None, words: str) -> str:
    if percent is None:
        return f"{title:<7} {'':{_BAR_WIDTH + 2}} {'':5}  {words}"
    filled = "#" * min(_BAR_WIDTH, round(percent / 100 * _BAR_WIDTH))
    bar = coloured(Cell(f"[{filled:<{_BAR_WIDTH}}] {percent:>4.0f}%", level_of(kind, percent)))
    return f"{title:<7} {bar}  {words}"


def _steps(steps: Sequence[StepUse]) -> Table:
    columns = (
        Column("Step"),
        Column("Name", least=12),
        Column("State"),
        Column("Elapsed", right=True),
        Column("CPUs", right=True),
        Column("Peak memory", right=True),
    )
    return Table(columns, [_step_row(step) for step in steps])


def _step_row(step: StepUse) -> tuple[str, ...]:
    cores = NOT_KNOWN
    if step.cpu_seconds is not None and step.elapsed_seconds:
        cores = f"{step.cpu_seconds / step.elapsed_seconds:.1f}"
    peak = NOT_KNOWN
    if step.peak_memory_bytes is not None:
        peak = ("" if step.is_measured else "~") + format_memory(step.peak_memory_bytes)
    return (
        step.step_id,
        printable(step.name or NOT_KNOWN, 40),
        Cell(printable(step.state or NOT_KNOWN), level_of_state(step.state)),
        NOT_KNOWN if step.elapsed_seconds is None else format_run_time(step.elapsed_seconds),
        cores,
        peak,
    )


def _why_no_advice(job: JobUse) -> str:
    if not job.has_ended:
        reason = f" ({printable(job.reason)})" if job.state == "PENDING" and job.reason else ""
        return f"No advice: the job is {job.state or 'not known to have ended'}{reason}."
    if job.state in ENDED_FROM_OUTSIDE:
        return f"No advice: {job.state} does not show what the job needs."
    if job.state != COMPLETED:
        return f"No advice: the job is {job.state}, and only completed jobs show that less would be enough."
    return "No advice: the request fits what was used, as far as it is known."
