"""How the outcome of a collect looks on the screen."""

from __future__ import annotations

from torc_slurm.cli.options import Format
from torc_slurm.cli.render import Column, Row, emit, emit_csv, emit_items, emit_table
from torc_slurm.text import printable
from torc_slurm.usecases.collect import FileOutcome
from torc_slurm.usecases.late_accounting import UpToDate

_COLUMNS = ("path", "outcome", "steps", "changed_attempts", "accounting_rows", "problem")


def show_files(current: UpToDate, chosen_format: Format) -> None:
    """One item per node file, with the reason where it was skipped; a table also sums up."""
    items = [_item(file) for file in current.files]
    if chosen_format is Format.json:
        emit_items(items)
    elif chosen_format is Format.csv:
        emit_csv(_COLUMNS, items)
    else:
        changed = [file for file in current.files if file.outcome != "unchanged"]
        if changed:
            emit_table(
                [
                    Column("Node file"),
                    Column("Outcome"),
                    Column("Steps", right=True),
                    Column("Changed", right=True),
                ],
                [_cells(file) for file in changed],
            )
        emit(_summary(current))


def _item(file: FileOutcome) -> Row:
    values = file._asdict()
    return {name: values[name] for name in _COLUMNS} | {"changed_attempts": len(file.changed_attempts)}


def _cells(file: FileOutcome) -> list[str]:
    return [printable(file.path), file.outcome, str(file.steps), str(len(file.changed_attempts))]


def _summary(current: UpToDate) -> str:
    outcomes = [file.outcome for file in current.files]
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in ("collected", "unchanged", "skipped"))
    accounting = f"accounting: {current.asked} {'query' if current.asked == 1 else 'queries'} due"
    if current.unanswered:
        accounting += f", {current.unanswered} without an answer"
    return f"Node files: {counts}; {accounting}, {current.accounting_rows} new or better rows.\n"
