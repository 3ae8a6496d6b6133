"""The two keepers of a lab: whatever happens, one of them is left to sweep it.

They are started before anything else of the lab is, and live outside its cgroup. Each waits for one of:
SIGTERM (that is `down`); the end of the command that started the lab, which closes its end of a pipe by
dying, however it dies; the other keeper's end. Then it sweeps. `up` leaves a file that says "the lab stays"
before it ends. If both are killed at one stroke the lab is stale: the next command on its directory finds its
lock free and sweeps.

Run as: python -m slurm_lab.keeper DIR LAB_ID CALLER_FD PEER_FD; it inherits further descriptors only to hold
them open.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import cgroups
from . import lab as labs
from .sweep import sweep

PACKAGE_PARENT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Keepers:
    """What the command that started them holds: while `caller` is open here, they know that it lives."""

    pids: tuple[int, int]
    caller: int


def start(directory: Path, lab_id: str, held: list[int]) -> Keepers:
    """Start both, each with its end of a socket pair, and both with the caller's pipe and `held`."""
    read_end, write_end = os.pipe()
    first, second = socket.socketpair()
    pids = (
        _start_one(directory, lab_id, read_end, first.fileno(), held),
        _start_one(directory, lab_id, read_end, second.fileno(), held),
    )
    os.close(read_end)
    first.close()
    second.close()
    return Keepers(pids, write_end)


def _start_one(directory: Path, lab_id: str, caller: int, peer: int, held: list[int]) -> int:
    # A bare environment: a keeper must not look like a member of a lab that it was started in.
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(PACKAGE_PARENT)}
    with open(directory / "log" / "keeper.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-B", "-m", "slurm_lab.keeper", str(directory), lab_id, str(caller), str(peer)],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[caller, peer, *held],
            start_new_session=True,
        )
    return process.pid


def keep(directory: Path, lab_id: str, caller: int, peer: int) -> None:
    """Wait for a reason to sweep, then sweep."""
    stop = _stop_signal()
    # Out of any lab's cgroup that the caller may be in: that lab's end is not this one's.
    hierarchy = cgroups.unified()
    if hierarchy is not None:
        cgroups.join(hierarchy)
    watched = [caller, peer, stop]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if ready == [caller] and (directory / labs.DETACHED).exists():
            watched.remove(caller)
            continue
        sweep(directory, lab_id)
        return


def _stop_signal() -> int:
    """A descriptor that becomes readable on SIGTERM; what a terminal or a hang-up sends is ignored."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(write_end)
    return read_end


if __name__ == "__main__":
    keep(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
