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


# One row for each node of a command, with that node's figures.
_RECORDS_BY_NODE = """
SELECT r.slurm_job_id, r.step_id, r.job_name AS name, r.command, r.status, r.return_code, r.return_signal, n.begin_time
  AS start_time, n.end_time, n.cpu_seconds, n.peak_cpu_percent, n.peak_memory_bytes, n.peak_memory_source,
  n.cpu_wait_seconds, r.user_notes,
  (r.task_count IS NOT NULL AND r.recorded_task_count < r.task_count)
  OR (r.node_count IS NOT NULL AND r.measured_node_count < r.node_count) AS is_partial,
  r.workflow_id IS NOT NULL AS is_a_job, n.node
FROM results AS r JOIN step_nodes AS n ON n.result = r.id WHERE r.slurm_job_id IN ({places}) AND r.step_id IS NOT NULL
ORDER BY r.slurm_job_id, r.step_id, r.run_id, r.attempt_id, n.node
"""


class OwnRecord(NamedTuple):
    """torc-step's record of one command of a step: a row of ``results``, or one ``node``'s part of it.

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
    node: str | None = None


def own_records(
    connection: sqlite3.Connection, slurm_job_ids: Iterable[int], *, by_node: bool = False
) -> Iterator[OwnRecord]:
    """The records of these jobs, grouped by job; with ``by_node`` one for each node of a command."""
    ids = sorted(set(slurm_job_ids))
    records = _RECORDS_BY_NODE if by_node else _RECORDS
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        query = records.format(places=", ".join("?" * len(chunk)))
        for row in connection.execute(query, chunk):
            yield OwnRecord(**dict(row) | {name: bool(row[name]) for name in ("is_partial", "is_a_job")})
