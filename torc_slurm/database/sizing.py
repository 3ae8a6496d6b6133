"""Reads and writes for right-sizing in the main database: attempts of all runs with their requests; corrections.

A requirement is changed in place, and each change is recorded, so the requests of earlier runs are known.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torc_slurm.common.errors import DatabaseError
from torc_slurm.common.garbage import no_search_for_cycles
from torc_slurm.common.units import exact
from torc_slurm.database.rows import Row, Value, whole
from torc_slurm.sizing.corrections import Corrections
from torc_slurm.sizing.decision import KEPT, Decision
from torc_slurm.sizing.evidence import Evidence, Resource
from torc_slurm.sizing.facts import NO_NUMBERS, Attempt, Facts, Job, Request, Requirement
from torc_slurm.sizing.idleness import was_idle_throughout
from torc_slurm.sizing.trends import numbers_in

_ENFORCES = "SELECT enforce_runtime FROM workflows WHERE workflow_id = ?"
_REQUIREMENTS = "SELECT * FROM resource_requirements WHERE workflow_id = ? ORDER BY resource_requirements_id"
_JOBS = "SELECT job_id, name, resource_requirements_id, parameters FROM jobs WHERE workflow_id = ? ORDER BY job_id"
# These columns of results stand side by side in an `Attempt`.
_FIGURES = (
    "return_code",
    "return_signal",
    "exec_time_seconds",
    "peak_memory_bytes",
    "peak_memory_source",
    "memory_limit_bytes",
    "oom_kills",
    "peak_cpu_percent",
    "avg_cpu_percent",
    "cpu_seconds",
    "cpu_wait_seconds",
)
_ATTEMPTS = f"""
SELECT job_id, run_id, attempt_id, status, user_notes, cpu_seconds, last_half_cpu_seconds, exec_time_seconds,
measured_node_count < coalesce(node_count, 0), all_nodes_cpu_seconds, all_nodes_avg_memory_bytes, {", ".join(_FIGURES)}
FROM results WHERE workflow_id = ? ORDER BY job_id, run_id, attempt_id
"""  # noqa: S608 - constants
_CHANGES = "SELECT * FROM resource_changes WHERE workflow_id = ? ORDER BY change_id"
_LAST_RUN = "SELECT coalesce(max(run_id), 0) FROM runs WHERE workflow_id = ?"
_INSERT = """
INSERT INTO resource_changes (workflow_id, resource_requirements_id, name, changed_at, changed_by, after_run_id,
direction, resource, original, new, multiplier, reason, evidence)
VALUES (:workflow_id, :resource_requirements_id, :name, :changed_at, :changed_by, :after_run_id, :direction, :resource,
:original, :new, :multiplier, :reason, :evidence)
"""
_COLUMNS = {Resource.memory: "memory", Resource.runtime: "runtime", Resource.cpu: "num_cpus"}
# Only if it is unchanged since it was read: two corrections at once must not overwrite each other.
_UPDATES = {
    resource: f"UPDATE resource_requirements SET {column} = ? WHERE resource_requirements_id = ? AND {column} IS ?"  # noqa: S608
    for resource, column in _COLUMNS.items()
}

AttemptId = tuple[int, int, int]


@no_search_for_cycles()
def facts_of(connection: sqlite3.Connection, workflow_id: int, hung: Mapping[AttemptId, bool] | None = None) -> Facts:
    """Everything that right-sizing needs to know about a workflow.

    Args:
        hung: from the time series, by (job_id, run_id, attempt_id); for other attempts only totals are used.
    """
    requirements = {
        row["resource_requirements_id"]: _requirement(row) for row in connection.execute(_REQUIREMENTS, (workflow_id,))
    }
    past = _past_requests(requirements, change_rows(connection, workflow_id))
    enforced = bool(connection.execute(_ENFORCES, (workflow_id,)).fetchone()[0])
    rows = _tuples(connection, _ATTEMPTS, workflow_id)
    row = next(rows, None)
    known = hung or {}
    jobs = []
    for job_id, name, number, parameters in _tuples(connection, _JOBS, workflow_id):
        given = NO_NUMBERS if parameters is None else numbers_in(parameters)
        tried = []
        while row is not None and row[0] <= job_id:
            if row[0] == job_id:  # else of a job that is gone
                tried.append(_attempt(row, past.at(number, row[1]), known, given, enforced=enforced))
            row = next(rows, None)
        jobs.append(Job(job_id, name, number, tuple(tried)))
    return Facts(workflow_id, tuple(requirements.values()), tuple(jobs))


def _tuples(connection: sqlite3.Connection, query: str, workflow_id: int) -> Iterator[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(query, (workflow_id,))


def change_rows(connection: sqlite3.Connection, workflow_id: int) -> list[Row]:
    """Every change of a workflow's requirements, oldest first."""
    return [dict(row) for row in connection.execute(_CHANGES, (workflow_id,))]


def last_run_id(connection: sqlite3.Connection, workflow_id: int) -> int:
    """The latest run of a workflow; 0 if there is none."""
    return int(connection.execute(_LAST_RUN, (workflow_id,)).fetchone()[0])


def save_corrections(connection: sqlite3.Connection, corrections: Corrections, *, changed_by: str, now: float) -> None:
    """Change the requirements and record each change with its evidence; must run inside a transaction.

    Args:
        changed_by: the command.
        now: Unix time.

    Raises:
        DatabaseError: a requirement has changed since it was read.
    """
    assert corrections.workflow_id is not None  # only a workflow's requirements are in the database
    after_run_id = last_run_id(connection, corrections.workflow_id)
    for decision in corrections.decisions:
        if decision.direction != KEPT:
            _update(connection, decision)
            multiplier = str(corrections.options.multiplier(decision.resource))
            values = {"workflow_id": corrections.workflow_id, "changed_by": changed_by, "changed_at": now}
            values |= {"after_run_id": after_run_id, "multiplier": multiplier}
            connection.execute(_INSERT, values | _change(decision))


def _update(connection: sqlite3.Connection, decision: Decision) -> None:
    number = decision.requirement.resource_requirements_id
    done = connection.execute(_UPDATES[decision.resource], (decision.new, number, decision.original))
    if done.rowcount != 1:
        raise DatabaseError(
            f"{decision.requirement.name} no longer requests {decision.original} ({decision.resource.value}): another "
            "command changed it; nothing was saved; correct again"
        )


def _change(decision: Decision) -> dict[str, Value]:
    most_demanding = [_attempt_evidence(each) for each in decision.evidence]
    return {
        "resource_requirements_id": decision.requirement.resource_requirements_id,
        "name": decision.requirement.name,
        "direction": decision.direction,
        "resource": _COLUMNS[decision.resource],
        "original": str(decision.original),
        "new": str(decision.new),
        "reason": decision.reason,
        "evidence": json.dumps({"attempts": decision.evidence_count, "most_demanding": most_demanding}),
    }


def _attempt_evidence(evidence: Evidence) -> dict[str, Value]:
    attempt = evidence.attempt
    return {
        "job_id": evidence.job.job_id,
        "run_id": attempt.run_id,
        "attempt_id": attempt.attempt_id,
        "status": attempt.status,
        "used": format(exact(evidence.used), "f"),
        "needs_more": evidence.needs_more,
    }


# --- reading ------------------------------------------------------------------------------------------------------


class _Past(NamedTuple):
    """What each requirement requested, and up to which run: (last run, request), oldest first."""

    requests: Mapping[int, Sequence[tuple[int, Request]]]
    now: Mapping[int, Request]

    def at(self, number: int | None, run_id: int) -> Request:
        """What a run requested. A job without a requirement requested nothing."""
        if number is None:
            return Request()
        for last_run, request in self.requests.get(number, ()):
            if run_id <= last_run:
                return request
        return self.now[number]


def _past_requests(requirements: Mapping[int, Requirement], changes: Iterable[Row]) -> _Past:
    """Undo the changes one by one, latest first."""
    now = {number: each.request for number, each in requirements.items()}
    undone = dict(now)
    found: defaultdict[int, list[tuple[int, Request]]] = defaultdict(list)
    for change in reversed(list(changes)):
        number = whole(change, "resource_requirements_id")
        undone[number] = _undo(undone[number], change)
        last_run = whole(change, "after_run_id")
        earlier = [each for each in found[number] if each[0] != last_run]
        found[number] = [(last_run, undone[number]), *earlier]
    return _Past(found, now)


def _undo(request: Request, change: Row) -> Request:
    original = str(change["original"])
    if change["resource"] == "num_cpus":
        return replace(request, num_cpus=int(original))
    return replace(request, memory=original) if change["resource"] == "memory" else replace(request, runtime=original)


def _requirement(row: Row) -> Requirement:
    request = Request(
        memory=_text(row["memory"]),
        num_cpus=whole(row, "num_cpus"),
        runtime=_text(row["runtime"]),
        num_nodes=whole(row, "num_nodes"),
        ntasks_per_node=whole(row, "ntasks_per_node"),
    )
    return Requirement(whole(row, "resource_requirements_id"), str(row["name"]), request)


def _attempt(
    row: tuple[Any, ...],
    request: Request,
    hung: Mapping[AttemptId, bool],
    given: Mapping[str, float],
    *,
    enforced: bool,
) -> Attempt:
    """Of a row of `_ATTEMPTS`. There may be very many, so nothing else is made of a row."""
    job_id, run_id, attempt_id, status, notes, cpu, last_half, elapsed, is_lower_bound, *rest = row
    cpu_total, mean_memory, *figures = rest
    numbers = given if notes is None else {**given, **numbers_in(notes)}
    by_series = hung.get((job_id, run_id, attempt_id))
    is_hung = _hung(cpu, last_half, elapsed) if by_series is None else by_series
    known = (sys.intern(status), request, *figures, is_hung, bool(is_lower_bound), enforced)
    return Attempt(run_id, attempt_id, *(*known, cpu_total, mean_memory, numbers))


def _hung(cpu_seconds: float | None, last_half: float | None, elapsed: float | None) -> bool | None:
    """Without a series: from the CPU time of its last half; else from its whole CPU time, if that is too little."""
    if cpu_seconds is None or elapsed is None:
        return None
    if last_half is not None:
        return was_idle_throughout(last_half, elapsed)
    return True if was_idle_throughout(cpu_seconds, elapsed) else None


def _text(value: Value) -> str | None:
    return None if value is None else str(value)
