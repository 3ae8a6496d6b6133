"""What became of the attempts in some node files, decided as collect decides it.

The records go into a main database in memory, on top of a copy of the output directory's own where there is one, so
that late accounting counts too.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from torc_slurm.database.main import MAIN_DATABASE_NAME
from torc_slurm.database.main_schema import MAIN_SCHEMA
from torc_slurm.database.migrations import migrate, schema_version
from torc_slurm.database.node_records import Row
from torc_slurm.database.selection import Selection, select_attempts, select_unmeasured
from torc_slurm.database.series import SeriesFile, output_dir_of
from torc_slurm.database.snapshot import snapshot
from torc_slurm.database.store import store_node_records
from torc_slurm.errors import DatabaseError
from torc_slurm.identity import RESOURCE_DIR
from torc_slurm.usecases.attempt_results import rebuild_results


class Judged(NamedTuple):
    """Rows of `select_attempts`, and of accounting for steps that nobody measured (``batch``, ``extern``)."""

    attempts: list[Row]
    unmeasured: list[Row]


def judge(files: Sequence[SeriesFile]) -> Judged:
    """What became of the attempts in these node files.

    Raises:
        DatabaseError: a file contradicts itself.
    """
    directory = output_dir_of([file.path for file in files])
    try:
        return _judge(files, directory)
    except sqlite3.Error:  # the directory's own database is none of ours: the node files alone must do
        return _judge(files, None)


def _judge(files: Sequence[SeriesFile], output_dir: str | None) -> Judged:
    with closing(_memory_database(output_dir)) as connection:
        for file in files:
            if not file.is_reference:
                _store(connection, file)
        return _select(connection, files)


def _select(connection: sqlite3.Connection, files: Sequence[SeriesFile]) -> Judged:
    attempts: dict[object, Row] = {}
    unmeasured: dict[object, Row] = {}
    for selection in _selections(files):
        attempts |= {row["id"]: row for row in select_attempts(connection, selection)}
        unmeasured |= {row["id"]: row for row in select_unmeasured(connection, selection)}
    return Judged(list(attempts.values()), list(unmeasured.values()))


def _selections(files: Sequence[SeriesFile]) -> list[Selection]:
    """What the files are of: a workflow's run, an allocation, or a run outside Slurm."""
    found: dict[tuple[object, ...], Selection] = {}
    for file in files:
        for record in file.records.steps:
            step = record.step
            workflow, slurm, run = step["workflow_id"], step["slurm_job_id"], _whole(step["run_id"])
            host = str(step["node"]) if workflow is None and slurm is None else None
            found[workflow, None if workflow is not None else slurm, run, host] = Selection(
                slurm_job=None if slurm is None or workflow is not None else str(slurm),
                workflow_id=None if workflow is None else _whole(workflow),
                run_id=run,
                local=host is not None,
                local_host=host,
            )
    return list(found.values())


def _whole(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0


def _store(connection: sqlite3.Connection, file: SeriesFile) -> None:
    try:
        stored = store_node_records(connection, file.records, f"{RESOURCE_DIR}/{os.path.basename(file.path)}")
        rebuild_results(connection, stored.attempts)
    except (sqlite3.IntegrityError, OverflowError) as error:
        raise DatabaseError(f"{file.path} contradicts itself: {error}") from error


def _memory_database(output_dir: str | None) -> sqlite3.Connection:
    """A main database in memory: a copy of the directory's own, if that can be read; else an empty one."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    memory.row_factory = sqlite3.Row
    path = os.path.join(output_dir or "", MAIN_DATABASE_NAME)
    with contextlib.suppress(OSError, sqlite3.Error, DatabaseError):  # then the node files alone must do
        if output_dir is not None:
            _copy_into(memory, path)
    if schema_version(memory) > len(MAIN_SCHEMA):
        memory.close()
        return _memory_database(None)
    migrate(memory, MAIN_SCHEMA)
    return memory


def _copy_into(memory: sqlite3.Connection, path: str) -> None:
    with snapshot(path) as (copy, _), closing(sqlite3.connect(copy)) as source:
        source.backup(memory)
