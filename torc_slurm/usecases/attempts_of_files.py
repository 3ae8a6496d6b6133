"""The results of the attempts in some node files: from the output directory's database, else computed as collect does.

The database has late accounting and other nodes' files. If it has no row of an attempt, or an older one than the
files, the same pure functions compute it from the files alone.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.attempts import AttemptKey, attempt_key
from torc_slurm.database.main_schema import MAIN_SCHEMA
from torc_slurm.database.merge import last_seen
from torc_slurm.database.migrations import migrate, schema_version
from torc_slurm.database.node_records import NodeRecords, StepRecord
from torc_slurm.database.rows import Row, Value, number, whole, whole_or_none
from torc_slurm.database.selection import (
    LAST_FLUSH_COLUMN,
    MONITOR_CPU_COLUMN,
    SLURM_PREFIX,
    Selection,
    select_attempts,
    select_unmeasured,
)
from torc_slurm.database.series import SeriesFile, output_dir_of
from torc_slurm.database.snapshot import snapshot
from torc_slurm.files.output_names import MAIN_DATABASE_NAME
from torc_slurm.records.accounting import COLUMN_NAMES
from torc_slurm.usecases.attempt_results import attempt_figures

_NOT_MEASURED = ("extern", "batch")
# Of a row of `select_attempts`, what is read here or of the result; more of very many attempts takes much memory.
_COLUMNS = (
    "id",
    *AttemptKey._fields,
    "status",
    "status_evidence",
    "return_code",
    "return_signal",
    "end_time",
    LAST_FLUSH_COLUMN,
    *(SLURM_PREFIX + name for name in COLUMN_NAMES),
)
_NO_ACCOUNTING: Row = dict.fromkeys(COLUMN_NAMES)


class AttemptRows(NamedTuple):
    """Rows of attempts, at least with `_COLUMNS`, and accounting rows of steps that nobody measured (``batch``)."""

    attempts: list[Row]
    unmeasured: list[Row]


def attempts_of(files: Sequence[SeriesFile]) -> AttemptRows:
    """The results of the attempts in these node files."""
    known = _recorded(files)
    accounting = _accounting(files)
    by_key = {_workflow_key(AttemptKey(*(row[name] for name in AttemptKey._fields))): row for row in known.attempts}
    for key, members in _by_attempt(files).items():
        row = by_key.get(key)
        steps = [record.step for _, record in members]
        if row is None or row[LAST_FLUSH_COLUMN] is None or number(row, LAST_FLUSH_COLUMN) < last_seen(steps):
            own = _slurm_side(row) if row is not None else accounting.get((key.slurm_job_id, key.run_id, key.step_id))
            by_key[key] = _decided(key, members, own)
    unmeasured = known.unmeasured or [row for row in accounting.values() if row["step_id"] in _NOT_MEASURED]
    return AttemptRows(list(by_key.values()), unmeasured)


def _by_attempt(files: Sequence[SeriesFile]) -> dict[AttemptKey, list[tuple[NodeRecords, StepRecord]]]:
    found: defaultdict[AttemptKey, list[tuple[NodeRecords, StepRecord]]] = defaultdict(list)
    for file in files:
        for record in () if file.is_reference else file.records.steps:
            found[_workflow_key(attempt_key(record.step))].append((file.records, record))
    return found


def _workflow_key(key: AttemptKey) -> AttemptKey:
    """The key without the parts that do not identify an attempt at a workflow's job."""
    return key if key.workflow_id is None else key._replace(slurm_job_id=None, step_id=None)


def _accounting(files: Sequence[SeriesFile]) -> dict[tuple[Value, Value, Value], Row]:
    """The accounting rows that the epilog wrote into these files, by Slurm job, run and step."""
    rows = [record.as_row() for file in files for record in file.records.slurm_stats]
    return {(row["slurm_job_id"], row["run_id"], row["step_id"]): row for row in rows}


def _decided(key: AttemptKey, members: Sequence[tuple[NodeRecords, StepRecord]], accounting: Row | None) -> Row:
    """A row like those of `select_attempts`, computed from these files alone."""
    steps = [record.step for _, record in members]
    exits = [record for _, each in members for record in each.exits]
    journals = (row for records, _ in members for row in records.job_states if _is_of(row, key))
    ended = any(
        run["run_id"] == key.run_id and run["workflow_id"] == key.workflow_id and run["end_time"] is not None
        for records, _ in members
        for run in records.runs
    )
    figures = attempt_figures(steps, exits, accounting, next(journals, None), run_ended=ended)
    slurm = {SLURM_PREFIX + name: value for name, value in (accounting or _NO_ACCOUNTING).items()}
    monitor = [number(step, MONITOR_CPU_COLUMN) for step in steps if step[MONITOR_CPU_COLUMN] is not None]
    beside = {LAST_FLUSH_COLUMN: last_seen(steps), MONITOR_CPU_COLUMN: sum(monitor) if monitor else None}
    of_slurm = {name: steps[0][name] for name in ("slurm_job_id", "step_id")}  # a workflow's key leaves them out
    return {**steps[0], **slurm, **key._asdict(), **of_slurm, **figures, **beside}


def _is_of(row: Row, key: AttemptKey) -> bool:
    return all(row[name] == getattr(key, name) for name in ("workflow_id", "run_id", "job_id", "attempt_id"))


def _slurm_side(row: Row) -> Row | None:
    """The accounting row of a row of `select_attempts`; None if there is none."""
    found = {name: row[SLURM_PREFIX + name] for name in COLUMN_NAMES}
    return None if found["status"] is None else found


def _recorded(files: Sequence[SeriesFile]) -> AttemptRows:
    """The rows of the output directory's database; none if there is no database or it cannot be read."""
    attempts: dict[object, Row] = {}
    unmeasured: dict[object, Row] = {}
    with (
        contextlib.suppress(OSError, sqlite3.Error, UnicodeDecodeError, DatabaseError),
        _main_copy(files) as connection,
    ):
        for selection in _selections(files):
            attempts |= {row["id"]: row for row in select_attempts(connection, selection, _COLUMNS)}
            unmeasured |= {row["id"]: row for row in select_unmeasured(connection, selection)}
    return AttemptRows(list(attempts.values()), list(unmeasured.values()))


@contextlib.contextmanager
def _main_copy(files: Sequence[SeriesFile]) -> Iterator[sqlite3.Connection]:
    """A private copy of the database of the directory that the files are in.

    Raises:
        OSError, sqlite3.Error, DatabaseError: there is none, or torc did not write it.
    """
    directory = output_dir_of([file.path for file in files])
    if directory is None:
        raise DatabaseError("they are in no output directory")
    with (
        snapshot(os.path.join(directory, MAIN_DATABASE_NAME)) as (copy, _),
        closing(sqlite3.connect(copy)) as connection,
    ):
        connection.isolation_level = None
        connection.row_factory = sqlite3.Row
        if schema_version(connection) > len(MAIN_SCHEMA):
            raise DatabaseError("it was written by a newer version")
        migrate(connection, MAIN_SCHEMA)
        yield connection


def _selections(files: Sequence[SeriesFile]) -> list[Selection]:
    """What the files belong to: a workflow's run, an allocation, or a run outside Slurm."""
    found: dict[tuple[object, ...], Selection] = {}
    for file in files:
        for record in file.records.steps:
            step = record.step
            workflow, slurm, run = step["workflow_id"], step["slurm_job_id"], whole(step, "run_id")
            host = str(step["node"]) if workflow is None and slurm is None else None
            found[workflow, None if workflow is not None else slurm, run, host] = Selection(
                slurm_job=None if slurm is None or workflow is not None else str(slurm),
                workflow_id=whole_or_none(workflow),
                run_id=run,
                local=host is not None,
                local_host=host,
            )
    return list(found.values())
