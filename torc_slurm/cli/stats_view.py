"""How a report of step figures looks on the screen: the columns of its table, its footer, its records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from torc_slurm.cli.answer import Answer
from torc_slurm.cli.table import NOT_KNOWN, Column, Table
from torc_slurm.figures import HEADINGS
from torc_slurm.reports.differences import Difference
from torc_slurm.reports.step_stats import ITEM_COLUMNS, NO_ROW, Item, NullReason, StatsReport, step_label
from torc_slurm.text import printable
from torc_slurm.units import format_cpu_percent, format_memory, format_run_time

_NAME_WIDTH = 32
_NODES_WIDTH = 24
_MOST_WARNINGS = 20
_MOST_RANGES = 10
_UNITS = (
    "Sizes are decimal: 1 GB is 10^9 bytes, where sacct's own G is 1024^3. CPU: 100% is one core. "
    f"{NOT_KNOWN} is NULL: not measured."
)


def _text(name: str, most: int) -> Callable[[Item], str]:
    return lambda item: NOT_KNOWN if item[name] is None else printable(str(item[name]), most)


def _number(name: str, write: Callable[[int | float], str]) -> Callable[[Item], str]:
    def cell(item: Item) -> str:
        value = item[name]
        return write(value) if isinstance(value, (int, float)) else NOT_KNOWN

    return cell


def _state(item: Item) -> str:
    return printable(str(item["state"] or item["job_status"] or NOT_KNOWN), _NAME_WIDTH)


def _exit(item: Item) -> str:
    if item["return_code"] is not None:
        return str(item["return_code"])
    return NOT_KNOWN if item["exit_code"] is None else f"{item['exit_code']}:{item['exit_signal'] or 0}"


def _elapsed(item: Item) -> str:
    own, slurm = item["exec_time_seconds"], item["elapsed_seconds"]
    seconds = own if own is not None else slurm
    return format_run_time(seconds) if isinstance(seconds, (int, float)) else NOT_KNOWN


def _nodes(item: Item) -> str:
    return printable(str(item["node_list"] or item["measured_nodes"] or NOT_KNOWN), _NODES_WIDTH)


_TABLE: tuple[tuple[Column, Callable[[Item], str]], ...] = (
    (Column("Step"), lambda item: printable(step_label(item))),
    (Column("Name"), _text("job_name", _NAME_WIDTH)),
    (Column("State"), _state),
    (Column("Exit", right=True), _exit),
    (Column("Elapsed", right=True), _elapsed),
    (Column("Peak memory", right=True), _number("peak_memory_bytes", format_memory)),
    (Column("by", optional=6), _text("peak_memory_source", _NODES_WIDTH)),
    (Column("Avg CPU", right=True), _number("avg_cpu_percent", format_cpu_percent)),
    (Column("Peak CPU", right=True), _number("peak_cpu_percent", format_cpu_percent)),
    (Column("MaxRSS", right=True), _number("max_rss_bytes", format_memory)),
    (Column("MaxVMSize", right=True, optional=7), _number("max_vm_size_bytes", format_memory)),
    (Column("Disk read", right=True, optional=4), _number("max_disk_read_bytes", format_memory)),
    (Column("Disk write", right=True, optional=3), _number("max_disk_write_bytes", format_memory)),
    (Column("AveCPU", right=True, optional=2), _number("ave_cpu_seconds", format_run_time)),
    (Column("Nodes", optional=5), _nodes),
)


def report_answer(report: StatsReport) -> Answer:
    """The table, and under it units, NULLs with their reasons, and warnings."""
    rows = ([cell(item) for _, cell in _TABLE] for item in report.items)
    return Answer(
        keys=ITEM_COLUMNS,
        items=report.items,
        tables=[Table([column for column, _ in _TABLE], rows, all_by="--all-columns or -f json")],
        notes=footer(report),
    )


def records_answer(report: StatsReport) -> Answer:
    """Every column of every item, one under the other."""
    return report_answer(report)._replace(tables=(), notes=_records(report))


def _records(report: StatsReport) -> Iterator[str]:
    for item in report.items:
        yield printable(step_label(item))
        yield from (f"  {name}: {_raw(item[name])}" for name in ITEM_COLUMNS)
    yield from footer(report)


def footer(report: StatsReport) -> list[str]:
    """The lines under a table."""
    lines = [_UNITS, *_how_old(report, time.time()), *map(_why_null, report.null_reasons)]
    lines += map(_how_different, report.differences)
    if report.disk_of_torc_step:
        lines.append(
            f"MaxDiskRead, MaxDiskWrite in {report.disk_of_torc_step} {_plural('row', report.disk_of_torc_step)} are "
            "torc-step's own: this Slurm reads a task's first process alone. What the steps read "
            "and wrote: all_nodes_read_chars, all_nodes_written_chars (--all-columns, -f json)."
        )
    if report.unmeasured:
        steps = _plural("step", report.unmeasured)
        lines.append(f"{report.unmeasured} more {steps} ran without torc-step; --all-steps shows Slurm's view of them.")
    lines += _cut([f"Warning: {printable(warning)}" for warning in report.warnings])
    return lines


def _how_old(report: StatsReport, now: float) -> list[str]:
    """Of what runs, since when its figures stand; the oldest where several run."""
    ages = [
        (max(0.0, now - float(item["last_flush_time"])), step_label(item))
        for item in report.items
        if item["job_status"] == "running" and isinstance(item["last_flush_time"], (int, float))
    ]
    if not ages:
        return []
    age, label = max(ages)
    others = f"; {len(ages) - 1} more run, their figures are not older" if len(ages) > 1 else ""
    return [f"{printable(label)} is running: figures as of {format_run_time(round(age))} ago{others}"]


def _why_null(reason: NullReason) -> str:
    figures = ", ".join(HEADINGS[name] for name in reason.figures)
    status = f"{reason.status}: " if reason.status != NO_ROW else ""
    rows = f"{reason.rows} {_plural('row', reason.rows)}"
    return f"{figures} NULL in {rows}: {status}{printable(reason.reason)}"


def _how_different(difference: Difference) -> str:
    more = len(difference.steps) - 1
    alike = f", and {more} more alike" if more else ""
    return (
        f"{printable(difference.steps[0])}: MaxRSS {format_memory(difference.slurm_bytes)} against peak memory "
        f"{format_memory(difference.own_bytes)}{alike}: {printable(difference.reason)}"
    )


def number_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers for a message: ``1, 3 to 5``, cut where they are in many pieces."""
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and number == pieces[-1][-1] + 1:
            pieces[-1][1:] = [number]
        else:
            pieces.append([number])
    shown = [" to ".join(map(str, piece)) for piece in pieces[:_MOST_RANGES]]
    return ", ".join([*shown, "…"] if len(pieces) > _MOST_RANGES else shown)


def _cut(lines: list[str]) -> list[str]:
    if len(lines) <= _MOST_WARNINGS:
        return lines
    return [*lines[:_MOST_WARNINGS], f"… and {len(lines) - _MOST_WARNINGS} more warnings"]


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _raw(value: int | float | str | None) -> str:
    return "NULL" if value is None else printable(str(value))
