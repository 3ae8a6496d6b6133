"""The output of a report of step figures: its table, its footer, its records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from torc_slurm.cli.answer import Answer
from torc_slurm.cli.table import NOT_KNOWN, Cell, Column, Table
from torc_slurm.common.identity import named_step
from torc_slurm.common.text import printable, shortened
from torc_slurm.common.units import format_memory, format_run_time
from torc_slurm.records.figures import HEADINGS, format_figure
from torc_slurm.records.statuses import RUNNING
from torc_slurm.reports.differences import Difference
from torc_slurm.reports.step_names import (
    shown_name,
    step_key,
    step_label,
    step_verdict,
    steps_of_several_commands,
)
from torc_slurm.reports.step_stats import (
    ITEM_COLUMNS,
    NO_ROW,
    Item,
    NullReason,
    StatsReport,
    has_disk_of_torc_step,
)
from torc_slurm.sizing.thresholds import Level, level_of, level_of_state

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


def _figure(name: str) -> Callable[[Item], str]:
    return lambda item: format_figure(name, item[name])


def _name(item: Item) -> str:
    name = shown_name(item)
    return NOT_KNOWN if name is None else printable(shortened(name, _NAME_WIDTH))


def _state(item: Item) -> str:
    word = step_verdict(item)
    if word is None:
        return NOT_KNOWN
    return Cell(printable(word, _NAME_WIDTH), level_of_state(word))


def _exit(item: Item) -> str:
    if item["return_code"] is not None:
        return str(item["return_code"])
    return NOT_KNOWN if item["exit_code"] is None else f"{item['exit_code']}:{item['exit_signal'] or 0}"


def _elapsed(item: Item) -> str:
    own = item["exec_time_seconds"]
    return format_figure("elapsed_seconds", own if own is not None else item["elapsed_seconds"])


def _cpu(item: Item) -> str:
    """Cores used on average, of the allocated ones."""
    used, given = item["used_cpus"], item["allocated_cpus"]
    if not isinstance(used, (int, float)):
        return NOT_KNOWN
    text = f"{used:.1f}" if given is None else f"{used:.1f} of {given}"
    return Cell(text, _level("cpu", item["cpu_efficiency_percent"]))


def _memory(item: Item) -> str:
    """torc's peak; for a step without torc-step, Slurm's MaxRSS."""
    name = "max_rss_bytes" if item["attempt_id"] is None else "peak_memory_bytes"
    return Cell(format_figure(name, item[name]), _level("memory", item["memory_efficiency_percent"]))


def _level(kind: str, percent: int | float | str | None) -> Level:
    return level_of(kind, percent) if isinstance(percent, (int, float)) else ""


def _disk(name: str) -> Callable[[Item], str]:
    """Slurm's disk figure; nothing if it is torc-step's own and not the program's."""
    return lambda item: NOT_KNOWN if has_disk_of_torc_step(item) else format_figure(name, item[name])


def _nodes(item: Item) -> str:
    return printable(str(item["node_list"] or item["measured_nodes"] or NOT_KNOWN), _NODES_WIDTH)


_TABLE: tuple[tuple[Column, Callable[[Item], str]], ...] = (
    (Column("Name", least=8), _name),
    (Column("State"), _state),
    (Column("Exit", right=True, optional=3), _exit),
    (Column("Elapsed", right=True), _elapsed),
    (Column("CPUs", right=True, optional=1), _cpu),
    (Column("Memory", right=True), _memory),
    (Column("Requested", right=True, optional=2), _figure("requested_memory_bytes")),
    (Column("Limit", right=True, on_request=True), _figure("time_limit_seconds")),
    (Column("by", on_request=True), _text("peak_memory_source", _NODES_WIDTH)),
    *(
        (Column(HEADINGS[name], right=True, on_request=True, key=name), _figure(name))
        for name in (
            "avg_memory_bytes",
            "avg_cpu_percent",
            "peak_cpu_percent",
            "cpu_efficiency_percent",
            "memory_efficiency_percent",
            "time_efficiency_percent",
            "max_rss_bytes",
            "max_vm_size_bytes",
            "ave_cpu_seconds",
        )
    ),
    (Column("Disk read", right=True, on_request=True), _disk("max_disk_read_bytes")),
    (Column("Disk write", right=True, on_request=True), _disk("max_disk_write_bytes")),
    (Column("Nodes", on_request=True), _nodes),
)
_STEP = Column("Step", least=16)
TABLE_COLUMNS: tuple[str, ...] = (_STEP.name, *(column.name for column, _ in _TABLE))


def report_answer(report: StatsReport, *, explain: bool) -> Answer:
    """The table, and below it notes on its figures, or one line on how to see these."""
    several = steps_of_several_commands(report.items)
    rows = (
        [printable(step_label(item, numbered=step_key(item) in several)), *(cell(item) for _, cell in _TABLE)]
        for item in report.items
    )
    return Answer(
        keys=ITEM_COLUMNS,
        items=report.items,
        tables=[Table([_STEP, *(column for column, _ in _TABLE)], rows, all_by="--all-columns or -f json")],
        notes=footer(report) if explain else _short_footer(report),
    )


def records_answer(report: StatsReport) -> Answer:
    """Every column of every item, one below the other."""
    return report_answer(report, explain=True)._replace(tables=(), notes=_records(report))


def _records(report: StatsReport) -> Iterator[str]:
    for item in report.items:
        yield printable(step_label(item))
        yield from (
            f"  {name}: {'NULL' if item[name] is None else printable(str(item[name]))}" for name in ITEM_COLUMNS
        )
    yield from footer(report)


def _short_footer(report: StatsReport) -> list[str]:
    """The age of the figures of running steps, and one line on how to see more."""
    counts = {"warning": len(report.warnings), "note": len(report.null_reasons) + len(report.differences)}
    counts["note"] += bool(report.disk_of_torc_step)
    more = [f"{count} {_plural(word, count)}" for word, count in counts.items() if count]
    unmeasured = report.unmeasured
    if unmeasured:
        more.append(f"{unmeasured} {_plural('step', unmeasured)} without torc-step (--all-steps)")
    what = ", ".join(more) or "units and sources"
    return [*_how_old(report, time.time()), f"--explain shows {what}"]


def footer(report: StatsReport) -> list[str]:
    """The lines below a table."""
    lines = [_UNITS, *_how_old(report, time.time()), *map(_why_null, report.null_reasons)]
    lines += map(_how_different, report.differences)
    if report.disk_of_torc_step:
        lines.append(
            f"This Slurm did not see the program's disk I/O in {report.disk_of_torc_step} "
            f"{_plural('row', report.disk_of_torc_step)}: MaxDiskRead and MaxDiskWrite are torc-step's own. What the "
            "program read and wrote: all_nodes_read_chars, all_nodes_written_chars (--all-columns, -f json)."
        )
    if report.unmeasured:
        steps = _plural("step", report.unmeasured)
        lines.append(f"{report.unmeasured} more {steps} ran without torc-step; --all-steps shows Slurm's view of them.")
    lines += _cut([f"Warning: {printable(warning)}" for warning in report.warnings])
    return lines


def _how_old(report: StatsReport, now: float) -> list[str]:
    """The age of the figures of running steps; of several, the oldest."""
    ages = [
        (max(0.0, now - float(item["last_flush_time"])), step_label(item))
        for item in report.items
        if item["job_status"] == RUNNING and isinstance(item["last_flush_time"], (int, float))
    ]
    if not ages:
        return []
    age, label = max(ages)
    more = len(ages) - 1
    others = f"; {more} more {'step is' if more == 1 else 'steps are'} running, with newer figures" if more else ""
    return [f"{printable(label)} is running: figures as of {format_run_time(round(age))} ago{others}"]


def _why_null(reason: NullReason) -> str:
    figures = ", ".join(HEADINGS[name] for name in reason.figures)
    status = f"{reason.status}: " if reason.status != NO_ROW else ""
    rows = f"{reason.rows} {_plural('row', reason.rows)} {'has' if reason.rows == 1 else 'have'}"
    return f"{rows} no {figures}: {status}{printable(reason.reason)}"


def _how_different(difference: Difference) -> str:
    more = len(difference.steps) - 1
    alike = f", and {more} more alike" if more else ""
    return (
        f"{printable(difference.steps[0])}: MaxRSS {format_memory(difference.slurm_bytes)} against peak memory "
        f"{format_memory(difference.own_bytes)}{alike}: {printable(difference.reason)}"
    )


def number_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers for a message: ``1, 3 to 5``, cut if they are in many pieces."""
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and number == pieces[-1][-1] + 1:
            pieces[-1][1:] = [number]
        else:
            pieces.append([number])
    shown = [" to ".join(str(named_step(number)) for number in piece) for piece in pieces[:_MOST_RANGES]]
    return ", ".join([*shown, "…"] if len(pieces) > _MOST_RANGES else shown)


def _cut(lines: list[str]) -> list[str]:
    if len(lines) <= _MOST_WARNINGS:
        return lines
    return [*lines[:_MOST_WARNINGS], f"… and {len(lines) - _MOST_WARNINGS} more warnings"]


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
