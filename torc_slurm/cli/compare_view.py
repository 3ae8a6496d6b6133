"""How the comparison of the wrapper's, the cgroup's and Slurm's figures looks on the screen, and as JSON and CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torc_slurm.cli.options import Format
from torc_slurm.cli.render import NOT_KNOWN, Column, emit, emit_csv, emit_object, emit_table
from torc_slurm.reports.causes import Cause
from torc_slurm.reports.compare import (
    COMPARISON_COLUMNS,
    DIFFERS_FROM_PERCENT,
    LEAST_CPU_SECONDS,
    LEAST_IO_BYTES,
    Apart,
    Comparison,
    steps_by_cause,
)
from torc_slurm.reports.step_stats import Item, step_label
from torc_slurm.text import printable
from torc_slurm.units import format_memory

_NAME_WIDTH = 32
_MOST_NAMED_STEPS = 4
_NAMES = {
    "sampled_rss_peak_bytes": "RSS sum",
    "cgroup_memory_bytes": "cgroup",
    "cgroup_peak_bytes": "cgroup peak",
    "max_rss_bytes": "MaxRSS",
    "total_cpu_seconds": "TotalCPU",
    "total_disk_read_bytes": "Disk read",
    "total_disk_write_bytes": "Disk write",
}
_LEGEND = (
    "Peak memory and CPU are the wrapper's. The others are held against them: RSS sum (the wrapper's largest sample),",
    "cgroup (charged, without page cache), cgroup peak (with it), MaxRSS and TotalCPU (Slurm's accounting).",
    "Disk read and write, not shown for want of room, are held against what the wrapper counted (-f json has all).",
    f"* differs by more than {DIFFERS_FROM_PERCENT:g} %, or one of the two is missing; {LEAST_CPU_SECONDS:g} s of CPU"
    f" and {LEAST_IO_BYTES / 1e6:g} MB of disk are no difference.",
    f"Sizes are decimal; {NOT_KNOWN} is NULL: not measured.",
)


def show_comparison(comparisons: Sequence[Comparison], chosen_format: Format) -> None:
    """One item per step; under a table every cause with its steps."""
    if chosen_format is Format.json:
        emit_object({"items": [_item(each) for each in comparisons]})
    elif chosen_format is Format.csv:
        rows = [each.figures | {"differences": _in_one_cell(each.apart)} for each in comparisons]
        emit_csv((*COMPARISON_COLUMNS, "differences"), rows)
    else:
        emit_table([column for column, _ in _TABLE], [[cell(each) for _, cell in _TABLE] for each in comparisons])
        emit("".join(f"{line}\n" for line in ["", *_LEGEND, *_causes(comparisons)]))


def _item(comparison: Comparison) -> dict[str, object]:
    return comparison.figures | {
        "differences": [
            {
                "figure": apart.figure,
                "against": apart.against,
                "difference_percent": apart.difference_percent,
                "cause": apart.cause.name,
                "explanation": apart.cause.explanation,
            }
            for apart in comparison.apart
        ]
    }


def _in_one_cell(differences: Sequence[Apart]) -> str:
    return "; ".join(f"{apart.figure} {_percent(apart)}: {apart.cause.name}" for apart in differences)


def _percent(apart: Apart) -> str:
    return NOT_KNOWN if apart.difference_percent is None else f"{apart.difference_percent:+.1f}%"


def _causes(comparisons: Sequence[Comparison]) -> list[str]:
    found = steps_by_cause(comparisons)
    if not found:
        return ["No figure differs by more than 10 %."]
    return [_cause_line(figure, cause, steps) for (figure, cause), steps in found.items()]


def _cause_line(figure: str, cause: Cause, steps: Sequence[Comparison]) -> str:
    def percent(step: Comparison) -> str:
        apart = next(each for each in step.apart if (each.figure, each.cause) == (figure, cause))
        return "" if apart.difference_percent is None else f" {_percent(apart)}"

    shown = ", ".join(f"{printable(step_label(each.figures))}{percent(each)}" for each in steps[:_MOST_NAMED_STEPS])
    more = f" and {len(steps) - _MOST_NAMED_STEPS} more" if len(steps) > _MOST_NAMED_STEPS else ""
    return f"{_NAMES[figure]}: {cause.name} ({shown}{more}): {printable(cause.explanation)}"


def _text(name: str, most: int = _NAME_WIDTH) -> Callable[[Comparison], str]:
    return lambda each: NOT_KNOWN if each.figures[name] is None else printable(str(each.figures[name]), most)


def _number(name: str, write: Callable[[int | float], str]) -> Callable[[Comparison], str]:
    def cell(comparison: Comparison) -> str:
        value = comparison.figures[name]
        mark = "*" if any(apart.figure == name for apart in comparison.apart) else ""
        return (write(value) if isinstance(value, (int, float)) else NOT_KNOWN) + mark

    return cell


def _label(comparison: Comparison) -> str:
    figures: Item = comparison.figures
    return printable(step_label(figures))


def _cpu_seconds(value: int | float) -> str:
    return f"{value:.2f} s"


def _cause_names(comparison: Comparison) -> str:
    return ", ".join(dict.fromkeys(apart.cause.name for apart in comparison.apart))


_TABLE: tuple[tuple[Column, Callable[[Comparison], str]], ...] = (
    (Column("Step"), _label),
    (Column("Name", optional=1), _text("job_name")),
    (Column("Peak memory", right=True), _number("peak_memory_bytes", format_memory)),
    (Column("by", optional=3), _text("peak_memory_source")),
    (Column("RSS sum", right=True), _number("sampled_rss_peak_bytes", format_memory)),
    (Column("cgroup", right=True), _number("cgroup_memory_bytes", format_memory)),
    (Column("cgroup peak", right=True), _number("cgroup_peak_bytes", format_memory)),
    (Column("MaxRSS", right=True), _number("max_rss_bytes", format_memory)),
    (Column("CPU", right=True), _number("wrapper_cpu_seconds", _cpu_seconds)),
    (Column("by", optional=4), _text("cpu_source")),
    (Column("TotalCPU", right=True), _number("total_cpu_seconds", _cpu_seconds)),
    (Column("* because", optional=2), _cause_names),
)
