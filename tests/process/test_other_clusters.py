"""A run on another cluster: the run records the cluster's name, and all its queries and commands go there.

PATH has the commands of a Slurm with a second cluster: each notes its arguments, and only that cluster knows the job.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SPEC = """
name: away
slurm_schedulers: [{name: s, nodes: 1, walltime: "00:05:00"}]
jobs: [{name: a, command: "true"}]
"""
SCRIPTS = {
    "scontrol": 'echo "ClusterName             = here"; echo "SLURM_VERSION = 22.05.8"',
    "sinfo": "exit 1",
    "sbatch": 'echo "77;away"; echo "your jobs will be billed" ',
    "squeue": """case "$*" in
  *--clusters=away*) echo "CLUSTER: away"; echo "77|PENDING";;
  *) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1;;
esac""",
    "scancel": ":",
    "sacct": "exit 1",
}


class Place:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.bin.mkdir()
        for name, script in SCRIPTS.items():
            self.put(name, script)
        (directory / "w.yaml").write_text(SPEC)

    def put(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(
            f'#!/bin/bash\necho "{name} $*" >>{self.directory}/calls\nenv >{self.directory}/{name}.env\n{script}\n'
        )
        path.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        lines = (self.directory / "calls").read_text().splitlines()
        return [line for line in lines if line.startswith(f"{name} ")]

    def torc(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        command = [sys.executable, "-m", "torc_slurm.cli.main", *words]
        paths = {"PATH": f"{self.bin}:/usr/bin:/bin"}
        return subprocess.run(
            command, cwd=self.directory, env=kept | paths | environ, capture_output=True, text=True, check=False
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_run_on_another_cluster_is_queried_and_cancelled_there(place: Place, by: str) -> None:
    words = ["--", "--clusters=away"] if by == "option" else []
    environ = {"SBATCH_CLUSTERS": "away"} if by == "variable" else {}
    done = place.torc("submit", "w.yaml", *words, **environ)
    assert done.returncode == 0, done.stderr
    assert "Slurm job 77 on cluster away" in done.stdout
    assert "your jobs will be billed" in done.stderr + done.stdout
    assert "--clusters=away" in place.calls("sinfo")[0]
    again = place.torc("submit")
    assert again.returncode != 0
    assert "Slurm job 77 on cluster away is PENDING" in again.stderr
    assert len(place.calls("sbatch")) == 1
    assert place.torc("workflows", "cancel").returncode == 0
    assert place.calls("scancel") == ["scancel --clusters=away 77"]


def test_the_local_cluster_needs_no_name(place: Place) -> None:
    place.put("sbatch", 'echo "77;here"')
    place.put("squeue", 'echo "77|RUNNING"')
    assert "Slurm job 77\n" in place.torc("submit", "w.yaml").stdout
    assert "Slurm job 77 is RUNNING" in place.torc("submit").stderr
    assert "--clusters" not in "".join(place.calls("squeue"))


def test_a_waiting_allocation_shows_slurms_reason(place: Place) -> None:
    place.put("sbatch", "echo 77")
    place.put("squeue", 'echo "77|PENDING|PartitionTimeLimit"')
    assert place.torc("submit", "w.yaml").returncode == 0
    assert "Slurm job 77 is PENDING (PartitionTimeLimit)" in place.torc("status").stdout


@pytest.mark.parametrize("answer", ["", "echo Submitted batch job 77", "echo 77; echo 78"])
def test_after_a_status_of_0_nothing_is_taken_back(place: Place, answer: str) -> None:
    place.put("sbatch", answer or "true")
    done = place.torc("submit", "w.yaml", "-f", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["slurm_job_id"] is None
    assert "no line of what it printed is a job id" in done.stderr
    assert "squeue --me" in done.stderr
    assert list((place.directory / "torc_output" / "plans").glob("*.sbatch"))
    again = place.torc("submit")
    assert again.returncode != 0
    assert "is active" in again.stderr


@pytest.mark.parametrize(
    "answer", ["echo 'maintenance on Monday'; echo '77|RUNNING'", "echo '77 RUNNING'", "echo nothing"]
)
def test_an_answer_of_squeues_that_is_not_understood_is_no_end(place: Place, answer: str) -> None:
    place.put("sbatch", "echo 77")
    place.put("squeue", answer)
    place.torc("submit", "w.yaml")
    again = place.torc("submit")
    assert again.returncode != 0
    assert "is active" in again.stderr
    assert len(place.calls("sbatch")) == 1


def test_variables_reach_sbatch_only_without_an_explicit_option(place: Place) -> None:
    environ = {"SBATCH_TIMELIMIT": "1", "SBATCH_QOS": "low", "SBATCH_WAIT": "1", "SBATCH_PARTITION": "nosuch"}
    assert place.torc("submit", "w.yaml", "-p", "debug", **environ).returncode == 0
    reached = (place.directory / "sbatch.env").read_text().splitlines()
    assert [line for line in reached if line.startswith("SBATCH_")] == ["SBATCH_QOS=low"]


def test_scancels_own_variables_do_not_reach_it(place: Place) -> None:
    place.torc("submit", "w.yaml", SBATCH_CLUSTERS="away")
    place.torc("workflows", "cancel", SCANCEL_STATE="PENDING", SCANCEL_INTERACTIVE="1", SLURM_CLUSTERS="third")
    reached = (place.directory / "scancel.env").read_text()
    assert "SCANCEL" not in reached
    assert "SLURM_CLUSTERS" not in reached
