"""The results of the attempts in some node files: from the output directory's database, else computed as collect does.

The database has late accounting and other nodes' files. If it has no row of an attempt, or an older one than the
files, the same pure functions compute it from the files alone. There may be very many attempts: of a file's records
only those stay in memory that may be needed for that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.attempts import AttemptKey, attempt_key
from torc_slurm.database.main_schema import MAIN_SCHEMA
from torc_slurm.database.merge import last_seen
from torc_slurm.database.migrations import migrate, schema_version
from torc_slurm.database.node_records import NodeRecords, StepRecord, compact_record
from torc_slurm.database.rows import Row, Value, number, whole, whole_or_none
from torc_slurm.database.selection import (
    LAST_FLUSH_COLUMN,
    MONITOR_CPU_COLUMN,
    SLURM_PREFIX,
    Selection,
    attempt_rows,
    select_attempts,
    select_unmeasured,
)
from torc_slurm.database.series import SeriesFile, output_dir_of
from torc_slurm.database.snapshot import snapshot
from torc_slurm.files.output_names import MAIN_DATABASE_NAME
from torc_slurm.records.accounting import COLUMN_NAMES, AccountingRecord
from torc_slurm.usecases.attempt_results import attempt_figures

_NOT_MEASURED = ("extern", "batch")
# Of a row of `select_attempts`: what identifies the attempt, and what is read of the result.
_COLUMNS = (
    "id",
    *AttemptKey._fields,
    "status",
    "status_evidence",
    "return_code",
    "return_signal",
    "end_time",
    LAST_FLUSH_COLUMN,
    *(f"{SLURM_PREFIX}{name}" for name in ("requested_tres", "allocated_tres")),
)
_UNREADABLE = (OSError, sqlite3.Error, UnicodeDecodeError, DatabaseError)
_NO_ACCOUNTING: Row = dict.fromkeys(COLUMN_NAMES)


class AttemptRows(NamedTuple):
    """Rows of attempts, at least with `_COLUMNS`, and accounting rows of steps that nobody measured (``batch``)."""

    attempts: list[Row]
    unmeasured: list[Row]


class AttemptsOfFiles:
    """The results of the attempts in node files, which are added one after another. Use it in a ``with``.

    Args:
        paths: of all these files.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._directory = output_dir_of(paths)
        self._main: sqlite3.Connection | None = None
        self._asked: set[tuple[object, ...]] = set()
        self._rows: dict[AttemptKey, Row] = {}
        self._unmeasured: dict[object, Row] = {}
        self._accounting: dict[tuple[Value, Value, Value], AccountingRecord] = {}
        self._members: defaultdict[AttemptKey, list[tuple[NodeRecords, StepRecord]]] = defaultdict(list)

    def __enter__(self) -> AttemptsOfFiles:
        """Open a copy of the output directory's database; without one, the files alone are used."""
        if self._directory is not None:
            with contextlib.suppress(*_UNREADABLE):
                self._main = _copy_of_main(self._directory)
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the copy."""
        if self._main is not None:
            self._main.close()

    def add(self, file: SeriesFile) -> None:
        """Take a file's records; only what `found` may need stays in memory."""
        records = dataclasses.replace(file.records, steps=(), slurm_stats=())
        self._accounting |= {(each.slurm_job_id, each.run_id, each.step_id): each for each in file.records.slurm_stats}
        for record in file.records.steps:
            self._look_up(record.step)
            if not file.is_reference:
                key = _workflow_key(attempt_key(record.step))
                if record.step["node_count"] not in (None, 1) or self._is_older(key, [record.step]):
                    self._members[key].append((records, compact_record(record)))

    def found(self) -> AttemptRows:
        """The results of all attempts in the added files."""
        older = {
            key: members
            for key, members in self._members.items()
            if self._is_older(key, [record.step for _, record in members])
        }
        slurms = self._slurms_rows([self._rows[key]["id"] for key in older if key in self._rows])
        for key, members in older.items():
            if key in self._rows:
                own = slurms.get(self._rows[key]["id"])
            else:
                written = self._accounting.get((key.slurm_job_id, key.run_id, key.step_id))
                own = None if written is None else written.as_row()
            self._rows[key] = _decided(key, members, own)
        unmeasured = list(self._unmeasured.values()) or [
            each.as_row() for each in self._accounting.values() if each.step_id in _NOT_MEASURED
        ]
        return AttemptRows(list(self._rows.values()), unmeasured)

    def _look_up(self, step: Row) -> None:
        """Read the database's rows of what the step belongs to: a workflow's run, an allocation, one outside Slurm."""
        workflow, slurm, run = step["workflow_id"], step["slurm_job_id"], whole(step, "run_id")
        host = str(step["node"]) if workflow is None and slurm is None else None
        meant = (workflow, None if workflow is not None else slurm, run, host)
        if self._main is None or meant in self._asked:
            return
        self._asked.add(meant)
        selection = Selection(
            slurm_job=None if slurm is None or workflow is not None else str(slurm),
            workflow_id=whole_or_none(workflow),
            run_id=run,
            local=host is not None,
            local_host=host,
        )
        try:
            for row in select_attempts(self._main, selection, _COLUMNS):
                self._rows[_workflow_key(AttemptKey(*(row[name] for name in AttemptKey._fields)))] = row
            self._unmeasured |= {row["id"]: row for row in select_unmeasured(self._main, selection)}
        except _UNREADABLE:
            self._main.close()
            self._main = None

    def _is_older(self, key: AttemptKey, steps: Sequence[Row]) -> bool:
        """Whether the database has no row of the attempt, or an older one than these records."""
        row = self._rows.get(key)
        return row is None or row[LAST_FLUSH_COLUMN] is None or number(row, LAST_FLUSH_COLUMN) < last_seen(steps)

    def _slurms_rows(self, ids: Sequence[Value]) -> dict[Value, Row]:
        """The accounting rows of these attempts, as far as there are some, by ``results.id``."""
        found: dict[Value, Row] = {}
        if self._main is not None:
            with contextlib.suppress(*_UNREADABLE):
                for row in attempt_rows(self._main, [int(str(each)) for each in ids]):
                    if row[f"{SLURM_PREFIX}status"] is not None:
                        found[row["id"]] = {name: row[SLURM_PREFIX + name] for name in COLUMN_NAMES}
        return found


def _workflow_key(key: AttemptKey) -> AttemptKey:
    """The key without the parts that do not identify an attempt at a workflow's job."""
    return key if key.workflow_id is None else key._replace(slurm_job_id=None, step_id=None)


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


def _copy_of_main(directory: str) -> sqlite3.Connection:
    """A connection to a private copy of the directory's database. The copy is deleted as soon as it is open.

    Raises:
        OSError, sqlite3.Error, DatabaseError: there is none, or torc did not write it.
    """
    with snapshot(os.path.join(directory, MAIN_DATABASE_NAME)) as (copy, _), contextlib.ExitStack() as stack:
        connection = stack.enter_context(closing(sqlite3.connect(copy, isolation_level=None)))
        connection.row_factory = sqlite3.Row
        if schema_version(connection) > len(MAIN_SCHEMA):
            raise DatabaseError("it was written by a newer version")
        migrate(connection, MAIN_SCHEMA)
        stack.pop_all()  # stays open
    return connection
