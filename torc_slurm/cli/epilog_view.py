"""What an allocation's epilog leaves in the job's output: what accounting had, and what to type next."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from torc_slurm.cli.options import Format
from torc_slurm.cli.render import emit, emit_csv, emit_items
from torc_slurm.database.slurm_stats_schema import COLUMN_NAMES

if TYPE_CHECKING:
    from torc_slurm.slurm.epilog import EpilogReport


def show_epilog(report: EpilogReport, chosen_format: Format) -> None:
    """One line, or one item per measured step."""
    items = [{name: getattr(row, name) for name in COLUMN_NAMES} for row in report.rows]
    if chosen_format is Format.json:
        emit_items(items)
    elif chosen_format is Format.csv:
        emit_csv(COLUMN_NAMES, items)
    elif report.rows:
        emit(_line(report))


def _line(report: EpilogReport) -> str:
    statuses = Counter(row.status for row in report.rows)
    counts = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    job = report.allocation.slurm_job_id
    return (
        f"torc: Slurm's accounting of {len(report.rows)} steps: {counts}; see: torc slurm stats --slurm-job-id {job}\n"
    )
