"""The results of workflows' attempts, as they are listed."""

from __future__ import annotations

import sqlite3

from torc_slurm.database.node_records import Row
from torc_slurm.database.runs import run_rows
from torc_slurm.database.workflows import job_rows
from torc_slurm.errors import InputError
from torc_slurm.figures import MONITOR_COLUMNS, MONITOR_FIGURES, RESULT_COLUMNS

_RESULTS = """
SELECT * FROM results WHERE workflow_id = :workflow_id AND (:run_id IS NULL OR run_id = :run_id)
AND (:job_id IS NULL OR job_id = :job_id) ORDER BY job_id, run_id, attempt_id
"""
_MONITOR_SQL = ", ".join(f"{each.aggregate}(n.{each.name}) AS {each.name}" for each in MONITOR_FIGURES)
_MONITOR = f"""
SELECT n.result, {_MONITOR_SQL}
FROM step_nodes n JOIN results r ON r.id = n.result WHERE r.workflow_id = :workflow_id GROUP BY n.result
"""  # noqa: S608 - constants


def result_columns(*, with_monitor: bool) -> tuple[str, ...]:
    """The columns of `result_rows`, apart from ``id``, which means nothing outside the database."""
    return RESULT_COLUMNS + (MONITOR_COLUMNS if with_monitor else ())


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
