"""CPU time that adds up, compared with what the kernel tells the jobs themselves; tolerances in CPU seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from measured import Record, program, run, the_record, under_torc_step

READERS = ("procfs", "psutil")
# A program uses some more after it has printed its CPU time; children's times arrive in ticks of 10 ms.
AFTER_THE_LAST_WORD = 0.03


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    return f"--reader={request.param}"


def measured(tmp_path: Path, command: list[str], *options: str) -> tuple[Record, float]:
    """The record, and the number that the job printed."""
    done = run(tmp_path, command, *options)
    assert done.returncode == 0
    return the_record(tmp_path), float(done.stdout or 0)


def assert_close(record: Record, truth: float) -> None:
    figures = record.figures
    assert truth - 0.001 <= figures["cpu_seconds"] <= truth + AFTER_THE_LAST_WORD
    assert figures["avg_cpu_percent"] == pytest.approx(figures["cpu_seconds"] / figures["elapsed_seconds"] * 100)
    assert figures["peak_cpu_percent"] >= figures["avg_cpu_percent"]


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.2, 1.0])
def test_one_process(seconds: float, reader: str, tmp_path: Path) -> None:
    """Also one that exits before the first interval, or before the monitor is ready."""
    record, truth = measured(tmp_path, program("burn", seconds), reader)
    assert_close(record, truth)
    assert record.figures["cpu_source"] == "wait4"
    assert record.monitor[0]["reader"] == reader.partition("=")[2]


def test_a_thousand_children_shorter_than_the_interval(reader: str, tmp_path: Path) -> None:
    record, truth = measured(tmp_path, program("burn_in_children", 1000, 0.001), reader)
    assert_close(record, truth)
    assert truth > 1.0


def test_children_of_threads(reader: str, tmp_path: Path) -> None:
    """Each thread has its own list of children."""
    options = (reader, "--sample-interval-seconds=0.1")
    record, truth = measured(tmp_path, program("burn_in_children", 4, 0.2, "threads"), *options)
    assert_close(record, truth)
    assert record.figures["num_processes_peak"] >= 3


def test_children_without_wait(reader: str, tmp_path: Path) -> None:
    """Without a cgroup, their CPU time since the last sample is in no counter: at most an interval each.

    An interval is as long as a loaded machine makes it: psutil itself takes a while to load.
    """
    options = (reader, "--sample-interval-seconds=0.1", "--granularity=time_series")
    record, truth = measured(tmp_path, program("burn_in_children", 3, 0.3, "unwaited"), *options)
    times = [record.step["begin_time"], *(row["timestamp"] for row in record.samples), record.step["end_time"]]
    longest = max(after - before for before, after in pairwise(times))
    assert truth - 3 * max(0.15, longest) <= record.figures["cpu_seconds"] <= truth + AFTER_THE_LAST_WORD


def test_a_daemon_that_the_job_outlives(reader: str, tmp_path: Path) -> None:
    record, _ = measured(tmp_path, ["sh", "-c", " ".join(program("daemonise", 5, 0.5, 0, "outlived")) + " >&2"], reader)
    assert 0.5 <= record.figures["cpu_seconds"] <= 0.5 + 4 * AFTER_THE_LAST_WORD


def test_a_daemon_that_outlives_the_job(reader: str, tmp_path: Path) -> None:
    """It is counted while the step lasts, and is not killed."""
    done = run(tmp_path, program("daemonise", 5, 0.5, 0, "outliving"), reader)
    daemon = int(done.stdout)
    os.kill(daemon, signal.SIGKILL)  # fails unless it lives
    figures = the_record(tmp_path).figures
    assert 0.5 <= figures["cpu_seconds"] <= 0.5 + 4 * AFTER_THE_LAST_WORD


def test_several_cores(reader: str, tmp_path: Path) -> None:
    """100 is one core: the peak is the sum of all processes.

    The series adds up to the total, but for what arrived in an interval that was too short for it.
    """
    cpus = len(os.sched_getaffinity(0))
    options = (reader, "--sample-interval-seconds=0.2", "--granularity=time_series")
    record, truth = measured(tmp_path, program("burn_in_children", 2, 1.0, "threads"), *options)
    assert_close(record, truth)
    assert record.figures["peak_cpu_percent"] <= 100 * cpus
    missing = record.figures["cpu_seconds"] - record.series_cpu_seconds
    assert missing >= -0.001
    assert missing <= 0.001 or max(row["cpu_percent"] for row in record.samples) == pytest.approx(100 * cpus)


def test_one_cpu_gives_no_more_than_one_cpu(reader: str, tmp_path: Path) -> None:
    """Even with short intervals, and children's times that arrive late and in clock ticks."""
    done = run(
        tmp_path,
        ["sh", "-c", " ".join(program("burn_in_children", 40, 0.02)) + "; true"],
        *(reader, "--sample-interval-seconds=0.1", "--granularity=time_series"),
        prepare=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    )
    assert done.returncode == 0
    record = the_record(tmp_path)
    assert record.samples
    assert all(row["cpu_percent"] <= 100 for row in record.samples)
    assert 0 < record.figures["avg_cpu_percent"] <= record.figures["peak_cpu_percent"] <= 100


def test_a_job_that_takes_more_cpus_than_it_was_given(reader: str, tmp_path: Path) -> None:
    """Its affinity at the start is not a bound, because it could widen it: the series has its real use."""
    cpus = os.sched_getaffinity(0)
    program_text = (
        f"import os, sys, threading; os.sched_setaffinity(0, {cpus!r});"
        "os.fork(); import time; end = time.thread_time() + 0.6\n"
        "while time.thread_time() < end: pass\n"
    )
    done = run(
        tmp_path,
        [sys.executable, "-IS", "-c", program_text],
        *(reader, "--sample-interval-seconds=0.2", "--granularity=time_series"),
        prepare=lambda: os.sched_setaffinity(0, {min(cpus)}),
    )
    assert done.returncode == 0
    record = the_record(tmp_path)
    assert record.figures["peak_cpu_percent"] <= 100 * len(cpus)
    assert record.series_cpu_seconds == pytest.approx(record.figures["cpu_seconds"], abs=0.03)


def test_the_monitor_does_not_measure_itself(reader: str, tmp_path: Path) -> None:
    """A job that does nothing has used nothing, however often it is sampled."""
    record, _ = measured(tmp_path, ["sleep", "1"], reader, "--sample-interval-seconds=0.1")
    assert record.figures["cpu_seconds"] < 0.02
    assert record.figures["num_processes_peak"] == 1
    assert record.monitor[0]["cpu_seconds"] > record.figures["cpu_seconds"]
    assert record.monitor[0]["sample_count"] >= 5


def test_a_step_inside_a_step(reader: str, tmp_path: Path) -> None:
    """Outside Slurm each wrapper has its own record, and the outer one includes the inner one's job."""
    done = run(tmp_path, under_torc_step(tmp_path / "inner", program("burn", 0.3)), reader)
    assert done.returncode == 0
    outer, within = the_record(tmp_path).figures, the_record(tmp_path / "inner").figures
    assert within["cpu_seconds"] >= 0.3
    assert outer["cpu_seconds"] >= within["cpu_seconds"]


def on_one_cpu(*command: str) -> list[str]:
    return ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]


def test_processes_that_share_a_cpu_wait_for_it(reader: str, tmp_path: Path) -> None:
    burn = " ".join(program("burn", 1.0))
    figures = measured_only(tmp_path, on_one_cpu("sh", "-c", f"{burn} & {burn}; wait"), reader)
    assert figures["cpu_wait_seconds"] > 0.2 * figures["cpu_seconds"]


def test_a_program_beside_another_waits_until_its_end(reader: str, tmp_path: Path) -> None:
    """It never sleeps: it waited whenever it did not run, also after its last reading."""
    with subprocess.Popen(on_one_cpu(*program("burn", 1e6))) as other:
        try:
            figures = measured_only(tmp_path, on_one_cpu(*program("burn", 1.0)), reader)
        finally:
            other.kill()
    assert figures["cpu_wait_source"] == "schedstat"
    idle = figures["elapsed_seconds"] - figures["cpu_seconds"]
    assert 0.7 * idle < figures["cpu_wait_seconds"] <= idle + AFTER_THE_LAST_WORD


def measured_only(tmp_path: Path, command: list[str], *options: str) -> dict[str, Any]:
    assert run(tmp_path, command, *options).returncode == 0
    return the_record(tmp_path).figures
