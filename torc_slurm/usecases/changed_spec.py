"""Compares an edited workflow file with its workflow, and copies changes to jobs that are not completed.

Requests are not compared: `torc correct` changes them in the workflow but not in the file.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torc_slurm.common.errors import TorcError
from torc_slurm.common.text import printable
from torc_slurm.database.workflows import dependencies, job_rows, redefine_job, rerun_job
from torc_slurm.records.statuses import COMPLETED
from torc_slurm.records.workflows import JobRow, WorkflowRow
from torc_slurm.spec.load import load_workflow
from torc_slurm.spec.workflow import Job

_MOST_NAMED = 5
_NUMBERED = "${user_data."  # has another text in each workflow


@dataclass(frozen=True)
class SpecChanges:
    """The differences in the file: jobs by name, completed ones apart.

    ``dependents``: other completed jobs that depend on the changed completed ones.
    ``problem``: why it cannot be read now.
    """

    path: str
    changed: tuple[tuple[JobRow, Job], ...] = ()
    completed: tuple[tuple[JobRow, Job], ...] = ()
    dependents: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def is_any(self) -> bool:
        return bool(self.changed or self.completed or self.new or self.gone or self.problem)


def spec_changes(connection: sqlite3.Connection, workflow: WorkflowRow) -> SpecChanges | None:
    """How the workflow's file differs from the workflow; None if the file is gone or does not differ."""
    path = workflow["spec_file"]
    if not path or not os.path.isfile(path):
        return None
    try:
        jobs = {job.name: job for job in load_workflow(path).jobs}
    except TorcError as error:
        return SpecChanges(path, problem=str(error))
    rows = {row["name"]: row for row in job_rows(connection, workflow["workflow_id"])}
    directory = workflow["working_dir"]
    differing = [
        (rows[name], job) for name, job in jobs.items() if name in rows and _differs(rows[name], job, directory)
    ]
    completed = tuple((row, job) for row, job in differing if row["status"] == COMPLETED)
    changes = SpecChanges(
        path=path,
        changed=tuple((row, job) for row, job in differing if row["status"] != COMPLETED),
        completed=completed,
        dependents=_dependents(connection, workflow["workflow_id"], rows, completed),
        new=tuple(name for name in jobs if name not in rows),
        gone=tuple(name for name in rows if name not in jobs),
    )
    return changes if changes.is_any else None


def _differs(row: JobRow, job: Job, directory: str) -> bool:
    if _NUMBERED in job.command or any(_NUMBERED in value for value in job.env.values()):
        return False
    return _definition(job, directory) != (
        row["command"],
        row["working_dir"],
        json.loads(row["env"]),
        json.loads(row["srun_options"]),
    )


def _definition(job: Job, directory: str) -> tuple[str, str, dict[str, str], list[str]]:
    where = directory if job.working_dir is None else os.path.normpath(os.path.join(directory, job.working_dir))
    return job.command, where, dict(job.env), list(job.srun_options)


def _dependents(
    connection: sqlite3.Connection,
    workflow_id: int,
    rows: Mapping[str, JobRow],
    completed: Sequence[tuple[JobRow, Job]],
) -> tuple[str, ...]:
    changed = {row["job_id"] for row, _ in completed}
    if not changed:
        return ()
    waits_for = dependencies(connection, workflow_id)
    affected = set(changed)
    before = 0
    while len(affected) > before:
        before = len(affected)
        affected |= {job for job, others in waits_for.items() if not affected.isdisjoint(others)}
    left = affected - changed
    return tuple(name for name, row in rows.items() if row["job_id"] in left and row["status"] == COMPLETED)


def take_over(
    connection: sqlite3.Connection, workflow: WorkflowRow, changes: SpecChanges, rerun_from: int | None
) -> None:
    """Copy the new command to the jobs that have not completed; must run inside a transaction.

    Args:
        rerun_from: also to those that have completed, which run again in the run of this number and later ones.
    """
    changed = list(changes.changed)
    if rerun_from is not None:
        changed += changes.completed
        for row, _ in changes.completed:
            rerun_job(connection, row["job_id"], rerun_from)
    for row, job in changed:
        redefine_job(connection, row["job_id"], job, _definition(job, workflow["working_dir"])[1])


def words(changes: SpecChanges, *, updated: bool, rerun: bool) -> list[str]:
    """What to tell the user, a line each."""
    if changes.problem is not None:
        return [
            f"{changes.path} cannot be read as a workflow now ({changes.problem}); the workflow runs as it was created"
        ]
    lines = []
    if changes.changed:
        names = _some([job.name for _, job in changes.changed])
        lines.append(
            f"updated from {changes.path}: {names}"
            if updated
            else f"{changes.path} has changed since the workflow was created: it now has other commands for {names}. "
            "--update uses them; to create a new workflow, give the file instead of the id"
        )
    if changes.completed:
        names = _some([job.name for _, job in changes.completed])
        lines.append(
            f"{names} completed with the earlier command, and will run again with the one in {changes.path}"
            if rerun
            else f"{names} completed with the earlier command; --update --rerun-changed runs it again with the one "
            f"in {changes.path}"
        )
    if rerun and changes.dependents:
        lines.append(
            f"warning: {_some(changes.dependents)} used the earlier output of these, and will not run again: change "
            "its command too, or create a new workflow from the file"
        )
    if changes.new or changes.gone:
        which = [f"new: {_some(changes.new)}"] if changes.new else []
        which += [f"no longer there: {_some(changes.gone)}"] if changes.gone else []
        lines.append(
            f"jobs in {changes.path} differ ({'; '.join(which)}); create a new workflow from the file for these"
        )
    return lines


def _some(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(printable(name, 40) for name in names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{'job' if len(names) == 1 else 'jobs'} {shown}{more}"
