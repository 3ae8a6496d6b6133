"""Peaks are peaks, and shared pages count once, for jobs with known memory."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from measured import Record, await_that, name_of, program, run, the_record

from torc_slurm.step import link
from torc_slurm.step.monitor import make_reader
from torc_slurm.step.sampler import Sampler, Task

MIB = 1 << 20
PYTHON_BYTES = 12 * MIB  # more than the interpreter of the programs uses


@pytest.fixture(params=["procfs", "psutil"])
def reader(request: pytest.FixtureRequest) -> str:
    return f"--reader={request.param}"


def measured(tmp_path: Path, command: list[str], *options: str) -> Record:
    assert run(tmp_path, command, *options).returncode == 0
    return the_record(tmp_path)


def assert_bounds(record: Record) -> None:
    """Floor <= peak, the peak is the best or the floor, and each has a source."""
    figures = record.figures
    for name in ("peak_memory", "memory_floor", "memory_best", "memory_ceiling"):
        assert (figures[f"{name}_bytes"] is None) == (figures[f"{name}_source"] is None)
    assert figures["peak_memory_bytes"] >= (figures["memory_floor_bytes"] or 0)
    assert figures["peak_memory_bytes"] in (figures["memory_floor_bytes"], figures["memory_best_bytes"])


def test_a_process_that_holds_its_memory(reader: str, tmp_path: Path) -> None:
    record = measured(tmp_path, program("hold", 100, 1.0), reader, "--sample-interval-seconds=0.1")
    assert_bounds(record)
    assert 100 * MIB <= record.figures["peak_memory_bytes"] <= 100 * MIB + PYTHON_BYTES
    assert 100 * MIB <= record.figures["sampled_rss_peak_bytes"] <= 100 * MIB + PYTHON_BYTES
    assert record.figures["avg_memory_source"] == "samples"
    assert 60 * MIB <= record.figures["avg_memory_bytes"] <= record.figures["peak_memory_bytes"]


@pytest.mark.parametrize("how", [[], ["orphan"]], ids=["the job", "an orphan"])
def test_a_spike_between_two_samples(how: list[str], reader: str, tmp_path: Path) -> None:
    """400 MB for 60 ms, while the monitor samples once in ten seconds."""
    record = measured(tmp_path, program("spike", 400, 0.8, 0.06, *how), reader)
    assert_bounds(record)
    assert 400 * MIB <= record.figures["peak_memory_bytes"] <= 400 * MIB + PYTHON_BYTES


def test_memory_that_nine_processes_share(reader: str, tmp_path: Path) -> None:
    """They stay for a while: shared memory is measured when the tree is stable, no more often than its cost allows."""
    record = measured(tmp_path, program("share", 200, 8, 2.0), reader, "--sample-interval-seconds=0.2")
    assert_bounds(record)
    assert record.figures["sampled_rss_peak_bytes"] >= 8 * 200 * MIB
    assert 200 * MIB <= record.figures["peak_memory_bytes"] <= 200 * MIB * 1.1 + 9 * 3 * MIB
    assert record.figures["num_processes_peak"] == 9


def test_memory_that_was_shared_and_is_no_more(reader: str, tmp_path: Path) -> None:
    """Copy on write: the sum of RSS stays, and the job's need grows fivefold."""
    command = program("share", 60, 4, 1.5, "write")
    record = measured(tmp_path, command, reader, "--sample-interval-seconds=0.2")
    assert_bounds(record)
    assert 5 * 60 * MIB * 0.9 <= record.figures["peak_memory_bytes"] <= 5 * (60 * MIB + PYTHON_BYTES)


def test_a_daemons_memory(reader: str, tmp_path: Path) -> None:
    command = program("daemonise", 150, 0, 0.5, "outliving")
    done = run(tmp_path, command, reader, "--sample-interval-seconds=0.1")
    os.kill(int(done.stdout), signal.SIGKILL)
    record = the_record(tmp_path)
    assert_bounds(record)
    assert 150 * MIB <= record.figures["peak_memory_bytes"] <= 150 * MIB + 2 * PYTHON_BYTES


def test_a_job_of_a_fifth_of_a_second(reader: str, tmp_path: Path) -> None:
    record = measured(tmp_path, program("hold", 100, 0.15), reader)
    assert_bounds(record)
    assert 100 * MIB <= record.figures["peak_memory_bytes"] <= 100 * MIB + PYTHON_BYTES


def test_a_job_of_milliseconds_has_figures(reader: str, tmp_path: Path) -> None:
    """Too small to distinguish from the wrapper that forked it: then an upper bound, marked so, never 0 or null."""
    figures = measured(tmp_path, ["true"], reader).figures
    assert figures["peak_memory_bytes"] > 0
    assert figures["peak_memory_source"] in ("wait4_at_most", "sampled_rss", "vmhwm", "wait4")
    assert figures["avg_memory_bytes"] > 0
    assert figures["cpu_seconds"] is not None
    assert figures["avg_cpu_percent"] is not None
    assert figures["elapsed_seconds"] > 0


def test_threads_are_counted(reader: str, tmp_path: Path) -> None:
    record = measured(tmp_path, program("threads", 7, 0.5), reader)
    assert record.figures["num_threads_peak"] == 8
    assert record.figures["num_processes_peak"] == 1


def test_bytes_read_and_written(reader: str, tmp_path: Path) -> None:
    """Through the cache; a reaped child's bytes count for its parent."""
    script = "dd if=/dev/zero of=file bs=1M count=20 && dd if=file of=/dev/null bs=1M && sync file"
    done = run(tmp_path / "out", ["sh", "-ec", script], reader, cwd=tmp_path)
    assert done.returncode == 0
    figures = the_record(tmp_path / "out").figures
    assert 40 * MIB <= figures["read_chars"] <= 41 * MIB  # /dev/zero counts
    assert 40 * MIB <= figures["written_chars"] <= 41 * MIB
    assert figures["storage_written_bytes"] is not None
    assert figures["storage_read_bytes"] is not None


def test_a_job_counts_from_its_exec_on(reader: str) -> None:
    """Until then it is a copy of its wrapper, with the wrapper's memory."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.read(read, 1)
            os.execv("/bin/sleep", ["sleep", "300"])
        finally:
            os._exit(126)
    try:
        begin = link.Begin()
        for name in link.Begin.FIELDS:
            setattr(begin, name, 0)
        begin.wrapper_pid, begin.job_pid = os.getpid(), pid
        sampler = Sampler(make_reader(reader.partition("=")[2]), None, False)
        sampler.task_began(Task(begin))
        sampler.sample(thorough=True)
        assert (sampler.num_processes_peak, sampler.usage(1.0, False)["peak_memory_bytes"]) == (0, None)
        os.write(write, b"x")
        await_that(lambda: name_of(pid) == "sleep", "the exec")
        sampler.sample(thorough=True)
        assert sampler.num_processes_peak == 1
        assert 0 < int(str(sampler.usage(1.0, False)["peak_memory_bytes"])) < PYTHON_BYTES // 2
    finally:
        os.close(read)
        os.close(write)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
