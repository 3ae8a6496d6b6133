"""Reads the sample series of node files by range, from private copies.

A node file of the reference's own making, which has only its two tables, is read as well.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from torc_slurm.database.node_records import NodeRecords, StepRecord, copied_node_file, read_records
from torc_slurm.database.snapshot import snapshot
from torc_slurm.errors import DatabaseError
from torc_slurm.identity import RESOURCE_DIR

Number = int | float
Column = list[Number | None]

_CACHE_KIB = 32_000
_MANY_STEPS = 3  # from here on an index costs less than the scans that it spares
_INDEX_SAMPLES = """
CREATE INDEX samples_by_range ON job_resource_samples
(job_id, timestamp, cpu_percent, memory_bytes, num_processes)
"""
_INDEX_CHARGED = "CREATE INDEX charged_by_range ON job_memory_samples (job_id, timestamp, memory_bytes)"
_SAMPLES = """
SELECT timestamp, cpu_percent, memory_bytes, num_processes FROM job_resource_samples
WHERE job_id = ? AND timestamp BETWEEN ? AND ? ORDER BY timestamp
"""
_CHARGED = """
SELECT timestamp, memory_bytes FROM job_memory_samples
WHERE job_id = ? AND timestamp BETWEEN ? AND ? ORDER BY timestamp
"""
_HAS_SAMPLES = "SELECT EXISTS (SELECT 1 FROM job_resource_samples)"
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
_REFERENCE_TABLES = {"job_resource_samples", "job_metadata"}
_REFERENCE_JOBS = """
SELECT s.job_id, (SELECT m.job_name FROM job_metadata m WHERE m.job_id = s.job_id) AS job_name,
min(s.timestamp) AS begin_time, max(s.timestamp) AS end_time, count(*) AS sample_count
FROM job_resource_samples s WHERE s.job_id IS NOT NULL AND typeof(s.timestamp) IN ('real', 'integer')
GROUP BY s.job_id ORDER BY s.job_id
"""
_NODE_FILES = """
SELECT DISTINCT n.node_file FROM step_nodes n JOIN results r ON r.id = n.result
WHERE r.workflow_id = ? AND (? IS NULL OR r.run_id = ?) ORDER BY n.node_file
"""
_NODE_FILES_OF_ATTEMPTS = """
SELECT DISTINCT n.node_file FROM step_nodes n JOIN json_each(?) chosen ON chosen.value = n.result ORDER BY n.node_file
"""
_RUNS_TO_PLOT = """
SELECT u.workflow_id, u.run_id FROM runs u JOIN workflows w ON w.workflow_id = u.workflow_id
WHERE w.generate_plots AND w.monitor_enabled AND w.granularity = 'time_series'
AND (u.end_time IS NOT NULL OR u.status = 'ended')
AND EXISTS (SELECT 1 FROM results r WHERE r.workflow_id = u.workflow_id AND r.run_id = u.run_id AND r.sample_count > 0)
ORDER BY u.workflow_id DESC, u.run_id DESC
"""
_LATEST_RUN = "SELECT max(run_id) FROM results WHERE workflow_id = ?"


class Samples(NamedTuple):
    """A series: Unix times in order, and a column each; None where nothing was measured."""

    times: list[float]
    cpu_percent: Column
    memory_bytes: Column
    num_processes: Column


class Charged(NamedTuple):
    """What the step would be charged for memory (cgroup or PSS) over time, where that was read beside the RSS."""

    times: list[float]
    memory_bytes: Column


class SeriesFile(NamedTuple):
    """One node file, open for reading by range; ``is_reference`` where it has only the reference's two tables."""

    path: str
    records: NodeRecords
    connection: sqlite3.Connection | None
    is_reference: bool = False

    @property
    def has_samples(self) -> bool:
        """Whether there is any time series in it."""
        return self.connection is not None and bool(self.connection.execute(_HAS_SAMPLES).fetchone()[0])

    def samples(self, job_id: int, begin_time: float, end_time: float) -> Samples:
        """The job's samples from ``begin_time`` to ``end_time`` (Unix), both included."""
        return Samples(*self._columns(_SAMPLES, 4, (job_id, begin_time, end_time)))

    def charged(self, job_id: int, begin_time: float, end_time: float) -> Charged:
        """The job's charged memory within that time."""
        if self.is_reference:
            return Charged([], [])
        return Charged(*self._columns(_CHARGED, 2, (job_id, begin_time, end_time)))

    def _columns(self, query: str, count: int, span: tuple[int, float, float]) -> list[Any]:
        rows = [] if self.connection is None else self.connection.execute(query, span).fetchall()
        if not rows:
            return [[] for _ in range(count)]
        return [_numbers(column) for column in zip(*map(tuple, rows), strict=True)]


def _numbers(column: Sequence[object]) -> list[float]:
    """The column with None for what is no number: SQLite lets any column hold anything."""
    kinds = set(map(type, column))
    if kinds <= {int, float} and math.isfinite(sum(column)):  # type: ignore[arg-type]  # just asked
        return list(column)  # type: ignore[arg-type]
    return [value if isinstance(value, (int, float)) and math.isfinite(value) else None for value in column]  # type: ignore[misc]


@contextlib.contextmanager
def open_series(path: str) -> Iterator[SeriesFile]:
    """Open a private copy of the node file at ``path`` for reading by range.

    Raises:
        NodeFileBusy: it is being written just now.
        DatabaseError: it is not a node file, is damaged, or of a newer version.
        OSError: it cannot be read or copied.
    """
    with contextlib.ExitStack() as stack:
        yield _open_reference(stack, path) or _open_own(stack, path)


def _open_own(stack: contextlib.ExitStack, path: str) -> SeriesFile:
    connection, condition = stack.enter_context(copied_node_file(path))
    if connection is None:
        return SeriesFile(path, NodeRecords(path, condition, (), ()), None)
    records = read_records(connection, path, condition)
    _prepare(connection, len(records.steps))
    if len(records.steps) > _MANY_STEPS:
        connection.execute(_INDEX_CHARGED)
    return SeriesFile(path, records, connection)


def _prepare(connection: sqlite3.Connection, steps: int) -> None:
    """Make ready for many reads by range: the copy is ours, and nobody misses it after a crash."""
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    if steps > _MANY_STEPS:
        connection.execute(_INDEX_SAMPLES)


def _open_reference(stack: contextlib.ExitStack, path: str) -> SeriesFile | None:
    """The file, if it has the reference's two tables and nothing of ours; one record for each of its jobs."""
    copies = stack.enter_context(contextlib.ExitStack())
    copy, condition = copies.enter_context(snapshot(path))
    connection = copies.enter_context(closing(sqlite3.connect(copy, isolation_level=None)))
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    if not _is_reference(connection):
        copies.close()
        return None
    try:
        steps = [_reference_step(row, path) for row in connection.execute(_REFERENCE_JOBS)]
        _prepare(connection, len(steps))
    except sqlite3.Error as error:
        raise DatabaseError(f"{path} cannot be read as a node file: {error}") from error
    return SeriesFile(path, NodeRecords(path, condition, tuple(steps), ()), connection, is_reference=True)


def _is_reference(connection: sqlite3.Connection) -> bool:
    try:
        tables = {row[0] for row in connection.execute(_TABLES)}
    except sqlite3.Error:  # not a database at all: that is said where our own are opened
        return False
    return tables >= _REFERENCE_TABLES and "steps" not in tables


def _reference_step(row: sqlite3.Row, path: str) -> StepRecord:
    node, workflow_id, run_id = _parts_of_name(path)
    step: dict[str, Number | str | None] = dict(row)
    step |= {"workflow_id": workflow_id, "run_id": run_id, "attempt_id": 1, "node": node, "granularity": "time_series"}
    step |= {"last_flush_time": row["end_time"], "node_index": 0, "node_count": 1, "slurm_job_id": None}
    return StepRecord(step, (), ())


def _parts_of_name(path: str) -> tuple[str, int | None, int]:
    """(node, workflow id, run id) of ``resource_metrics_<hostname>_<workflow_id>_<run_id>.db``."""
    stem = os.path.basename(path).removesuffix(".db").removeprefix("resource_metrics_")
    node, workflow, run = (["", "", *stem.rsplit("_", 2)])[-3:]
    return node or stem, int(workflow) if workflow.isdecimal() else None, int(run) if run.isdecimal() else 1


def output_dir_of(paths: Sequence[str]) -> str | None:
    """The output directory that node files lie in; None where they lie somewhere else, or in several."""
    directories = {os.path.dirname(os.path.abspath(path)) for path in paths}
    if len(directories) != 1:
        return None
    directory = directories.pop()
    return os.path.dirname(directory) if os.path.basename(directory) == RESOURCE_DIR else None


def node_files_of(connection: sqlite3.Connection, workflow_id: int, run_id: int | None) -> list[str]:
    """The node files of a workflow's run (None: the latest), as ``node_files`` names them."""
    if run_id is None:
        run_id = connection.execute(_LATEST_RUN, (workflow_id,)).fetchone()[0]
    return [row[0] for row in connection.execute(_NODE_FILES, (workflow_id, run_id, run_id))]


def node_files_of_attempts(connection: sqlite3.Connection, attempts: Sequence[int]) -> list[str]:
    """The node files that these rows of ``results`` came from, as ``node_files`` names them."""
    return [row[0] for row in connection.execute(_NODE_FILES_OF_ATTEMPTS, (json.dumps(attempts),))]


class DueRun(NamedTuple):
    """An ended run whose workflow wants plots, and its node files as ``node_files`` names them."""

    workflow_id: int
    run_id: int
    node_files: list[str]


def runs_to_plot(connection: sqlite3.Connection) -> list[DueRun]:
    """Every ended run of a workflow with ``generate_plots`` and a time series, the latest first."""
    found = connection.execute(_RUNS_TO_PLOT).fetchall()
    return [DueRun(row[0], row[1], node_files_of(connection, row[0], row[1])) for row in found]
