"""Workflows, their status and their parts as tables, JSON and CSV."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from torc_slurm.cli.answer import Answer, one
from torc_slurm.cli.table import NOT_KNOWN, Column, Table
from torc_slurm.common.text import printable
from torc_slurm.records.statuses import COMPLETED, JOB_STATUSES, RUNNING, SUBMITTED, UNSUCCESSFUL
from torc_slurm.records.workflows import JobRow, ListedWorkflowRow, RequirementRow, RunRow, WorkflowRow
from torc_slurm.reports.workflow_status import Value, WorkflowStatus, progress_line, unsuccessful_jobs
from torc_slurm.spec.workflow import Scheduler

_NAME_WIDTH = 40
_KEPT = ("description", "user_name", "created_at", "spec_file", "working_dir")
_JSON_COLUMNS = ("srun_options", "slurm_defaults")


def created_answer(workflow_id: int, name: str, job_count: int) -> Answer:
    """The id of a workflow that was created."""
    item: dict[str, Value] = {"workflow_id": workflow_id, "name": name, "job_count": job_count}
    return one(item, f"Workflow {workflow_id}: {printable(name, _NAME_WIDTH)}, {job_count} jobs")


def done_answer(workflow_id: int, what: str, lines: Sequence[str]) -> Answer:
    """What was done to a workflow: ``what`` is a word, ``lines`` are for a terminal."""
    return Answer(
        keys=("workflow_id", "status", "message"),
        document={"workflow_id": workflow_id, "status": what, "messages": list(lines)},
        csv_items=[_done(workflow_id, what, line) for line in lines],
        notes=map(printable, lines),
    )


def _done(workflow_id: int, what: str, line: str) -> dict[str, Value]:
    return {"workflow_id": workflow_id, "status": what, "message": line}


def workflows_answer(rows: Sequence[ListedWorkflowRow], statuses: Sequence[WorkflowStatus]) -> Answer:
    """A list of workflows."""
    pairs = list(zip(rows, statuses, strict=True))
    return Answer(
        keys=[*WorkflowStatus(0, "", "", None, None, None, None, {}).as_item(), *_KEPT],
        items=(status.as_item() | _list_item(row) for row, status in pairs),
        tables=[Table(_LIST_COLUMNS, (_list_cells(row, status) for row, status in pairs))],
        notes=() if rows else ["No workflow here yet; make one with: torc create SPEC"],
    )


def _list_item(row: ListedWorkflowRow) -> dict[str, Value]:
    values: dict[str, Value] = dict(row)  # type: ignore[arg-type] # every column's value is one
    return {name: values[name] for name in _KEPT}


_LIST_COLUMNS = (
    Column("ID", right=True),
    Column("Name", least=12),
    Column("Status"),
    Column("Jobs", right=True),
    Column("Completed", right=True),
    Column("Run", right=True),
    Column("Slurm job", right=True),
    Column("Created", optional=2),
    Column("By", optional=3),
)


def _list_cells(row: ListedWorkflowRow, status: WorkflowStatus) -> list[str]:
    return [
        str(status.workflow_id),
        printable(status.name, _NAME_WIDTH),
        status.status,
        str(status.job_count),
        str(status.counts.get(COMPLETED, 0)),
        _text(status.run_id),
        _text(status.slurm_job_id),
        _moment(row["created_at"]),
        printable(_text(row["user_name"])),
    ]


def status_answer(status: WorkflowStatus, jobs: Sequence[JobRow], evidence: Mapping[int, str]) -> Answer:
    """The progress of a workflow; on a terminal also the jobs that did not complete, and what to type next."""
    item = status.as_item()
    counts = {name: item[name] for name in JOB_STATUSES}
    document = {name: value for name, value in item.items() if name not in counts} | {"jobs": counts}
    lines = [f"Workflow {status.workflow_id}: {status.name}: {status.status}", progress_line(status)]
    lines += [status.reason] if status.reason else []
    lines += [
        *unsuccessful_jobs(jobs, evidence, sum(status.counts.get(name, 0) for name in UNSUCCESSFUL)),
        *_next_command(status),
    ]
    return Answer(keys=list(item), items=[item], document=document, notes=map(printable, lines))


def _next_command(status: WorkflowStatus) -> list[str]:
    workflow = status.workflow_id
    if status.status in (SUBMITTED, RUNNING):
        return [f"Follow it: torc status {workflow} --wait"]
    if status.is_completed:
        return [f"What the jobs used: torc stats {workflow}"]
    if status.status == "generated":
        return [f"Give its script to sbatch, or make another one: torc submit {workflow}"]
    if status.run_id is None:
        return [f"Run it: torc submit {workflow}, or here: torc run {workflow}"]
    return [f"What the jobs used: torc stats {workflow}    rerun unfinished jobs: torc submit {workflow}"]


def workflow_answer(
    workflow: WorkflowRow,
    status: WorkflowStatus,
    requirements: Sequence[RequirementRow],
    schedulers: Sequence[Scheduler],
    runs: Sequence[RunRow],
) -> Answer:
    """Everything about a workflow except its jobs, which ``torc jobs list`` shows."""
    settings = {key: json.loads(str(value)) if key in _JSON_COLUMNS else value for key, value in workflow.items()}
    counts = {name: count for name, count in status.counts.items() if count}
    document = settings | {
        "status": status.status,
        "job_count": status.job_count,
        "jobs": counts,
        "resource_requirements": [dict(row) for row in requirements],
        "slurm_schedulers": [dataclasses.asdict(scheduler) for scheduler in schedulers],
        "runs": [dict(row) for row in runs],
    }
    return one(document, *_lines(document))


def _lines(document: Mapping[str, object]) -> list[str]:
    lines: list[str] = []
    for name, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{name}:")
            lines += [f"  - {_set_values(each)}" for each in value]
        elif value not in (None, [], {}):
            shown = _moment(value) if name == "created_at" else _set_values(value) if isinstance(value, dict) else value
            lines.append(f"{name}: {printable(str(shown))}")
    return lines


def _set_values(values: Mapping[str, object]) -> str:
    """The values that are set, on one line."""
    set_values = {name: value for name, value in values.items() if value not in (None, [], (), {})}
    return ", ".join(f"{name} {printable(str(value))}" for name, value in set_values.items() if name != "workflow_id")


def _text(value: object) -> str:
    return NOT_KNOWN if value is None else str(value)


def _moment(value: object) -> str:
    """Local time to the second."""
    if not isinstance(value, (int, float)):
        return NOT_KNOWN
    return datetime.fromtimestamp(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
