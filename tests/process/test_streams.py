"""What ``torc`` does with stdin, stdout and stderr that are closed, full, gone or non-blocking."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from runs import TORC, environment

WORKFLOW = "name: w\njobs:\n- {name: 'a{i}', command: 'true', parameters: {i: '1:60'}}\n"
pytestmark = pytest.mark.parametrize("unbuffered", ["", "1"])


def shell(script: str, place: Path, unbuffered: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``torc`` is the command."""
    return subprocess.run(
        ["/bin/bash", "-c", f'torc() {{ {" ".join(TORC)} "$@"; }}; {script}'],
        capture_output=True,
        text=True,
        cwd=place,
        env=environment(PYTHONUNBUFFERED=unbuffered),
        check=False,
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a workflow file, and with its 60 jobs in torc.db."""
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    subprocess.run([*TORC, "create", "w.yaml"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", ">&- 2>&- <&-", "2> >(true)"])
def test_a_run_goes_on_without_its_log(stderr: str, place: Path, unbuffered: str) -> None:
    assert shell(f"torc run w.yaml {stderr}", place, unbuffered).returncode == 0
    with sqlite3.connect(place / "torc_output" / "torc.db") as connection:
        assert connection.execute("SELECT count(*) FROM results WHERE status = 'completed'").fetchone() == (60,)


def test_a_run_goes_on_without_its_terminal(place: Path, unbuffered: str) -> None:
    (place / "w.yaml").write_text("name: w\njobs: [{name: a, command: 'until [ -e go ]; do sleep 0.05; done'}]\n")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*TORC, "run", "w.yaml"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(PYTHONUNBUFFERED=unbuffered),
    )
    os.close(theirs)
    try:
        shown = b""
        while b"torc:" not in shown:
            shown += os.read(ours, 1 << 16)
        os.close(ours)  # as if the terminal's window were closed: writing to it fails from now on
    finally:
        (place / "go").touch()
        answer, _ = process.communicate()
    assert (process.returncode, b"1 completed" in answer) == (0, True)


@pytest.mark.parametrize("command", ["jobs list 1", "jobs list 1 -f json", "jobs list 1 -f csv", "--help", "--version"])
def test_stdout_on_a_full_disk_is_one_line_and_1(command: str, place: Path, unbuffered: str) -> None:
    done = shell(f"torc {command} >/dev/full", place, unbuffered)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "the output cannot be written: No space left on device" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-", "2>&-"])
def test_closed_streams_are_no_error(closed: str, place: Path, unbuffered: str) -> None:
    """And nothing is printed into a file that got the number of a closed stream."""
    done = shell(f"torc jobs list 1 {closed}", place, unbuffered)
    assert (done.returncode, done.stderr) == (0, "")
    with sqlite3.connect(place / "torc_output" / "torc.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_wrong_input_is_2_without_stderr(place: Path, unbuffered: str) -> None:
    for stderr in ("2>/dev/full", "2>&-"):
        assert shell(f"torc stats --nothing {stderr}", place, unbuffered).returncode == 2
        assert shell(f"{sys.executable} -m torc_slurm.step.main --nothing {stderr}", place, unbuffered).returncode == 2


def test_a_non_blocking_stdout_gets_all(place: Path, unbuffered: str) -> None:
    """A program that shares a pipe or terminal can make it non-blocking for all."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    process = subprocess.Popen(
        [*TORC, "jobs", "list", "1", "-f", "json"],
        cwd=place,
        stdout=writer,
        env=environment(PYTHONUNBUFFERED=unbuffered),
    )
    os.close(writer)
    with open(reader, "rb") as file:
        assert len(json.load(file)["items"]) == 60
    assert process.wait() == 0
