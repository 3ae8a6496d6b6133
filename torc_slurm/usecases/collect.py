"""Brings node files into the main database: only what is new, and a broken file never stands in the way of
the others.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from typing import NamedTuple

from torc_slurm.database.main import MainDatabase, savepoint, transaction
from torc_slurm.database.node_records import NodeRecords, read_node_file
from torc_slurm.database.snapshot import fingerprint
from torc_slurm.database.spool import bring_over
from torc_slurm.database.store import Stored, store_node_records
from torc_slurm.errors import DatabaseError, NodeFileBusy
from torc_slurm.identity import RESOURCE_DIR
from torc_slurm.usecases.attempt_results import rebuild_results

_PREFIX, _SUFFIX = "resource_metrics_", ".db"

_KNOWN_FILES = "SELECT path, fingerprint, problem FROM node_files"
_REMEMBER = """
INSERT INTO node_files (path, fingerprint, collected_at, problem) VALUES (?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET fingerprint = excluded.fingerprint, collected_at = excluded.collected_at,
problem = excluded.problem
WHERE node_files.fingerprint <> excluded.fingerprint OR node_files.problem IS NOT excluded.problem
"""
_UNREADABLE = ""  # the fingerprint of a file that could not even be looked at: never equal to a real one


class FileOutcome(NamedTuple):
    """What became of one node file: ``collected``, ``unchanged`` or ``skipped`` (and why)."""

    path: str
    outcome: str
    steps: int = 0
    changed_attempts: frozenset[int] = frozenset()
    accounting_rows: int = 0
    problem: str | None = None


class Known(NamedTuple):
    """In which condition a node file was read last, and what was wrong with it."""

    fingerprint: str
    problem: str | None


def collect_node_files(database: MainDatabase) -> list[FileOutcome]:
    """Read every node file of the output directory that is new or has changed.

    What this very node had to spool, because it could not write there, is brought over first. Doing it again
    changes nothing. A file that is damaged, foreign, unreadable or being written is named and skipped. All files
    share one transaction, because each would cost the file system a flush of its own.

    Raises:
        DatabaseError: the main database itself cannot be written.
    """
    if database.read_only_reason is None:
        bring_over(os.path.join(database.output_dir, RESOURCE_DIR))
    known = {
        row["path"]: Known(row["fingerprint"], row["problem"]) for row in database.connection.execute(_KNOWN_FILES)
    }
    paths = node_file_paths(database.output_dir)
    with transaction(database.connection):
        return [_collect(database, path, known) for path in paths]


def node_file_paths(output_dir: str) -> list[str]:
    """Every node file of an output directory, by name; none where nothing has been measured yet.

    Raises:
        DatabaseError: the directory cannot be read.
    """
    directory = os.path.join(output_dir, RESOURCE_DIR)
    try:
        return [os.path.join(directory, name) for name in sorted(_node_file_names(directory))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DatabaseError(f"{directory} cannot be read: {error.strerror}") from error


def _node_file_names(directory: str) -> Iterator[str]:
    return (name for name in os.listdir(directory) if name.startswith(_PREFIX) and name.endswith(_SUFFIX))


def _collect(database: MainDatabase, path: str, known: dict[str, Known]) -> FileOutcome:
    name = os.path.relpath(path, database.output_dir)
    last = known.get(name)
    condition = _UNREADABLE
    try:
        condition = fingerprint(path)
        if last is not None and last.fingerprint == condition:
            return FileOutcome(path, "skipped" if last.problem else "unchanged", problem=last.problem)
        records = read_node_file(path)
        stored = _store(database.connection, records, name)
    except NodeFileBusy as error:  # the next collect reads it whatever its fingerprint says
        return FileOutcome(path, "skipped", problem=str(error))
    except DatabaseError as error:
        return _skip(database.connection, path, name, condition, str(error))
    except OSError as error:
        return _skip(database.connection, path, name, _UNREADABLE, f"{path} cannot be read: {error.strerror or error}")
    return FileOutcome(path, "collected", len(records.steps), stored.attempts, stored.accounting_rows)


def _store(connection: sqlite3.Connection, records: NodeRecords, name: str) -> Stored:
    try:
        with savepoint(connection):
            stored = store_node_records(connection, records, name)
            rebuild_results(connection, stored.attempts)
            connection.execute(_REMEMBER, (name, records.fingerprint, time.time(), None))
            return stored
    except (sqlite3.IntegrityError, OverflowError) as error:
        raise DatabaseError(f"{records.path} contradicts itself: {error}") from error


def _skip(connection: sqlite3.Connection, path: str, name: str, condition: str, problem: str) -> FileOutcome:
    connection.execute(_REMEMBER, (name, condition, time.time(), problem))
    return FileOutcome(path, "skipped", problem=problem)
