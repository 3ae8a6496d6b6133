"""A workflow file that was edited after its workflow was created: reported, and copied on request."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from torc_slurm.files.output_names import plan_path

SPEC = """\
name: demo
jobs:
- {name: good, command: "true"}
- {name: bad, command: exit 3}
"""
TORC = [sys.executable, "-m", "torc_slurm.cli.main"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "wf.yaml").write_text(SPEC)
    assert torc(tmp_path, "run", "wf.yaml").returncode == 1
    return tmp_path


def torc(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORC_", "SLURM_"))}
    return subprocess.run([*TORC, *words], cwd=place, env=kept, capture_output=True, text=True, check=False)


def listed(place: Path, what: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(torc(place, what, "list", "-f", "json").stdout)["items"]
    return items


def commands(place: Path) -> dict[str, str]:
    return {item["name"]: item["command"] for item in listed(place, "jobs")}


def statuses(place: Path) -> dict[str, str]:
    return {item["name"]: item["status"] for item in listed(place, "jobs")}


def edit(place: Path, *changes: tuple[str, str]) -> None:
    path = place / "wf.yaml"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def test_an_unchanged_file_is_not_mentioned(place: Path) -> None:
    assert "wf.yaml" not in torc(place, "slurm", "generate", "--dry-run").stderr


def test_changes_are_reported_and_the_old_command_stays(place: Path) -> None:
    edit(place, ("exit 3", "exit 0"), ('"true"', "echo new"))
    done = torc(place, "slurm", "generate", "-o", "x.sh")
    assert done.returncode == 0, done.stderr
    assert "it now has other commands for job bad. --update uses them" in done.stderr
    assert "job good completed with the earlier command" in done.stderr
    assert commands(place) == {"good": "true", "bad": "exit 3"}


def test_update_takes_over_what_has_not_completed(place: Path) -> None:
    edit(place, ("exit 3", "exit 0"), ('"true"', "echo new"))
    dry = torc(place, "slurm", "generate", "--update", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert commands(place)["bad"] == "exit 3"
    assert torc(place, "slurm", "generate", "--update", "-o", "x.sh").returncode == 0
    assert commands(place) == {"good": "true", "bad": "exit 0"}
    assert "wf.yaml has changed" not in torc(place, "slurm", "generate", "--dry-run").stderr


def test_update_takes_over_parameters(tmp_path: Path) -> None:
    job = '{name: "j{i}", command: "false {size}", parameters: {i: "[1, 2]", size: "[10, 20]"}, parameter_mode: zip}'
    (tmp_path / "wf.yaml").write_text(f"name: demo\njobs:\n- {job}\n")
    assert torc(tmp_path, "run", "wf.yaml").returncode == 1
    edit(tmp_path, ("20", "30"))
    assert torc(tmp_path, "slurm", "generate", "--update", "-o", "x.sh").returncode == 0
    with closing(sqlite3.connect(tmp_path / "torc_output" / "torc.db")) as connection:
        (kept,) = connection.execute("SELECT parameters FROM jobs WHERE name = 'j2'").fetchone()
    assert json.loads(kept) == {"i": 2, "size": 30}


def test_a_completed_job_runs_again_only_if_that_is_said(place: Path) -> None:
    edit(place, ("exit 3", "exit 0"), ('"true"', "echo new >again"))
    assert "--rerun-changed needs --update" in torc(place, "slurm", "generate", "--rerun-changed").stderr
    done = torc(place, "slurm", "generate", "wf.yaml", "--update", "--rerun-changed", "-o", "x.sh")
    assert done.returncode == 0, done.stderr
    assert "job good completed with the earlier command, and will run again" in done.stderr
    assert commands(place) == {"good": "echo new >again", "bad": "exit 0"}
    assert statuses(place) == {"good": "ready", "bad": "failed"}
    assert torc(place, "run").returncode == 0
    assert (place / "again").read_text() == "new\n"
    assert statuses(place) == {"good": "completed", "bad": "completed"}
    assert "nothing is left to run" in torc(place, "run").stderr


def test_a_job_that_runs_again_does_so_until_it_completes(place: Path) -> None:
    """Attempts with the earlier command do not count, also for the script that continues by itself."""
    edit(place, ('"true"', "test -e there"))
    done = torc(place, "slurm", "generate", "--update", "--rerun-changed", "-o", "x.sh")
    assert done.returncode == 0, done.stderr
    plan = plan_path(str(place / "torc_output"), 1, 2)
    assert torc(place, "run", "--plan", plan).returncode == 1
    assert statuses(place) == {"good": "failed", "bad": "failed"}
    (place / "there").touch()
    assert torc(place, "run", "--plan", plan).returncode == 1
    assert statuses(place) == {"good": "completed", "bad": "failed"}


def test_completed_jobs_that_used_the_earlier_output_are_named(place: Path) -> None:
    spec = SPEC + '- {name: after, command: "true", depends_on: [good]}\n'
    (place / "other.yaml").write_text(spec.replace("exit 3", "exit 0"))
    assert torc(place, "run", "other.yaml").returncode == 0
    done = torc(place, "slurm", "generate", "--update", "--rerun-changed")
    assert "there is nothing left to run" in done.stderr
    (place / "other.yaml").write_text(
        spec.replace("exit 3", "exit 0").replace('good, command: "true"', "good, command: date")
    )
    done = torc(place, "slurm", "generate", "--update")
    assert (done.returncode, "--rerun-changed runs it again" in done.stderr) == (1, True)
    done = torc(place, "slurm", "generate", "--update", "--rerun-changed", "-o", "x.sh")
    assert "job after used the earlier output of these" in done.stderr
    assert statuses(place)["after"] == "completed"


def test_update_of_a_file_means_the_workflow_that_was_made_from_it(place: Path) -> None:
    (place / "other.yaml").write_text(SPEC)
    done = torc(place, "slurm", "generate", "other.yaml", "--update")
    assert (done.returncode, "no workflow here was created from" in done.stderr) == (2, True)
    edit(place, ("exit 3", "exit 0"))
    assert torc(place, "slurm", "generate", "wf.yaml", "--update", "-o", "x.sh").returncode == 0
    assert [item["workflow_id"] for item in listed(place, "workflows")] == [1]


def test_new_and_removed_jobs_are_named(place: Path) -> None:
    edit(place, ("name: bad", "name: worse"))
    message = torc(place, "slurm", "generate", "--dry-run").stderr
    assert "new: job worse; no longer there: job bad" in message


def test_a_file_that_is_no_workflow_now_does_not_stop_the_run(place: Path) -> None:
    edit(place, ("jobs:", "jobs: ["))
    done = torc(place, "slurm", "generate", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "cannot be read as a workflow now" in done.stderr
