"""A command that is killed at any of its file calls leaves nothing that the next one cannot repair."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from fault_harness import IS_LONG, compile_fault
from runs import TORC, environment

SPEC = "name: w\njobs: [{name: a, command: 'true', env: {TOKEN: secret}}]\n"
MOST_MOMENTS = 10_000 if IS_LONG else 5  # of each command


class Call(NamedTuple):
    """One file call of a command: its number, its action, its path."""

    number: int
    name: str
    path: str


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_fault(tmp_path_factory.mktemp("fault"))


class Place:
    """A directory with a workflow, which can be restored."""

    def __init__(self, directory: Path, library: Path) -> None:
        self.directory = directory
        self.output_dir = directory / "torc_output"
        self._library = str(library)
        (directory / "w.yaml").write_text(SPEC)

    def torc(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TORC, *words],
            cwd=self.directory,
            env=environment() | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def keep(self) -> Callable[[], None]:
        """Returns a function that restores the current state of the output directory."""
        kept = self.directory / "kept"
        shutil.copytree(self.output_dir, kept)

        def put_back() -> None:
            shutil.rmtree(self.output_dir)
            shutil.copytree(kept, self.output_dir)

        return put_back

    def calls(self, *words: str) -> list[Call]:
        """The file calls of a command, below the output directory."""
        log = self.directory / "calls"
        self.torc(*words, LD_PRELOAD=self._library, FAULT_LOG=str(log))
        lines = [line.split(" ", 2) for line in log.read_text().splitlines()]
        log.unlink()
        calls = [Call(int(number), name, path) for number, name, path in lines]
        return [call for call in calls if call.path.startswith(str(self.output_dir))]

    def killed_at(self, call: Call, *words: str) -> None:
        done = self.torc(*words, LD_PRELOAD=self._library, FAULT_AT=str(call.number))
        assert done.returncode == -signal.SIGKILL, (call, done.stderr)

    def leftovers(self) -> list[str]:
        names = [name for _, _, files in os.walk(self.output_dir) for name in files]
        return [name for name in names if name.startswith(".torc") or ".lock" in name]


@pytest.fixture
def place(tmp_path: Path, library: Path) -> Place:
    return Place(tmp_path, library)


def spread(calls: list[Call]) -> list[Call]:
    """Some of them, spread over the command."""
    step = max(1, len(calls) // MOST_MOMENTS)
    return calls[::step]


def test_a_delete_that_was_killed_is_finished_by_the_next_command(place: Place) -> None:
    assert place.torc("run", "w.yaml").returncode == 0
    place.torc("workflows", "list")
    put_back = place.keep()
    calls = place.calls("workflows", "delete", "1")
    assert any(call.name == "unlink" and "resource_metrics" in call.path for call in calls)
    for call in spread(calls) + [each for each in calls if each.name == "unlink" and "resource" in each.path]:
        put_back()
        place.killed_at(call, "workflows", "delete", "1")
        assert place.torc("workflows", "delete", "1").returncode == 0, call
        assert place.torc("slurm", "collect", "--no-accounting").returncode == 0, call
        with closing(sqlite3.connect(place.output_dir / "torc.db")) as connection:
            assert connection.execute("SELECT count(*) FROM results").fetchone()[0] == 0, call
        assert not list((place.output_dir / "resource_utilization").iterdir()), call
        assert not list((place.output_dir / "plans").iterdir()), call
        assert place.leftovers() == [], call


def test_what_came_of_a_deleted_workflow_later_is_removed(place: Place) -> None:
    assert place.torc("run", "w.yaml").returncode == 0
    node_file = next((place.output_dir / "resource_utilization").glob("*.db"))
    late = node_file.read_bytes()
    assert place.torc("workflows", "delete", "1").returncode == 0
    node_file.write_bytes(late)  # like a node's spool that was brought over late
    assert place.torc("workflows", "list").returncode == 0
    assert not node_file.exists()


def test_records_without_a_workflow_can_be_deleted(place: Place) -> None:
    assert place.torc("run", "w.yaml").returncode == 0
    (place.output_dir / "torc.db").unlink()
    assert place.torc("slurm", "collect", "--no-accounting").returncode == 0
    assert place.torc("workflows", "delete", "1").returncode == 0
    assert not list((place.output_dir / "resource_utilization").iterdir())
    assert place.torc("workflows", "delete", "7").returncode == 2


def test_an_interrupted_takeover_of_a_lock_blocks_no_command(place: Place) -> None:
    assert place.torc("workflows", "create", "w.yaml").returncode == 0
    written = next(call for call in place.calls("workflows", "create", "w.yaml") if call.name == "pwrite")
    place.killed_at(written, "workflows", "create", "w.yaml")
    assert (place.output_dir / "torc.db.lock").exists()
    put_back = place.keep()
    calls = place.calls("workflows", "list")
    about_locks = [call for call in calls if "lock" in call.path or "draft" in call.path]
    for call in about_locks[:MOST_MOMENTS]:
        put_back()
        place.killed_at(call, "workflows", "list")
        shown = place.torc("workflows", "list")
        assert shown.returncode == 0, (call, shown.stderr)
        assert place.leftovers() == [], call


def test_a_create_that_was_killed_leaves_a_whole_workflow_or_none(place: Place) -> None:
    assert place.torc("workflows", "create", "w.yaml").returncode == 0
    put_back = place.keep()
    for call in spread(place.calls("workflows", "create", "w.yaml")):
        put_back()
        place.killed_at(call, "workflows", "create", "w.yaml")
        shown = place.torc("jobs", "list", "1", "-f", "json")
        assert shown.returncode == 0, (call, shown.stderr)
        assert place.leftovers() == [], call
        with closing(sqlite3.connect(place.output_dir / "torc.db")) as connection:
            workflows = connection.execute("SELECT count(*) FROM workflows").fetchone()[0]
            jobs = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
        assert workflows == jobs, call


def test_only_the_owner_can_read_what_holds_values_of_env(place: Place) -> None:
    before = os.umask(0o022)
    try:
        assert place.torc("run", "w.yaml").returncode == 0
        assert place.torc("slurm", "generate", "w.yaml", "-o", "run.sh").returncode == 0
        for name in ("torc.db", "plans/wf1_r1.json", "plans/wf2_r1.json"):
            path = place.output_dir / name
            assert b"secret" in path.read_bytes()
            assert path.stat().st_mode & 0o777 == 0o600, name
        assert place.torc("slurm", "generate", "w.yaml", "-o", "run.sh", TORC_FILE_MODE="640").returncode == 0
        assert (place.output_dir / "plans/wf3_r1.json").stat().st_mode & 0o777 == 0o640
        refused = place.torc("slurm", "generate", "w.yaml", "-o", "run.sh", TORC_FILE_MODE="rw-r--r--")
        assert (refused.returncode, "TORC_FILE_MODE" in refused.stderr) == (2, True)
    finally:
        os.umask(before)


def test_no_link_at_a_name_that_can_be_predicted_is_followed(place: Place) -> None:
    """The lock's draft was once opened at a fixed name with O_TRUNC."""
    place.output_dir.mkdir()
    precious = place.directory / "precious"
    precious.write_text("kept")
    for number in range(os.getpid(), os.getpid() + 2000):
        (place.output_dir / f"torc.db.lock.{os.uname().nodename}.{number}").symlink_to(precious)
    assert place.torc("workflows", "create", "w.yaml").returncode == 0
    assert precious.read_text() == "kept"
