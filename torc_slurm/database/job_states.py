"""The runner's state of each attempt in the main database, and the job status that follows from it.

The journal says which jobs were started and how srun ended. The records of a job's own processes and of Slurm have
priority, unless they know less: an exit record with SIGTERM does not show that the runner ended the job.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence

from torc_slurm.database.attempts import AttemptKey, create_attempt, find_attempt
from torc_slurm.database.journal import JOB_STATE_COLUMNS
from torc_slurm.database.rows import Row, Value
from torc_slurm.records.statuses import (
    BLOCKED,
    COMPLETED,
    ENDED_ON_REQUEST,
    FAILED,
    READY,
    RUNNING,
    SPECIFIC_ENDS,
    SUBMITTED,
    UNFINISHED,
)

_NAMES = ", ".join(JOB_STATE_COLUMNS)
_UPSERT = f"""
INSERT INTO job_states ({_NAMES}) VALUES ({", ".join(f":{name}" for name in JOB_STATE_COLUMNS)})
ON CONFLICT (workflow_id, run_id, job_id, attempt_id) DO UPDATE SET
{", ".join(f"{name} = excluded.{name}" for name in JOB_STATE_COLUMNS[4:])}
WHERE ({_NAMES}) IS NOT ({", ".join(f"excluded.{name}" for name in JOB_STATE_COLUMNS)})
"""  # noqa: S608 - constants
_KNOWN_WORKFLOWS = "SELECT workflow_id FROM workflows"
_DESCRIBE = """
UPDATE results SET job_name = :job_name, slurm_job_id = :slurm_job_id, step_id = coalesce(:step_id, step_id)
WHERE id = :id AND job_name IS NULL
"""
# The latest attempt of every job in its latest run: the journal's state, and the result's status. A killed runner may
# have left a result but no journal row.
_LATEST = """
SELECT s.job_id AS job_id, s.run_id AS run_id, s.attempt_id AS attempt_id, coalesce(r.status, s.state)
FROM job_states s LEFT JOIN results r ON r.workflow_id = s.workflow_id AND r.job_id = s.job_id AND r.run_id = s.run_id
AND r.attempt_id = s.attempt_id WHERE s.workflow_id = :workflow_id
UNION ALL
SELECT r.job_id, r.run_id, r.attempt_id, r.status FROM results r
WHERE r.workflow_id = :workflow_id AND NOT EXISTS (SELECT 1 FROM job_states s WHERE s.workflow_id = r.workflow_id
AND s.job_id = r.job_id AND s.run_id = r.run_id AND s.attempt_id = r.attempt_id)
ORDER BY job_id, run_id, attempt_id
"""
_RUN_ENDED = "SELECT 1 FROM runs WHERE workflow_id = ? AND run_id = ? AND status = 'ended'"
_WITHOUT_END = """
SELECT a.id FROM results a JOIN runs r ON r.workflow_id = a.workflow_id AND r.run_id = a.run_id
WHERE a.workflow_id = ? AND a.status = 'running' AND r.status = 'ended'
"""
_REASONS = """
SELECT job_id, reason FROM job_states WHERE workflow_id = :workflow_id AND reason IS NOT NULL
AND job_id IN (SELECT value FROM json_each(:jobs)) ORDER BY job_id, run_id, attempt_id
"""
_EVIDENCE = """
SELECT job_id, status_evidence FROM results WHERE workflow_id = :workflow_id AND status_evidence IS NOT NULL
AND job_id IN (SELECT value FROM json_each(:jobs)) ORDER BY job_id, run_id, attempt_id
"""
_JOBS = "SELECT job_id, status, counts_from_run_id FROM jobs WHERE workflow_id = ?"
_DEPENDENCIES = """
SELECT d.job_id, d.depends_on_job_id FROM job_dependencies d JOIN jobs j ON j.job_id = d.job_id WHERE j.workflow_id = ?
"""
_UNFINISHED = "SELECT DISTINCT workflow_id FROM jobs WHERE status <> 'completed' ORDER BY workflow_id"
_SET_STATUS = "UPDATE jobs SET status = ? WHERE job_id = ?"
# Whoever changes a record that the statuses follow from removes this row: triggers, and attempts.py.
_ARE_CURRENT = "SELECT 1 FROM current_job_statuses WHERE workflow_id = ? AND active_run_id IS ?"
_NOW_CURRENT = "INSERT OR REPLACE INTO current_job_statuses (workflow_id, active_run_id) VALUES (?, ?)"


def store_job_states(connection: sqlite3.Connection, rows: Iterable[Row]) -> set[int]:
    """Store rows of a node file's ``job_states``. Returns the ``results.id`` of the attempts that changed.

    Creates the row of ``results`` of a started attempt, even if its wrapper could not write.
    """
    known = {row[0] for row in connection.execute(_KNOWN_WORKFLOWS)}
    changed: set[int] = set()
    for row in rows:
        if row["workflow_id"] in known and connection.execute(_UPSERT, dict(row)).rowcount and row["start_time"]:
            changed.add(_attempt_of(connection, row))
    return changed


def _attempt_of(connection: sqlite3.Connection, row: Row) -> int:
    identity = {name: row[name] for name in AttemptKey._fields if name != "local_host"}
    key = AttemptKey(**identity, local_host=None)
    attempt = find_attempt(connection, key)
    if attempt is None:
        attempt = create_attempt(connection, key)
    connection.execute(_DESCRIBE, dict(row) | {"id": attempt})
    return attempt


def run_has_ended(connection: sqlite3.Connection, attempt: Row) -> bool:
    """Whether the workflow's run that an attempt belongs to is over."""
    return connection.execute(_RUN_ENDED, (attempt["workflow_id"], attempt["run_id"])).fetchone() is not None


def attempts_without_end(connection: sqlite3.Connection, workflow_id: int) -> set[int]:
    """The ``results.id`` of attempts that are still 'running' although their run is over."""
    return {int(row[0]) for row in connection.execute(_WITHOUT_END, (workflow_id,))}


def reasons(connection: sqlite3.Connection, workflow_id: int, job_ids: Iterable[int]) -> dict[int, str]:
    """Why these jobs ended: the evidence of the latest attempt, else the runner's latest reason."""
    chosen = {"workflow_id": workflow_id, "jobs": json.dumps(list(job_ids))}
    found = {row["job_id"]: str(row["reason"]) for row in connection.execute(_REASONS, chosen)}
    return found | {row["job_id"]: str(row["status_evidence"]) for row in connection.execute(_EVIDENCE, chosen)}


def with_journal(decided: Mapping[str, Value], journal: Row | None, *, run_ended: bool = False) -> dict[str, Value]:
    """The result of an attempt, corrected by the journal if that knows more; pure.

    Args:
        decided: ``status``, ``status_evidence`` and more columns of ``results``.
        run_ended: whether its run is over: an attempt without an end then gets none any more.
    """
    merged = dict(decided) if journal is None else _merged(decided, journal)
    if run_ended and merged["status"] == RUNNING:
        evidence = f"the run ended before the end of this job was recorded; {decided['status_evidence']}"
        merged |= {"status": FAILED, "status_evidence": evidence}
    return merged


def _merged(decided: Mapping[str, Value], journal: Row) -> dict[str, Value]:
    merged = dict(decided)
    if decided.get("end_time_source") in (None, "last flush") and journal["end_time"] is not None:
        merged |= {"end_time": journal["end_time"], "end_time_source": "journal"}
    if _knows_more(str(decided["status"]), str(journal["state"]), journal.get("return_code")):
        said = "; ".join(str(text) for text in (journal["reason"], decided["status_evidence"]) if text)
        merged |= {"status": journal["state"], "status_evidence": f"the runner says {journal['state']}: {said}"}
    return merged


def _knows_more(status: str, state: str, return_code: Value) -> bool:
    if status == RUNNING:
        return state not in UNFINISHED
    if status == COMPLETED:  # asked to end, it exited 0; or it did not create its files
        return state in ENDED_ON_REQUEST or (state == FAILED and return_code == 0)
    return status == FAILED and state in SPECIFIC_ENDS


def unmeasured_figures(journal: Row) -> dict[str, Value]:
    """The columns of ``results`` for an attempt that no wrapper recorded; all figures stay None."""
    start, end = journal["start_time"], journal["end_time"]
    return {
        "start_time": start,
        "end_time": None,
        "exec_time_seconds": float(end) - float(start) if start is not None and end is not None else None,
        "return_code": journal["return_code"],
        "return_signal": None,
        "oom_kills": None,
        "measured_node_count": 0,
        "recorded_task_count": 0,
    }


def unfinished_workflows(connection: sqlite3.Connection) -> list[int]:
    """The workflows with a job that is not completed."""
    return [int(row[0]) for row in connection.execute(_UNFINISHED)]


def refresh_job_statuses(connection: sqlite3.Connection, workflow_id: int, active_run: int | None) -> None:
    """Update the status of every job of a workflow, from its attempts and the active run (None: there is none).

    Reads nothing of them if no record changed since the last time. Must run inside a transaction.
    """
    cursor = connection.cursor()
    cursor.row_factory = None
    if cursor.execute(_ARE_CURRENT, (workflow_id, active_run)).fetchone() is not None:
        return
    rows = cursor.execute(_JOBS, (workflow_id,)).fetchall()
    jobs = {job: sys.intern(status) for job, status, _ in rows}
    counts_from = {job: run_id for job, _, run_id in rows if run_id > 1}
    latest = cursor.execute(_LATEST, {"workflow_id": workflow_id})
    words = {job: (run_id, sys.intern(word)) for job, run_id, _, word in latest}
    words = {job: word for job, word in words.items() if word[0] >= counts_from.get(job, 1)}
    waits_for: dict[int, list[int]] = {}
    for job, other in cursor.execute(_DEPENDENCIES, (workflow_id,)):
        waits_for.setdefault(job, []).append(other)
    statuses = job_statuses(jobs, waits_for, words, active_run)
    changed = [(status, job) for job, status in statuses.items() if status != jobs[job]]
    connection.executemany(_SET_STATUS, changed)
    connection.execute(_NOW_CURRENT, (workflow_id, active_run))


def job_statuses(
    jobs: Mapping[int, str],
    waits_for: Mapping[int, Sequence[int]],
    words: Mapping[int, tuple[int, str]],
    active_run: int | None,
) -> dict[int, str]:
    """The status of each job; pure.

    Args:
        jobs: the current status by job id.
        words: the latest state of a job: its run, and the status.
        active_run: the run that may still start jobs; None: there is none.
    """
    completed = {job for job, (_, word) in words.items() if word == COMPLETED}
    completed |= {job for job, status in jobs.items() if status == COMPLETED and job not in words}
    return {job: _job_status(job, completed, waits_for, words.get(job), active_run) for job in jobs}


def _job_status(
    job: int,
    completed: set[int],
    waits_for: Mapping[int, Sequence[int]],
    word: tuple[int, str] | None,
    active_run: int | None,
) -> str:
    if job in completed:
        return COMPLETED
    said = word[1] if word is not None and (active_run is None or word[0] >= active_run) else READY
    if said not in UNFINISHED:
        return said
    if said == RUNNING:
        return said if active_run is not None else FAILED
    return _waiting(job, completed, waits_for, READY if active_run is None else SUBMITTED)


def _waiting(job: int, completed: set[int], waits_for: Mapping[int, Sequence[int]], free: str) -> str:
    return free if all(other in completed for other in waits_for.get(job, ())) else BLOCKED
