"""Jobs on a real Slurm for the tests: submitted as an ordinary user; waits for their states and ends."""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PATIENCE_SECONDS = 90.0


class SlurmJobs(ABC):
    """Any Slurm; a subclass implements how to run a command there."""

    @property
    @abstractmethod
    def user(self) -> str:
        """Its ordinary user."""

    @abstractmethod
    def run(
        self,
        argv: Sequence[str | Path],
        *,
        user: str | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with the tested ``torc`` first on PATH; by default as root."""

    def run_as_user(
        self, argv: Sequence[str | Path], *, check: bool = True, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """As `run`, as the ordinary user."""
        return self.run(argv, user=self.user, check=check, env=env, stdin=stdin)

    def submit(self, body: str, *options: str, env: Mapping[str, str] | None = None) -> int:
        """Submit a bash script as the user, with output into ``<directory>/<job>.out``; returns its job id."""
        script = "#!/bin/bash\n" + body
        done = self.run_as_user(["sbatch", "--parsable", "--output=%j.out", *options], env=env, stdin=script)
        return int(done.stdout.split(";")[0])

    def states(self, job: int | str) -> dict[str, str]:
        """Job and steps (``12``, ``12.0``) with their current states in sacct."""
        out = self.run(["sacct", "-nP", "-j", str(job), "-o", "JobIDRaw,State"]).stdout
        return {
            name: state.split()[0] for name, _, state in (line.partition("|") for line in out.splitlines()) if state
        }

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Poll until the condition holds; fails after this many seconds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what}"
            time.sleep(0.1)

    def wait_running(self, job: int, *steps: str) -> None:
        """Wait until the job, and these steps of it, run as far as slurmctld knows."""
        wanted = {f"{job}.{step}" for step in steps}

        def running() -> bool:
            state = self.run(["squeue", "-h", "-j", str(job), "-o", "%T"], check=False).stdout.strip()
            have = set(self.run(["squeue", "-h", "-s", "-j", str(job), "-o", "%i"], check=False).stdout.split())
            return state == "RUNNING" and wanted <= have

        self.wait_for(running, f"job {job} to run with steps {sorted(wanted)}")

    def wait_ended(self, job: int, *, accounted: bool = True, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the job has ended, and accounting has its end and its steps'."""
        gone = "PENDING,RUNNING,COMPLETING,SUSPENDED,REQUEUED"

        def ended() -> bool:
            asked = self.run(["squeue", "-h", "-j", str(job), "-t", gone, "-o", "%i"], check=False)
            return asked.returncode == 0 and asked.stdout == ""  # slurmctld may not answer at once

        try:
            self.wait_for(ended, f"job {job} to end", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._condition_of(job)}") from error
        if accounted:
            self.wait_for(lambda: self._is_accounted(job), f"the accounting of job {job}: {self.states(job)}")

    def _condition_of(self, job: int) -> str:
        """Slurm's description of a job that does not end, for the test's failure."""
        asked = (
            ["scontrol", "show", "job", str(job)],
            ["squeue", "-s"],
            ["sinfo", "-Nl"],
            ["ps", "-eo", "pid,etimes,args"],
        )
        return "\n".join(self.run(argv, check=False).stdout for argv in asked)

    def _is_accounted(self, job: int) -> bool:
        """Whether the records are complete: for up to 5 s a job's may lack its user, request, array and components."""
        fields = ["sacct", "-nPX", "-j", str(job), "-o", "ReqTRES"]
        requests = self.run(fields).stdout.splitlines()
        states = self.states(job)
        return bool(requests) and all(requests) and not {"RUNNING", "PENDING"} & set(states.values())
