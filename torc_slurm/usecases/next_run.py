"""The next run of a workflow: created or found, not active, and planned from the rows of the main database."""

from __future__ import annotations

import functools
import json
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torc_slurm.common.errors import TorcError
from torc_slurm.common.units import parse_iso_duration, parse_memory, step_memory_mib
from torc_slurm.database.main import MainDatabase
from torc_slurm.database.workflows import create_workflow, dependencies, job_rows, user_data_rows, workflow_row
from torc_slurm.records.statuses import COMPLETED
from torc_slurm.records.workflows import JobRow, WorkflowRow
from torc_slurm.spec.plan import ExecutionPlan, JobPlan, MonitorPlan, Plan, UserDatum, actions_left
from torc_slurm.spec.plan_settings import action, job_settings_of
from torc_slurm.spec.workflow import Action, Workflow
from torc_slurm.usecases.activity import active_run_text
from torc_slurm.usecases.installation import interpreter, step_command
from torc_slurm.usecases.run_states import RunState, next_run_id, refresh_workflow


@dataclass(frozen=True)
class Source:
    """What to run: a checked file of a new workflow, or the id of a workflow; None: the latest one.

    ``working_dir`` and ``spec_file`` are absolute; a new workflow records them and ``user_name``.
    """

    workflow: Workflow | int | None
    working_dir: str
    spec_file: str | None = None
    user_name: str | None = None


class Found(NamedTuple):
    """The workflow to be run: its row, its runs that have not ended, and whether it was created for this run."""

    row: WorkflowRow
    runs: Sequence[RunState]
    created: bool


def find_or_create(database: MainDatabase, source: Source) -> Found:
    """The workflow of a source, up to date; must run inside a transaction.

    Raises:
        InputError: there is no such workflow.
        TorcError: a run of it is active.
    """
    connection, output_dir = database.connection, database.output_dir
    if isinstance(source.workflow, Workflow):
        created = create_workflow(
            connection,
            source.workflow,
            output_dir=output_dir,
            working_dir=source.working_dir,
            spec_file=source.spec_file,
            user_name=source.user_name,
            now=time.time(),
        )
        return Found(workflow_row(connection, created), (), created=True)
    row = workflow_row(connection, source.workflow)
    runs = refresh_workflow(database, row["workflow_id"])
    for run in runs:
        if run.is_active:
            raise TorcError(active_run_text(row["workflow_id"], run.run_id, run.reason))
    return Found(row, runs, created=False)


def plan_next_run(connection: sqlite3.Connection, output_dir: str, workflow: WorkflowRow) -> Plan:
    """The plan of a workflow's next run: all jobs that are not completed, with this installation's interpreter."""
    run_id = next_run_id(connection, output_dir, workflow["workflow_id"])
    return _plan_of(connection, workflow, run_id=run_id, output_dir=output_dir, python=interpreter())


def _plan_of(
    connection: sqlite3.Connection, workflow: WorkflowRow, *, run_id: int, output_dir: str, python: str
) -> Plan:
    workflow_id = workflow["workflow_id"]
    rows = list(job_rows(connection, workflow_id))
    completed = {row["job_id"] for row in rows if row["status"] == COMPLETED}
    waits_for = dependencies(connection, workflow_id)
    settings = json.loads(workflow["settings"])
    return Plan(
        workflow_id=workflow_id,
        workflow_name=workflow["name"],
        run_id=run_id,
        output_dir=output_dir,
        working_dir=workflow["working_dir"],
        python=python,
        torc_step=step_command(python),
        resource_monitor=MonitorPlan(
            enabled=bool(workflow["monitor_enabled"]),
            granularity=workflow["granularity"],
            sample_interval_seconds=workflow["sample_interval_seconds"],
            flush_interval_seconds=workflow["flush_interval_seconds"],
        ),
        execution=ExecutionPlan(
            limit_resources=bool(workflow["limit_resources"]),
            enforce_runtime=bool(workflow["enforce_runtime"]),
            srun_options=tuple(json.loads(workflow["srun_options"])),
        ),
        jobs=tuple(
            _job_plan(row, tuple(other for other in waits_for.get(row["job_id"], ()) if other not in completed))
            for row in rows
            if row["job_id"] not in completed
        ),
        actions=_actions(settings, [row["job_id"] for row in rows], completed, run_id),
        user_data=tuple(
            UserDatum(row["user_data_id"], row["name"], row["data"]) for row in user_data_rows(connection, workflow_id)
        ),
        required_paths=tuple(settings.get("required_paths", ())),
        **{key: settings[key] for key in ("timeout_exit_code", "oom_exit_code") if key in settings},
    )


def _actions(
    settings: dict[str, Any], job_ids: Sequence[int], completed: Collection[object], run_id: int
) -> tuple[Action, ...]:
    """The workflow's actions with job ids; if an earlier run has begun, those of a later run."""
    found = [
        Action(each.trigger, each.commands, tuple(job_ids[index] for index in each.jobs))
        for each in map(action, settings.get("actions", ()))
    ]
    return tuple(found) if run_id == 1 else actions_left(found, [job for job in job_ids if job not in completed])


@functools.lru_cache(maxsize=1024)
def _memory(text: str | None) -> tuple[int | None, int | None]:
    """A request in bytes and in a step's MiB. Cached, because many jobs share few requests."""
    return (None, None) if text is None else (parse_memory(text), step_memory_mib(text))


@functools.lru_cache(maxsize=1024)
def _seconds(text: str | None) -> int | None:
    return None if text is None else parse_iso_duration(text)


def _job_plan(row: JobRow, depends_on: tuple[int, ...]) -> JobPlan:
    memory_bytes, memory_mib = _memory(row["memory"])
    return JobPlan(
        job_id=row["job_id"],
        name=row["name"],
        command=row["command"],
        working_dir=row["working_dir"],
        env={} if row["env"] == "{}" else json.loads(row["env"]),
        depends_on=depends_on,
        num_cpus=1 if row["num_cpus"] is None else row["num_cpus"],
        num_gpus=0 if row["num_gpus"] is None else row["num_gpus"],
        num_nodes=1 if row["num_nodes"] is None else row["num_nodes"],
        ntasks_per_node=1 if row["ntasks_per_node"] is None else row["ntasks_per_node"],
        memory_bytes=memory_bytes,
        memory_mib=memory_mib,
        runtime_seconds=_seconds(row["runtime"]),
        srun_options=() if row["srun_options"] == "[]" else tuple(json.loads(row["srun_options"])),
        has_requirements=row["resource_requirements_id"] is not None,
        settings=job_settings_of(row["settings"]),
        counts_from_run=row["counts_from_run_id"],
    )
