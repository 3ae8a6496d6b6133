"""Slurm's accounting in the main database. A worse row never replaces a better one.

Rows come from the epilog (through a node file) and from queries on the login node, in any order and any number of
times. The stored row does not depend on the order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from typing import NamedTuple

from torc_slurm.database.node_file import LOCK_WAIT_SECONDS, NodeFileWriter
from torc_slurm.database.rows import Row, Value, by_column, insert_columns
from torc_slurm.database.selection import ATTEMPT_IS_SELECTED, Selection
from torc_slurm.records.accounting import COLUMN_NAMES, FINAL_STATUSES, AccountingRecord, is_better

_AT_ONCE = 1000  # rows
_COLUMNS = ", ".join(COLUMN_NAMES)
_SELECT_ALLOCATION = f"SELECT {_COLUMNS} FROM slurm_stats WHERE slurm_job_id = ? AND run_id = ?"  # noqa: S608 - constants
_UPDATE = f"""
UPDATE slurm_stats SET {", ".join(f"{name} = ?" for name in COLUMN_NAMES)}
WHERE slurm_job_id = ? AND run_id = ? AND step_id = ?
"""  # noqa: S608 - constants
_ADOPT = """
UPDATE slurm_stats SET workflow_id = :workflow_id, job_id = :job_id, attempt_id = :attempt_id
WHERE slurm_job_id = :slurm_job_id AND run_id = :run_id AND step_id = :step_id
AND (attempt_id IS NULL OR attempt_id > :attempt_id)
"""
_FINAL = ", ".join(f"'{status}'" for status in sorted(FINAL_STATUSES))
_CLUSTER = "(SELECT c.cluster FROM runs c WHERE c.workflow_id = r.workflow_id AND c.run_id = r.run_id) AS cluster"
_WITHOUT_FINAL_ROW = f"""
SELECT r.slurm_job_id, r.slurm_array, r.run_id, r.user_name, r.workflow_id, {_CLUSTER}, r.step_id, r.start_time
FROM results r LEFT JOIN slurm_stats s
ON s.slurm_job_id = r.slurm_job_id AND s.run_id = r.run_id AND s.step_id = r.step_id
WHERE r.slurm_job_id IS NOT NULL AND r.step_id IS NOT NULL
AND (s.status IS NULL OR s.status NOT IN ({_FINAL}))
AND {ATTEMPT_IS_SELECTED}
ORDER BY r.slurm_job_id DESC, r.run_id DESC, r.job_id
"""  # noqa: S608 - constants
# The batch step represents all unmeasured parts of an allocation, because it ends last.
_UNMEASURED_WITHOUT_FINAL_ROW = f"""
SELECT r.slurm_job_id, r.slurm_array, r.run_id, r.user_name, r.workflow_id, {_CLUSTER}, 'batch' AS step_id,
min(r.start_time) AS start_time FROM results r
WHERE r.slurm_job_id IS NOT NULL AND {ATTEMPT_IS_SELECTED} AND (NOT EXISTS (
  SELECT 1 FROM slurm_stats s WHERE s.slurm_job_id = r.slurm_job_id AND s.run_id = r.run_id AND s.step_id = 'batch'
) OR EXISTS (
  SELECT 1 FROM slurm_stats s WHERE s.slurm_job_id = r.slurm_job_id AND s.run_id = r.run_id
  AND s.attempt_id IS NULL AND s.status NOT IN ({_FINAL})
)) GROUP BY r.slurm_job_id, r.slurm_array, r.run_id, r.user_name, r.workflow_id
"""  # noqa: S608 - constants


class UnaccountedStep(NamedTuple):
    """A measured step that still lacks Slurm's final row."""

    slurm_job_id: int
    slurm_array: str | None
    run_id: int
    user_name: str | None
    workflow_id: int | None
    cluster: str | None
    step_id: str
    start_time: float


def upsert_slurm_stats(connection: sqlite3.Connection, records: Iterable[AccountingRecord]) -> list[AccountingRecord]:
    """Store the records that are better than the stored ones. Returns those that added something.

    For node files and for the main database; must run inside a transaction.
    """
    known: dict[tuple[int, int], dict[str | None, AccountingRecord]] = {}
    due: dict[tuple[int, int, str | None], tuple[Value, ...]] = {}
    new = []
    for record in records:
        allocation = (record.slurm_job_id, record.run_id)
        if allocation not in known:
            rows = connection.execute(_SELECT_ALLOCATION, allocation)
            known[allocation] = {old.step_id: old for old in (AccountingRecord(*row) for row in rows)}
        old = known[allocation].get(record.step_id)
        if old is not None and not is_better(record, old):
            continue
        kept = record[: len(COLUMN_NAMES)]
        step = (*allocation, record.step_id)
        if old is None or step in due:
            due[step] = kept
        else:
            connection.execute(_UPDATE, (*kept, *step))
        known[allocation][record.step_id] = record
        new.append(record)
        if len(due) == _AT_ONCE:
            _insert(connection, due.values())
            due.clear()
    _insert(connection, due.values())
    return new


def _insert(connection: sqlite3.Connection, rows: Collection[tuple[Value, ...]]) -> None:
    if rows:
        insert_columns(connection, "slurm_stats", by_column(COLUMN_NAMES, rows))


def write_slurm_stats(path: str, records: Iterable[AccountingRecord]) -> None:
    """Store records in the node file at ``path`` with `upsert_slurm_stats`.

    Raises:
        DatabaseError: it cannot be written.
    """
    with NodeFileWriter(path, LOCK_WAIT_SECONDS) as connection:
        upsert_slurm_stats(connection, records)


def adopt_slurm_stats(connection: sqlite3.Connection, attempts: Iterable[Row]) -> None:
    """Give the accounting row of each attempt's step the attempt's identity; the first attempt, if one step had
    several.
    """
    connection.executemany(_ADOPT, map(dict, attempts))


def steps_without_final_row(connection: sqlite3.Connection, selection: Selection) -> list[UnaccountedStep]:
    """Selected measured steps, latest allocation first, that may still get a (better) row."""
    rows = connection.execute(selection.within(_WITHOUT_FINAL_ROW), selection.parameters())
    return [UnaccountedStep(*row) for row in rows]


def unmeasured_without_final_row(connection: sqlite3.Connection, selection: Selection) -> list[UnaccountedStep]:
    """The batch step of each selected allocation with an unmeasured step that may still get a (better) row."""
    rows = connection.execute(selection.within(_UNMEASURED_WITHOUT_FINAL_ROW), selection.parameters())
    return [UnaccountedStep(*row) for row in rows]
