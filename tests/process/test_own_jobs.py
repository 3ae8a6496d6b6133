"""The commands about the user's own Slurm jobs, with a sacct that prints recorded text."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from recordings import sacct_text

from torc_slurm.cli import own_jobs
from torc_slurm.cli.main import main
from torc_slurm.slurm import sacct


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sacct that knows a recorded job and notes its arguments."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "answer").write_text(sacct_text("22.05-cgroup", "array_whole"), newline="")
    script = f'#!/bin/bash\n[ "$1" = -e ] && exit\nprintf "%s\\n" "$@" >{directory}/asked\ncat {directory}/answer\n'
    (directory / "sacct").write_text(script)
    (directory / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    sacct.known_columns.cache_clear()
    return directory / "asked"


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account without a passwd entry, as in many containers."""
    monkeypatch.setattr(own_jobs, "user_name", lambda: None)


@pytest.mark.usefixtures("nameless")
@pytest.mark.parametrize(
    "words", [["seff", "1"], ["check", "--slurm-job-id", "1"], ["correct", "--slurm-job-id", "1", "--dry-run"]], ids=str
)
def test_named_jobs_need_no_name_of_the_account(words: list[str], asked: Path) -> None:
    assert main(words) == 0
    assert "-u" not in asked.read_text().splitlines()


@pytest.mark.usefixtures("nameless")
@pytest.mark.parametrize("words", [["seff"], ["check", "--since", "1d"]], ids=str)
def test_without_jobs_the_account_needs_a_name(
    words: list[str], asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"torc: user id {os.getuid()} has no name here; give the ids of jobs\n"
    assert not asked.exists()


def test_jobs_of_this_user_are_selected_by_name(asked: Path) -> None:
    assert main(["seff"]) == 0
    words = asked.read_text().splitlines()
    assert words[words.index("-u") + 1] == pwd.getpwuid(os.getuid()).pw_name


def test_what_no_job_fits_is_named(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = sacct_text("22.05-cgroup", "array_whole").partition("\n")[0]
    (asked.parent / "answer").write_text(header + "\n", newline="")
    assert main(["seff", "77"]) == 2
    assert main(["check", "--slurm-job-id", "77", "--name", "x+"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("torc: Slurm's accounting has no job 77 (")
    assert second.startswith("torc: Slurm's accounting has no job 77 whose name matches 'x+' (")
