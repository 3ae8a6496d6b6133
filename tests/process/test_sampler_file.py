"""Many steps write one node file at once, and writers die in the middle: nothing is lost, the file is intact."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from measured import TORC_STEP, await_that, environment, job_of_a_workflow, program, records, start, state_of
from node_files import batch, path_of

from torc_slurm.database.node_file import write_batch
from torc_slurm.files.output_names import node_file_path

HOST = os.uname().nodename.partition(".")[0]


def test_thirty_steps_at_once(tmp_path: Path) -> None:
    options = ["--granularity=time_series", "--sample-interval-seconds=0.1"]
    steps = [
        start(tmp_path, ["sh", "-c", f"sleep 0.3; exit {number}"], *job_of_a_workflow(number), *options)
        for number in range(1, 31)
    ]
    assert [step.wait() for step in steps] == list(range(1, 31))
    found = {record.step["job_id"]: record for record in records(Path(node_file_path(str(tmp_path), HOST, "1", 1)))}
    assert {job: record.exit["return_code"] for job, record in found.items()} == {job: job for job in range(1, 31)}
    for record in found.values():
        assert len(record.samples) >= 1
        assert record.series_cpu_seconds == pytest.approx(record.figures["cpu_seconds"], abs=0.001)
        assert len(record.io_samples) == len(record.memory_samples) == len(record.samples)
        assert record.notes == []


def test_the_same_job_again_and_again_is_one_attempt_after_the_other(tmp_path: Path) -> None:
    for attempt in (1, 2, 3):
        process = start(tmp_path, ["sh", "-c", f"exit {attempt}"], *job_of_a_workflow(1, attempt))
        assert process.wait() == attempt
    found = records(Path(node_file_path(str(tmp_path), HOST, "1", 1)))
    assert [(record.step["attempt_id"], record.exit["return_code"]) for record in found] == [(1, 1), (2, 2), (3, 3)]


def test_wrappers_outside_slurm_draw_each_a_run_of_their_own(tmp_path: Path) -> None:
    steps = [start(tmp_path, ["true"], stderr=subprocess.DEVNULL) for _ in range(10)]
    assert [step.wait() for step in steps] == [0] * 10
    runs = []
    for path in (tmp_path / "resource_utilization").glob("*.db"):
        (record,) = records(path)
        runs.append(record.step["run_id"])
        assert path.name == f"resource_metrics_{HOST}_local_{record.step['run_id']}.db"
    assert sorted(runs) == list(range(1, 11))


DIES_IN_THE_MIDDLE = """
import os, sqlite3, sys
from torc_slurm.database.node_file import NodeFileWriter
with NodeFileWriter(sys.argv[1], 10.0) as connection:
    connection.execute("PRAGMA cache_size = 1")  # spill into the file what is not committed
    connection.execute("UPDATE steps SET job_name = 'half done'")
    many = [(number,) for number in range(20000)]
    connection.executemany("INSERT INTO job_resource_samples (job_id, timestamp) VALUES (9, ?)", many)
    print("in the middle", flush=True)
    sys.stdin.read()
"""


def test_a_writer_killed_in_the_middle_is_undone_by_the_next(tmp_path: Path) -> None:
    path = path_of(tmp_path, batch().step)
    write_batch(path, batch())
    writer = subprocess.Popen(
        [sys.executable, "-c", DIES_IN_THE_MIDDLE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"in the middle\n"
    size_in_the_middle = os.path.getsize(path)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert size_in_the_middle > 100_000
    assert os.path.getsize(path + "-journal") > 0
    write_batch(path, batch(invocation="next", job_id=5, job_name="next"))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT job_name FROM steps ORDER BY id").fetchall() == [("work",), ("next",)]
        assert connection.execute("SELECT count(*) FROM job_resource_samples").fetchone() == (0,)


def test_steps_killed_while_they_write(tmp_path: Path) -> None:
    """Eight steps that write all the time, each killed whole at another moment, next to one that continues."""
    options = ["--granularity=time_series", "--sample-interval-seconds=0.1", "--flush-interval-seconds=1"]
    witness = start(tmp_path, program("wait", int(signal.SIGTERM), 7), *job_of_a_workflow(99), *options)
    path = Path(node_file_path(str(tmp_path), HOST, "1", 1))
    for job in range(1, 9):
        step = start(tmp_path, ["sleep", "1000"], *job_of_a_workflow(job), *options, new_session=True)
        await_that(lambda: path.exists() and path.with_name(path.name + "-journal").exists(), "a first write")
        os.killpg(step.pid, signal.SIGKILL)
        step.wait()
    await_that(lambda: any(record.usage for record in records(path) if record.step["job_id"] == 99), "a flush")
    await_that(lambda: state_of(witness.pid) == "S", "the witness at rest")
    witness.terminate()
    assert witness.wait() == 7
    (record,) = (record for record in records(path) if record.step["job_id"] == 99)
    assert record.exit["return_code"] == 7
    assert record.notes == []


def test_the_console_script_is_this_checkouts() -> None:
    shown = subprocess.run([TORC_STEP, "--version"], env=environment(), capture_output=True, check=True).stdout
    assert shown.startswith(b"torc-step ")
