"""The words that call this installation from another host work anywhere and in any environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import torc_slurm

ROOT = str(Path(torc_slurm.__file__).parents[1])
ASK = (
    "import json; from torc_slurm.usecases.installation import module_command; print(json.dumps(module_command({!r})))"
)


def words(module: str, **changed: str) -> list[str]:
    """The words, from a process with this environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | changed
    command = [sys.executable, "-c", ASK.format(module)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd="/")
    found: list[str] = json.loads(answer.stdout)
    return found


@pytest.mark.parametrize("changed", [{}, {"PYTHONPATH": ROOT}], ids=["installed", "by PYTHONPATH"])
def test_it_runs_where_nothing_leads_to_it(tmp_path: Path, changed: dict[str, str]) -> None:
    (tmp_path / "torc_slurm.py").write_text("raise SystemExit('the wrong one')")
    hostile = {"PATH": "/nowhere", "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "/nowhere"}
    command = [*words("torc_slurm.step.main", **changed), "--", "/bin/sh", "-c", "exit 3"]
    assert Path(command[0]).is_absolute()
    done = subprocess.run(command, cwd=tmp_path, env=hostile, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr


def test_the_command_line_is_called_in_the_same_way() -> None:
    done = subprocess.run(
        [*words("torc_slurm.cli.main", PYTHONPATH=ROOT), "--version"],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"torc {torc_slurm.__version__}\n"


def test_torc_step_is_called_by_its_launcher() -> None:
    """The launcher shields Python from the job's variables; a moved virtual environment keeps its own."""
    ask = "import json; from torc_slurm.usecases.installation import {0}; print(json.dumps({0}()))"
    for name, options in (("step_command", []), ("torc_command", ["--run-torc"])):
        done = subprocess.run(
            [sys.executable, "-c", ask.format(name)], capture_output=True, text=True, check=True, cwd="/", env={}
        )
        launcher, *rest = json.loads(done.stdout)
        assert Path(launcher) == Path(sys.executable).with_name("torc-step")
        assert rest == options
        assert Path(launcher).read_bytes()[:4] == b"\x7fELF"
