"""Makes node files of any size quickly: the writer's schema, with rows inserted by plain SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from torc_slurm.database.migrations import migrate
from torc_slurm.database.node_schema import NODE_SCHEMA
from torc_slurm.files.output_names import node_file_path

BEGIN = 1_700_000_000.0
STEP_SECONDS = 100.0
_STEP_COLUMNS = (
    "id, invocation, workflow_id, run_id, job_id, attempt_id, job_name, slurm_job_id, step_id, user_name, node, "
    "node_index, node_count, local_task_count, task_count, command, working_dir, granularity, "
    "sample_interval_seconds, begin_time, end_time, last_flush_time"
)
_STEP = f"INSERT INTO steps ({_STEP_COLUMNS}) VALUES ({', '.join('?' * 22)})"  # noqa: S608 - constants
_USAGE = """
INSERT INTO step_usage (step, elapsed_seconds, cpu_seconds, cpu_source, avg_cpu_percent, peak_cpu_percent,
peak_memory_bytes, peak_memory_source, memory_floor_bytes, memory_floor_source, sampled_rss_peak_bytes,
avg_memory_bytes, avg_memory_source, num_processes_peak, sample_count, last_half_cpu_seconds)
VALUES (?, 100.0, 90.0, 'wait4', 90.0, 99.0, ?, 'cgroup', ?, 'wait4', ?, 900000000, 'samples', 3, ?, 45.0)
"""
_EXIT = """
INSERT INTO task_exits (step, task, local_task, pid, begin_time, end_time, elapsed_seconds, return_code,
user_cpu_seconds, system_cpu_seconds, max_rss_bytes, major_faults)
VALUES (?, ?, 0, 100, ?, ?, 100.0, ?, 80.0, 10.0, ?, 0)
"""
_SAMPLE = """
INSERT INTO job_resource_samples (job_id, timestamp, cpu_percent, memory_bytes, num_processes) VALUES (?, ?, ?, ?, 3)
"""


def make(output_dir: Path, *, nodes: int, attempts: int, samples: int, spread: bool) -> None:
    """Node files of workflow 1, run 1.

    Args:
        attempts: on each node its own or, with ``spread``, the same ones over all nodes.
        samples: of each attempt, on each node.
    """
    for index in range(nodes):
        path = Path(node_file_path(str(output_dir), f"n{index:05d}", "1", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            migrate(connection, NODE_SCHEMA)
            connection.execute("BEGIN")
            first = 1 if spread else 1 + index * attempts
            jobs = range(first, first + attempts)
            count = nodes if spread else 1
            connection.executemany(_STEP, (_step(job, index if spread else 0, count, index) for job in jobs))
            connection.executemany(_USAGE, ((job, *[10**9 + job * 1000] * 3, samples) for job in jobs))
            exits = ((job, index if spread else 0, *_span(job), int(job % 20 == 0), 10**9) for job in jobs)
            connection.executemany(_EXIT, exits)
            connection.executemany(_SAMPLE, (sample for job in jobs for sample in _samples(job, samples)))
            connection.execute("COMMIT")


def _span(job: int) -> tuple[float, float]:
    return BEGIN + job, BEGIN + job + STEP_SECONDS


def _step(job: int, node_index: int, node_count: int, node: int) -> tuple[object, ...]:
    begin, end = _span(job)
    name = f"n{node:05d}"
    return (
        *(job, f"{name}.{job}", 1, 1, job, 1, f"job_{job}", 7, str(job), "ann", name),
        *(node_index, node_count, 1, node_count, f"./work {job}", "/scratch", "time_series", 1.0, begin, end, end),
    )


def _samples(job: int, count: int) -> Iterator[tuple[object, ...]]:
    begin, _ = _span(job)
    pause = STEP_SECONDS / max(count, 1)
    for number in range(count):
        yield job, begin + number * pause, 90.0 + number % 7, 10**9 + number * 1000
