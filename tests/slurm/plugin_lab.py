"""A lab whose Slurm loads the plugin, built with this machine's own headers for the environment under test."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_slurm import Lab, bring_up, tear_down

PROBE = ["sh", "-c", "echo ${TORC_STEP_ACTIVE:-alone}"]  # set by the wrapper, if there is one


@dataclass
class PluginLab:
    """``place`` has the installation and plugstack.conf, which Slurm reads for every command and step."""

    lab: Lab
    place: Path

    @property
    def library(self) -> Path:
        return self.place / "lib" / "torc-slurm" / "spank_torc.so"

    @property
    def step_exec(self) -> Path:
        return self.place / "lib" / "torc-slurm" / "torc-step-exec"

    def configure(self, *options: str, library: Path | None = None) -> None:
        """Write plugstack.conf with these options of the plugin."""
        line = " ".join(["optional", str(library or self.library), *options])
        (self.place / "plugstack.conf").write_text(line + "\n")

    def srun(
        self, *words: str, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run srun as the user, in its own allocation, in the user's directory."""
        return self.lab.run_as_user(["srun", "--mem=100M", *words], check=False, env=env, stdin=stdin)

    def is_measured(self, *options: str, env: Mapping[str, str] | None = None) -> bool:
        """Whether each task of such a step runs under torc-step."""
        done = self.srun(*options, *PROBE, env=env)
        assert done.returncode == 0, done.stderr
        words = {line.split()[0] for line in done.stdout.splitlines()}
        assert words in ({"slurm"}, {"alone"}), done.stdout + done.stderr
        return words == {"slurm"}

    def batch(self, body: str, *options: str, env: Mapping[str, str] | None = None) -> str:
        """Run a script to its end; returns its output."""
        return self.lab.output(self.batch_job(body, *options, env=env))

    def batch_job(self, body: str, *options: str, env: Mapping[str, str] | None = None, accounted: bool = False) -> int:
        job = self.lab.submit(body, *options, env=env)
        self.lab.wait_ended(job, accounted=accounted)
        return job

    def stats(self, job: int | str, *options: str) -> dict[str, dict[str, Any]]:
        """``torc slurm stats`` of the job's steps, by name."""
        words = ["torc", "slurm", "stats", "-f", "json", "--slurm-job-id", str(job), *options]
        items = json.loads(self.lab.run_as_user(words).stdout)["items"]
        assert len({item["job_name"] for item in items}) == len(items), "a step is measured twice"
        return {item["job_name"]: item for item in items}


@contextmanager
def plugin_lab(*options: str) -> Iterator[PluginLab]:
    """A lab with the plugin, switched off until the test calls `configure`."""
    place = Path(tempfile.mkdtemp(prefix="torc-test-plugin-", dir="/var/tmp"))
    place.chmod(0o755)
    lab = None
    try:
        torc = [sys.executable, "-m", "torc_slurm.cli.main"]
        build = [*torc, "slurm", "plugin", "build", "--prefix", str(place)]
        done = subprocess.run(build, capture_output=True, text=True, check=False, cwd="/")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        (place / "plugstack.conf").touch()
        lab = bring_up("--slurm-conf-line", f"PlugStackConfig={place}/plugstack.conf", *options)
        made = PluginLab(lab, place)
        made.configure("default=off")
        yield made
    finally:
        if lab is not None:
            tear_down(lab.directory.parent)
        shutil.rmtree(place, ignore_errors=True)
