"""Node files for tests, written by the real writer, and a whole database as text for comparison."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from torc_slurm.database.batch import Batch
from torc_slurm.database.node_file import write_batch
from torc_slurm.database.slurm_stats import write_slurm_stats
from torc_slurm.files.output_names import node_file_path
from torc_slurm.records.accounting import COLUMN_NAMES, from_row

BEGIN = 1_700_000_000.0

STEP = {
    "invocation": "first",
    "workflow_id": None,
    "run_id": 1,
    "job_id": 0,
    "attempt_id": None,
    "job_name": "work",
    "slurm_job_id": 7,
    "slurm_array": None,
    "step_id": "0",
    "user_name": "ann",
    "node": "n1",
    "node_index": 0,
    "node_count": 1,
    "local_task_count": 1,
    "task_count": 1,
    "command": "./a.out",
    "working_dir": "/scratch",
    "granularity": "summary",
    "sample_interval_seconds": 10.0,
    "begin_time": BEGIN,
    "end_time": BEGIN + 5,
    "last_flush_time": BEGIN + 5,
}


def exit_record(task: int = 0, return_code: int = 0, **changed: object) -> dict[str, object]:
    """One task's exit record, like the wrapper's."""
    return {
        "task": task,
        "local_task": 0,
        "pid": 100 + task,
        "begin_time": BEGIN,
        "end_time": BEGIN + 5,
        "elapsed_seconds": 5.0,
        "return_code": return_code,
        "signal": return_code - 128 if return_code > 128 else None,
        "user_cpu_seconds": 1.0,
        "system_cpu_seconds": 0.5,
        "max_rss_bytes": 9_000_000,
        "major_faults": 0,
    } | changed


def batch(
    *,
    usage: dict[str, object] | None = None,
    exits: list[dict[str, object]] | None = None,
    notes: list[tuple[float, str]] | None = None,
    **step: object,
) -> Batch:
    """One flush; ``step`` changes columns of `STEP`. Without ``exits`` one task that exited 0."""
    flush = Batch(STEP | step)
    flush.usage = {"elapsed_seconds": 5.0, "peak_memory_bytes": 10**9, "peak_memory_source": "cgroup"} | (usage or {})
    flush.exits = [exit_record()] if exits is None else exits
    flush.notes = notes or []
    return flush


def path_of(output_dir: Path, step: dict[str, object]) -> str:
    """The path of a step's node file."""
    part = step["workflow_id"] or (f"slurm{step['slurm_job_id']}" if step["slurm_job_id"] else "local")
    return node_file_path(str(output_dir), str(step["node"]), str(part), int(str(step["run_id"])))


def write(output_dir: Path, *batches: Batch) -> str:
    """Write batches of one node and run; returns the node file's path."""
    path = path_of(output_dir, batches[0].step)
    for flush in batches:
        write_batch(path, flush)
    return path


def accounting_row(**changed: object) -> dict[str, object]:
    """A final accounting row of step 7.0."""
    row = dict.fromkeys(COLUMN_NAMES) | {
        "slurm_job_id": 7,
        "step_id": "0",
        "run_id": 1,
        "step_name": "work",
        "status": "found",
        "state": "COMPLETED",
        "exit_code": 0,
        "exit_signal": 0,
        "start_time": BEGIN,
        "end_time": BEGIN + 6,
        "elapsed_seconds": 6.0,
        "max_rss_bytes": 123_456_789,
        "ave_cpu_seconds": 1.0,
        "node_list": "n1",
        "queried_at": BEGIN + 10,
    }
    return row | changed


def write_accounting(path: str, *rows: dict[str, object]) -> None:
    """Write rows like the epilog does."""
    write_slurm_stats(path, map(from_row, rows))


def dump(database: str | os.PathLike[str]) -> list[str]:
    """Every row of every table, in full."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())
