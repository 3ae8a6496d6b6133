"""The machine's cgroups: what Slurm can enforce with them, and the lab's own, which contains all its processes.

Slurm's trees are in the v1 hierarchies, `slurm_<node>` in each (seen on 22.05). The lab's own cgroup is in the unified
(v2) hierarchy, which Slurm's v1 plugin never touches: a process that is started in it stays in it, whatever it does to
its parents, sessions and process groups.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from .waiting import wait_until

MOUNT_POINT = Path("/sys/fs/cgroup")
NEEDED_BY_SLURM = ("freezer", "cpuset", "memory", "cpuacct")
REMOVAL_LIMIT_SECONDS = 10.0


class Mount(NamedTuple):
    path: Path
    kind: str


def _mounts() -> list[Mount]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    fields = [line.split() for line in lines]
    return [Mount(Path(row[1]), row[2]) for row in fields if row[2] in ("cgroup", "cgroup2")]


def _writable(hierarchy: Path) -> bool:
    """Tries to write: only that shows a read-only mount or a missing capability."""
    probe = hierarchy / f"torc-lab-probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


def missing_for_slurm() -> list[str]:
    """The v1 hierarchies that enforcement needs and that are missing or not writable."""
    there = {mount.path for mount in _mounts() if mount.kind == "cgroup"}
    paths = [MOUNT_POINT / name for name in NEEDED_BY_SLURM]
    return [path.name for path in paths if path not in there or not _writable(path)]


def unified() -> Path | None:
    """The mount point of the v2 hierarchy, or None if this process may not use it."""
    for mount in _mounts():
        if mount.kind == "cgroup2" and _writable(mount.path):
            return mount.path
    return None


def of_lab(lab_id: str) -> Path | None:
    hierarchy = unified()
    return hierarchy / f"torc-lab-{lab_id}" if hierarchy else None


def of_nodes(nodes: tuple[str, ...]) -> list[Path]:
    """The trees that Slurm made for these nodes, in all hierarchies."""
    paths = [mount.path / f"slurm_{node}" for mount in _mounts() for node in nodes]
    return [path for path in paths if path.is_dir()]


def _below(tree: Path) -> list[Path]:
    """The cgroups of a tree, innermost first."""
    return [Path(path) for path, _, _ in os.walk(tree, topdown=False)]


def processes(tree: Path) -> set[int]:
    found: set[int] = set()
    for cgroup in _below(tree):
        try:
            found.update(int(pid) for pid in (cgroup / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return found


def kill_all(cgroup: Path) -> None:
    """Kill all processes of a v2 cgroup at once, also those being forked. Linux 5.14; does nothing on older kernels."""
    with contextlib.suppress(OSError):
        (cgroup / "cgroup.kill").write_text("1")


def thaw(tree: Path) -> None:
    """In the v1 freezer no process dies while it is frozen, and Slurm freezes what it suspends."""
    for cgroup in _below(tree):
        with contextlib.suppress(OSError):
            (cgroup / "freezer.state").write_text("THAWED")


def remove(tree: Path) -> bool:
    """Remove an empty tree. The kernel returns EBUSY for a moment after its last process has exited: wait."""
    return wait_until(lambda: _try_to_remove(tree), REMOVAL_LIMIT_SECONDS)


def _try_to_remove(tree: Path) -> bool:
    for cgroup in _below(tree):
        try:
            cgroup.rmdir()
        except OSError:
            return not tree.exists()
    return not tree.exists()


def join(cgroup: Path) -> None:
    """Move the calling process into it."""
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))
