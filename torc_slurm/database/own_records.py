"""torc-step's records of the steps of given Slurm jobs, with only the columns that their efficiency needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_CHUNK = 500  # the oldest supported SQLite allows 999 parameters
_RECORDS = """
SELECT slurm_job_id, step_id, job_name AS name, command, status, return_code, return_signal, start_time, end_time,
  coalesce(all_nodes_cpu_seconds, cpu_seconds) AS cpu_seconds, peak_cpu_percent, peak_memory_bytes, peak_memory_source,
  coalesce(all_nodes_cpu_wait_seconds, cpu_wait_seconds) AS cpu_wait_seconds, user_notes,
  (task_count IS NOT NULL AND recorded_task_count < task_count)
  OR (node_count IS NOT NULL AND measured_node_count < node_count) AS is_partial,
  workflow_id IS NOT NULL AS is_a_job
FROM results WHERE slurm_job_id IN ({places}) AND step_id IS NOT NULL
ORDER BY slurm_job_id, step_id, run_id, attempt_id
"""


class OwnRecord(NamedTuple):
    """torc-step's record of one command of a step: a row of ``results``.

    ``is_partial``: some tasks of the step did not run under it, or some nodes have not reported.
    ``is_a_job``: the step is a job of a workflow.
    """

    slurm_job_id: int
    step_id: str
    name: str | None
    command: str | None
    status: str
    return_code: int | None
    return_signal: int | None
    start_time: float | None
    end_time: float | None
    cpu_seconds: float | None
    peak_cpu_percent: float | None
    peak_memory_bytes: int | None
    peak_memory_source: str | None
    cpu_wait_seconds: float | None
    user_notes: str | None
    is_partial: bool
    is_a_job: bool = False


def own_records(connection: sqlite3.Connection, slurm_job_ids: Iterable[int]) -> Iterator[OwnRecord]:
    """The records of these jobs, grouped by job."""
    ids = sorted(set(slurm_job_ids))
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        query = _RECORDS.format(places=", ".join("?" * len(chunk)))
        for row in connection.execute(query, chunk):
            yield OwnRecord(**dict(row) | {name: bool(row[name]) for name in ("is_partial", "is_a_job")})
