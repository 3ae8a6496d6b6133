"""Whether steps used any CPU in the last half of their time, by the samples in their node file."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from torc_slurm.sizing.idleness import was_idle_in_last_half

IDLE, BUSY, NOT_KNOWN = "idle", "busy", "not known"

_SAMPLES = """
SELECT job_id, timestamp, cpu_percent FROM job_resource_samples
WHERE job_id IN (SELECT value FROM json_each(?)) AND typeof(timestamp) IN ('real', 'integer')
ORDER BY job_id, timestamp
"""


class Span(NamedTuple):
    """The samples of an attempt in a node file: its job, and begin and end (Unix times)."""

    job_id: int
    begin_time: float
    end_time: float


def last_halves(connection: sqlite3.Connection, spans: Sequence[Span]) -> list[str]:
    """Say of each span whether it was idle in its last half. Reads the samples of a copied node file once."""
    verdicts = [NOT_KNOWN] * len(spans)
    by_job: defaultdict[int, list[int]] = defaultdict(list)
    for number, span in enumerate(spans):
        by_job[span.job_id].append(number)
    for job_id, group in groupby(connection.execute(_SAMPLES, (json.dumps(list(by_job)),)), key=itemgetter(0)):
        samples = [(row[1], row[2]) for row in group]
        for number in by_job[job_id]:
            verdicts[number] = _verdict(samples, spans[number])
    return verdicts


def _verdict(samples: Iterable[tuple[float, object]], span: Span) -> str:
    within = [(time, percent) for time, percent in samples if span.begin_time <= time <= span.end_time]
    percents = [percent if isinstance(percent, (int, float)) else None for _, percent in within]
    idle = was_idle_in_last_half([time for time, _ in within], percents, span.begin_time, span.end_time)
    return NOT_KNOWN if idle is None else IDLE if idle else BUSY
