"""A spool in JSON, for a Python that cannot load SQLite next to a job's libraries.

``<node's own directory>/spool/<name>.json`` holds the path of the target and the batches; `spool.bring_over` brings it
over like other spools.
"""

from __future__ import annotations

import json
import os

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.batch import Batch
from torc_slurm.files import node_local

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ENDING = ".json"
_ROWS = ("samples", "io_samples", "memory_samples", "notes")


def write_plain_spool(target: str, name: str, batches: Sequence[Batch]) -> str:
    """Add the batches to the spool called ``name``; returns its path.

    Raises:
        DatabaseError: the node has no place for it, or it cannot be written.
    """
    failed = DatabaseError("this node has no directory for a spool (/tmp, /dev/shm, /var/tmp)")
    for place in node_local.subdirectories("spool"):
        path = os.path.join(place, name + ENDING)
        try:
            _add(path, target, batches)
        except OSError as error:
            failed = DatabaseError(f"cannot write the spool {path}: {error.strerror}")
        else:
            return path
    raise failed


def _add(path: str, target: str, batches: Sequence[Batch]) -> None:
    before = read_plain_spool(path)[1] if os.path.exists(path) else []
    text = json.dumps({"target": target, "batches": [vars(batch) for batch in [*before, *batches]]})
    try:
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(text)
        os.replace(path + ".new", path)
    except OSError:
        if os.path.exists(path + ".new"):
            os.unlink(path + ".new")
        raise


def read_plain_spool(path: str) -> tuple[str, list[Batch]]:
    """The path of the target, and the batches.

    Raises:
        DatabaseError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        with open(path, encoding="ascii") as file:
            document = json.load(file)
        return document["target"], [_batch(values) for values in document["batches"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatabaseError(f"{path} is damaged: {error}") from error


def _batch(values: dict[str, object]) -> Batch:
    batch = Batch({})
    for name, value in values.items():
        if name in _ROWS and isinstance(value, list):
            value = [tuple(row) for row in value]
        setattr(batch, name, value)
    return batch
