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


def commands(place: Path) -> dict[str, str]:
    items: list[dict[str, Any]] = json.loads(torc(place, "jobs", "list", "-f", "json").stdout)["items"]
    return {item["name"]: item["command"] for item in items}


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
    assert "job bad would run another command; give --update" in done.stderr
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


def test_new_and_removed_jobs_are_named(place: Path) -> None:
    edit(place, ("name: bad", "name: worse"))
    message = torc(place, "slurm", "generate", "--dry-run").stderr
    assert "new: job worse; no longer there: job bad" in message


def test_a_file_that_is_no_workflow_now_does_not_stop_the_run(place: Path) -> None:
    edit(place, ("jobs:", "jobs: ["))
    done = torc(place, "slurm", "generate", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "cannot be read as a workflow now" in done.stderr
