"""How right-sizing looks on the screen, and as JSON and CSV."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from torc_slurm.cli.options import Format
from torc_slurm.cli.render import NOT_KNOWN, Column, emit, emit_csv, emit_items, emit_object, emit_table
from torc_slurm.sizing.corrections import Corrections
from torc_slurm.sizing.decision import DOWN, KEPT, UP, Decision
from torc_slurm.sizing.documents import (
    VIOLATION_KEYS,
    corrections_document,
    explanation,
    saving_item,
    savings_document,
    utilization_document,
    violation,
)
from torc_slurm.sizing.recovery import Unfinished
from torc_slurm.sizing.savings import Saving
from torc_slurm.sizing.utilization import Utilization
from torc_slurm.text import printable

if TYPE_CHECKING:
    from torc_slurm.usecases.correct import SpecEdit

_NAME_WIDTH = 32
_REASON_WIDTH = 200
_WORDS = {UP: "more", DOWN: "less", KEPT: "same"}
_ADJUSTMENT_COLUMNS = (
    "resource_requirements_id",
    "name",
    "resource_type",
    "direction",
    "original",
    "new",
    "job_ids",
    "reason",
)


def show_utilization(report: Utilization, chosen_format: Format) -> None:
    """The violations, or all uses that the report holds."""
    if chosen_format is Format.json:
        emit_object(utilization_document(report))
    elif chosen_format is Format.csv:
        emit_csv(VIOLATION_KEYS, [violation(use) for use in report.uses])
    else:
        _show_uses(report)


def _show_uses(report: Utilization) -> None:
    if report.uses:
        columns = (
            Column("Job", right=True),
            Column("Name"),
            Column("Resource"),
            Column("Specified", right=True),
            Column("Peak used", right=True),
            Column("Over", right=True),
            Column("Note", optional=1),
        )
        emit_table(columns, [_use_cells(report, index) for index in range(len(report.uses))])
        emit("\n")
    what = "violation" if report.violations == 1 else "violations"
    emit(f"{report.violations} {what} in {report.total_results} jobs (workflow {report.workflow_id}).\n")
    if report.unmeasured:
        emit(f"Of {report.unmeasured} of them something was not measured, and nothing is said of that.\n")
    if report.violations:
        emit(f"What to ask for instead: torc workflows correct-resources {report.workflow_id} --dry-run\n")


def _use_cells(report: Utilization, index: int) -> tuple[str, ...]:
    use = report.uses[index]
    name = printable(use.job_name, _NAME_WIDTH)
    over = use.over_utilization
    return (str(use.job_id), name, use.resource_type, use.specified, use.peak_used, over, printable(use.note))


def show_corrections(corrections: Corrections, chosen_format: Format, *, dry_run: bool, explain: bool) -> None:
    """What changes; with ``explain`` what does not, too, and why."""
    if chosen_format is Format.json:
        emit_object(corrections_document(corrections, dry_run=dry_run, explain=explain))
        return
    shown = [each for each in corrections.decisions if explain or each.direction != KEPT]
    if chosen_format is Format.csv:
        rows = [explanation(each) | {"job_ids": _ids(each)} for each in shown]
        emit_csv(_ADJUSTMENT_COLUMNS, rows)
        return
    show_decisions(shown)
    emit(f"{_summary(corrections, dry_run=dry_run)}\n")


def show_decisions(decisions: Sequence[Decision]) -> None:
    """A table of decisions; none where there are none."""
    if not decisions:
        return
    columns = (
        Column("Requirement"),
        Column("Resource"),
        Column("Change"),
        Column("From", right=True),
        Column("To", right=True),
        Column("Jobs", right=True),
        Column("Why", optional=1),
    )
    emit_table(columns, [_decision_cells(each) for each in decisions])
    emit("\n")


def _decision_cells(decision: Decision) -> tuple[str, ...]:
    requirement = decision.requirement
    return (
        printable(requirement.name, _NAME_WIDTH),
        decision.resource.value,
        _WORDS[decision.direction],
        NOT_KNOWN if decision.original is None else str(decision.original),
        NOT_KNOWN if decision.new is None else str(decision.new),
        str(len(decision.jobs)),
        printable(decision.reason, _REASON_WIDTH),
    )


def _ids(decision: Decision) -> str:
    return " ".join(str(job.job_id) for job in decision.jobs)


def _summary(corrections: Corrections, *, dry_run: bool) -> str:
    analyzed = f"{corrections.jobs_analyzed} jobs of workflow {corrections.workflow_id} were looked at"
    count = corrections.requirements_updated
    if not count:
        return f"Nothing to correct: {analyzed}."
    what = "requirement" if count == 1 else "requirements"
    if dry_run:
        return f"{count} {what} would change: {analyzed}. Nothing was changed (--dry-run)."
    return f"{count} {what} changed: {analyzed}. The next run asks for this: torc submit {corrections.workflow_id}"


def show_edit(edit: SpecEdit, chosen_format: Format, *, dry_run: bool) -> None:
    """The difference in a workflow file: under a table, on stderr beside JSON and CSV."""
    lines = [printable(line) for line in edit.diff.splitlines()]
    written = f"{edit.target} {'would be' if dry_run else 'was'} written"
    lines.append(written if lines or edit.source != edit.target else f"{edit.source} says so already")
    text = "".join(f"{line}\n" for line in lines)
    if chosen_format is Format.table:
        emit(f"\n{text}")
    else:
        print(text, end="", file=sys.stderr, flush=True)


def show_savings(workflow_id: int, run_id: int | None, rows: Sequence[Saving], chosen_format: Format) -> None:
    """One row per requirement, and the workflow's sum."""
    items = [saving_item(each) for each in rows]
    if chosen_format is Format.json:
        emit_object(savings_document(workflow_id, run_id, rows))
    elif chosen_format is Format.csv:
        emit_csv(list(items[0]), items)
    else:
        _show_hours("Core-hours", "core_hours", items)
        _show_hours("GB-hours", "gb_hours", items)
        emit(
            "Asked: held while jobs ran. Lost: of that by attempts that did not complete. After: the same work after\n"
            "correction. Reserved: the requests for their whole run time, once per job. "
            f"{NOT_KNOWN} is not measured.\n"
        )
        if rows[-1].unmeasured_attempts:
            emit(f"{rows[-1].unmeasured_attempts} attempts have no figures: they count as asked, not as used.\n")


def _show_hours(title: str, unit: str, items: Sequence[Mapping[str, object]]) -> None:
    names = ("asked", "used", "wasted", "lost", "asked_after", "reserved", "reserved_after")
    titles = ("Asked", "Used", "Wasted", "Lost", "After", "Reserved", "Reserved after")
    columns = (Column(title), Column("Jobs", right=True), Column("Attempts", right=True))
    rows = [
        (
            "(workflow)" if item["name"] is None else printable(str(item["name"]), _NAME_WIDTH),
            str(item["jobs"]),
            str(item["attempts"]),
            *(_hours(item[f"{name}_{unit}"]) for name in names),
        )
        for item in items
    ]
    emit_table((*columns, *(Column(word, right=True) for word in titles)), rows)
    emit("\n")


def _hours(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else NOT_KNOWN


def show_changes(rows: Sequence[Mapping[str, int | float | str | None]], chosen_format: Format) -> None:
    """Every change that was saved; evidence as JSON where there is room for it."""
    if chosen_format is Format.json:
        emit_items([dict(row) | {"evidence": json.loads(str(row["evidence"]))} for row in rows])
    elif chosen_format is Format.csv:
        emit_csv(list(rows[0]) if rows else ("change_id",), rows)
    elif not rows:
        emit("No correction was saved yet.\n")
    else:
        columns = ("When", "Requirement", "Resource", "From", "To", "After run", "Why")
        emit_table([Column(title, optional=title == "Why") for title in columns], [_change_cells(row) for row in rows])


def _change_cells(row: Mapping[str, object]) -> tuple[str, ...]:
    when = datetime.fromtimestamp(float(str(row["changed_at"]))).astimezone()
    texts = [printable(str(row[name]), _NAME_WIDTH) for name in ("name", "resource", "original", "new")]
    return (f"{when:%Y-%m-%d %H:%M:%S}", *texts, str(row["after_run_id"]), printable(str(row["reason"]), _REASON_WIDTH))


def show_unfinished(unfinished: Sequence[Unfinished]) -> None:
    """The jobs that are not completed, and what becomes of each."""
    columns = (Column("Job", right=True), Column("Name"), Column("Cause"), Column("Helped"), Column("Why"))
    rows = [
        (
            str(each.job.job_id),
            printable(each.job.name, _NAME_WIDTH),
            each.cause.value.replace("_", " "),
            "yes" if each.is_helped else "no",
            printable(each.reason, _REASON_WIDTH),
        )
        for each in unfinished
    ]
    emit_table(columns, rows)
    emit("\n")
