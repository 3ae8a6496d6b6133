"""Garbage on the socket at which the tasks of a step meet: the job is unharmed, and every task is recorded."""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from measured import (
    WAIT_LIMIT_SECONDS,
    await_that,
    environment,
    is_alive,
    monitor_of,
    node_files,
    records,
    start,
    under_torc_step,
)

from torc_slurm.database.spool import bring_over
from torc_slurm.step import link

JOB_IDS = itertools.count(os.getpid() * 100)  # one for each test: a step's meeting place is named by its job
STEP = {
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2",
    "SLURM_NODEID": "0",
}
RANDOM = random.Random(12)  # noqa: S311 - no secret


def garbage() -> bytes:
    """Not a message, or almost one: a wrong number, too many, infinite, of the wrong kind."""
    numbers = ["1", "-1", "1e999", "nan", "1.5", str(10**40), "x"]
    words = [RANDOM.choice(["Begin", "Exit", "begin", ""])]
    words += [
        RANDOM.choice(numbers) for _ in range(RANDOM.choice([0, 1, len(link.Exit.FIELDS), len(link.Begin.FIELDS)]))
    ]
    return RANDOM.choice([" ".join(words).encode(), RANDOM.randbytes(RANDOM.randrange(1, 5000)), b"\0", b"\xff" * 9])


def test_numbers_that_are_none_are_no_message() -> None:
    for fields, name in ((link.Begin.FIELDS, "Begin"), (link.Exit.FIELDS, "Exit")):
        for place in range(len(fields)):
            for wrong in ("nan", "1e999", "-1e999", "x", ""):
                words = [name, *("1" if number != place else wrong for number in range(len(fields)))]
                assert link.decode(" ".join(words).encode()) is None, (fields[place], wrong)


def environment_of(job_id: str, task: int) -> dict[str, str]:
    return environment(**STEP, SLURM_JOB_ID=job_id, SLURM_PROCID=str(task), SLURM_LOCALID=str(task))


class Step:
    """A step of two tasks on this node, of which the first has begun; each ends when its stdin does."""

    def __init__(self, output_dir: Path, prepare: Callable[[], object] | None = None) -> None:
        self.output_dir = output_dir
        self._job_id = str(next(JOB_IDS))
        self.first = self.start(0, 7, prepare)
        self.monitor = monitor_of(self.first)
        (self.path,) = set(await_that(self._listening, "the meeting place"))

    def start(self, task: int, status: int, prepare: Callable[[], object] | None = None) -> subprocess.Popen[bytes]:
        env = environment_of(self._job_id, task)
        job = ["sh", "-c", f"echo ready; read line; exit {status}"]
        pipe = subprocess.PIPE
        wrapper = start(self.output_dir, job, env=env, stdin=pipe, stdout=pipe, stderr=pipe, prepare=prepare)
        assert wrapper.stdout is not None
        assert wrapper.stdout.readline() == b"ready\n"
        return wrapper

    def _listening(self) -> list[str]:
        lines = Path("/proc/net/unix").read_text().splitlines()
        paths = [line.split()[-1] for line in lines if line.endswith(".sock")]
        return [path for path in paths if f"/steps/{self._job_id}." in path]

    def exits(self) -> list[tuple[int, int]]:
        await_that(lambda: node_files(self.output_dir), "the record")
        rows = [row for path in node_files(self.output_dir) for each in records(path) for row in each.exits]
        return sorted((row["task"], row["return_code"]) for row in rows)


def end(wrapper: subprocess.Popen[bytes]) -> str:
    """Let a task end; what torc-step said."""
    _, stderr = wrapper.communicate(b"\n", timeout=WAIT_LIMIT_SECONDS)
    assert b"Traceback" not in stderr
    return stderr.decode()


def strangers(path: str, count: int) -> list[socket.socket]:
    """So many connections, of which half have said something."""
    held = []
    for _ in range(count):
        stranger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stranger.settimeout(WAIT_LIMIT_SECONDS)
        stranger.connect(path)
        stranger.send(garbage())
        if RANDOM.random() < 0.5:
            stranger.close()
        else:
            held.append(stranger)
    return held


def test_garbage_on_the_meeting_place(tmp_path: Path) -> None:
    step = Step(tmp_path / "out")
    held = strangers(step.path, 300)
    second = step.start(1, 8)
    end(step.first)
    end(second)
    for stranger in held:
        stranger.close()
    assert (step.first.returncode, second.returncode) == (7, 8)
    assert step.exits() == [(0, 7), (1, 8)]


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))


def test_a_monitor_without_a_descriptor_for_another_task(tmp_path: Path) -> None:
    """Strangers have them all: the task that is never answered records its exit without a monitor."""
    step = Step(tmp_path / "out", few_descriptors)
    held = []
    for _ in range(60):
        stranger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stranger.connect(step.path)
        held.append(stranger)
    second = step.start(1, 8)
    assert is_alive(step.monitor)
    end(second)
    end(step.first)
    for stranger in held:
        stranger.close()
    assert (step.first.returncode, second.returncode) == (7, 8)
    assert step.exits() == [(0, 7), (1, 8)]


def test_a_task_that_meets_a_monitor_which_never_answers(tmp_path: Path) -> None:
    step = Step(tmp_path / "out")
    os.kill(step.monitor, signal.SIGSTOP)
    second = step.start(1, 8)
    end(second)
    os.kill(step.monitor, signal.SIGCONT)
    end(step.first)
    assert (step.first.returncode, second.returncode) == (7, 8)
    assert step.exits() == [(0, 7), (1, 8)]


def test_each_rank_runs_torc_step_three_times(tmp_path: Path) -> None:
    """One after the other, and two at once: six exits, whichever record each is in."""
    words = " ".join(str(word) for word in under_torc_step(tmp_path, ["sh", "-c"]))
    script = f"{words} 'exit $((SLURM_LOCALID + 3))'; {words} 'exit $((SLURM_LOCALID + 5))' & {words} 'exit 9'; wait"
    job_id = str(next(JOB_IDS))
    ranks = [subprocess.Popen(["sh", "-c", script], env=environment_of(job_id, task)) for task in (0, 1)]
    assert [rank.wait(WAIT_LIMIT_SECONDS) for rank in ranks] == [0, 0]
    bring_over(str(tmp_path))
    found = [
        (row["task"], row["return_code"])
        for path in node_files(tmp_path)
        for each in records(path)
        for row in each.exits
    ]
    assert sorted(found) == [(0, 3), (0, 5), (0, 9), (1, 4), (1, 6), (1, 9)]


@pytest.mark.root
def test_another_user_does_not_reach_the_socket(tmp_path: Path) -> None:
    step = Step(tmp_path / "out")
    code = "import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(sys.argv[1])"
    done = subprocess.run([sys.executable, "-IS", "-c", code, step.path], user=64_321, capture_output=True, check=False)
    assert b"PermissionError" in done.stderr
    end(step.first)
    assert step.first.returncode == 7
    assert step.exits() == [(0, 7)]
