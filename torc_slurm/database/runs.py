"""The runs of workflows in the main database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import cast

from torc_slurm.database.rows import Row
from torc_slurm.records.workflows import RunRow

GENERATED, SUBMITTED, RUNNING, ENDED = "generated", "submitted", "running", "ended"

_RUNS = "SELECT * FROM runs WHERE workflow_id = ? ORDER BY run_id"
_INSERT = """
INSERT INTO runs (workflow_id, run_id, status, created_at, scheduler, slurm_job_id, script, cluster)
VALUES (:workflow_id, :run_id, :status, :created_at, :scheduler, :slurm_job_id, :script, :cluster)
"""
_UPDATE = """
UPDATE runs SET status = coalesce(:status, status), slurm_job_id = coalesce(:slurm_job_id, slurm_job_id),
cluster = coalesce(:cluster, cluster), note = coalesce(:note, note)
WHERE workflow_id = :workflow_id AND run_id = :run_id
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


def run_rows(connection: sqlite3.Connection, workflow_id: int) -> list[RunRow]:
    """The runs of a workflow, oldest first."""
    return [cast(RunRow, dict(row)) for row in connection.execute(_RUNS, (workflow_id,))]


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
    cluster: str | None = None,
) -> None:
    """Record a run; ``script`` is the path of the script for sbatch.

    Raises:
        sqlite3.IntegrityError: the run exists already.
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
    cluster: str | None = None,
    note: str | None = None,
) -> None:
    """Change the given columns; None leaves a column as it is."""
    values = locals().copy()
    del values["connection"]
    connection.execute(_UPDATE, values)


def store_journal_runs(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Store what runners wrote about their runs: rows of a node file's ``runs``."""
    connection.executemany(_FROM_JOURNAL, [dict(row) for row in rows])


def delete_run(connection: sqlite3.Connection, workflow_id: int, run_id: int) -> None:
    """Remove a run that was not submitted."""
    connection.execute(_DELETE, (workflow_id, run_id))
