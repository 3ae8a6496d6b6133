"""Finds attempts in the main database by any number that a user may type, each with its accounting row."""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torc_slurm.common.errors import InputError
from torc_slurm.common.units import LARGEST_INTEGER
from torc_slurm.database.rows import Row, Value, compact_rows, mappings
from torc_slurm.records.accounting import COLUMN_NAMES

_SLURM_JOB = re.compile(r"[1-9][0-9]{0,17}(?:_[0-9]{1,18})?", re.ASCII)

# Prefix of Slurm's columns in a joined row, because results too has a status, a start and an end.
SLURM_PREFIX = "slurm_stats_"
# Also in that row: when the figures were last written, and torc-step's own use; see `select_attempts`.
LAST_FLUSH_COLUMN = "last_flush_time"
MONITOR_CPU_COLUMN = "monitor_cpu_seconds"
_SLURM_COLUMNS = ", ".join(f"s.{name} AS {SLURM_PREFIX}{name}" for name in COLUMN_NAMES)

# Stands in a statement for the condition of a `Selection`: see `Selection.within`.
ATTEMPT_IS_SELECTED = "<the attempt is selected>"
# An array's number selects all of its tasks.
_OF_SLURM_JOBS = """(r.slurm_job_id IN (SELECT value FROM json_each(:slurm_jobs))
OR CAST(r.slurm_array AS INTEGER) IN (SELECT value FROM json_each(:slurm_jobs))
OR r.slurm_array IN (SELECT value FROM json_each(:slurm_jobs)))"""
# '12_3' is 12 as a number; the last task of an array has the array's own number as its job id
_ARRAY_ORDER = """coalesce(CAST(r.slurm_array AS INTEGER), r.slurm_job_id),
CAST(substr(r.slurm_array, instr(r.slurm_array, '_') + 1) AS INTEGER), r.slurm_job_id"""
# Computed from an attempt's rows of step_nodes.
_OF_NODES = {
    LAST_FLUSH_COLUMN: """(
  SELECT coalesce(min(CASE WHEN n.end_time IS NULL THEN n.last_flush_time END), max(n.last_flush_time))
  FROM step_nodes n WHERE n.result = r.id)""",
    MONITOR_CPU_COLUMN: "(SELECT sum(n.monitor_cpu_seconds) FROM step_nodes n WHERE n.result = r.id)",
}
_OF_NODES_SQL = ", ".join(f"{query} AS {name}" for name, query in _OF_NODES.items())
# First ids, then rows by id: sorting rows of 150 columns takes a hundred times the space.
_NATURAL_ORDER = f"r.workflow_id, {_ARRAY_ORDER}, r.run_id, r.job_id, r.attempt_id, r.id"
_ATTEMPT_IDS = f"SELECT r.id FROM results r WHERE {ATTEMPT_IS_SELECTED} ORDER BY %s LIMIT :most"  # noqa: S608 - constants
_COUNT = f"SELECT count(*) FROM results r WHERE {ATTEMPT_IS_SELECTED}"  # noqa: S608 - constants
_OF_IDS = """
FROM json_each(:ids) chosen JOIN results r ON r.id = chosen.value
LEFT JOIN slurm_stats s ON s.slurm_job_id = r.slurm_job_id AND s.run_id = r.run_id AND s.step_id = r.step_id
ORDER BY chosen.key
"""
_ATTEMPTS = f"SELECT r.*, {_SLURM_COLUMNS}, {_OF_NODES_SQL} {_OF_IDS}"
_JOBS = f"""
SELECT DISTINCT r.slurm_job_id, r.slurm_array FROM results r WHERE {ATTEMPT_IS_SELECTED}
"""  # noqa: S608 - constants
_AT_ONCE = 500
# The values of --sort: largest, or latest, first.
SORTS = {
    "memory": "r.peak_memory_bytes DESC",
    "cpu": "r.avg_cpu_percent DESC",
    "elapsed": "r.exec_time_seconds DESC",
    "start": "r.start_time DESC",
    "name": "r.job_name",
    "state": "r.status",
}
_NOTES = """
SELECT n.result, n.node, t.note FROM json_each(:ids) chosen JOIN step_nodes n ON n.result = chosen.value
JOIN step_notes t ON t.step_node = n.id ORDER BY n.result, t.time, t.note
"""
_UNMEASURED = f"""
SELECT s.* FROM slurm_stats s WHERE s.attempt_id IS NULL AND s.state IS NOT NULL
AND (:run_id IS NULL OR s.run_id = :run_id)
AND (s.slurm_job_id IN (SELECT value FROM json_each(:slurm_jobs)) OR EXISTS (
  SELECT 1 FROM results r WHERE r.slurm_job_id = s.slurm_job_id AND r.run_id = s.run_id
  AND {ATTEMPT_IS_SELECTED}
)) ORDER BY s.slurm_job_id, s.run_id, s.start_time, s.step_id
"""  # noqa: S608 - constants
_IDS = f"""
SELECT DISTINCT r.run_id, r.job_id, r.attempt_id FROM results r WHERE {ATTEMPT_IS_SELECTED}
"""  # noqa: S608 - constants
_LATEST = """
SELECT workflow_id, run_id, slurm_job_id, local_host FROM results ORDER BY start_time DESC, id DESC LIMIT 1
"""


@dataclass(frozen=True)
class Selection:
    """Selects attempts; None: any. ``slurm_job`` is ``12``, ``12_3`` (a task of an array), or ``12,13``."""

    slurm_job: str | None = None
    workflow_id: int | None = None
    run_id: int | None = None
    job_id: int | None = None
    attempt_id: int | None = None
    local: bool = False
    local_host: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot be a job.

        Raises:
            InputError: the Slurm job id has another form, or ``local`` is combined with an allocation or a workflow.
        """
        if self.local and (self.slurm_job, self.workflow_id) != (None, None):
            raise InputError("--local is what ran outside Slurm: give it without --slurm-job-id and without a workflow")
        for job in self.slurm_jobs or ():
            if _SLURM_JOB.fullmatch(job) is None:
                raise InputError(f"{job!r} is not a Slurm job id; give a number, or <array>_<task>, or several: 12,13")
        for number in (self.workflow_id, self.run_id, self.job_id, self.attempt_id):
            if number is not None and not 0 <= number <= LARGEST_INTEGER:
                raise InputError(f"{number} is not an id; give a whole number")

    @property
    def slurm_jobs(self) -> tuple[str, ...] | None:
        """The Slurm jobs one by one; None: not selected by these."""
        return None if self.slurm_job is None else tuple(job.strip() for job in self.slurm_job.split(","))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is selected: then the latest record is meant."""
        return self.slurm_job is None and self.workflow_id is None and not self.local

    def within(self, statement: str) -> str:
        """The statement with the condition in place of `ATTEMPT_IS_SELECTED`: only what is given, so indexes serve."""
        names = ("workflow_id", "run_id", "job_id", "attempt_id", "local_host")
        conditions = [f"r.{name} = :{name}" for name in names if getattr(self, name) is not None]
        if self.slurm_job is not None:
            conditions.append(_OF_SLURM_JOBS)
        if self.local:
            conditions.append("r.slurm_job_id IS NULL")
        return statement.replace(ATTEMPT_IS_SELECTED, " AND ".join(conditions) or "TRUE")

    def parameters(self) -> dict[str, Value]:
        """The parameters of this module's statements."""
        jobs = self.slurm_jobs
        numbers = None if jobs is None else [int(job) if job.isdigit() else job for job in jobs]
        return {
            "slurm_jobs": None if numbers is None else json.dumps(numbers),
            "workflow_id": self.workflow_id,
            "run_id": self.run_id,
            "job_id": self.job_id,
            "attempt_id": self.attempt_id,
            "local_host": self.local_host,
        }


def latest(connection: sqlite3.Connection, narrowed: Selection) -> Selection | None:
    """The latest record of this output directory: a workflow's run, an allocation or a local record.

    ``narrowed`` adds run, job and attempt; None if there is no record at all.
    """
    row = connection.execute(_LATEST).fetchone()
    if row is None:
        return None
    if row["workflow_id"] is not None:
        run_id = row["run_id"] if narrowed.run_id is None else narrowed.run_id
        return _narrow(narrowed, workflow_id=row["workflow_id"], run_id=run_id)
    if row["slurm_job_id"] is not None:
        return _narrow(narrowed, slurm_job=str(row["slurm_job_id"]), run_id=narrowed.run_id)
    run_id = row["run_id"] if narrowed.run_id is None else narrowed.run_id
    return _narrow(narrowed, local=True, local_host=row["local_host"], run_id=run_id)


def _narrow(
    narrowed: Selection,
    *,
    run_id: int | None,
    workflow_id: int | None = None,
    slurm_job: str | None = None,
    local: bool = False,
    local_host: str | None = None,
) -> Selection:
    return Selection(slurm_job, workflow_id, run_id, narrowed.job_id, narrowed.attempt_id, local, local_host)


def select_attempts(
    connection: sqlite3.Connection, selection: Selection, columns: Sequence[str] | None = None
) -> list[Row]:
    """Rows of ``results``, each with its ``slurm_stats`` under `SLURM_PREFIX`; by job, then attempt.

    ``last_flush_time`` (Unix time) is the age of the figures: the oldest last flush of the nodes that still run.
    ``columns``: only these, in compact rows, because there may be very many.
    """
    ids = attempt_ids(connection, selection)
    if columns is None:
        return list(attempt_rows(connection, ids))
    return list(compact_rows(columns, attempt_values(connection, ids, map(source_of, columns))))


def source_of(column: str) -> tuple[bool, str]:
    """For `attempt_values`: a column of `select_attempts`."""
    return column.startswith(SLURM_PREFIX), column.removeprefix(SLURM_PREFIX)


def attempt_ids(
    connection: sqlite3.Connection, selection: Selection, *, sort: str | None = None, limit: int | None = None
) -> list[int]:
    """``results.id`` of the selected attempts: by job, then attempt, or by one of `SORTS`; at most ``limit``."""
    order = _NATURAL_ORDER if sort is None else f"{SORTS[sort]}, {_NATURAL_ORDER}"
    most = {"most": -1 if limit is None else limit}
    return [row[0] for row in connection.execute(selection.within(_ATTEMPT_IDS % order), selection.parameters() | most)]


def count_attempts(connection: sqlite3.Connection, selection: Selection) -> int:
    """The number of selected attempts."""
    return int(connection.execute(selection.within(_COUNT), selection.parameters()).fetchone()[0])


def attempt_rows(connection: sqlite3.Connection, ids: Sequence[int]) -> Iterator[Row]:
    """The rows of `select_attempts` for these ids, in this order, a few at a time."""
    for begin in range(0, len(ids), _AT_ONCE):
        some = {"ids": json.dumps(ids[begin : begin + _AT_ONCE])}
        yield from mappings(connection, _ATTEMPTS, some)


def attempt_values(
    connection: sqlite3.Connection, ids: Sequence[int], columns: Iterable[tuple[bool, str]]
) -> Iterator[tuple[Value, ...]]:
    """Columns of these rows as tuples: of Slurm's row if the pair says so, else of ``results``."""
    sources = [f"s.{name}" if is_slurms else _OF_NODES.get(name, f"r.{name}") for is_slurms, name in columns]
    query = f"SELECT {', '.join(sources)} {_OF_IDS}"
    for begin in range(0, len(ids), _AT_ONCE):
        cursor = connection.cursor()
        cursor.row_factory = None
        yield from cursor.execute(query, {"ids": json.dumps(ids[begin : begin + _AT_ONCE])})


def selected_jobs(connection: sqlite3.Connection, selection: Selection) -> set[str]:
    """The Slurm jobs of the selected attempts, in the form that a user types: ``12``, ``12_3``."""
    rows = connection.execute(selection.within(_JOBS), selection.parameters()).fetchall()
    found = {str(job) for job, _ in rows} | {str(array) for _, array in rows if array is not None}
    return found | {job.partition("_")[0] for job in found}


def select_unmeasured(connection: sqlite3.Connection, selection: Selection) -> list[Row]:
    """Rows of ``slurm_stats`` of the same allocations for steps without a wrapper (batch, extern, a bare srun).

    Leaves out a step that was asked for and does not exist (batch of an salloc).
    """
    return list(mappings(connection, selection.within(_UNMEASURED), selection.parameters()))


class NotRecorded(NamedTuple):
    """Which id matches nothing: its ``kind`` (run, job, attempt), and the ids that exist."""

    kind: str
    given: int
    recorded: list[int]


def first_not_recorded(connection: sqlite3.Connection, selection: Selection) -> NotRecorded | None:
    """The first of run, job and attempt that matches nothing within the rest of the selection; None: no record at
    all.
    """
    anything = dataclasses.replace(selection, run_id=None, job_id=None, attempt_id=None)
    left = connection.execute(anything.within(_IDS), anything.parameters()).fetchall()
    for kind in ("run", "job", "attempt") if left else ():
        given = getattr(selection, f"{kind}_id")
        recorded = sorted({row[f"{kind}_id"] for row in left})
        if given is not None and given not in recorded:
            return NotRecorded(kind, given, recorded)
        left = [row for row in left if given in (None, row[f"{kind}_id"])]
    return None


def select_notes(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Row]:
    """What the nodes of these attempts lost or could not measure: ``result`` (a ``results.id``), ``node``, ``note``."""
    return list(mappings(connection, _NOTES, {"ids": json.dumps(ids)}))
