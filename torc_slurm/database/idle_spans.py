"""Finds the attempts that hung, in the time series of their node files. Reads only private copies."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import groupby

from torc_slurm.database.sizing import AttemptId, Span
from torc_slurm.database.snapshot import snapshot
from torc_slurm.errors import DatabaseError
from torc_slurm.sizing.idleness import was_idle_in_last_half

_SAMPLES = """
SELECT timestamp, cpu_percent FROM job_resource_samples WHERE job_id = ? AND timestamp BETWEEN ? AND ?
AND typeof(timestamp) IN ('real', 'integer') ORDER BY timestamp
"""


def hung_attempts(output_dir: str, spans: Iterable[Span]) -> dict[AttemptId, bool]:
    """Whether each attempt used no CPU on any node in the last half of its time. Unknown ones are left out.

    Copies each node file once, and skips files that cannot be read.
    """
    by_attempt: dict[AttemptId, list[bool | None]] = {}
    for node_file, group in groupby(spans, key=lambda span: span.node_file):
        members = list(group)
        for span, idle in zip(members, _idle(os.path.join(output_dir, node_file), members), strict=True):
            by_attempt.setdefault(span.attempt, []).append(idle)
    return {attempt: all(found) for attempt, found in by_attempt.items() if None not in found or False in found}


def _idle(path: str, spans: list[Span]) -> list[bool | None]:
    try:
        with snapshot(path) as (copy, _), closing(sqlite3.connect(copy)) as connection:
            return [_is_idle(connection, span) for span in spans]
    except (OSError, DatabaseError, sqlite3.Error):
        return [None] * len(spans)


def _is_idle(connection: sqlite3.Connection, span: Span) -> bool | None:
    rows = connection.execute(_SAMPLES, (span.attempt[0], span.begin_time, span.end_time)).fetchall()
    numbers = [percent if isinstance(percent, (int, float)) else None for _, percent in rows]
    return was_idle_in_last_half([time for time, _ in rows], numbers, span.begin_time, span.end_time)
