"""Packs what was read of a node file, for a pipe to another process of this program, in much less time than pickle.

Rows of one query have the same columns: their names are packed once.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence

from torc_slurm.database.node_records import NodeRecords, StepRows
from torc_slurm.database.rows import Row, Value
from torc_slurm.records.accounting import AccountingRecord

_WITHOUT_REFERENCES = 2  # the version of marshal's format that does not look for values that occur twice

_Rows = tuple[tuple[str, ...], list[tuple[Value, ...]]]


def pack(records: NodeRecords) -> bytes:
    """The records of `read_node_file` as bytes."""
    steps = records.steps
    packed = (
        records.path,
        records.fingerprint,
        (steps.names, steps.exit_names, list(steps.rows)) if isinstance(steps, StepRows) else None,
        [tuple(record) for record in records.slurm_stats],
        _packed(records.runs),
        _packed(records.job_states),
    )
    return marshal.dumps(packed, _WITHOUT_REFERENCES)


def unpack(data: bytes) -> NodeRecords:
    """The records that were packed.

    Raises:
        ValueError, EOFError, TypeError: the bytes are not complete.
    """
    path, fingerprint, steps, slurm_stats, runs, job_states = marshal.loads(data)  # noqa: S302 - from a fork of this process
    return NodeRecords(
        path,
        fingerprint,
        steps=() if steps is None else StepRows(*steps),
        slurm_stats=tuple(map(AccountingRecord._make, slurm_stats)),
        runs=tuple(_unpacked(runs)),
        job_states=tuple(_unpacked(job_states)),
    )


def _packed(rows: Sequence[Row]) -> _Rows:
    return (tuple(rows[0]) if rows else ()), [tuple(row.values()) for row in rows]


def _unpacked(packed: _Rows) -> list[dict[str, Value]]:
    names, rows = packed
    return [dict(zip(names, cells, strict=True)) for cells in rows]
