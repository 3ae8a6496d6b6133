"""Right-sizing as tables, JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from torc_slurm.cli.answer import Answer, Item
from torc_slurm.cli.table import NOT_KNOWN, Column, Table
from torc_slurm.common.text import printable
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
from torc_slurm.sizing.trends import NO_TRENDS, Trends
from torc_slurm.sizing.utilization import Utilization

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


_USE_COLUMNS = (
    Column("Job", right=True),
    Column("Name", least=12),
    Column("Resource"),
    Column("Specified", right=True),
    Column("Peak used", right=True),
    Column("Over", right=True),
    Column("Note", optional=1),
)
_DECISION_COLUMNS = (
    Column("Requirement", least=12),
    Column("Resource"),
    Column("Change"),
    Column("From", right=True),
    Column("To", right=True),
    Column("Jobs", right=True),
    Column("Why", optional=1),
)
_UNFINISHED_COLUMNS = (
    Column("Job", right=True),
    Column("Name", least=12),
    Column("Cause"),
    Column("Run again helps"),
    Column("Why", optional=1),
)
_CHANGE_COLUMNS = (
    Column("When"),
    Column("Requirement", least=12),
    Column("Resource"),
    Column("From"),
    Column("To"),
    Column("After run"),
    Column("Why", optional=1),
)


def utilization_answer(report: Utilization, trends: Trends | None = None) -> Answer:
    """The violations, or all uses in the report; with ``trends`` also the trends."""
    return Answer(
        keys=VIOLATION_KEYS,
        document=utilization_document(report, trends),
        csv_items=map(violation, report.uses),
        tables=[Table(_USE_COLUMNS, (_use_cells(report, index) for index in range(len(report.uses))))],
        notes=[*_utilization_notes(report), *(trends or NO_TRENDS).sentences],
    )


def _utilization_notes(report: Utilization) -> list[str]:
    what = "violation" if report.violations == 1 else "violations"
    jobs = "job" if report.total_results == 1 else "jobs"
    notes = [f"{report.violations} {what} in {report.total_results} {jobs}{_of_workflow(report.workflow_id)}."]
    if report.left_out:
        failed = "1 failed job" if report.left_out == 1 else f"{report.left_out} failed jobs"
        notes.append(f"Not checked: {failed}; --include-failed checks failed jobs too.")
    if report.unmeasured:
        notes.append(
            f"For {report.unmeasured} of the {report.total_results} {jobs} a figure is missing; torc did not check it."
        )
    if report.violations and report.workflow_id is not None:
        notes.append(f"See what to request instead: torc correct {report.workflow_id} --dry-run")
    elif report.violations:
        notes.append("See what to request instead: torc correct, with the same options")
    return notes


def _of_workflow(workflow_id: int | None) -> str:
    return "" if workflow_id is None else f" (workflow {workflow_id})"


def _use_cells(report: Utilization, index: int) -> tuple[str, ...]:
    use = report.uses[index]
    name = printable(use.job_name, _NAME_WIDTH)
    over = use.over_utilization
    return (str(use.job_id), name, use.resource_type, use.specified, use.peak_used, over, printable(use.note))


def corrections_answer(
    corrections: Corrections, *, dry_run: bool, explain: bool, edit: SpecEdit | None, trends: Trends = NO_TRENDS
) -> Answer:
    """What changes and, with ``explain``, what does not, and why; then the diff of the workflow file."""
    shown = [each for each in corrections.decisions if explain or each.direction != KEPT]
    return Answer(
        keys=_ADJUSTMENT_COLUMNS,
        document=corrections_document(corrections, dry_run=dry_run, explain=explain, trends=trends),
        csv_items=(explanation(each) | {"job_ids": _ids(each)} for each in shown),
        tables=[decisions_table(shown)],
        notes=[*trends.sentences, _summary(corrections, dry_run=dry_run), *([] if edit is None else [""])],
        aside=[] if edit is None else edit_lines(edit, dry_run=dry_run),
    )


def decisions_table(decisions: Sequence[Decision]) -> Table:
    """What changes, one row per requirement and resource."""
    return Table(_DECISION_COLUMNS, map(_decision_cells, decisions))


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
    jobs = "job" if corrections.jobs_analyzed == 1 else "jobs"
    analyzed = f"({corrections.jobs_analyzed} {jobs} of workflow {corrections.workflow_id} examined)"
    count = corrections.requirements_updated
    if not count:
        return f"Nothing to correct {analyzed}."
    what = "requirement" if count == 1 else "requirements"
    if dry_run:
        return f"{count} {what} would change {analyzed}. Nothing was changed (--dry-run)."
    return f"{count} {what} changed {analyzed}. The next run requests this: torc submit {corrections.workflow_id}"


def edit_lines(edit: SpecEdit, *, dry_run: bool) -> list[str]:
    """The diff of a workflow file, and whether it was written."""
    lines = [printable(line) for line in edit.diff.splitlines()]
    written = f"{edit.target} {'would be' if dry_run else 'was'} written"
    lines.append(written if lines or edit.source != edit.target else f"{edit.source} has these values already")
    return lines


def savings_answer(workflow_id: int | None, run_id: int | None, rows: Sequence[Saving]) -> Answer:
    """One row per requirement, and the workflow's total."""
    items = [saving_item(each) for each in rows]
    notes = [
        "Requested is request × run time, of all attempts. Lost is the part of attempts that did not complete.",
        "After is Requested with corrected requests. Reserved is request × requested run time, once for each job.",
        f"{NOT_KNOWN} means not measured.",
    ]
    if rows[-1].unmeasured_attempts:
        notes.append(f"{rows[-1].unmeasured_attempts} attempts have no figures: they count as requested, not as used.")
    return Answer(
        keys=list(items[0]),
        document=savings_document(workflow_id, run_id, rows),
        csv_items=items,
        tables=[_hours_table("Core-hours", "core_hours", items), _hours_table("GB-hours", "gb_hours", items)],
        notes=notes,
    )


def _hours_table(title: str, unit: str, items: Sequence[Item]) -> Table:
    names = ("asked", "used", "wasted", "lost", "asked_after", "reserved", "reserved_after")
    titles = ("Requested", "Used", "Wasted", "Lost", "After", "Reserved", "Reserved after")
    columns = (Column(title, least=12), Column("Jobs", right=True), Column("Attempts", right=True))
    rows = (
        (
            "(workflow)" if item["name"] is None else printable(str(item["name"]), _NAME_WIDTH),
            str(item["jobs"]),
            str(item["attempts"]),
            *(_hours(item[f"{name}_{unit}"]) for name in names),
        )
        for item in items
    )
    return Table((*columns, *(Column(word, right=True) for word in titles)), rows)


def _hours(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else NOT_KNOWN


def changes_answer(rows: Sequence[Mapping[str, int | float | str | None]]) -> Answer:
    """Every saved change with its evidence; a table leaves the evidence out."""
    return Answer(
        keys=list(rows[0]) if rows else ("change_id",),
        items=(dict(row) | {"evidence": json.loads(str(row["evidence"]))} for row in rows),
        csv_items=rows,
        tables=[Table(_CHANGE_COLUMNS, map(_change_cells, rows))],
        notes=() if rows else ["No correction was saved yet."],
    )


def _change_cells(row: Mapping[str, object]) -> tuple[str, ...]:
    when = datetime.fromtimestamp(float(str(row["changed_at"]))).astimezone()
    texts = [printable(str(row[name]), _NAME_WIDTH) for name in ("name", "resource", "original", "new")]
    return (f"{when:%Y-%m-%d %H:%M:%S}", *texts, str(row["after_run_id"]), printable(str(row["reason"]), _REASON_WIDTH))


def unfinished_table(unfinished: Sequence[Unfinished]) -> Table:
    """The jobs that are not completed, and what will happen to each."""
    rows = (
        (
            str(each.job.job_id),
            printable(each.job.name, _NAME_WIDTH),
            each.cause.value.replace("_", " "),
            "yes" if each.is_helped else "no",
            printable(each.reason, _REASON_WIDTH),
        )
        for each in unfinished
    )
    return Table(_UNFINISHED_COLUMNS, rows)
