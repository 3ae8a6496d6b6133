"""How workflows, their status and their parts look on the screen, and as JSON and CSV."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from torc_slurm.cli.options import Format
from torc_slurm.cli.render import NOT_KNOWN, Column, Row, emit, emit_csv, emit_items, emit_object, emit_table
from torc_slurm.reports.workflow_status import JOB_STATUSES, WorkflowStatus, progress_line, unhappy_jobs
from torc_slurm.spec.workflow import Scheduler
from torc_slurm.text import printable

_NAME_WIDTH = 40
_JSON_COLUMNS = ("srun_options", "slurm_defaults")


def show_created(workflow_id: int, name: str, job_count: int, chosen_format: Format) -> None:
    """The id of a workflow that was created."""
    item: Row = {"workflow_id": workflow_id, "name": name, "job_count": job_count}
    if chosen_format is Format.json:
        emit_object(item)
    elif chosen_format is Format.csv:
        emit_csv(list(item), [item])
    else:
        emit(f"Workflow {workflow_id}: {printable(name, _NAME_WIDTH)}, {job_count} jobs\n")


def show_done(workflow_id: int, what: str, lines: Sequence[str], chosen_format: Format) -> None:
    """What became of a workflow: ``what`` is a word, ``lines`` say it to the user."""
    if chosen_format is Format.json:
        emit_object({"workflow_id": workflow_id, "status": what, "messages": list(lines)})
    elif chosen_format is Format.csv:
        emit_csv(("workflow_id", "status", "message"), [_done(workflow_id, what, line) for line in lines])
    else:
        emit("".join(f"{printable(line)}\n" for line in lines))


def _done(workflow_id: int, what: str, line: str) -> Row:
    return {"workflow_id": workflow_id, "status": what, "message": line}


def show_workflows(rows: Sequence[Row], statuses: Sequence[WorkflowStatus], chosen_format: Format) -> None:
    """A list of workflows."""
    kept = ("description", "user_name", "created_at", "spec_file", "working_dir")
    items = [status.as_item() | {name: row[name] for name in kept} for row, status in zip(rows, statuses, strict=True)]
    columns = [*WorkflowStatus(0, "", "", None, None, None, None, {}).as_item(), *kept]
    if chosen_format is Format.json:
        emit_items(items)
    elif chosen_format is Format.csv:
        emit_csv(columns, items)
    elif not items:
        emit("No workflow here yet; make one with: torc workflows create SPEC\n")
    else:
        emit_table(_LIST_COLUMNS, [_list_cells(row, status) for row, status in zip(rows, statuses, strict=True)])


_LIST_COLUMNS = (
    Column("ID", right=True),
    Column("Name"),
    Column("Status"),
    Column("Jobs", right=True),
    Column("Completed", right=True),
    Column("Run", right=True),
    Column("Slurm job", right=True),
    Column("Created", optional=2),
    Column("By", optional=3),
)


def _list_cells(row: Row, status: WorkflowStatus) -> list[str]:
    return [
        str(status.workflow_id),
        printable(status.name, _NAME_WIDTH),
        status.status,
        str(status.job_count),
        str(status.counts.get("completed", 0)),
        _text(status.run_id),
        _text(status.slurm_job_id),
        _moment(row["created_at"]),
        printable(_text(row["user_name"])),
    ]


def show_status(
    status: WorkflowStatus, jobs: Sequence[Row], evidence: Mapping[int, str], chosen_format: Format
) -> None:
    """How far a workflow is; a table also names the jobs that did not end well, and what to type next."""
    item = status.as_item()
    if chosen_format is Format.json:
        counts = {name: item.pop(name) for name in JOB_STATUSES}
        emit_object(item | {"jobs": counts})
    elif chosen_format is Format.csv:
        emit_csv(list(item), [item])
    else:
        lines = [f"Workflow {status.workflow_id}: {status.name}: {status.status}", progress_line(status)]
        lines += [status.reason] if status.reason else []
        lines += unhappy_jobs(jobs, evidence)
        emit("".join(f"{printable(line)}\n" for line in [*lines, *_next_command(status)]))


def _next_command(status: WorkflowStatus) -> list[str]:
    workflow = status.workflow_id
    if status.status in ("submitted", "running"):
        return [f"Follow it: torc workflows status {workflow} --wait"]
    if status.is_completed:
        return [f"What the jobs used: torc slurm stats {workflow}"]
    if status.status == "generated":
        return [f"Give its script to sbatch, or make another one: torc submit {workflow}"]
    if status.run_id is None:
        return [f"Run it: torc submit {workflow}, or here: torc run {workflow}"]
    return [f"What the jobs used: torc slurm stats {workflow}    the rest again: torc submit {workflow}"]


def show_workflow(
    workflow: Row,
    status: WorkflowStatus,
    requirements: Sequence[Row],
    schedulers: Sequence[Scheduler],
    runs: Sequence[Row],
    chosen_format: Format,
) -> None:
    """All of a workflow but its jobs, which ``torc jobs list`` shows."""
    settings = {name: _decoded(name, value) for name, value in workflow.items()}
    counts = {name: count for name, count in status.counts.items() if count}
    document = settings | {
        "status": status.status,
        "job_count": status.job_count,
        "jobs": counts,
        "resource_requirements": [dict(row) for row in requirements],
        "slurm_schedulers": [dataclasses.asdict(scheduler) for scheduler in schedulers],
        "runs": [dict(row) for row in runs],
    }
    if chosen_format is Format.json:
        emit_object(document)
    elif chosen_format is Format.csv:
        flat = {name: _flat(value) for name, value in document.items()}
        emit_csv(list(flat), [flat])
    else:
        emit("".join(_lines(document)))


def _lines(document: Mapping[str, object]) -> list[str]:
    lines: list[str] = []
    for name, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{name}:\n")
            lines += [f"  - {_said(each)}\n" for each in value]
        elif value not in (None, [], {}):
            shown = _moment(value) if name == "created_at" else _said(value) if isinstance(value, dict) else value
            lines.append(f"{name}: {printable(str(shown))}\n")
    return lines


def _said(values: Mapping[str, object]) -> str:
    """What is set, on one line."""
    set_values = {name: value for name, value in values.items() if value not in (None, [], (), {})}
    return ", ".join(f"{name} {printable(str(value))}" for name, value in set_values.items() if name != "workflow_id")


def _decoded(name: str, value: object) -> object:
    return json.loads(str(value)) if name in _JSON_COLUMNS else value


def _flat(value: object) -> int | float | str | None:
    return value if value is None or isinstance(value, (int, float, str)) else json.dumps(value)


def _text(value: object) -> str:
    return NOT_KNOWN if value is None else str(value)


def _moment(value: object) -> str:
    """Local time to the second."""
    if not isinstance(value, (int, float)):
        return NOT_KNOWN
    return datetime.fromtimestamp(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
