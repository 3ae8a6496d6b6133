"""Workflows in the main database: created from a checked spec, listed, read back, deleted."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

from torc_slurm.common.errors import InputError
from torc_slurm.common.garbage import no_search_for_cycles
from torc_slurm.database.rows import by_column, insert, insert_columns, mappings
from torc_slurm.files.output_names import node_file_names, parse_node_file_name, parse_run_file_name, run_file_names
from torc_slurm.records.statuses import BLOCKED, READY
from torc_slurm.records.workflows import JobRow, ListedWorkflowRow, RequirementRow, UserDatumRow, WorkflowRow
from torc_slurm.spec.plan_settings import job_settings_text, workflow_settings
from torc_slurm.spec.workflow import Job, Scheduler, Workflow

_INSERT_WORKFLOW = """
INSERT INTO workflows (name, description, user_name, spec_file, working_dir, created_at, monitor_enabled, granularity,
sample_interval_seconds, flush_interval_seconds, generate_plots, limit_resources, enforce_runtime, srun_options,
slurm_defaults, settings)
VALUES (:name, :description, :user_name, :spec_file, :working_dir, :created_at, :enabled, :granularity,
:sample_interval_seconds, :flush_interval_seconds, :generate_plots, :limit_resources, :enforce_runtime,
:srun_options, :slurm_defaults, :settings)
"""
_INSERT_REQUIREMENT = """
INSERT INTO resource_requirements (workflow_id, name, num_cpus, num_gpus, num_nodes, ntasks_per_node, memory, runtime)
VALUES (:workflow_id, :name, :num_cpus, :num_gpus, :num_nodes, :ntasks_per_node, :memory, :runtime)
"""
_INSERT_SCHEDULER = "INSERT INTO slurm_schedulers (workflow_id, name, settings) VALUES (?, ?, ?)"
_INSERTED = (
    *("workflow_id", "name", "command", "working_dir", "env", "srun_options", "resource_requirements_id", "settings"),
    *("parameters", "status"),
)
_AT_ONCE = 1000  # rows
_INSERT_USER_DATA = "INSERT INTO user_data (workflow_id, name, data) VALUES (?, ?, ?)"
_USER_DATA = "SELECT * FROM user_data WHERE workflow_id = ? ORDER BY user_data_id"
_ONE_USER_DATUM = "SELECT * FROM user_data WHERE user_data_id = ?"
_REFERENCE = re.compile(r"\$\{user_data\.(?:input|output)\.([^}]+)\}")
_REDEFINE_JOB = """
UPDATE jobs SET command = ?, working_dir = ?, env = ?, srun_options = ?, parameters = ? WHERE job_id = ?
"""
_RERUN_JOB = "UPDATE jobs SET counts_from_run_id = ?, status = ? WHERE job_id = ?"
_OF_FILE = "SELECT max(workflow_id) FROM workflows WHERE spec_file = ?"
_INSERT_DEPENDENCY = "INSERT INTO job_dependencies (job_id, depends_on_job_id) VALUES (?, ?)"
_LARGEST_JOB = "SELECT coalesce(max(job_id), 0) FROM jobs WHERE workflow_id = ?"

_WORKFLOW = "SELECT * FROM workflows WHERE workflow_id = ?"
_LAST_ID = "SELECT max(workflow_id) FROM workflows"
# By the time of its latest run, or of its creation.
_LATEST = """
SELECT w.workflow_id FROM workflows w LEFT JOIN runs r ON r.workflow_id = w.workflow_id GROUP BY w.workflow_id
ORDER BY max(w.created_at, coalesce(max(r.created_at), 0)) DESC, w.workflow_id DESC LIMIT 1
"""
_KNOWN_IDS = "SELECT workflow_id FROM workflows ORDER BY workflow_id DESC LIMIT 20"
_LISTED = """
SELECT w.*, (SELECT count(*) FROM jobs j WHERE j.workflow_id = w.workflow_id) AS job_count,
r.run_id, r.status AS run_status, r.slurm_job_id
FROM workflows w LEFT JOIN runs r ON r.workflow_id = w.workflow_id
AND r.run_id = (SELECT max(run_id) FROM runs WHERE workflow_id = w.workflow_id)
WHERE :workflow_id IS NULL OR w.workflow_id = :workflow_id ORDER BY w.workflow_id
"""
_STATUS_COUNTS = "SELECT workflow_id, status, count(*) AS count FROM jobs GROUP BY workflow_id, status"
_STATUS_COUNTS_OF_ONE = "SELECT status, count(*) FROM jobs WHERE workflow_id = ? GROUP BY status"
_JOBS = """
SELECT j.*, q.name AS resource_requirements, q.num_cpus, q.num_gpus, q.num_nodes, q.ntasks_per_node, q.memory, q.runtime
FROM jobs j LEFT JOIN resource_requirements q ON q.resource_requirements_id = j.resource_requirements_id
WHERE j.workflow_id = :workflow_id AND (:statuses IS NULL OR j.status IN (SELECT value FROM json_each(:statuses)))
ORDER BY j.job_id LIMIT :most
"""
_DEPENDENCIES = """
SELECT d.job_id, d.depends_on_job_id FROM job_dependencies d JOIN jobs j ON j.job_id = d.job_id
WHERE j.workflow_id = ? ORDER BY d.job_id, d.depends_on_job_id
"""
_REQUIREMENTS = "SELECT * FROM resource_requirements WHERE workflow_id = ? ORDER BY resource_requirements_id"
_SCHEDULERS = "SELECT * FROM slurm_schedulers WHERE workflow_id = ? ORDER BY slurm_scheduler_id"
_DELETE = (
    "DELETE FROM results WHERE workflow_id = ?",
    "DELETE FROM slurm_stats WHERE workflow_id = ?",
    "DELETE FROM job_states WHERE workflow_id = ?",
    "DELETE FROM runs WHERE workflow_id = ?",
    "DELETE FROM jobs WHERE workflow_id = ?",
    "DELETE FROM workflows WHERE workflow_id = ?",
)
_NUMBERED = {
    "workflows": "workflow_id",
    "resource_requirements": "resource_requirements_id",
    "slurm_schedulers": "slurm_scheduler_id",
    "jobs": "job_id",
    "user_data": "user_data_id",
}
_LAST_NUMBER = """
UPDATE sqlite_sequence SET seq = (SELECT coalesce(max({key}), 0) FROM {table}) WHERE name = '{table}'
"""
_RAISE_NUMBER = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?"
_SET_NUMBER = "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)"
_LARGEST_WORKFLOW_RECORDED = "SELECT coalesce(max(workflow_id), 0) FROM results"
_LARGEST_JOB_RECORDED = "SELECT coalesce(max(job_id), 0) FROM results WHERE workflow_id IS NOT NULL"
_IS_RECORDED = """
SELECT EXISTS (SELECT 1 FROM results WHERE workflow_id = :id)
OR EXISTS (SELECT 1 FROM slurm_stats WHERE workflow_id = :id)
OR EXISTS (SELECT 1 FROM job_states WHERE workflow_id = :id)
OR EXISTS (SELECT 1 FROM deleted_workflows WHERE workflow_id = :id)
"""
_NOTE_DELETION = "INSERT OR REPLACE INTO deleted_workflows (workflow_id, deleted_at, is_finished) VALUES (?, ?, 0)"
_DELETED = "SELECT workflow_id, is_finished FROM deleted_workflows"
_FINISH_DELETION = "UPDATE deleted_workflows SET is_finished = 1 WHERE workflow_id = ?"


@no_search_for_cycles()
def create_workflow(
    connection: sqlite3.Connection,
    workflow: Workflow,
    *,
    output_dir: str,
    working_dir: str,
    spec_file: str | None,
    user_name: str | None,
    now: float,
) -> int:
    """Store a workflow and its jobs; must run inside a transaction. Returns its ``workflow_id``.

    Ids that occur in file names are not reused: if ``torc.db`` was lost, an old node file must not become a record of a
    new workflow.

    Args:
        working_dir: absolute; jobs' relative working directories start there.
        spec_file: the path of the workflow file, to be shown.
        now: Unix time.
    """
    _reserve(
        connection, "workflows", max(_largest_on_disk(output_dir), _number(connection, _LARGEST_WORKFLOW_RECORDED))
    )
    _reserve(connection, "jobs", _number(connection, _LARGEST_JOB_RECORDED))
    values = {
        "name": workflow.name,
        "description": workflow.description,
        "user_name": user_name,
        "spec_file": None if spec_file is None else os.fsencode(spec_file).decode("utf-8", "replace"),
        "working_dir": working_dir,
        "created_at": now,
        "slurm_defaults": json.dumps(workflow.slurm_defaults),
        "settings": workflow_settings(workflow),
    }
    values |= dataclasses.asdict(workflow.monitor)
    values |= dataclasses.asdict(workflow.execution) | {"srun_options": json.dumps(workflow.execution.srun_options)}
    workflow_id = insert(connection, _INSERT_WORKFLOW, values)
    for scheduler in workflow.schedulers:
        settings = json.dumps(dataclasses.asdict(scheduler))
        connection.execute(_INSERT_SCHEDULER, (workflow_id, scheduler.name, settings))
    requirement_ids = {
        each.name: insert(connection, _INSERT_REQUIREMENT, dataclasses.asdict(each) | {"workflow_id": workflow_id})
        for each in workflow.requirements
    }
    numbers = {
        each.name: insert(connection, _INSERT_USER_DATA, (workflow_id, each.name, each.data))
        for each in workflow.user_data
    }
    _insert_jobs(connection, workflow_id, workflow.jobs, requirement_ids, working_dir, numbers)
    return workflow_id


def _largest_on_disk(output_dir: str) -> int:
    """The largest workflow id in the names of plans and node files."""
    nodes = (parse_node_file_name(name) for name in node_file_names(output_dir))
    runs = (parse_run_file_name(name) for name in run_file_names(output_dir))
    measured = [each.workflow_id for each in nodes if each is not None and each.workflow_id is not None]
    return max([0, *measured, *(each[0] for each in runs if each is not None)])


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _reserve(connection: sqlite3.Connection, table: str, number: int) -> None:
    """Make a table's ids continue after this one."""
    if not connection.execute(_RAISE_NUMBER, (number, table)).rowcount:
        connection.execute(_SET_NUMBER, (table, number))


def _insert_jobs(
    connection: sqlite3.Connection,
    workflow_id: int,
    jobs: Sequence[Job],
    requirement_ids: dict[str, int],
    working_dir: str,
    user_data_ids: dict[str, int],
) -> None:
    def with_numbers(text: str) -> str:
        if not user_data_ids or "${user_data." not in text:
            return text
        return _REFERENCE.sub(lambda match: str(user_data_ids.get(match[1], match[0])), text)

    rows = (
        (
            workflow_id,
            job.name,
            with_numbers(job.command),
            working_dir if job.working_dir is None else os.path.normpath(os.path.join(working_dir, job.working_dir)),
            "{}" if not job.env else json.dumps({name: with_numbers(text) for name, text in job.env.items()}),
            "[]" if not job.srun_options else json.dumps(job.srun_options),
            None if job.requirement is None else requirement_ids[job.requirement],
            job_settings_text(job.settings),
            _parameters(job),
            BLOCKED if job.depends_on else READY,
        )
        for job in jobs
    )
    while some := list(islice(rows, _AT_ONCE)):
        insert_columns(connection, "jobs", by_column(_INSERTED, some))
    # Inside one transaction AUTOINCREMENT has no gaps, so the last id gives all of them.
    first = int(connection.execute(_LARGEST_JOB, (workflow_id,)).fetchone()[0]) - len(jobs) + 1
    connection.executemany(
        _INSERT_DEPENDENCY,
        ((first + index, first + other) for index, job in enumerate(jobs) for other in job.depends_on),
    )


def workflow_row(connection: sqlite3.Connection, workflow_id: int | None) -> WorkflowRow:
    """The row of a workflow; None means the latest.

    Raises:
        InputError: there is no such workflow; the message lists those that exist.
    """
    latest = connection.execute(_LATEST).fetchone() if workflow_id is None else (workflow_id,)
    wanted = None if latest is None else latest[0]
    if wanted is None:
        raise InputError("there is no workflow here yet; make one with torc create SPEC, or give --output-dir")
    row = connection.execute(_WORKFLOW, (wanted,)).fetchone()
    if row is None:
        known = ", ".join(str(each[0]) for each in connection.execute(_KNOWN_IDS)) or "none"
        raise InputError(f"there is no workflow {wanted} here; there are: {known} (torc workflows list)")
    return cast(WorkflowRow, dict(row))


def workflow_rows(connection: sqlite3.Connection, workflow_id: int | None = None) -> list[ListedWorkflowRow]:
    """All workflows, or one, with ``job_count`` and its latest run (``run_id``, ``run_status``, ``slurm_job_id``)."""
    return [cast(ListedWorkflowRow, dict(row)) for row in connection.execute(_LISTED, {"workflow_id": workflow_id})]


def status_counts(connection: sqlite3.Connection) -> dict[int, dict[str, int]]:
    """The number of jobs of each workflow by status."""
    counts: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for row in connection.execute(_STATUS_COUNTS):
        counts[row["workflow_id"]][row["status"]] = row["count"]
    return counts


def status_counts_of(connection: sqlite3.Connection, workflow_id: int) -> dict[str, int]:
    """The number of jobs of one workflow by status."""
    return dict(connection.execute(_STATUS_COUNTS_OF_ONE, (workflow_id,)).fetchall())


def job_rows(
    connection: sqlite3.Connection,
    workflow_id: int,
    *,
    statuses: Sequence[str] | None = None,
    limit: int | None = None,
) -> Iterator[JobRow]:
    """The jobs of a workflow, of these statuses, with their requirement (None if they have none).

    Rows are read lazily: read them before the connection is closed.
    """
    chosen = {
        "workflow_id": workflow_id,
        "statuses": None if statuses is None else json.dumps(list(statuses)),
        "most": -1 if limit is None else limit,
    }
    return (cast(JobRow, row) for row in mappings(connection, _JOBS, chosen))


def redefine_job(connection: sqlite3.Connection, job_id: int, job: Job, working_dir: str) -> None:
    """Replace a job's command, working directory, environment, srun options and parameters."""
    env, options = json.dumps(dict(job.env)), json.dumps(job.srun_options)
    connection.execute(_REDEFINE_JOB, (job.command, working_dir, env, options, _parameters(job), job_id))


def _parameters(job: Job) -> str | None:
    """As JSON; names are words, and whole numbers look the same there."""
    if not job.parameters:
        return None
    if any(value.__class__ is not int for value in job.parameters.values()):
        return json.dumps(dict(job.parameters))
    return "{" + ", ".join([f'"{name}": {value}' for name, value in job.parameters.items()]) + "}"


def rerun_job(connection: sqlite3.Connection, job_id: int, run_id: int) -> None:
    """Let a completed job run again: only attempts in this run and later ones count."""
    connection.execute(_RERUN_JOB, (run_id, READY, job_id))


def workflow_of_file(connection: sqlite3.Connection, spec_file: str) -> int | None:
    """The latest workflow that was created from a file."""
    found = connection.execute(_OF_FILE, (spec_file,)).fetchone()[0]
    return None if found is None else int(found)


def dependencies(connection: sqlite3.Connection, workflow_id: int) -> dict[int, list[int]]:
    """For each job that waits for others, their ids."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for job_id, other in connection.execute(_DEPENDENCIES, (workflow_id,)):
        found[job_id].append(other)
    return found


def user_data_rows(connection: sqlite3.Connection, workflow_id: int) -> list[UserDatumRow]:
    """The values that jobs of a workflow share, as in the workflow file."""
    return [cast(UserDatumRow, dict(row)) for row in connection.execute(_USER_DATA, (workflow_id,))]


def user_datum_row(connection: sqlite3.Connection, user_data_id: int) -> UserDatumRow | None:
    """One of these values by its number."""
    row = connection.execute(_ONE_USER_DATUM, (user_data_id,)).fetchone()
    return None if row is None else cast(UserDatumRow, dict(row))


def requirement_rows(connection: sqlite3.Connection, workflow_id: int) -> list[RequirementRow]:
    """The resource requirements of a workflow."""
    return [cast(RequirementRow, dict(row)) for row in connection.execute(_REQUIREMENTS, (workflow_id,))]


def schedulers(connection: sqlite3.Connection, workflow_id: int) -> list[Scheduler]:
    """The schedulers of a workflow, in the order of its file."""
    return [_scheduler(json.loads(row["settings"])) for row in connection.execute(_SCHEDULERS, (workflow_id,))]


def _scheduler(settings: dict[str, Any]) -> Scheduler:
    return Scheduler(**settings | {"extra": tuple(settings["extra"]), "setup": tuple(settings["setup"])})


def take_back_workflow(connection: sqlite3.Connection, workflow_id: int) -> None:
    """Remove a workflow that was not submitted, so that the next one gets its ids; must run inside a transaction."""
    is_last = connection.execute(_LAST_ID).fetchone()[0] == workflow_id
    delete_workflow(connection, workflow_id)
    if is_last:
        for table, key in _NUMBERED.items():
            connection.execute(_LAST_NUMBER.format(table=table, key=key))


def is_recorded(connection: sqlite3.Connection, workflow_id: int) -> bool:
    """Whether there is any record of a workflow, even only the note of its deletion."""
    return bool(connection.execute(_IS_RECORDED, {"id": workflow_id}).fetchone()[0])


def note_deletion(connection: sqlite3.Connection, workflow_id: int, now: float) -> None:
    """Record that a workflow was deleted: its files are removed later, and late files of it are ignored."""
    connection.execute(_NOTE_DELETION, (workflow_id, now))


def deleted_workflows(connection: sqlite3.Connection) -> dict[int, bool]:
    """The deleted workflows, and whether their files have been removed too."""
    return {row[0]: bool(row[1]) for row in connection.execute(_DELETED)}


def finish_deletion(connection: sqlite3.Connection, workflow_id: int) -> None:
    """Record that all files of a deleted workflow are gone."""
    connection.execute(_FINISH_DELETION, (workflow_id,))


def delete_workflow(connection: sqlite3.Connection, workflow_id: int) -> None:
    """Remove a workflow with its jobs, runs and results; must run inside a transaction."""
    for statement in _DELETE:
        connection.execute(statement, (workflow_id,))


def workflow_exists(connection: sqlite3.Connection, workflow_id: int) -> bool:
    """Whether there is a workflow of that number."""
    return connection.execute(_WORKFLOW, (workflow_id,)).fetchone() is not None
