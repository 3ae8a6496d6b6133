"""How attempts of a run ended, from node files only. The runner reads it if srun's status is ambiguous, and the next
run of a workflow to skip completed jobs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torc_slurm.database.node_records import copied_node_file, read_in_place
from torc_slurm.records.statuses import COMPLETED, RUNNING

_ATTEMPT = """
SELECT s.task_count, u.oom_kills, e.return_code, e.end_time FROM steps s
LEFT JOIN step_usage u ON u.step = s.id LEFT JOIN task_exits e ON e.step = s.id
WHERE s.workflow_id = ? AND s.run_id = ? AND s.job_id = ? AND s.attempt_id = ?
"""
_EXITS = """
SELECT s.run_id, s.job_id, s.attempt_id, s.task_count, count(e.task), max(e.return_code) FROM steps s
LEFT JOIN task_exits e ON e.step = s.id WHERE s.workflow_id = ? GROUP BY s.id
"""
_STATES = "SELECT run_id, job_id, attempt_id, state FROM job_states WHERE workflow_id = ?"
_RUN_ENDS = "SELECT end_time FROM runs WHERE workflow_id = ? AND run_id = ? AND end_time IS NOT NULL"


class AttemptExits(NamedTuple):
    """The exits of one attempt on all nodes: the number of `expected` tasks, and the recorded codes and times."""

    expected: int
    return_codes: tuple[int, ...]
    oom_kills: int
    last_end: float | None

    @property
    def are_complete(self) -> bool:
        return 0 < self.expected <= len(self.return_codes)


def attempt_exits(paths: Iterable[str], workflow_id: int, run_id: int, job_id: int, attempt_id: int) -> AttemptExits:
    """The exit records of one attempt in these node files; a missing file counts as empty.

    Raises:
        DatabaseError: a file is damaged, or changes all the time.
        OSError: a file cannot be read.
    """
    rows: list[sqlite3.Row] = []
    for path in paths:
        rows += _look_up(path, _ATTEMPT, (workflow_id, run_id, job_id, attempt_id))
    exits = [row for row in rows if row[2] is not None]
    return AttemptExits(
        expected=max((int(row[0] or 1) for row in rows), default=0),
        return_codes=tuple(int(row[2]) for row in exits),
        oom_kills=max((int(row[1]) for row in rows if row[1] is not None), default=0),
        last_end=max((float(row[3]) for row in exits), default=None),
    )


def completed_jobs(paths: Iterable[str], workflow_id: int, counts_from: Mapping[int, int]) -> set[int]:
    """The jobs of a workflow that completed in any of the runs of these node files.

    The journal has priority: a job that the runner ended did not complete, whatever its exit code. Without a journal
    entry, because the runner died, the exit record of every task must be 0.

    Args:
        counts_from: for a job that runs again with another command, the first run whose attempts count.

    Raises:
        DatabaseError, OSError: as `attempt_exits`.
    """
    states: dict[tuple[int, int, int], str] = {}
    exits: dict[tuple[int, int, int], list[tuple[int, int, int | None]]] = {}
    for path in paths:
        states |= {(row[0], row[1], row[2]): row[3] for row in _query(path, _STATES, (workflow_id,))}
        for run, job, attempt, expected, count, highest in _query(path, _EXITS, (workflow_id,)):
            exits.setdefault((run, job, attempt), []).append((expected or 1, count, highest))
    ended = {key: state for key, state in states.items() if state != RUNNING}
    recorded = {key for key, nodes in exits.items() if key not in ended and _all_exited_0(nodes)}
    done = {key for key, state in ended.items() if state == COMPLETED} | recorded
    return {job for run, job, _ in done if run >= counts_from.get(job, 1)}


def _all_exited_0(nodes: list[tuple[int, int, int | None]]) -> bool:
    expected = max(node[0] for node in nodes)
    return sum(node[1] for node in nodes) >= expected and all(node[2] in (None, 0) for node in nodes)


def run_has_ended(paths: Iterable[str], workflow_id: int, run_id: int) -> bool:
    """Whether the run's journal says that its runner ended it.

    Raises:
        DatabaseError, OSError: as `attempt_exits`.
    """
    return any(_look_up(path, _RUN_ENDS, (workflow_id, run_id)) for path in paths)


def _look_up(path: str, query: str, values: tuple[int, ...]) -> list[sqlite3.Row]:
    """Read a few rows of a node file in place if that is safe: a copy at each job's end would be slow."""
    try:
        found = read_in_place(path, lambda connection: connection.execute(query, values).fetchall())
    except FileNotFoundError:
        return []
    return _query(path, query, values) if found is None else found[0]


def _query(path: str, query: str, values: tuple[int, ...]) -> list[sqlite3.Row]:
    try:
        with copied_node_file(path) as (connection, _):
            return [] if connection is None else connection.execute(query, values).fetchall()
    except FileNotFoundError:
        return []
