"""The keeper of a cluster: starts its namespaces, waits for a reason to end them, and removes the cluster.

It ends the cluster on SIGTERM (from `down`); when the command that started the cluster exits, for any reason, unless
that command has left the file that says "the cluster stays"; and when the namespaces end by themselves. If the keeper
is killed, the kernel ends the namespaces with it, and only the directory stays: the next `up` or `run` removes it.

Run as: python -m virtual_cluster.keeper DIR CALLER_FD ALIVE_FD
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from slurm_lab import alive_lock
from slurm_lab.places import DETACHED, save
from slurm_lab.processes import stop_signal

from . import state
from .state import Cluster

PACKAGE_PARENT = Path(__file__).resolve().parent.parent
NAMESPACE = Path(__file__).with_name("namespace")
PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 1.0


def start(cluster: Cluster, caller: int, alive: int) -> int:
    """Start the keeper, which holds both descriptors; returns its process id."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(PACKAGE_PARENT)}
    with open(cluster.dir / state.KEEPER_LOG, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-B", "-m", "virtual_cluster.keeper", str(cluster.dir), str(caller), str(alive)],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[caller, alive],
            start_new_session=True,
        )
    return process.pid


def keep(directory: Path, caller: int) -> None:
    """Start the namespaces, wait, remove the cluster."""
    cluster = state.load(directory)
    stop = stop_signal()
    try:
        namespaces = _start_namespaces(cluster)
        _wait_for_the_end(cluster, namespaces, caller, stop)
        namespaces.kill()
        namespaces.wait()
    finally:
        take_away(directory, cluster.made_dir)


def _start_namespaces(cluster: Cluster) -> subprocess.Popen[bytes]:
    image = cluster.image
    words: list[str | Path] = [
        cluster.dir,
        image.kernel,
        image.root,
        image.environment,
        image.project,
        *cluster.settings.machines,
    ]
    unshare = ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child", "--propagation", "private"]
    namespaces = subprocess.Popen([*unshare, NAMESPACE, *words], preexec_fn=_die_with_parent)
    init = _only_child(namespaces)
    save(replace(cluster, keeper=os.getpid(), init=init), cluster.dir / state.STATE)
    return namespaces


def _only_child(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        try:
            found = children.read_text().split()
        except OSError:
            found = []
        if found:
            return int(found[0])
        select.select([], [], [], 0.01)
    return 0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_for_the_end(cluster: Cluster, namespaces: subprocess.Popen[bytes], caller: int, stop: int) -> None:
    watched = [caller, stop]
    while namespaces.poll() is None and state.exists(cluster.dir):
        ready, _, _ = select.select(watched, [], [], LOOK_SECONDS)
        if ready == [caller] and (cluster.dir / DETACHED).exists():
            watched.remove(caller)
        elif ready:
            return


def take_away(directory: Path, made_dir: bool) -> None:
    """Remove a cluster's files; its processes and mounts ended with its namespaces."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.name not in (alive_lock.ALIVE, state.STATE):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in (alive_lock.ALIVE, state.STATE):
        (directory / name).unlink(missing_ok=True)
    if made_dir and directory.is_dir():
        directory.rmdir()


if __name__ == "__main__":
    keep(Path(sys.argv[1]), int(sys.argv[2]))
