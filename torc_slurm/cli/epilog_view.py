"""What an allocation's epilog prints into the job's output: the result of accounting, and the next command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torc_slurm.cli.answer import Answer
from torc_slurm.records.accounting import COLUMN_NAMES
from torc_slurm.records.statuses import COMPLETED

if TYPE_CHECKING:
    from torc_slurm.usecases.epilog import EpilogReport


def epilog_answer(report: EpilogReport, output_dir: str) -> Answer:
    """A summary of a workflow's run, else one line; as JSON and CSV one item per measured step."""
    return Answer(
        keys=COLUMN_NAMES,
        items=(row.as_row() for row in report.rows),
        notes=_lines(report, output_dir),
    )


def _lines(report: EpilogReport, output_dir: str) -> Iterator[str]:
    """Only made when shown, because it reads node files."""
    summary = _summary(report, output_dir)
    if not summary and report.rows:
        summary = [_line(report)]
    yield from summary


def _summary(report: EpilogReport, output_dir: str) -> list[str]:
    """At most 15 lines about the last run of this allocation; nothing if it ran no workflow.

    Raises:
        TorcError, OSError: its plan or a node file cannot be read.
    """
    from torc_slurm.database.node_records import read_node_file
    from torc_slurm.files.output_names import node_files_of_run, plan_path
    from torc_slurm.reports.summary import summary_lines, summary_rows
    from torc_slurm.spec.plan import read_plan

    workflow = report.allocation.workflow_id
    runs = [run_id for part, run_id in report.allocation.run_parts(output_dir) if part == str(workflow)]
    if workflow is None or not runs:
        return []
    plan = read_plan(plan_path(output_dir, workflow, max(runs)))
    records = [read_node_file(path) for path in node_files_of_run(output_dir, workflow, plan.run_id)]
    rows = summary_rows(plan, records)
    commands = [f"torc stats {workflow}    what each job used"]
    if any(row.status != COMPLETED for row in rows):
        commands.append(f"torc submit {workflow}    run the unfinished jobs again")
    return summary_lines(f"workflow {workflow} ({plan.workflow_name}), run {plan.run_id}", rows, commands)


def _line(report: EpilogReport) -> str:
    statuses = Counter(row.status for row in report.rows)
    counts = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    job = report.allocation.slurm_job_id
    return f"torc: Slurm's accounting of {len(report.rows)} steps: {counts}; see: torc stats --slurm-job-id {job}"
