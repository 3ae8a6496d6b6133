"""The results of workflows' attempts, as they are listed."""

from __future__ import annotations

import sqlite3

from torc_slurm.database.node_records import Row
from torc_slurm.database.runs import run_rows
from torc_slurm.database.workflows import job_rows
from torc_slurm.errors import InputError

_RESULTS = """
SELECT * FROM results WHERE workflow_id = :workflow_id AND (:run_id IS NULL OR run_id = :run_id)
AND (:job_id IS NULL OR job_id = :job_id) ORDER BY job_id, run_id, attempt_id
"""
# CPU of the monitors adds up over the nodes; memory and lateness are those of the largest.
_MONITOR = """
SELECT n.result, sum(n.monitor_cpu_seconds) AS monitor_cpu_seconds, max(n.monitor_memory_bytes) AS monitor_memory_bytes,
max(n.monitor_mean_sample_seconds) AS monitor_mean_sample_seconds,
max(n.monitor_max_lateness_seconds) AS monitor_max_lateness_seconds,
max(n.monitor_final_interval_seconds) AS monitor_final_interval_seconds, min(n.monitor_reader) AS monitor_reader
FROM step_nodes n JOIN results r ON r.id = n.result WHERE r.workflow_id = :workflow_id GROUP BY n.result
"""
MONITOR_COLUMNS = (
    "monitor_cpu_seconds",
    "monitor_memory_bytes",
    "monitor_mean_sample_seconds",
    "monitor_max_lateness_seconds",
    "monitor_final_interval_seconds",
    "monitor_reader",
)


def result_columns(connection: sqlite3.Connection, *, with_monitor: bool) -> list[str]:
    """The columns of `result_rows`, apart from ``id``, which means nothing outside the database."""
    names = [str(each[0]) for each in connection.execute("SELECT * FROM results LIMIT 0").description]
    return [name for name in names if name != "id"] + (list(MONITOR_COLUMNS) if with_monitor else [])


def check_ids(
    connection: sqlite3.Connection, workflow_id: int, *, run_id: int | None = None, job_id: int | None = None
) -> None:
    """Refuse a run or job that a workflow has not.

    Raises:
        InputError: it has none of that number; names the remedy.
    """
    if job_id is not None and all(row["job_id"] != job_id for row in job_rows(connection, workflow_id)):
        raise InputError(f"workflow {workflow_id} has no job {job_id}; see torc jobs list {workflow_id}")
    if run_id is not None and all(row["run_id"] != run_id for row in run_rows(connection, workflow_id)):
        raise InputError(f"workflow {workflow_id} has no run {run_id}; see torc workflows show {workflow_id}")


def result_rows(
    connection: sqlite3.Connection,
    workflow_id: int,
    *,
    run_id: int | None = None,
    job_id: int | None = None,
    with_monitor: bool = False,
) -> list[Row]:
    """Rows of ``results`` of a workflow by job, run and attempt; with the monitor's own use beside, where asked for."""
    chosen = {"workflow_id": workflow_id, "run_id": run_id, "job_id": job_id}
    rows = [dict(row) for row in connection.execute(_RESULTS, chosen)]
    if not with_monitor:
        return list(rows)
    monitors = {row["result"]: dict(row) for row in connection.execute(_MONITOR, {"workflow_id": workflow_id})}
    nothing: Row = dict.fromkeys(MONITOR_COLUMNS)
    return [row | {name: monitors.get(row["id"], nothing)[name] for name in MONITOR_COLUMNS} for row in rows]
