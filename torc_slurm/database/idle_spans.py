"""Finds the attempts that hung, in the time series of their node files. Reads only private copies.

Each node file is read for this only once, mostly when it is collected: ``step_nodes.last_half`` keeps what was found.
"""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from operator import itemgetter

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.last_half import BUSY, NOT_KNOWN, Span, last_halves
from torc_slurm.database.main import is_full, transaction
from torc_slurm.database.snapshot import private_directory, snapshot

_MAY_HAVE_HUNG = """
SELECT r.job_id, r.run_id, r.attempt_id, n.id, n.last_half, n.node_file, n.begin_time,
coalesce(n.end_time, n.last_flush_time)
FROM results r JOIN step_nodes n ON n.result = r.id
WHERE r.workflow_id = ? AND r.granularity = 'time_series' AND r.status IN ('timeout', 'failed', 'cancelled')
ORDER BY n.node_file
"""
_KEEP = "UPDATE step_nodes SET last_half = ? WHERE id = ?"


def hung_attempts(
    connection: sqlite3.Connection, output_dir: str, workflow_id: int
) -> dict[tuple[int, int, int], bool]:
    """Whether each attempt used no CPU on any node in the last half of its time. Unknown ones are left out.

    By (job_id, run_id, attempt_id). Copies each node file with a new attempt once, and skips files that cannot be read.
    """
    cursor = connection.cursor()
    cursor.row_factory = None
    by_attempt: defaultdict[tuple[int, int, int], list[str]] = defaultdict(list)
    new: list[tuple[str, int]] = []
    rows = cursor.execute(_MAY_HAVE_HUNG, (workflow_id,)).fetchall()
    with private_directory() as copies:
        for node_file, group in groupby(rows, key=itemgetter(5)):
            members = list(group)
            unknown = {row[3]: Span(row[0], row[6], row[7]) for row in members if row[4] is None}
            path = os.path.join(output_dir, node_file)
            found = _last_halves_in(path, copies, list(unknown.values())) if unknown else []
            verdicts = dict(zip(unknown, found, strict=False))
            new += [(verdict, number) for number, verdict in verdicts.items()]
            for row in members:
                by_attempt[row[:3]].append(row[4] or verdicts.get(row[3], NOT_KNOWN))
    if new:
        _keep(connection, new)
    known = {attempt: set(verdicts) for attempt, verdicts in by_attempt.items()}
    return {attempt: BUSY not in each for attempt, each in known.items() if BUSY in each or NOT_KNOWN not in each}


def _keep(connection: sqlite3.Connection, verdicts: Sequence[tuple[str, int]]) -> None:
    """Keep what was found for the next time, unless the disk is full."""
    try:
        with transaction(connection):
            connection.executemany(_KEEP, verdicts)
    except sqlite3.OperationalError as error:
        if not is_full(error):
            raise


def _last_halves_in(path: str, copies: str, spans: Sequence[Span]) -> list[str]:
    """What the samples say of each span; empty if the file cannot be read, which may change."""
    try:
        with snapshot(path, copies) as (copy, _), closing(sqlite3.connect(copy)) as connection:
            return last_halves(connection, spans)
    except (OSError, DatabaseError, sqlite3.Error):
        return []
