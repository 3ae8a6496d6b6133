"""Identifies the attempt that a node's record belongs to, in one of three ways, and finds its row of ``results``."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torc_slurm.database.rows import Row, Table, Value, insert, insert_columns

_BY_WORKFLOW = "SELECT id FROM results WHERE workflow_id = ? AND job_id = ? AND run_id = ? AND attempt_id = ?"
_AD_HOC = """
SELECT id FROM results WHERE workflow_id IS NULL AND slurm_job_id = ? AND step_id = ? AND run_id = ? AND attempt_id = ?
"""
_LOCAL = """
SELECT id FROM results WHERE workflow_id IS NULL AND slurm_job_id IS NULL AND local_host = ? AND run_id = ?
AND job_id = ? AND attempt_id = ?
"""
_LAST_ID = "SELECT coalesce(max(id), 0) FROM results"
_NEWER_IDS = "SELECT id FROM results WHERE id > ?"
_WITHOUT_FIGURES = {"status": "running", "measured_node_count": 0, "recorded_task_count": 0}


class AttemptKey(NamedTuple):
    """The identity of an attempt. ``local_host`` is set only outside Slurm and outside any workflow."""

    workflow_id: Value
    job_id: Value
    run_id: Value
    attempt_id: Value
    slurm_job_id: Value
    step_id: Value
    local_host: Value


def attempt_key(step: Row) -> AttemptKey:
    """The attempt that a row of a node file's ``steps`` measured."""
    local = step["workflow_id"] is None and step["slurm_job_id"] is None
    return AttemptKey(
        workflow_id=step["workflow_id"],
        job_id=step["job_id"],
        run_id=step["run_id"],
        attempt_id=step["attempt_id"],
        slurm_job_id=step["slurm_job_id"],
        step_id=step["step_id"],
        local_host=step["node"] if local else None,
    )


def attempt_keys(steps: Table) -> dict[str, Sequence[Value]]:
    """The columns of `AttemptKey` for the attempts that rows of a node file's ``steps`` measured."""
    places = zip(steps["workflow_id"], steps["slurm_job_id"], steps["node"], strict=True)
    keys = {name: steps[name] for name in AttemptKey._fields if name != "local_host"}
    return keys | {
        "local_host": [node if workflow is None and slurm is None else None for workflow, slurm, node in places]
    }


def find_attempt(connection: sqlite3.Connection, key: AttemptKey) -> int | None:
    """The ``results.id`` of the attempt; None if none of its records was collected yet."""
    workflow_id, job_id, run_id, attempt_id, slurm_job_id, step_id, local_host = key
    if workflow_id is not None:
        found = connection.execute(_BY_WORKFLOW, (workflow_id, job_id, run_id, attempt_id))
    elif slurm_job_id is not None:
        found = connection.execute(_AD_HOC, (slurm_job_id, step_id, run_id, attempt_id))
    else:
        found = connection.execute(_LOCAL, (local_host, run_id, job_id, attempt_id))
    row = found.fetchone()
    return None if row is None else int(row[0])


def create_attempt(connection: sqlite3.Connection, key: AttemptKey, columns: Mapping[str, Value] = {}) -> int:
    """The ``results.id`` of a new row, without figures unless ``columns`` has them."""
    values = {**_WITHOUT_FIGURES, **key._asdict(), **columns}
    return insert(connection, _insert(tuple(values)), tuple(values.values()))


def create_attempts(connection: sqlite3.Connection, count: int, columns: Table) -> list[int | None]:
    """The ``results.id`` of a new row for each of so many attempts; None for an attempt that has a row already.

    Much faster than to look for each of them first.

    Args:
        columns: at least those of `AttemptKey`.
    """
    last = int(connection.execute(_LAST_ID).fetchone()[0])
    ids = range(last + 1, last + 1 + count)
    if insert_columns(connection, "results", {"id": ids, **columns}, "ON CONFLICT DO NOTHING") == count:
        return list(ids)
    created = {row[0] for row in connection.execute(_NEWER_IDS, (last,))}
    return [row_id if row_id in created else None for row_id in ids]


@functools.cache
def _insert(columns: tuple[str, ...]) -> str:
    marks = ", ".join("?" for _ in columns)
    return f"INSERT INTO results ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - names of columns
