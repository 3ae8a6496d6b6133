"""Keeps a record on the node's own disk if its node file cannot be written, until it can be brought over.

A spool is a node file ``<node's own directory>/spool/<name>.db``, with its target's path in ``<name>.target``.
"""

from __future__ import annotations

import os

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.batch import Batch
from torc_slurm.database.journal import move_journal, write_journal
from torc_slurm.database.node_file import SqliteError, read_batches, release_lock, take_lock, write_batch
from torc_slurm.database.plain_spool import ENDING, read_plain_spool
from torc_slurm.files import node_local

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torc_slurm.database.journal import JournalRow

_PLACE = "spool"
_ENDINGS = (".db", ".db-journal", ".target", ".target.new")


def write_to_spool(target: str, name: str, batch: Batch) -> str:
    """Write the batch to the spool called ``name``; returns the spool's path.

    Raises:
        DatabaseError: the node has no place for it either.
    """
    return _in_first_place_with_room(target, name, lambda path: write_batch(path, batch, lock_wait_seconds=1.0))


def write_journal_to_spool(target: str, name: str, runs: Sequence[JournalRow], job_states: Sequence[JournalRow]) -> str:
    """Like `write_to_spool`, for rows of the runner's journal."""
    return _in_first_place_with_room(
        target, name, lambda path: write_journal(path, runs, job_states, lock_wait_seconds=1.0)
    )


def _in_first_place_with_room(target: str, name: str, write: Callable[[str], None]) -> str:
    failed = DatabaseError("this node has no directory for a spool (/tmp, /dev/shm, /var/tmp)")
    for place in node_local.subdirectories(_PLACE):
        path = os.path.join(place, name + ".db")
        try:
            _name_target(place, name, target)
            write(path)
            _name_target(place, name, target)  # while it waited, another process may have brought it over
        except DatabaseError as error:
            failed = error
            _remove_if_empty(path)
        else:
            return path
    raise failed


def _name_target(place: str, name: str, target: str) -> None:
    """Write the path of its target next to the spool; a full disk does not destroy the one that is there."""
    path = os.path.join(place, name + ".target")
    try:
        if os.path.exists(path) and _read_target(path) == target:
            return
        with open(path + ".new", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(target)
        os.replace(path + ".new", path)
    except OSError as error:
        raise DatabaseError(f"cannot write the spool {path}: {error.strerror}") from error


def _read_target(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _remove_if_empty(path: str) -> None:
    """Nothing was written: a spool without a table can never be brought over."""
    stem = path[: -len(".db")]
    try:
        if not os.path.exists(path) or not os.path.getsize(path):
            for ending in _ENDINGS:
                if os.path.exists(stem + ending):
                    os.unlink(stem + ending)
    except OSError:
        pass  # another removes it


def bring_over(target_prefix: str = "") -> list[str]:
    """Write this node's spools into their node files (those below ``target_prefix``). Returns the written targets.

    A spool whose target still cannot be written stays.
    """
    places = node_local.existing_subdirectories(_PLACE)
    brought = []
    for path in [os.path.join(place, name) for place in places for name in sorted(os.listdir(place))]:
        target = None
        if path.endswith(".target"):
            target = _bring_one(path[: -len(".target")], target_prefix)
        elif path.endswith(ENDING):
            target = _bring_plain(path, target_prefix)
        if target is not None:
            brought.append(target)
    return brought


def _bring_plain(path: str, target_prefix: str) -> str | None:
    try:
        lock = take_lock(path, wait_seconds=0.0)
    except OSError:
        return None
    try:
        target, batches = read_plain_spool(path)
        if not target.startswith(target_prefix):
            return None
        for batch in batches:
            write_batch(target, batch, lock_wait_seconds=5.0, may_be_there=True)
        os.unlink(path)
    except (DatabaseError, OSError, SqliteError):
        return None  # it stays for the next try
    finally:
        release_lock(path, lock)
    return target


def _bring_one(stem: str, target_prefix: str) -> str | None:
    try:
        target = _read_target(stem + ".target")
        if not target.startswith(target_prefix):
            return None
        lock = take_lock(stem + ".db", wait_seconds=0.0)  # its step still writes it, or another process brings it over
    except OSError:
        return None
    try:
        for batch in read_batches(stem + ".db"):
            write_batch(target, batch, lock_wait_seconds=5.0, may_be_there=True)
        move_journal(stem + ".db", target)
        for ending in _ENDINGS:
            if os.path.exists(stem + ending):
                os.unlink(stem + ending)
    except (DatabaseError, OSError, SqliteError):
        _remove_if_empty(stem + ".db")  # its writer was killed before it wrote; else it stays for the next try
        return None
    finally:
        release_lock(stem + ".db", lock)
    return target
