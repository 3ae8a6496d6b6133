"""The comparison of the wrapper's, the cgroup's and Slurm's figures as tables, JSON and CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torc_slurm.cli.answer import Answer
from torc_slurm.cli.table import NOT_KNOWN, Column, Table
from torc_slurm.common.text import printable
from torc_slurm.records.figures import HEADINGS, format_figure
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
from torc_slurm.reports.step_names import slurm_differs, step_label, step_verdict

_NAME_WIDTH = 32
_MOST_NAMED_STEPS = 4
# Headings of figures that only the comparison has, and shorter names of others.
_TITLES = HEADINGS | {"cgroup_memory_bytes": "cgroup", "cgroup_peak_bytes": "cgroup peak", "wrapper_cpu_seconds": "CPU"}
_LEGEND = (
    "Peak memory and CPU are the wrapper's. The others are compared with them. RSS sum: the wrapper's largest sample.",
    "cgroup: charged memory without page cache. cgroup peak: with page cache. MaxRSS, TotalCPU: Slurm's accounting.",
    "Disk read and write are compared with what the wrapper counted; -f json shows them.",
    f"* differs by more than {DIFFERS_FROM_PERCENT:g} %, or one of the two is missing. Differences of CPU time "
    f"below {LEAST_CPU_SECONDS:g} s (disk: {LEAST_IO_BYTES / 1e6:g} MB) are ignored.",
    f"Sizes are decimal; {NOT_KNOWN} is NULL: not measured.",
)


def comparison_answer(comparisons: Sequence[Comparison]) -> Answer:
    """One item per step; below the table every cause with its steps."""
    return Answer(
        keys=(*COMPARISON_COLUMNS, "differences"),
        items=map(_item, comparisons),
        csv_items=(each.figures | {"differences": _in_one_cell(each.apart)} for each in comparisons),
        tables=[Table(_COLUMNS, ([cell(each) for _, cell in _TABLE] for each in comparisons))],
        notes=[*_LEGEND, *_causes(comparisons)],
    )


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
    return f"{_TITLES[figure]}: {cause.name} ({shown}{more}): {printable(cause.explanation)}"


def _text(name: str, most: int = _NAME_WIDTH) -> Callable[[Comparison], str]:
    return lambda each: NOT_KNOWN if each.figures[name] is None else printable(str(each.figures[name]), most)


def _number(name: str, write: Callable[[int | float], str] | None = None) -> tuple[Column, Callable[[Comparison], str]]:
    def cell(comparison: Comparison) -> str:
        value = comparison.figures[name]
        mark = "*" if any(apart.figure == name for apart in comparison.apart) else ""
        shown = write(value) if write is not None and isinstance(value, (int, float)) else format_figure(name, value)
        return shown + mark

    return Column(_TITLES[name], right=True), cell


def _state(comparison: Comparison) -> str:
    """torc's status, and Slurm's state if it differs."""
    slurm = slurm_differs(comparison.figures)
    word = step_verdict(comparison.figures) or NOT_KNOWN
    return printable(word if slurm is None else f"{word} (Slurm: {slurm})", _NAME_WIDTH)


def _cpu_seconds(value: int | float) -> str:
    return f"{value:.2f} s"


def _cause_names(comparison: Comparison) -> str:
    return ", ".join(dict.fromkeys(apart.cause.name for apart in comparison.apart))


_TABLE: tuple[tuple[Column, Callable[[Comparison], str]], ...] = (
    (Column("Step"), lambda each: printable(step_label(each.figures))),
    (Column("Name", optional=1, least=12), _text("job_name")),
    (Column("State", optional=5), _state),
    _number("peak_memory_bytes"),
    (Column("by", optional=3), _text("peak_memory_source")),
    _number("sampled_rss_peak_bytes"),
    _number("cgroup_memory_bytes"),
    _number("cgroup_peak_bytes"),
    _number("max_rss_bytes"),
    _number("wrapper_cpu_seconds", _cpu_seconds),
    (Column("by", optional=4, key="cpu_by"), _text("cpu_source")),
    _number("total_cpu_seconds", _cpu_seconds),
    (Column("* because", optional=2, key="because"), _cause_names),
)
_COLUMNS = tuple(column for column, _ in _TABLE)
