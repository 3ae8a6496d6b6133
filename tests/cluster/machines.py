"""A cluster of `ci/cluster` for tests: commands on its machines, jobs of its ordinary user, and their records."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from slurm_jobs import SlurmJobs
from virtual_cluster import faults, state
from virtual_cluster.inside import argv

CI_CLUSTER = Path(__file__).resolve().parents[2] / "ci" / "cluster"
COMMAND_LIMIT_SECONDS = 180.0
OFTEN = "--granularity time_series --sample-interval-seconds 0.2 --flush-interval-seconds 1"


class Machines(SlurmJobs):
    """A running cluster, and a directory of its ordinary user on /home, a new one for each test."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.cluster = state.load(place / "cluster")
        self.directory = Path("/")
        self.outside = place / "out"
        self.outside.mkdir()
        self._numbers = itertools.count(1)

    @property
    def user(self) -> str:
        return self.cluster.settings.user

    @property
    def nodes(self) -> list[str]:
        return list(self.cluster.settings.nodes)

    def enter_new_directory(self) -> None:
        self.directory = Path(f"/home/{self.user}/test{next(self._numbers)}")
        self.run(["mkdir", self.directory], user=self.user, cwd="/")

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        user: str | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        stdin: str | None = None,
        machine: str = "head",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine; root's in /, because /home may hang, the user's in the test's directory."""
        where = str(cwd or (self.directory if user else "/"))
        done = subprocess.run(
            self.words(argv, machine=machine, user=user, env=env, cwd=where),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_SECONDS,
            check=False,
        )
        assert done.returncode == 0 or not check, (
            f"{machine}: {shlex.join(map(str, argv))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def words(
        self,
        command: Sequence[str | Path],
        *,
        machine: str = "head",
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
    ) -> list[str]:
        return argv(self.cluster, command, machine=machine, user=user, env=env, cwd=cwd)

    def shell(self, script: str, *, machine: str = "head", user: str | None = None) -> str:
        """A script's stdout."""
        return self.run(["bash", "-c", script], machine=machine, user=user).stdout

    def fault(self, text: str) -> None:
        faults.make(self.cluster, faults.parse(text, self.cluster.settings.machines))

    def wait_idle(self) -> None:
        """Wait until every node accepts jobs."""
        count = str(len(self.nodes))
        self.wait_for(lambda: self.shell("sinfo -h -t idle -o %D").strip() == count, "all nodes to be idle")

    def output(self, job: int) -> str:
        """The output of the job's script."""
        return self.shell(f"cat {self.directory}/{job}.out", user=self.user)

    def run_job(self, body: str, *options: str) -> int:
        """Submit a script and wait for its end."""
        job = self.submit(body, *options)
        self.wait_ended(job)
        return job

    def stats(self, job: int, *options: str) -> dict[str, dict[str, Any]]:
        """``torc slurm stats`` of a job, by step number."""
        done = self.run_as_user(["torc", "slurm", "stats", "--slurm-job-id", str(job), "-f", "json", *options])
        return {item["step_id"]: item for item in json.loads(done.stdout)["items"]}

    def recorded(self, job: int, *options: str) -> bool:
        """Whether there is a record of the job already."""
        words = ["torc", "slurm", "stats", "--slurm-job-id", str(job), "--no-accounting", *options]
        return self.run_as_user(words, check=False).returncode == 0

    def rows(self, query: str, output: str = "torc_output", machine: str = "head") -> list[dict[str, Any]]:
        """Rows of all node files in the test's directory, as `machine` sees them.

        The directories are listed first: until then, a client with a delegation can remember that one is missing.
        """
        copies = f"/cluster/copies{next(self._numbers)}"
        place = f"{self.directory}/{output}"
        listing = f"ls {self.directory} {place} {place}/resource_utilization > /dev/null"
        self.shell(f"{listing}; mkdir {copies} && cp {place}/resource_utilization/* {copies}/", machine=machine)
        found: list[dict[str, Any]] = []
        for path in sorted((self.cluster.share / Path(copies).name).glob("*.db")):
            with closing(sqlite3.connect(path)) as connection:
                connection.row_factory = sqlite3.Row
                found += [dict(row) for row in connection.execute(query)]
        return found


def ci_cluster(*arguments: str) -> str:
    """Run ``ci/cluster``; if it fails, the test fails with its message."""
    done = subprocess.run([str(CI_CLUSTER), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"ci/cluster {shlex.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def bring_up(*options: str) -> Machines:
    """A cluster in its own directory. If there can be none, the test fails; it is never skipped."""
    place = Path(tempfile.mkdtemp(prefix="torc-test-cluster-", dir="/var/tmp"))
    try:
        suite = os.environ.get("TORC_TEST_CLUSTER_SUITE", "trixie")
        ci_cluster("up", "--dir", str(place / "cluster"), "--suite", suite, *options)
        return Machines(place)
    except BaseException:
        tear_down(place)
        raise


def tear_down(place: Path) -> None:
    """Remove the cluster below this directory, and the directory."""
    try:
        if (place / "cluster").exists():
            ci_cluster("down", "--dir", str(place / "cluster"))
    finally:
        shutil.rmtree(place, ignore_errors=True)
