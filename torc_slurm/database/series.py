"""Reads the sample series of node files by range, from private copies.

Also reads node files of the Rust torc, which have only its two tables.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from operator import le
from typing import Any, NamedTuple

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.node_records import (
    NodeRecords,
    StepRecord,
    check_tables,
    connect_to_copy,
    is_checked,
    read_in_place,
    read_records,
)
from torc_slurm.database.snapshot import snapshot
from torc_slurm.files.output_names import output_dir_of_node_file, parse_node_file_name

Number = int | float
Column = Sequence[Number | None]

MOST_OPEN = 16
_CACHE_KIB = 8_000
_ROWS_AT_ONCE = 20_000
_TYPE_CODES = {float: "d", int: "q"}
_MANY_STEPS = 3  # from this number on, an index costs less than the scans it saves
_INDEX_SAMPLES = """
CREATE INDEX samples_by_range ON job_resource_samples
(job_id, timestamp, cpu_percent, memory_bytes, num_processes)
"""
_INDEX_CHARGED = "CREATE INDEX charged_by_range ON job_memory_samples (job_id, timestamp, memory_bytes)"
# In the order of the rows, or of the index: sorting a million rows in SQLite takes more memory than all else.
_SAMPLES = """
SELECT timestamp, cpu_percent, memory_bytes, num_processes FROM job_resource_samples
WHERE job_id = ? AND timestamp BETWEEN ? AND ?
"""
_CHARGED = """
SELECT timestamp, memory_bytes FROM job_memory_samples
WHERE job_id = ? AND timestamp BETWEEN ? AND ?
"""
_INDEX_IO = """
CREATE INDEX io_by_range ON job_io_samples (job_id, timestamp, read_chars, written_chars)
"""
_IO = """
SELECT timestamp, read_chars, written_chars FROM job_io_samples
WHERE job_id = ? AND timestamp BETWEEN ? AND ?
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
    """A series: Unix times in order, and its columns; None if not measured."""

    times: Sequence[float]
    cpu_percent: Column
    memory_bytes: Column
    num_processes: Column


class Charged(NamedTuple):
    """The step's charged memory (cgroup or PSS) over time, if it was recorded next to the RSS."""

    times: Sequence[float]
    memory_bytes: Column


class Read(NamedTuple):
    """Characters read and written since the step began, over time, if recorded."""

    times: Sequence[float]
    read_chars: Column
    written_chars: Column


class SeriesFile(NamedTuple):
    """One node file: its records, and its series, which ``files`` reads on demand.

    ``is_reference``: it has only the two tables of the Rust torc.
    """

    path: str
    records: NodeRecords
    files: SeriesFiles | None
    is_reference: bool = False
    has_samples: bool = False

    def without_records(self) -> SeriesFile:
        """The same file, only for its series: its records take much memory."""
        return self._replace(records=NodeRecords(self.path, self.records.fingerprint, (), ()))

    def samples(self, job_id: int, begin_time: float, end_time: float) -> Samples:
        """The job's samples from ``begin_time`` to ``end_time`` (Unix), both included."""
        return Samples(*self._columns(_SAMPLES, 4, (job_id, begin_time, end_time)))

    def charged(self, job_id: int, begin_time: float, end_time: float) -> Charged:
        """The job's charged memory in that time."""
        if self.is_reference:
            return Charged([], [])
        return Charged(*self._columns(_CHARGED, 2, (job_id, begin_time, end_time)))

    def io(self, job_id: int, begin_time: float, end_time: float) -> Read:
        """What the job had read and written at each time in that range."""
        if self.is_reference:
            return Read([], [], [])
        return Read(*self._columns(_IO, 3, (job_id, begin_time, end_time)))

    def _columns(self, query: str, count: int, span: tuple[int, float, float]) -> list[Any]:
        columns: list[Any] = [[] for _ in range(count)]
        if self.files is None or not self.has_samples:
            return columns
        cursor = self.files.connection(self.path).cursor()
        cursor.row_factory = None  # tuples
        cursor.execute(query, span)
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            columns = list(map(_extended, columns, zip(*rows, strict=True)))
        return _by_time(columns)


def _extended(column: Any, more: Sequence[Any]) -> Any:  # noqa: ANN401 - a list or an array
    """The column with more values: an array while all are floats or all are whole numbers, else a list.

    Every value that is not a number becomes None: SQLite allows any value in any column.
    """
    kinds = set(map(type, more))
    is_clean = kinds <= {int, float} and math.isfinite(sum(more))
    if not is_clean:
        more = [value if isinstance(value, (int, float)) and math.isfinite(value) else None for value in more]
    code = _TYPE_CODES[kinds.pop()] if is_clean and len(kinds) == 1 else ""
    if code and not len(column):
        return array(code, more)
    if isinstance(column, array) and column.typecode != code:
        column = column.tolist()
    column.extend(more)
    return column


def _by_time(columns: list[Any]) -> list[Any]:
    """The columns in the order of the first."""
    times = columns[0]
    if all(map(le, times, islice(times, 1, None))):
        return columns
    order = sorted(range(len(times)), key=times.__getitem__)
    return [[column[place] for place in order] for column in columns]


class SeriesFiles:
    """Node files read one after another; the `MOST_OPEN` last used private copies stay open.

    A copy is deleted as soon as it is open, so nothing stays on disk however this process ends. Use it in a ``with``.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, sqlite3.Connection] = OrderedDict()

    def __enter__(self) -> SeriesFiles:
        """Nothing is open yet."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close all of them."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def read(self, path: str, *, with_series: bool = True) -> SeriesFile:
        """The records of the node file at ``path``, and whether it has a series.

        Args:
            with_series: False if few of many files' series are read: a file at rest is then copied and checked as a
                whole only when its series is read.

        Raises:
            NodeFileBusy: a process is writing it.
            DatabaseError: it is not a node file, is damaged, or of a newer version.
            OSError: it cannot be read or copied.
        """
        if not with_series and (found := read_in_place(path, lambda connection: _records(connection, path))):
            (records, has_samples), _ = found
            return SeriesFile(path, records, self, has_samples=has_samples)
        try:
            with snapshot(path) as (copy, condition):
                return self._read(path, copy, condition)
        except sqlite3.Error as error:
            raise DatabaseError(f"{path} cannot be read as a node file: {error}") from error

    def connection(self, path: str) -> sqlite3.Connection:
        """A connection to a copy of a file that was read before; makes a new copy if the last one was closed.

        Raises:
            DatabaseError, OSError: as `read`.
        """
        if path in self._open:
            self._open.move_to_end(path)
        else:
            self.read(path)
        return self._open[path]

    def _read(self, path: str, copy: str, condition: str) -> SeriesFile:
        connection = connect_to_copy(copy)
        try:
            is_reference = _is_reference(connection)
            if is_reference:
                steps = tuple(_reference_step(row, path) for row in connection.execute(_REFERENCE_JOBS))
                records = NodeRecords(path, condition, steps, ())
            elif is_checked(connection, copy, path):
                records = read_records(connection, path, condition)
            else:
                connection.close()
                return SeriesFile(path, NodeRecords(path, condition, (), ()), None)
            _prepare(connection, len(records.steps), with_charged=not is_reference)
            has_samples = _has_samples(connection)
        except BaseException:
            connection.close()
            raise
        self._keep(path, connection)
        return SeriesFile(path, records, self, is_reference, has_samples)

    def _keep(self, path: str, connection: sqlite3.Connection) -> None:
        self._open[path] = connection
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].close()


def _records(connection: sqlite3.Connection, path: str) -> tuple[NodeRecords, bool]:
    """The records of a file that is read in place, and whether it has a series."""
    check_tables(connection, path)
    return read_records(connection, path, ""), _has_samples(connection)


def _has_samples(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute(_HAS_SAMPLES).fetchone()[0])


def _prepare(connection: sqlite3.Connection, steps: int, *, with_charged: bool) -> None:
    """Prepare the copy for many reads by range, and for its deletion: it is private and needs no journal."""
    connection.execute("PRAGMA journal_mode = OFF").fetchone()
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    if steps > _MANY_STEPS:
        connection.execute(_INDEX_SAMPLES)
        if with_charged:
            connection.execute(_INDEX_CHARGED)
            connection.execute(_INDEX_IO)


def _is_reference(connection: sqlite3.Connection) -> bool:
    try:
        tables = {row[0] for row in connection.execute(_TABLES)}
    except (sqlite3.Error, UnicodeDecodeError):  # not a database: the check of our own files reports it
        return False
    return tables >= _REFERENCE_TABLES and "steps" not in tables


def _reference_step(row: sqlite3.Row, path: str) -> StepRecord:
    name = parse_node_file_name(os.path.basename(path))
    node, workflow_id, run_id = os.path.basename(path).removesuffix(".db"), None, 1
    if name is not None:
        node, workflow_id, run_id = name.node or node, name.workflow_id, name.run_id
    step: dict[str, Number | str | None] = dict(row)
    step |= {"workflow_id": workflow_id, "run_id": run_id, "attempt_id": 1, "node": node, "granularity": "time_series"}
    step |= {"last_flush_time": row["end_time"], "node_index": 0, "node_count": 1, "slurm_job_id": None}
    return StepRecord(step, (), ())


def output_dir_of(paths: Sequence[str]) -> str | None:
    """The output directory of these node files; None if they lie elsewhere or in several."""
    directories = {output_dir_of_node_file(path) for path in paths}
    return directories.pop() if len(directories) == 1 else None


def node_files_of(connection: sqlite3.Connection, workflow_id: int, run_id: int | None) -> list[str]:
    """The node files of a workflow's run (None: the latest), as in ``node_files``."""
    if run_id is None:
        run_id = connection.execute(_LATEST_RUN, (workflow_id,)).fetchone()[0]
    return [row[0] for row in connection.execute(_NODE_FILES, (workflow_id, run_id, run_id))]


def node_files_of_attempts(connection: sqlite3.Connection, attempts: Sequence[int]) -> list[str]:
    """The node files that these rows of ``results`` came from, as in ``node_files``."""
    return [row[0] for row in connection.execute(_NODE_FILES_OF_ATTEMPTS, (json.dumps(attempts),))]


class DueRun(NamedTuple):
    """An ended run whose workflow wants plots, and its node files as in ``node_files``."""

    workflow_id: int
    run_id: int
    node_files: list[str]


def runs_to_plot(connection: sqlite3.Connection) -> list[DueRun]:
    """Every ended run of a workflow with ``generate_plots`` and a time series, latest first."""
    found = connection.execute(_RUNS_TO_PLOT).fetchall()
    return [DueRun(row[0], row[1], node_files_of(connection, row[0], row[1])) for row in found]
