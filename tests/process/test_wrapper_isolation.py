"""Nothing that happens to the monitor or to the records changes the job, and every loss is reported."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from measured import (
    WAIT_LIMIT_SECONDS,
    Record,
    await_that,
    children_of,
    environment,
    is_alive,
    job_of_a_workflow,
    monitor_of,
    node_files,
    program,
    records,
    run,
    start,
    state_of,
    the_record,
    under_torc_step,
)

import torc_slurm
from torc_slurm.database.node_file import take_lock
from torc_slurm.database.spool import bring_over
from torc_slurm.files import node_local
from torc_slurm.files.output_names import node_file_path

HOST = os.uname().nodename.partition(".")[0]


class Held:
    """A job that runs until it is told to exit 7."""

    def __init__(self, output_dir: Path, *options: str) -> None:
        script = "echo ready; read line; exit 7"
        pipe = subprocess.PIPE
        self.wrapper = start(output_dir, ["sh", "-c", script], *options, stdin=pipe, stdout=pipe, stderr=pipe)
        assert self.wrapper.stdout is not None
        assert self.wrapper.stdout.readline() == b"ready\n"
        self.monitor = monitor_of(self.wrapper)

    def end(self) -> str:
        """Let the job exit normally; returns torc-step's messages."""
        _, said = self.wrapper.communicate(b"go\n", timeout=WAIT_LIMIT_SECONDS)
        assert self.wrapper.returncode == 7
        return said.decode()

    def kill_monitor(self) -> None:
        os.kill(self.monitor, signal.SIGKILL)
        await_that(lambda: not state_of(self.monitor), "the monitor reaped")


@pytest.fixture
def no_spool_is_left(tmp_path: Path) -> Iterator[None]:
    """Spools of a failed test must not stay in the user's own directory."""
    yield
    place = Path(node_local.directory() or "/nonexistent") / "spool"
    for target in place.glob("*.target"):
        if target.read_text().startswith(str(tmp_path)):
            target.with_suffix(".db").unlink(missing_ok=True)
            target.unlink()
    for plain in place.glob("*.json"):
        if str(tmp_path) in plain.read_text():
            plain.unlink()


def first_flush(output_dir: Path) -> None:
    def written() -> bool:
        return any(record.usage for path in node_files(output_dir) for record in records(path))

    await_that(written, "the first flush")


# --- the monitor ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], job_of_a_workflow(3)], ids=["alone", "in a workflow"])
@pytest.mark.parametrize("flushed", [False, True], ids=["before the first flush", "after it"])
def test_a_killed_monitor_changes_nothing_for_the_job(flushed: bool, options: list[str], tmp_path: Path) -> None:
    job = Held(tmp_path, *options)
    if flushed:
        first_flush(tmp_path)
    job.kill_monitor()
    said = job.end()
    assert "the monitor was killed by signal 9" in said
    assert "the exit is recorded" in said
    record = the_record(tmp_path)
    assert (record.exit["return_code"], record.exit["signal"]) == (7, None)
    assert record.step["end_time"] == record.exit["end_time"]
    assert "the monitor was killed by signal 9" in record.notes[-1]
    assert record.figures["cpu_source"] == "wait4"


def test_a_stopped_monitor_delays_the_end_by_a_few_seconds_at_most(tmp_path: Path) -> None:
    """It hangs: the job's end waits a few seconds for it, not forever; the exit is recorded without it."""
    job = Held(tmp_path)
    first_flush(tmp_path)
    os.kill(job.monitor, signal.SIGSTOP)
    said = job.end()
    assert "the monitor" in said
    assert "did not answer" in said
    await_that(lambda: not is_alive(job.monitor), "the exit of the stopped monitor")
    assert the_record(tmp_path).exit["return_code"] == 7


class Killer:
    """Kills children of a process as they appear, or stops them: writers of the monitor, recorders of the wrapper."""

    def __init__(self, parent: int, spared: set[int], most: int, number: int = signal.SIGKILL) -> None:
        self.killed = 0
        self._parent, self._spared, self._most, self._number = parent, spared, most, number

    def hunt_until_end(self, wrapper: subprocess.Popen[bytes]) -> None:
        """Until the wrapper has exited, or this many were killed."""
        while wrapper.poll() is None and self.killed < self._most:
            for pid in set(children_of(self._parent)) - self._spared:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, self._number)
                    self._spared.add(pid)
                    self.killed += 1


@pytest.mark.parametrize("most", [1, 2, 3, 1000])
def test_a_writer_that_is_killed_is_followed_by_another(most: int, tmp_path: Path) -> None:
    """At the last flush: what was not committed is written again, spooled, or reported as lost."""
    job = Held(tmp_path)
    first_flush(tmp_path)
    await_that(lambda: not children_of(job.monitor), "the first writer's end")
    killer = Killer(job.monitor, set(), most)
    assert job.wrapper.stdin is not None
    job.wrapper.stdin.write(b"go\n")
    job.wrapper.stdin.flush()
    killer.hunt_until_end(job.wrapper)
    _, said = job.wrapper.communicate(timeout=WAIT_LIMIT_SECONDS)
    assert job.wrapper.returncode == 7
    recorded = [exits["return_code"] for record in records(node_files(tmp_path)[0]) for exits in record.exits]
    if b"recorded in" in said:
        assert recorded == [7]
    else:
        assert killer.killed > 1
        assert b"lost" in said or b"kept in" in said
    if most == 1:
        assert b"recorded in" in said


@pytest.mark.usefixtures("no_spool_is_left")
@pytest.mark.parametrize(("most", "number"), [(1, signal.SIGKILL), (1000, signal.SIGKILL), (1000, signal.SIGSTOP)])
def test_a_recorder_that_ends_or_hangs_loses_no_exit(most: int, number: int, tmp_path: Path) -> None:
    """Another follows one that was killed. In the end the wrapper keeps the exit on the node."""
    job = Held(tmp_path)
    first_flush(tmp_path)
    await_that(lambda: not children_of(job.monitor), "the first writer's end")
    os.kill(job.monitor, signal.SIGKILL)
    await_that(lambda: not state_of(job.monitor), "the monitor reaped")
    await_that(lambda: len(children_of(job.wrapper.pid)) > 1, "the sentinel that takes its place")
    killer = Killer(job.wrapper.pid, set(children_of(job.wrapper.pid)), most, number)
    assert job.wrapper.stdin is not None
    job.wrapper.stdin.write(b"go\n")
    job.wrapper.stdin.flush()
    killer.hunt_until_end(job.wrapper)
    _, said = job.wrapper.communicate(timeout=WAIT_LIMIT_SECONDS)
    assert job.wrapper.returncode == 7
    if b"kept in" in said:
        bring_over(str(tmp_path))
    recorded = [exits["return_code"] for record in records(node_files(tmp_path)[0]) for exits in record.exits]
    assert recorded == [7], said


BROKEN_LIBRARY = {
    "cannot be loaded": "raise RuntimeError('a broken psutil')",
    "fails in a sample": """
class Error(Exception): pass
class NoSuchProcess(Error): pass
class ZombieProcess(Error): pass
STATUS_ZOMBIE = "zombie"
class Process:
    def __init__(self, pid): pass
    def children(self, recursive=False): return 1 / 0
""",
}


@pytest.mark.parametrize("failure", BROKEN_LIBRARY)
def test_an_exception_while_sampling_is_reported(failure: str, tmp_path: Path) -> None:
    """A library that fails in the monitor; torc-step is started as its script starts it."""
    (tmp_path / "psutil.py").write_text(BROKEN_LIBRARY[failure])
    start_it = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {str(Path(torc_slurm.__file__).parents[1])!r}]
sys.argv[0] = "torc-step"
from torc_slurm.step.main import main
main()
"""
    _, *arguments = under_torc_step(tmp_path / "out", ["sh", "-c", "sleep 0.05; echo ran; exit 7"], "--reader=psutil")
    done = subprocess.run(
        [sys.executable, "-IS", "-c", start_it, *arguments], env=environment(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (7, b"ran\n")
    cause = (
        b"the monitor failed (RuntimeError: a broken psutil"
        if failure == "cannot be loaded"
        else b"sampling failed (ZeroDivisionError: division by zero"
    )
    assert cause in done.stderr
    assert b"Traceback" not in done.stderr
    record = the_record(tmp_path / "out")
    assert record.exit["return_code"] == 7
    assert any(cause.decode() in note for note in record.notes)


def test_a_sigterm_makes_the_monitor_write(tmp_path: Path) -> None:
    """slurmstepd does this before it kills the rest of a step."""
    job = Held(tmp_path, "--flush-interval-seconds=1000")
    first_flush(tmp_path)
    before = the_record(tmp_path).step["last_flush_time"]
    os.kill(job.monitor, signal.SIGTERM)
    await_that(lambda: the_record(tmp_path).step["last_flush_time"] > before, "another flush")
    assert is_alive(job.monitor)
    job.end()


def test_the_whole_step_killed(tmp_path: Path) -> None:
    """``scancel JOB.STEP`` is SIGKILL for all at once: the record has what was flushed in the first second."""
    wrapper = start(tmp_path, program("wait"), stdout=subprocess.PIPE, new_session=True)
    first_flush(tmp_path)
    os.killpg(wrapper.pid, signal.SIGKILL)
    wrapper.communicate()
    record = the_record(tmp_path)
    assert (record.exits, record.step["end_time"]) == ([], None)
    assert record.figures["peak_memory_bytes"] > 1_000_000
    assert record.figures["num_processes_peak"] == 1
    assert record.figures["sample_count"] > 1


# --- the place of the records ---------------------------------------------------------------------------------


def bring_over_to(output_dir: Path) -> Record:
    """The record after what ``torc slurm collect`` does on the node."""
    (target,) = bring_over(str(output_dir))
    (record,) = records(Path(target))
    assert bring_over(str(output_dir)) == []
    return record


def warnings(said: str) -> list[str]:
    return [line for line in said.splitlines() if "recorded in" not in line]


@pytest.mark.usefixtures("no_spool_is_left")
@pytest.mark.parametrize("options", [[], job_of_a_workflow(3)], ids=["alone", "in a workflow"])
def test_a_file_in_the_directorys_place(options: list[str], tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.write_text("in the way")
    done = run(place, ["sh", "-c", "echo ran; exit 7"], *options)
    assert (done.returncode, done.stdout) == (7, b"ran\n")
    (warning,) = warnings(done.stderr.decode())
    assert "Not a directory" in warning
    assert "spool" in warning
    place.unlink()
    record = bring_over_to(place)
    assert record.exit["return_code"] == 7
    assert record.figures["cpu_seconds"] is not None


@pytest.mark.usefixtures("no_spool_is_left")
def test_a_directory_in_the_files_place(tmp_path: Path) -> None:
    path = Path(node_file_path(str(tmp_path), HOST, "1", 1))
    path.mkdir(parents=True)
    done = run(tmp_path, ["sh", "-c", "exit 7"], *job_of_a_workflow(3))
    assert done.returncode == 7
    (warning,) = warnings(done.stderr.decode())
    assert str(path) in warning
    path.rmdir()
    assert bring_over_to(tmp_path).exit["return_code"] == 7


@pytest.mark.usefixtures("no_spool_is_left")
def test_something_else_in_the_files_place(tmp_path: Path) -> None:
    there = b"not a database, but longer than the header of one" * 20
    path = Path(node_file_path(str(tmp_path), HOST, "1", 1))
    path.parent.mkdir()
    path.write_bytes(there)
    done = run(tmp_path, ["sh", "-c", "exit 7"], *job_of_a_workflow(3))
    assert done.returncode == 7
    (warning,) = warnings(done.stderr.decode())
    assert str(path) in warning
    assert path.read_bytes() == there
    path.unlink()
    assert bring_over_to(tmp_path).exit["return_code"] == 7


@pytest.mark.usefixtures("no_spool_is_left")
def test_a_full_disk(tmp_path: Path) -> None:
    """/dev/full fails on close with "no space left"."""
    path = Path(node_file_path(str(tmp_path), HOST, "1", 1))
    path.parent.mkdir()
    path.symlink_to("/dev/full")
    done = run(tmp_path, ["sh", "-c", "exit 7"], *job_of_a_workflow(3))
    assert done.returncode == 7
    (warning,) = warnings(done.stderr.decode())
    assert str(path) in warning
    path.unlink()
    assert bring_over_to(tmp_path).exit["return_code"] == 7


@pytest.mark.usefixtures("no_spool_is_left")
def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    """The job's own limit applies to its monitor too: SQLite can write nothing, and the exit is kept without it."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # noqa: E731 - runs in the child
    done = run(tmp_path, ["sh", "-c", "exit 7"], *job_of_a_workflow(3), prepare=limit)
    assert done.returncode == 7
    lost, monitor, kept = warnings(done.stderr.decode())
    assert "the record is lost" in lost
    assert "the exit is recorded" not in monitor
    assert "the exit record is kept in" in kept
    assert b"Traceback" not in done.stderr
    assert bring_over_to(tmp_path).exit["return_code"] == 7


@pytest.mark.usefixtures("no_spool_is_left")
def test_a_writer_that_hangs(tmp_path: Path) -> None:
    """Another process of the node holds the file, like one that writes to a file system that hangs."""
    path = node_file_path(str(tmp_path), HOST, "1", 1)
    lock = take_lock(path, wait_seconds=0)
    job = Held(tmp_path, *job_of_a_workflow(3), "--granularity=time_series", "--sample-interval-seconds=0.1")
    said = job.end()
    assert "spool" in said
    os.close(lock)
    record = bring_over_to(tmp_path)
    assert record.exit["return_code"] == 7
    times = [row["timestamp"] for row in record.samples]
    assert times == sorted(set(times))


def test_exits_are_recorded_without_a_monitor(tmp_path: Path) -> None:
    done = run(tmp_path, ["sh", "-c", "exit 7"], "--no-sampling")
    assert done.returncode == 7
    record = the_record(tmp_path)
    assert record.exit["return_code"] == 7
    assert (record.usage, record.monitor, record.samples) == ([], [], [])
    assert record.step["sample_interval_seconds"] is None


# --- descriptors and processes are short ----------------------------------------------------------------------


def test_more_children_than_a_page_of_procfs_lists(tmp_path: Path) -> None:
    """The kernel returns a list of children in parts of 4096 bytes, about 700 children each."""
    command = program("sleepers", 1200, "until stdin ends")
    intervals = "--sample-interval-seconds=1", "--flush-interval-seconds=1"
    wrapper = start(tmp_path, command, *intervals, stdin=subprocess.PIPE)

    def most() -> int:
        found = [record for path in node_files(tmp_path) for record in records(path) if record.usage]
        return max((record.figures["num_processes_peak"] for record in found), default=0)

    await_that(lambda: most() >= 1201, "a sample with all processes")
    assert wrapper.stdin is not None
    wrapper.stdin.close()
    assert wrapper.wait(WAIT_LIMIT_SECONDS) == 0
    assert the_record(tmp_path).figures["num_processes_peak"] == 1201


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))


def test_few_descriptors_and_many_processes(tmp_path: Path) -> None:
    """32 descriptors for the monitor, 40 processes to read: each is still found, and the record is written."""
    done = run(tmp_path, program("sleepers", 40), prepare=few_descriptors)
    assert done.returncode == 0
    assert warnings(done.stderr.decode()) == []
    record = the_record(tmp_path)
    assert record.figures["num_processes_peak"] == 41
