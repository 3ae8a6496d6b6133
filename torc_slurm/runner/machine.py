"""What this machine has for jobs outside Slurm: CPUs that this process may use, memory within its cgroup, GPUs."""

from __future__ import annotations

import glob
import os

from torc_slurm.common.units import MIB
from torc_slurm.runner.placement import Node

_CGROUP_LIMITS = ("/sys/fs/cgroup{path}/memory.max", "/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")


def this_machine() -> Node:
    """This machine as a node, with its short host name."""
    return Node(
        name=os.uname().nodename.partition(".")[0],
        cpus=usable_cpus(),
        memory_mib=usable_memory_bytes() // MIB,
        gpus=len(glob.glob("/dev/nvidia[0-9]*")),
    )


def usable_cpus() -> int:
    """The CPUs that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def usable_memory_bytes() -> int:
    """The machine's memory, or the limit of this process's cgroup if that is smaller."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
            limits = cgroup_limits(file.read())
    except OSError:
        limits = []
    return min([total, *limits])


def cgroup_limits(text: str) -> list[int]:
    """The memory limits in bytes of the cgroups in ``/proc/self/cgroup`` and of those above them."""
    found: list[int] = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory") or "memory" in controllers.split(","):
            pattern = _CGROUP_LIMITS[0] if controllers == "" else _CGROUP_LIMITS[1]
            while True:
                found += _limit(pattern.format(path=path.rstrip("/")))
                if path in ("", "/"):
                    break
                path = os.path.dirname(path)
    return found


def _limit(path: str) -> list[int]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() else []
