"""Removes a lab: its processes, cgroups, mounts, user and directory, whatever its state.

Nothing in a lab needs an orderly shutdown, so everything is killed. A sweep can be interrupted and repeated, and two at
once do no harm: it works from the state file, which it removes last.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import alive_lock, cgroups, processes, users
from . import lab as labs
from .errors import LabError
from .lab import Lab
from .waiting import wait_until

KILL_LIMIT_SECONDS = 20.0


def sweep(directory: Path, lab_id: str | None = None) -> None:
    """Remove the lab in `directory`, only that of `lab_id` if given; does nothing if there is none."""
    with one_at_a_time(directory):
        if labs.exists(directory):
            lab = labs.load(directory)
            if lab_id in (None, lab.settings.id):
                take_away(lab)


def take_away(lab: Lab) -> None:
    """The sweep itself; it needs nothing from the directory, which may no longer exist."""
    if not wait_until(lambda: _kill_members(lab) == 0, KILL_LIMIT_SECONDS):
        raise LabError(f"processes of the lab in {lab.dir} cannot be killed: {sorted(_members(lab))}")
    for tree in _cgroups(lab):
        if not cgroups.remove(tree):
            raise LabError(f"cgroup {tree} cannot be removed: see its cgroup.procs")
    users.release(lab)
    _unmount_below(lab.dir)
    if lab.dir.is_dir():
        _remove_directory(lab)


def _cgroups(lab: Lab) -> list[Path]:
    own = cgroups.of_lab(lab.settings.id)
    return [*cgroups.of_nodes(lab.settings.nodes), *([own] if own and own.is_dir() else [])]


def _members(lab: Lab) -> set[int]:
    """Everything in the lab's cgroups; without cgroups, the processes whose environment has the lab's mark."""
    in_steps = (f"SLURMD_NODENAME={name}" for name in lab.settings.nodes)
    found = processes.with_environment([f"{labs.MEMBER_VARIABLE}={lab.settings.id}", *in_steps])
    for tree in _cgroups(lab):
        found |= {pid for pid in cgroups.processes(tree) if processes.is_running(pid)}
    return found - {os.getpid()}


def _kill_members(lab: Lab) -> int:
    own = cgroups.of_lab(lab.settings.id)
    if own is not None:
        cgroups.kill_all(own)
    members = _members(lab)
    processes.kill(members)
    for tree in cgroups.of_nodes(lab.settings.nodes):
        cgroups.thaw(tree)
    return len(members)


def _unmount_below(directory: Path) -> None:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1] for line in lines]
    for point in sorted((p for p in points if p.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)


def _remove_directory(lab: Lab) -> None:
    last = (alive_lock.ALIVE, labs.STATE)
    for path in lab.dir.iterdir():
        if path.name not in last:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in last:
        (lab.dir / name).unlink(missing_ok=True)
    if lab.made_dir:
        lab.dir.rmdir()


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """One sweep of a directory at a time. The lock is on the directory itself and so leaves no file."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
