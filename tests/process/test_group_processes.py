"""The processes of a group's jobs: as torc-step's own fork makes them, also if its launcher starts them."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from runs import environment, wait_until

LAUNCHER = str(Path(sys.executable).with_name("torc-step"))
# All that a process has from the one before it. Bash itself sets the handlers of signals.
FACTS = r"""
env | grep -v '^_=' | sort
pwd; umask; ulimit -a
grep -E '^Sig(Blk|Ign)|^NoNewPrivs|^Cpus_allowed_list' /proc/self/status
cat /proc/self/oom_score_adj; cat /proc/$$/comm
for each in /proc/$$/fd/*; do readlink $each; done
tr '\0' ' ' < /proc/$$/cmdline | cut -c1-8
"""


class Driven:
    """A group's torc-step, with the test in the place of the runner."""

    def __init__(
        self,
        place: Path,
        *commands: str,
        launcher: str | None,
        variables: Mapping[str, str] = MappingProxyType({}),
        at_first: Callable[[Path], None] = lambda _place: None,
    ) -> None:
        place.mkdir(exist_ok=True)
        at_first(place)
        own = {"OWN": "mine", "LD_OF_JOB": "1", "PYTHONPATH": "/nowhere"}
        jobs = [
            {
                "job_id": number,
                "job_name": f"j{number}",
                "attempt_id": 1,
                "command": command,
                "seconds": None,
                "working_dir": str(place.parent),
                "environment": own,
                "stdout": str(place / f"{number}.o"),
                "stderr": str(place / f"{number}.e"),
            }
            for number, command in enumerate(commands, 1)
        ]
        self.process = subprocess.Popen(
            [LAUNCHER, "--workflow-id=1", "--run-id=1", f"--output-dir={place}/out", "--group"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(**variables),
            start_new_session=True,
            preexec_fn=self.before,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"grace_seconds": 1, "launcher": launcher, "jobs": jobs}).encode() + b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"torc-group ready\n"
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    @staticmethod
    def before() -> None:
        """Differ from the default in what a job must be given unchanged."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.umask(0o027)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

    def ended(self) -> list[list[str]]:
        """Wait for its end; the words of what it said."""
        assert self.process.stdout
        text = self.process.stdout.read().decode()
        self.process.wait()
        return [line.split()[1:] for line in text.splitlines()]


def test_a_job_that_the_launcher_starts_is_given_the_same(tmp_path: Path) -> None:
    variables = {"LD_OF_ALL": "/x", "MALLOC_ARENA_MAX": "2", "PYTHONHOME": "/nowhere", "GLIBC_TUNABLES": ""}
    for name, launcher in (("spawned", LAUNCHER), ("forked", None)):
        group = Driven(tmp_path / name, FACTS, launcher=launcher, variables=variables)
        assert [words[:3] for words in group.ended() if words[0] == "ended"] == [["ended", "0", "0"]]
    spawned, forked = ((tmp_path / name / "1.o").read_text().replace(name, "way") for name in ("spawned", "forked"))
    assert spawned == forked
    assert "LD_OF_ALL=/x\n" in spawned
    assert "LD_OF_JOB=1\n" in spawned
    assert "PYTHONPATH=/nowhere\n" in spawned
    assert "TORC_ASIDE_" not in spawned


@pytest.mark.parametrize("launcher", [LAUNCHER, None])
def test_a_job_dies_with_the_wrapper_of_its_group(launcher: str | None, tmp_path: Path) -> None:
    group = Driven(tmp_path / "g", f"echo $$ > {tmp_path}/pid; exec sleep 300", launcher=launcher)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"), "the job")
    pid = int((tmp_path / "pid").read_text())
    group.process.kill()
    wait_until(lambda: not is_alive(pid), "the job's end")
    group.ended()


def test_a_signal_between_two_jobs_ends_the_group_before_the_next_begins(tmp_path: Path) -> None:
    group = Driven(
        tmp_path / "g", "true", "echo > second", "echo > third", launcher=LAUNCHER, at_first=make_output_wait
    )
    assert group.process.stdout
    for line in iter(group.process.stdout.readline, b""):
        if line.startswith(b"torc-group exited 0 0"):
            break
    waiting = Path(f"/proc/{group.process.pid}/wchan")
    wait_until(lambda: waiting.read_text() in ("wait_for_partner", "fifo_open"), "the wrapper, which opens an output")
    group.process.terminate()
    reader = os.open(tmp_path / "g" / "2.o", os.O_RDONLY | os.O_NONBLOCK)
    assert not [words for words in group.ended() if words[0] == "began"]
    os.close(reader)
    assert group.process.returncode == 1


def make_output_wait(place: Path) -> None:
    """Who opens it for writing waits until another process opens it for reading."""
    os.mkfifo(place / "2.o")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def not_there(path: Path) -> None:
    path.unlink(missing_ok=True)


def an_older_one(path: Path) -> None:
    path.write_text("#!/bin/sh\necho 'torc-step: unknown option'; exit 2\n")
    path.chmod(0o755)


def not_executable(path: Path) -> None:
    path.write_bytes(b"\x7fELF")
    path.chmod(0o644)


@pytest.mark.parametrize("make", [not_there, an_older_one, not_executable])
def test_a_launcher_that_cannot_start_jobs_is_not_needed(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "launcher")
    group = Driven(tmp_path / "g", "exit 3", launcher=str(tmp_path / "launcher"))
    assert [words[:3] for words in group.ended() if words[0] == "ended"] == [["ended", "0", "3"]]


def test_without_bash_a_job_fails_as_in_a_shell(tmp_path: Path) -> None:
    for name, launcher in (("spawned", LAUNCHER), ("forked", None)):
        group = Driven(tmp_path / name, "true", launcher=launcher, variables={"PATH": "/nonexistent"})
        assert [words[:3] for words in group.ended() if words[0] == "ended"] == [["ended", "0", "127"]]
        assert (tmp_path / name / "1.e").read_text() == "torc-step: bash: not found on PATH\n"


def test_the_memory_of_a_short_job_is_its_own(tmp_path: Path) -> None:
    """The kernel begins the maximum of a spawned process with the most that its parent ever had."""
    commands = ["true", f"{sys.executable} -c 'bytearray(90000000)'", "true", *(["true " * 500] * 200)]
    group = Driven(tmp_path / "g", *commands, launcher=LAUNCHER)
    group.ended()
    (path,) = (tmp_path / "g" / "out" / "resource_utilization").glob("*.db")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = dict(connection.execute("SELECT job_id, max_rss_bytes FROM task_exits JOIN steps ON steps.id = step"))
    assert found.pop(2) > 90_000_000
    assert set(found.values()) == {None}
