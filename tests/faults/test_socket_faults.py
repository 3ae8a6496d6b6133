"""Garbage on the socket at which the tasks of a step meet: the job is unharmed, and every task is recorded."""

from __future__ import annotations

import random
import socket
import subprocess
from pathlib import Path

from measured import WAIT_LIMIT_SECONDS, await_that, environment, monitor_of, node_files, records, start

from torc_slurm.step import link

STEP = {
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2",
    "SLURM_NODEID": "0",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
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


def test_garbage_on_the_meeting_place(tmp_path: Path) -> None:
    job = ["sh", "-c", "read line; exit 7"]
    env = environment(**STEP, TMPDIR=str(tmp_path))
    wrapper = start(tmp_path / "out", job, env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    monitor_of(wrapper)

    def listening() -> list[str]:
        lines = Path("/proc/net/unix").read_text().splitlines()
        return [line.split()[-1] for line in lines if line.endswith(".sock") and "4242" in line and "/steps/" in line]

    (path,) = set(await_that(listening, "the meeting place"))
    held = []
    for _ in range(300):
        stranger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stranger.settimeout(WAIT_LIMIT_SECONDS)
        stranger.connect(path)
        stranger.send(garbage())
        if RANDOM.random() < 0.5:
            stranger.close()
        else:
            held.append(stranger)
    _, stderr = wrapper.communicate(b"\n", timeout=WAIT_LIMIT_SECONDS)
    for stranger in held:
        stranger.close()
    assert (wrapper.returncode, b"Traceback" in stderr) == (7, False)
    await_that(lambda: node_files(tmp_path / "out"), "the record")
    assert [
        row["return_code"] for path in node_files(tmp_path / "out") for each in records(path) for row in each.exits
    ] == [7]
