"""The output of a collect."""

from __future__ import annotations

from torc_slurm.cli.answer import Answer, Item
from torc_slurm.cli.table import Column, Table
from torc_slurm.common.text import printable
from torc_slurm.usecases.collect import FileOutcome
from torc_slurm.usecases.late_accounting import UpToDate

_KEYS = ("path", "outcome", "steps", "changed_attempts", "accounting_rows", "problem")
_COLUMNS = (
    Column("Node file", least=24),
    Column("Outcome"),
    Column("Steps", right=True),
    Column("Changed", right=True),
)


def files_answer(current: UpToDate) -> Answer:
    """One item per node file, with the reason if it was skipped. A table has the changed ones and a total."""
    changed = (file for file in current.files if file.outcome != "unchanged")
    return Answer(
        keys=_KEYS,
        items=map(_item, current.files),
        tables=[Table(_COLUMNS, map(_cells, changed))],
        notes=[_summary(current)],
    )


def _item(file: FileOutcome) -> Item:
    values = file._asdict()
    return {name: values[name] for name in _KEYS} | {"changed_attempts": len(file.changed_attempts)}


def _cells(file: FileOutcome) -> list[str]:
    return [printable(file.path), file.outcome, str(file.steps), str(len(file.changed_attempts))]


def _summary(current: UpToDate) -> str:
    outcomes = [file.outcome for file in current.files]
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in ("collected", "unchanged", "skipped"))
    accounting = f"accounting: {current.asked} {'query' if current.asked == 1 else 'queries'}"
    if current.unanswered:
        accounting += f", {current.unanswered} unanswered"
    rows = "row" if current.accounting_rows == 1 else "rows"
    return f"Node files: {counts}; {accounting}; {current.accounting_rows} {rows} new or improved."
