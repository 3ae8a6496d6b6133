"""The results of workflows' attempts, for lists."""

from __future__ import annotations

import sqlite3

from torc_slurm.common.errors import InputError
from torc_slurm.common.same_keys import SameKeys
from torc_slurm.database.selection import SORTS
from torc_slurm.records.figures import MONITOR_COLUMNS, MONITOR_FIGURES, RESULT_COLUMNS

_IS_CHOSEN = """
r.workflow_id = :workflow_id AND (:run_id IS NULL OR r.run_id = :run_id) AND (:job_id IS NULL OR r.job_id = :job_id)
"""
_ORDER = "r.job_id, r.run_id, r.attempt_id"
_COUNT = f"SELECT count(*) FROM results r WHERE {_IS_CHOSEN}"  # noqa: S608 - constants
_HAS_JOB = "SELECT 1 FROM jobs WHERE workflow_id = ? AND job_id = ?"
_HAS_RUN = "SELECT 1 FROM runs WHERE workflow_id = ? AND run_id = ?"
_MONITOR_SQL = ", ".join(f"{each.aggregate}(n.{each.name}) AS {each.name}" for each in MONITOR_FIGURES)
_MONITOR = f"""
SELECT n.result, {_MONITOR_SQL}
FROM step_nodes n JOIN results r ON r.id = n.result WHERE r.workflow_id = :workflow_id GROUP BY n.result
"""  # noqa: S608 - constants


def result_columns(*, with_monitor: bool) -> tuple[str, ...]:
    """The columns of `result_rows`, without ``id``, which has no meaning outside the database."""
    return RESULT_COLUMNS + (MONITOR_COLUMNS if with_monitor else ())


def check_ids(
    connection: sqlite3.Connection, workflow_id: int, *, run_id: int | None = None, job_id: int | None = None
) -> None:
    """Refuse a run or job that the workflow does not have.

    Raises:
        InputError: no such number; the message names the remedy.
    """
    if job_id is not None and connection.execute(_HAS_JOB, (workflow_id, job_id)).fetchone() is None:
        raise InputError(f"workflow {workflow_id} has no job {job_id}; see torc jobs list {workflow_id}")
    if run_id is not None and connection.execute(_HAS_RUN, (workflow_id, run_id)).fetchone() is None:
        raise InputError(f"workflow {workflow_id} has no run {run_id}; see torc workflows show {workflow_id}")


def count_results(
    connection: sqlite3.Connection, workflow_id: int, *, run_id: int | None = None, job_id: int | None = None
) -> int:
    """How many rows `result_rows` has without a limit."""
    chosen = {"workflow_id": workflow_id, "run_id": run_id, "job_id": job_id}
    return int(connection.execute(_COUNT, chosen).fetchone()[0])


def result_rows(
    connection: sqlite3.Connection,
    workflow_id: int,
    *,
    run_id: int | None = None,
    job_id: int | None = None,
    with_monitor: bool = False,
    sort: str | None = None,
    limit: int | None = None,
) -> SameKeys:
    """Results of a workflow with the columns of `result_columns`, read one at a time.

    Args:
        sort: one of `SORTS`; None: by job, run and attempt.
        limit: the most rows; None: all.
    """
    names = ", ".join(f"r.{name}" for name in RESULT_COLUMNS)
    monitor = "".join(f", m.{name}" for name in MONITOR_COLUMNS) if with_monitor else ""
    joined = f"LEFT JOIN ({_MONITOR}) m ON m.result = r.id" if with_monitor else ""
    order = _ORDER if sort is None else f"{SORTS[sort]}, {_ORDER}"
    cursor = connection.cursor()
    cursor.row_factory = None
    columns = result_columns(with_monitor=with_monitor)
    cursor.execute(
        f"SELECT {names}{monitor} FROM results r {joined} WHERE {_IS_CHOSEN} ORDER BY {order} LIMIT :most",  # noqa: S608 - constants
        {"workflow_id": workflow_id, "run_id": run_id, "job_id": job_id, "most": -1 if limit is None else limit},
    )
    return SameKeys(columns, cursor)
