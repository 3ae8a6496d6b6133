"""The runs of workflows in the main database, and where each job stands."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping

from torc_slurm.database.node_records import Row
from torc_slurm.database.workflows import dependencies, job_rows
from torc_slurm.installation import module_command
from torc_slurm.plan import ExecutionPlan, JobPlan, MonitorPlan, Plan
from torc_slurm.units import monitor_allowance_mib, parse_iso_duration, parse_memory, slurm_memory_mib

GENERATED, SUBMITTED, RUNNING, ENDED = "generated", "submitted", "running", "ended"

_RUNS = "SELECT * FROM runs WHERE workflow_id = ? ORDER BY run_id"
_INSERT = """
INSERT INTO runs (workflow_id, run_id, status, created_at, scheduler, slurm_job_id, script)
VALUES (:workflow_id, :run_id, :status, :created_at, :scheduler, :slurm_job_id, :script)
"""
_UPDATE = """
UPDATE runs SET status = coalesce(:status, status), slurm_job_id = coalesce(:slurm_job_id, slurm_job_id),
note = coalesce(:note, note) WHERE workflow_id = :workflow_id AND run_id = :run_id
"""
_FROM_JOURNAL = """
INSERT INTO runs (workflow_id, run_id, status, created_at, slurm_job_id, host, pid, launcher, nodes, claim_time,
end_time, exit_status, reason)
SELECT :workflow_id, :run_id, iif(:end_time IS NULL, 'running', 'ended'), :claim_time, :slurm_job_id, :host, :pid,
:launcher, :nodes, :claim_time, :end_time, :exit_status, :reason
WHERE EXISTS (SELECT 1 FROM workflows WHERE workflow_id = :workflow_id)
ON CONFLICT (workflow_id, run_id) DO UPDATE SET status = iif(status = 'ended', status, excluded.status),
slurm_job_id = excluded.slurm_job_id, host = excluded.host, pid = excluded.pid, launcher = excluded.launcher,
nodes = excluded.nodes, claim_time = excluded.claim_time, end_time = excluded.end_time,
exit_status = excluded.exit_status, reason = excluded.reason
"""
_DELETE = "DELETE FROM runs WHERE workflow_id = ? AND run_id = ?"
_SET_STATUS = "UPDATE jobs SET status = ? WHERE job_id = ? AND status <> ?"


def run_rows(connection: sqlite3.Connection, workflow_id: int) -> list[Row]:
    """The runs of a workflow, the first one first."""
    return [dict(row) for row in connection.execute(_RUNS, (workflow_id,))]


def insert_run(
    connection: sqlite3.Connection,
    workflow_id: int,
    run_id: int,
    *,
    status: str,
    created_at: float,
    scheduler: str | None = None,
    slurm_job_id: int | None = None,
    script: str | None = None,
) -> None:
    """Note a run; ``script`` is the path of what was given to sbatch.

    Raises:
        sqlite3.IntegrityError: the run is there already.
    """
    values = locals().copy()
    del values["connection"]
    connection.execute(_INSERT, values)


def update_run(
    connection: sqlite3.Connection,
    workflow_id: int,
    run_id: int,
    *,
    status: str | None = None,
    slurm_job_id: int | None = None,
    note: str | None = None,
) -> None:
    """Change what is given; None leaves a column as it is."""
    values = locals().copy()
    del values["connection"]
    connection.execute(_UPDATE, values)


def store_journal_runs(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Take over what the runners wrote of their runs: rows of a node file's ``runs``."""
    connection.executemany(_FROM_JOURNAL, [dict(row) for row in rows])


def delete_run(connection: sqlite3.Connection, workflow_id: int, run_id: int) -> None:
    """Forget a run that never came to be."""
    connection.execute(_DELETE, (workflow_id, run_id))


def set_job_statuses(connection: sqlite3.Connection, statuses: Mapping[int, str]) -> None:
    """Give jobs (by ``job_id``) their status."""
    connection.executemany(_SET_STATUS, ((status, job_id, status) for job_id, status in statuses.items()))


def plan_of(connection: sqlite3.Connection, workflow: Row, *, run_id: int, output_dir: str, python: str) -> Plan:
    """The plan of a run: all jobs of a workflow that are not completed.

    Args:
        workflow: its row.
        python: the absolute path of this installation's interpreter.
    """
    workflow_id = int(workflow["workflow_id"] or 0)
    rows = job_rows(connection, workflow_id)
    completed = {row["job_id"] for row in rows if row["status"] == "completed"}
    waits_for = dependencies(connection, workflow_id)
    return Plan(
        workflow_id=workflow_id,
        workflow_name=str(workflow["name"]),
        run_id=run_id,
        output_dir=output_dir,
        working_dir=str(workflow["working_dir"]),
        python=python,
        torc_step=module_command("torc_slurm.step.main", python),
        resource_monitor=MonitorPlan(
            enabled=bool(workflow["monitor_enabled"]),
            granularity=str(workflow["granularity"]),
            sample_interval_seconds=float(workflow["sample_interval_seconds"] or 0),
            flush_interval_seconds=float(workflow["flush_interval_seconds"] or 0),
        ),
        execution=ExecutionPlan(
            limit_resources=bool(workflow["limit_resources"]),
            enforce_runtime=bool(workflow["enforce_runtime"]),
            srun_options=tuple(json.loads(str(workflow["srun_options"]))),
        ),
        jobs=tuple(
            _job_plan(
                row, tuple(other for other in waits_for.get(int(row["job_id"] or 0), ()) if other not in completed)
            )
            for row in rows
            if row["job_id"] not in completed
        ),
    )


def _job_plan(row: Row, depends_on: tuple[int, ...]) -> JobPlan:
    memory = None if row["memory"] is None else str(row["memory"])
    return JobPlan(
        job_id=int(row["job_id"] or 0),
        name=str(row["name"]),
        command=str(row["command"]),
        working_dir=str(row["working_dir"]),
        env=json.loads(str(row["env"])),
        depends_on=depends_on,
        num_cpus=int(row["num_cpus"] or 1),
        num_gpus=int(row["num_gpus"] or 0),
        num_nodes=int(row["num_nodes"] or 1),
        ntasks_per_node=int(row["ntasks_per_node"] or 1),
        memory_bytes=None if memory is None else parse_memory(memory),
        memory_mib=None if memory is None else slurm_memory_mib(memory) + monitor_allowance_mib(memory),
        runtime_seconds=None if row["runtime"] is None else parse_iso_duration(str(row["runtime"])),
        srun_options=tuple(json.loads(str(row["srun_options"]))),
        has_requirements=row["resource_requirements_id"] is not None,
    )
