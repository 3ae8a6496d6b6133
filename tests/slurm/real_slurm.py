"""A lab for the tests with a real Slurm: jobs as an ordinary user, awaited conditions, daemons stopped and started."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slurm_jobs import PATIENCE_SECONDS, SlurmJobs

SLURM_LAB = Path(__file__).resolve().parents[2] / "ci" / "slurm-lab"
BIN = Path(sys.executable).parent  # of the test's environment, which has torc and torc-step
_STEP_WAITED = re.compile(
    r"^srun: (?:Job \d+ step creation (?:temporarily|still) disabled, retrying.*|Step created for .*)\n", re.MULTILINE
)


@dataclass
class Lab(SlurmJobs):
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

    @property
    def path(self) -> str:
        """PATH with the tested ``torc`` first."""
        return f"{BIN}:{os.environ['PATH']}"

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORC_", "SLURM_", "SACCT_"))}
        return kept | self.env | {"PATH": self.path, "PYTHONDONTWRITEBYTECODE": "1"}

    def output(self, job: int) -> str:
        """The output of the job's script, without what srun says if a step waits for an earlier one."""
        text = (self.directory / f"{job}.out").read_text(encoding="utf-8", errors="replace")
        return _STEP_WAITED.sub("", text)

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

    def kill(self, daemon: str) -> None:
        """SIGKILL; the fixture starts it again at the test's end."""
        os.kill(int((Path(self.env["TORC_LAB_DIR"]) / "run" / f"{daemon}.pid").read_text()), signal.SIGKILL)
        self.stopped.add(daemon)

    def activate(self) -> None:
        """Activate its configuration: a lab has its own daemons."""

    def empty_spools(self, output_dir: Path) -> None:
        """Bring over the nodes' spools, as the end of an allocation does."""
        self.run_as_user(["torc", "slurm", "collect", "--output-dir", str(output_dir)])

    def on_nodes(self, argv: Sequence[str]) -> None:
        """Run a command as root wherever steps run, whatever its exit status."""
        self.run(argv, check=False)


def slurm_lab(*arguments: str) -> str:
    """Run ``ci/slurm-lab``; if it fails, the test fails with its message."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TORC_LAB")}
    done = subprocess.run(
        [str(SLURM_LAB), *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (
        f"ci/slurm-lab {shlex.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done.stdout


def bring_up(*options: str) -> Lab:
    """A lab in its own directory. If there can be none, the test fails; it is never skipped."""
    place = Path(tempfile.mkdtemp(prefix="torc-test-lab-", dir="/var/tmp"))  # accessible to users
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
    """Remove the lab below this directory, and the directory."""
    try:
        if (place / "lab").exists():
            slurm_lab("down", "--dir", str(place / "lab"))
    finally:
        shutil.rmtree(place, ignore_errors=True)
