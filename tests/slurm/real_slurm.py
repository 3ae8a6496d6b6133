"""A lab for the tests of the real Slurm: jobs as an ordinary user, awaited conditions, daemons stopped and started."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SLURM_LAB = Path(__file__).resolve().parents[2] / "ci" / "slurm-lab"
PATIENCE_SECONDS = 90.0
BIN = Path(sys.executable).parent  # of the environment that runs the tests: torc and torc-step are there too


@dataclass
class Lab:
    """One running lab; ``directory`` is a place where its ordinary user may write."""

    env: dict[str, str]
    directory: Path
    stopped: set[str] = field(default_factory=set)

    @property
    def user(self) -> str:
        return self.env["TORC_LAB_USER"]

    @property
    def nodes(self) -> list[str]:
        return self.env["TORC_LAB_NODES"].split(",")

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
        """Run a command with the lab's environment and the tested ``torc`` first on PATH; by default as root."""
        command = [str(word) for word in argv]
        if user is not None:
            command = ["runuser", "-u", user, "--", *command]
        done = subprocess.run(
            command,
            env=self._environment() | dict(env or {}),
            cwd=cwd or self.directory,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS * 2,
            check=False,
        )
        assert done.returncode == 0 or not check, (
            f"{shlex.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def run_as_user(
        self, argv: Sequence[str | Path], *, check: bool = True, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """As `run`, as the lab's ordinary user."""
        return self.run(argv, user=self.user, check=check, env=env, stdin=stdin)

    @property
    def path(self) -> str:
        """PATH with the tested ``torc`` first."""
        return f"{BIN}:{os.environ['PATH']}"

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORC_", "SLURM_", "SACCT_"))}
        return kept | self.env | {"PATH": self.path, "PYTHONDONTWRITEBYTECODE": "1"}

    def submit(self, body: str, *options: str, env: Mapping[str, str] | None = None) -> int:
        """Submit a bash script as the user, output into ``<directory>/<job>.out``; returns its job id."""
        script = "#!/bin/bash\n" + body
        done = self.run_as_user(["sbatch", "--parsable", "--output=%j.out", *options], env=env, stdin=script)
        return int(done.stdout.split(";")[0])

    def output(self, job: int) -> str:
        """What the job's script has printed."""
        return (self.directory / f"{job}.out").read_text(encoding="utf-8", errors="replace")

    def states(self, job: int | str) -> dict[str, str]:
        """Job and steps (``12``, ``12.0``) with their states, as sacct says now."""
        out = self.run(["sacct", "-nP", "-j", str(job), "-o", "JobIDRaw,State"]).stdout
        return {
            name: state.split()[0] for name, _, state in (line.partition("|") for line in out.splitlines()) if state
        }

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Poll until the condition holds; fails after so many seconds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what}"
            time.sleep(0.1)

    def wait_running(self, job: int, *steps: str) -> None:
        """Until the job, and these steps of it, run as far as slurmctld knows."""
        wanted = {f"{job}.{step}" for step in steps}

        def running() -> bool:
            state = self.run(["squeue", "-h", "-j", str(job), "-o", "%T"], check=False).stdout.strip()
            have = set(self.run(["squeue", "-h", "-s", "-j", str(job), "-o", "%i"], check=False).stdout.split())
            return state == "RUNNING" and wanted <= have

        self.wait_for(running, f"job {job} to run with steps {sorted(wanted)}")

    def wait_ended(self, job: int, *, accounted: bool = True, seconds: float = PATIENCE_SECONDS) -> None:
        """Until the job has ended, and accounting has the end of it and of its steps."""
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
        """What Slurm says of a job that does not end, for the test's failure."""
        asked = (
            ["scontrol", "show", "job", str(job)],
            ["squeue", "-s"],
            ["sinfo", "-Nl"],
            ["ps", "-eo", "pid,etimes,args"],
        )
        return "\n".join(self.run(argv, check=False).stdout for argv in asked)

    def _is_accounted(self, job: int) -> bool:
        """Whether the records are whole: for up to 5 s a job's own may lack its user, request, array and components."""
        fields = ["sacct", "-nPX", "-j", str(job), "-o", "ReqTRES"]
        requests = self.run(fields).stdout.splitlines()
        states = self.states(job)
        return bool(requests) and all(requests) and not {"RUNNING", "PENDING"} & set(states.values())

    def stop(self, daemon: str) -> None:
        """Stop a daemon; the fixture starts it again at the test's end."""
        slurm_lab("stop", daemon, "--dir", self.env["TORC_LAB_DIR"])
        self.stopped.add(daemon)

    def start_all(self) -> None:
        """Start whatever was stopped."""
        for daemon in tuple(self.stopped):
            self.start(daemon)

    def start(self, daemon: str) -> None:
        slurm_lab("start", daemon, "--dir", self.env["TORC_LAB_DIR"])
        self.stopped.discard(daemon)


def slurm_lab(*arguments: str) -> str:
    """Run ``ci/slurm-lab``; what it says on failure is the test's failure."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TORC_LAB")}
    done = subprocess.run(
        [str(SLURM_LAB), *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (
        f"ci/slurm-lab {shlex.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done.stdout


def bring_up(*options: str) -> Lab:
    """A lab of its own directory; fails, and never skips, where there can be none."""
    place = Path(tempfile.mkdtemp(prefix="torc-test-lab-", dir="/var/tmp"))  # where users can reach it
    place.chmod(0o755)
    try:
        slurm_lab("up", "--dir", str(place / "lab"), *options)
        words = shlex.split(slurm_lab("env", "--dir", str(place / "lab")))
        lab = Lab(dict(word.split("=", 1) for word in words if word != "export"), place / "work")
        lab.directory.mkdir()
        shutil.chown(lab.directory, lab.user)
        lab.run_as_user([sys.executable, "-c", "import torc_slurm"])
    except BaseException:
        tear_down(place)
        raise
    return lab


def tear_down(place: Path) -> None:
    """Take the lab below this directory away, and the directory."""
    try:
        if (place / "lab").exists():
            slurm_lab("down", "--dir", str(place / "lab"))
    finally:
        shutil.rmtree(place, ignore_errors=True)
