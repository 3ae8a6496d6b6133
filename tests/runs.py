"""Workflows run by ``torc run`` outside Slurm, started like a user starts them, and what they leave."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from torc_slurm.common.errors import NodeFileBusy
from torc_slurm.database.snapshot import snapshot
from torc_slurm.spec.plan import ExecutionPlan, JobPlan, MonitorPlan, Plan
from torc_slurm.usecases.installation import step_command

TORC = [sys.executable, "-m", "torc_slurm.cli.main"]
WAIT_LIMIT_SECONDS = 60.0


def environment(**changed: str) -> dict[str, str]:
    """This process's environment without variables of Slurm or torc: the tests may run inside a job."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "TORC_"))}
    return kept | changed


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds; fails after a minute."""
    end = time.monotonic() + WAIT_LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def plan_in(directory: Path, jobs: tuple[JobPlan, ...] = ()) -> Plan:
    """A plan of run 1 of workflow 1, with the output directory ``out``."""
    return Plan(
        workflow_id=1,
        workflow_name="w",
        run_id=1,
        output_dir=str(directory / "out"),
        working_dir=str(directory),
        python=sys.executable,
        torc_step=step_command(),
        resource_monitor=MonitorPlan(True, "summary", 10, 60),
        execution=ExecutionPlan(),
        jobs=jobs,
    )


class Here:
    """A directory with a workflow in it, and ``torc`` called there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output_dir = directory / "torc_output"

    def spec(self, jobs: Iterable[Mapping[str, object]], **more: object) -> str:
        """Write a workflow file; jobs without requirements get the smallest ones."""
        small = {"name": "small", "num_cpus": 1, "memory": "50m", "runtime": "PT1M"}
        listed = [{"resource_requirements": "small", **job} for job in jobs]
        requirements = [small, *more.pop("resource_requirements", [])]  # type: ignore[misc]  # a list, if given
        document = {
            "name": "here",
            "resource_monitor": {"sample_interval_seconds": 0.5},
            "resource_requirements": requirements,
            "jobs": listed,
        } | more
        (self.directory / "w.json").write_text(json.dumps(document))
        return "w.json"

    def torc(self, *words: object, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TORC, *map(str, words)],
            capture_output=True,
            text=True,
            env=environment(**changed),
            cwd=self.directory,
            check=False,
            timeout=WAIT_LIMIT_SECONDS * 2,
        )

    def start(self, *words: object, **changed: str) -> subprocess.Popen[str]:
        """Start ``torc run`` without waiting; in its own session, as from another terminal."""
        return subprocess.Popen(
            [*TORC, "run", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**changed),
            cwd=self.directory,
            start_new_session=True,
        )

    def wait_for(self, name: str) -> None:
        """Wait until a job has made that file."""
        wait_until((self.directory / name).exists, name)

    def items(self, *words: object) -> list[dict[str, Any]]:
        done = self.torc("-f", "json", *words)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
        return found

    def statuses(self, workflow_id: int = 1) -> dict[str, str]:
        return {job["name"]: job["status"] for job in self.items("jobs", "list", workflow_id)}

    def results(self, workflow_id: int = 1) -> dict[str, dict[str, Any]]:
        """The last attempt of each job."""
        return {row["job_name"]: row for row in self.items("results", "list", workflow_id)}

    def stdio(self, job_id: int, kind: str = "o", run_id: int = 1) -> str:
        return (self.output_dir / "job_stdio" / f"job_wf1_j{job_id}_r{run_id}_a1.{kind}").read_text()

    def node_file(self, run_id: int = 1) -> Path:
        host = os.uname().nodename.partition(".")[0]
        return self.output_dir / "resource_utilization" / f"resource_metrics_{host}_1_{run_id}.db"

    def journal(self, run_id: int = 1, table: str = "job_states") -> list[dict[str, Any]]:
        """Rows of the journal, from a copy; none if there is no journal yet, or a process is writing it."""
        try:
            with snapshot(str(self.node_file(run_id))) as (copy, _), closing(sqlite3.connect(copy)) as connection:
                connection.row_factory = sqlite3.Row
                return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]  # noqa: S608 - our own names
        except (FileNotFoundError, NodeFileBusy, sqlite3.OperationalError):
            return []


def wrappers_below(directory: Path) -> list[int]:
    """The torc-step processes whose records go below a directory."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(b"torc-step ") and os.fsencode(directory) in words:
            found.append(int(name))
    return found


def kill_quietly(pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
