"""Commands under torc-step, started like a user starts them, and their records."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from torc_slurm.database.node_file import take_lock

TORC_STEP = os.path.join(sysconfig.get_path("scripts"), "torc-step")
PROGRAMS = Path(__file__).parent / "process" / "programs"
WAIT_LIMIT_SECONDS = 30.0

Found = TypeVar("Found")


def environment(**changed: str) -> dict[str, str]:
    """This process's environment without variables of Slurm or torc: the tests may run inside a job."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "TORC_"))}
    return kept | changed


def program(name: str, *arguments: object) -> list[str]:
    """The command that runs ``programs/<name>.py``, without the site packages, so that it starts quickly."""
    return [sys.executable, "-IS", str(PROGRAMS / f"{name}.py"), *map(str, arguments)]


def under_torc_step(output_dir: Path, command: Sequence[str | bytes], *options: str) -> list[str | bytes]:
    return [TORC_STEP, "--output-dir", str(output_dir), *options, "--", *command]


def job_of_a_workflow(job_id: int, attempt_id: int = 1) -> list[str]:
    """Options that make a step a job of workflow 1 in its first run: many share one node file."""
    return ["--workflow-id=1", "--run-id=1", f"--job-id={job_id}", f"--attempt-id={attempt_id}"]


def start(
    output_dir: Path,
    command: Sequence[str | bytes],
    *options: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    prepare: Callable[[], object] | None = None,
    pass_fds: Sequence[int] = (),
    new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a command under torc-step; ``prepare`` runs in the new process before torc-step does."""
    return subprocess.Popen(
        under_torc_step(output_dir, command, *options),
        env=environment() if env is None else env,
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        preexec_fn=prepare,
        pass_fds=pass_fds,
        start_new_session=new_session,
    )


def run(
    output_dir: Path,
    command: Sequence[str | bytes],
    *options: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    prepare: Callable[[], object] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command under torc-step to its end, with no input and its output captured."""
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    process = start(
        output_dir, command, *options, env=env, cwd=cwd, stdin=null, stdout=pipe, stderr=pipe, prepare=prepare
    )
    with process:
        try:
            stdout, stderr = process.communicate(timeout=WAIT_LIMIT_SECONDS)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def await_that(find: Callable[[], Found], what: str) -> Found:
    """The first true answer of ``find``; fails after a time limit that no passing test reaches."""
    deadline = time.monotonic() + WAIT_LIMIT_SECONDS
    while time.monotonic() < deadline:
        found = find()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"{what}: not within {WAIT_LIMIT_SECONDS:g} s")


# --- processes ------------------------------------------------------------------------------------------------


def children_of(pid: int) -> list[int]:
    """The children of a single-threaded process; from a scan of /proc if the kernel keeps no list."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        everybody = (int(name) for name in os.listdir("/proc") if name.isdigit())
        return [child for child in everybody if stat_fields(child)[1:2] == [str(pid)]]
    except ProcessLookupError:
        return []


def stat_fields(pid: int) -> list[str]:
    """``/proc/PID/stat`` from the state on (proc(5), field 3); empty for a process that has been reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def state_of(pid: int) -> str:
    """R, S, D, T, Z …; empty for a process that has been reaped."""
    return (stat_fields(pid) or [""])[0]


def is_alive(pid: int) -> bool:
    return state_of(pid) not in ("", "Z", "X")


def monitor_of(wrapper: subprocess.Popen[bytes]) -> int:
    """The monitor's pid, once it has closed the job's streams."""

    def find() -> list[int]:
        named = [pid for pid in children_of(wrapper.pid) if name_of(pid) == "torc-sampler"]
        return [pid for pid in named if stream_of(pid, 2) == os.devnull]

    return await_that(find, "the monitor")[0]


def stream_of(pid: int, number: int) -> str:
    """The target of a process's descriptor."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return ""


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""


# --- records --------------------------------------------------------------------------------------------------


class Record:
    """One step's rows in a node file, as dicts."""

    def __init__(self, connection: sqlite3.Connection, step: dict[str, Any]) -> None:
        self.step = step
        self.usage = _rows(connection, "SELECT * FROM step_usage WHERE step = ?", step["id"])
        self.monitor = _rows(connection, "SELECT * FROM monitor_usage WHERE step = ?", step["id"])
        self.exits = _rows(connection, "SELECT * FROM task_exits WHERE step = ? ORDER BY task", step["id"])
        self.notes = [row["note"] for row in _rows(connection, "SELECT * FROM step_notes WHERE step = ?", step["id"])]
        self._connection = connection
        self.samples = self._series("SELECT * FROM job_resource_samples WHERE job_id = ? ORDER BY id")
        self.io_samples = self._series("SELECT * FROM job_io_samples WHERE job_id = ? ORDER BY id")
        self.memory_samples = self._series("SELECT * FROM job_memory_samples WHERE job_id = ? ORDER BY id")

    def _series(self, query: str) -> list[dict[str, Any]]:
        """The job's rows within this attempt's time, which is how samples belong to an attempt."""
        begin, end = self.step["begin_time"], self.step["end_time"] or self.step["last_flush_time"]
        rows = _rows(self._connection, query, self.step["job_id"])
        return [row for row in rows if begin <= row["timestamp"] <= end]

    @property
    def figures(self) -> dict[str, Any]:
        """The one row of ``step_usage``."""
        (row,) = self.usage
        return row

    @property
    def series_cpu_seconds(self) -> float:
        """CPU seconds from the series: each row's percentage times the time since the row before."""
        begins = [self.step["begin_time"], *(row["timestamp"] for row in self.samples)]
        windows = zip(self.samples, begins, strict=False)
        return float(sum(row["cpu_percent"] / 100 * (row["timestamp"] - begin) for row, begin in windows))

    @property
    def exit(self) -> dict[str, Any]:
        """The one task's exit record."""
        (row,) = self.exits
        return row


def _rows(connection: sqlite3.Connection, query: str, *values: object) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query, values)]


def node_files(output_dir: Path) -> list[Path]:
    return sorted((output_dir / "resource_utilization").glob("*.db"))


def records(path: Path) -> list[Record]:
    """The content of an intact node file; under the writers' lock, because a writer's journal may be open."""
    lock = take_lock(str(path), WAIT_LIMIT_SECONDS)
    try:
        return _read_records(path)
    finally:
        os.close(lock)


def _read_records(path: Path) -> list[Record]:
    # opened for writing: the next process that opens the file rolls back a killed writer's journal
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        assert [row[0] for row in connection.execute("PRAGMA integrity_check")] == ["ok"]
        if not connection.execute("PRAGMA user_version").fetchone()[0]:
            return []  # created, and nothing committed yet
        return [Record(connection, step) for step in _rows(connection, "SELECT * FROM steps ORDER BY id")]


def the_record(output_dir: Path) -> Record:
    """The only step of the only node file."""
    (path,) = node_files(output_dir)
    (record,) = records(path)
    return record
