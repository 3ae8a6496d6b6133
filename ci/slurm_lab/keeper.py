"""The two keepers of a lab: whatever happens, one of them is left to remove it.

They start before anything else of the lab, and live outside its cgroup. Each waits for one of: SIGTERM (from `down`);
the end of the command that started the lab, whose end of a pipe then closes; the other keeper's end; the removal of the
lab's directory. Then it sweeps. `up` leaves a file that says "the lab stays" before it exits. If both are killed at
once, the lab is stale: the next command on its directory finds its lock free and sweeps.

Run as: python -m slurm_lab.keeper DIR LAB_ID CALLER_FD PEER_FD; it inherits further descriptors only to hold them open.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import cgroups
from . import lab as labs
from .lab import Lab
from .places import DETACHED
from .processes import stop_signal
from .sweep import one_at_a_time, take_away

# How often to check whether the lab's directory was removed by hand.
LOOK_SECONDS = 1.0
SWEPT = b"swept"
PACKAGE_PARENT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Keepers:
    """Held by the command that started them: while `caller` is open here, they know that the command lives."""

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


def keep(directory: Path, caller: int, peer: socket.socket) -> None:
    """Wait for a reason to sweep, then sweep. Reads what the sweep needs now, because the files may be removed
    first.
    """
    lab = labs.load(directory)
    stop = stop_signal()
    # Leave the caller's lab's cgroup, if any: the end of that lab is not the end of this one.
    hierarchy = cgroups.unified()
    if hierarchy is not None:
        cgroups.join(hierarchy)
    watched = [caller, peer.fileno(), stop]
    while labs.exists(directory):
        ready, _, _ = select.select(watched, [], [], LOOK_SECONDS)
        if ready == [caller] and (directory / DETACHED).exists():
            watched.remove(caller)
        elif ready:
            break
    _sweep_once(lab, peer)


def _sweep_once(lab: Lab, peer: socket.socket) -> None:
    """Sweep, unless the other keeper reports that it has."""
    with one_at_a_time(lab.dir):
        if not _has_swept(peer):
            take_away(lab)
            with contextlib.suppress(OSError):
                peer.send(SWEPT)


def _has_swept(peer: socket.socket) -> bool:
    """Nothing to read is no answer yet; an end without a message means that it died."""
    try:
        return peer.recv(len(SWEPT), socket.MSG_DONTWAIT) == SWEPT
    except OSError:
        return False


if __name__ == "__main__":
    keep(Path(sys.argv[1]), int(sys.argv[3]), socket.socket(fileno=int(sys.argv[4])))
