"""Brings new and changed node files into the main database. A broken file does not stop the others."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import NamedTuple

from torc_slurm.common.errors import DatabaseError, NodeFileBusy
from torc_slurm.common.garbage import no_search_for_cycles
from torc_slurm.database.known_files import Known, known_node_files, remember_node_file
from torc_slurm.database.main import MainDatabase, savepoint, transaction
from torc_slurm.database.node_records import NodeRecords
from torc_slurm.database.readers import Read, read_node_files
from torc_slurm.database.snapshot import JOURNAL_SUFFIX, fingerprint
from torc_slurm.database.spool import bring_over
from torc_slurm.database.store import Stored, store_node_records
from torc_slurm.database.workflows import deleted_workflows, finish_deletion
from torc_slurm.files.output_names import (
    PLANS_DIR,
    RESOURCE_DIR,
    node_file_names,
    parse_node_file_name,
    parse_run_file_name,
    run_file_names,
    user_data_files,
)
from torc_slurm.usecases.attempt_results import figures_alone, rebuild_results

# Errors of a node file's contents; the main database itself is intact.
WHAT_A_FILE_CAN_DO = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
)
_UNREADABLE = ""  # the fingerprint of an unreadable file: never equal to a real one


class FileOutcome(NamedTuple):
    """The result for one node file: ``collected``, ``unchanged`` or ``skipped`` (and why).

    ``merged_attempts``: those of the changed ones whose figures need nothing of another file. ``measured_attempts``:
    those that have new figures, which are to be merged.
    """

    path: str
    outcome: str
    steps: int = 0
    changed_attempts: frozenset[int] = frozenset()
    merged_attempts: frozenset[int] = frozenset()
    measured_attempts: frozenset[int] = frozenset()
    accounting_rows: int = 0
    problem: str | None = None


@no_search_for_cycles()
def collect_node_files(database: MainDatabase) -> list[FileOutcome]:
    """Read every node file of the output directory that is new or has changed.

    First moves files that this node had to spool, because it could not write to the directory. Calling it again changes
    nothing. A file that is damaged, foreign, unreadable or being written is reported and skipped. All files share one
    transaction, because each transaction costs a flush of the file system.

    Raises:
        DatabaseError: the main database itself cannot be written.
    """
    if database.read_only_reason is None:
        bring_over(os.path.join(database.output_dir, RESOURCE_DIR))
    known = known_node_files(database.connection)
    remove_deleted(database)
    with transaction(database.connection):
        return _collect_files(database, known)


def collect_again(database: MainDatabase) -> None:
    """Read what was written since `collect_node_files`; must run inside a transaction."""
    _collect_files(database, known_node_files(database.connection))


def _collect_files(database: MainDatabase, known: dict[str, Known]) -> list[FileOutcome]:
    deleted = deleted_workflows(database.connection)
    paths = [path for path in node_file_paths(database.output_dir) if _workflow_of(path) not in deleted]
    found = {path: _unless_changed(database, path, known) for path in paths}
    changed = {path: condition for path, condition in found.items() if isinstance(condition, str)}
    with closing(read_node_files(list(changed))) as files:
        taken = {
            path: _take_up(database, path, condition, records)
            for (path, condition), records in zip(changed.items(), files, strict=True)
        }
    outcomes = [taken[path] if isinstance(outcome, str) else outcome for path, outcome in found.items()]
    rebuild_results(
        database.connection,
        {each for outcome in outcomes for each in outcome.changed_attempts - outcome.merged_attempts},
        {each for outcome in outcomes for each in outcome.measured_attempts},
    )
    return outcomes


def remove_deleted(database: MainDatabase) -> list[tuple[str, str]]:
    """Remove the rest of deleted workflows. Returns what could not be removed, and why."""
    deleted = deleted_workflows(database.connection)
    if not deleted or database.read_only_reason is not None:
        return []
    left = [(path, why) for path in _files_of(database.output_dir, deleted) if (why := _remove(path))]
    kept = {_workflow_of(path) for path, _ in left}
    with transaction(database.connection):
        for workflow_id, is_finished in deleted.items():
            if not is_finished and workflow_id not in kept:
                finish_deletion(database.connection, workflow_id)
    return left


def _files_of(output_dir: str, deleted: Mapping[int, bool]) -> Iterator[str]:
    """The node files of deleted workflows, and their plans if these still exist."""
    for path in node_file_paths(output_dir):
        if _workflow_of(path) in deleted:
            yield path + JOURNAL_SUFFIX  # first: without the file it means nothing
            yield path
    if not all(deleted.values()):
        for name in run_file_names(output_dir):
            found = parse_run_file_name(name)
            if found is not None and not deleted.get(found[0], True):
                yield os.path.join(output_dir, PLANS_DIR, name)
        for workflow_id, is_finished in deleted.items():
            if not is_finished:
                yield from user_data_files(output_dir, workflow_id)


def _workflow_of(path: str) -> int | None:
    name = os.path.basename(path).removesuffix(JOURNAL_SUFFIX)
    node_file = parse_node_file_name(name)
    run_file = parse_run_file_name(name)
    return node_file.workflow_id if node_file is not None else run_file[0] if run_file is not None else None


def _remove(path: str) -> str | None:
    """Remove a file. Returns why it could not be removed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)
    return None


def node_file_paths(output_dir: str) -> list[str]:
    """Every node file of an output directory, by name; none if nothing has been measured yet.

    Raises:
        DatabaseError: the directory cannot be read.
    """
    directory = os.path.join(output_dir, RESOURCE_DIR)
    try:
        return [os.path.join(directory, name) for name in node_file_names(output_dir)]
    except OSError as error:
        raise DatabaseError(f"{directory} cannot be read: {error.strerror}") from error


def _name_of(path: str) -> str:
    """The path of one of `node_file_paths` relative to the output directory."""
    return os.path.join(RESOURCE_DIR, os.path.basename(path))


def _unless_changed(database: MainDatabase, path: str, known: Mapping[str, Known]) -> FileOutcome | str:
    """What becomes of a file that need not be read; else the condition that it is in."""
    name = _name_of(path)
    last = known.get(name)
    try:
        condition = fingerprint(path)
    except (DatabaseError, OSError) as error:
        return _skip(database.connection, path, name, _UNREADABLE, error)
    if last is not None and last.fingerprint == condition:
        return FileOutcome(path, "skipped" if last.problem else "unchanged", problem=last.problem)
    return condition


def _take_up(database: MainDatabase, path: str, condition: str, records: Read) -> FileOutcome:
    name = _name_of(path)
    try:
        if not isinstance(records, NodeRecords):
            raise records
        stored = _store(database.connection, records, name)
    except NodeFileBusy as error:  # the next collect reads it, whatever its fingerprint is
        return FileOutcome(path, "skipped", problem=str(error))
    except (DatabaseError, OSError) as error:
        return _skip(database.connection, path, name, condition, error)
    return FileOutcome(
        path,
        "collected",
        steps=len(records.steps),
        changed_attempts=stored.attempts,
        merged_attempts=stored.merged,
        measured_attempts=stored.measured,
        accounting_rows=stored.accounting_rows,
    )


def _store(connection: sqlite3.Connection, records: NodeRecords, name: str) -> Stored:
    try:
        with savepoint(connection):
            stored = store_node_records(connection, records, name, figures_alone)
            remember_node_file(connection, name, records.fingerprint, None, now=time.time())
            return stored
    except WHAT_A_FILE_CAN_DO as error:
        raise DatabaseError(f"{records.path} is damaged: {error}") from error


def _skip(
    connection: sqlite3.Connection, path: str, name: str, condition: str, error: DatabaseError | OSError
) -> FileOutcome:
    problem = str(error)
    if isinstance(error, OSError):
        condition, problem = _UNREADABLE, f"{path} cannot be read: {error.strerror or error}"
    remember_node_file(connection, name, condition, problem, now=time.time())
    return FileOutcome(path, "skipped", problem=problem)
