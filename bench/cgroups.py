"""A memory cgroup below this process's own, which shows what a few processes are charged. None if there can be none."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import send

_GIVE_UP_SECONDS = 5.0


@contextmanager
def memory_cgroup(name: str) -> Iterator[str | None]:
    """The new cgroup's directory (v1, else v2), removed at the end; None if this user may not make one."""
    directory = _make(name)
    try:
        yield directory
    finally:
        if directory is not None:
            _remove(directory)


def _make(name: str) -> str | None:
    above = _own_directory()
    if above is None:
        return None
    directory = f"{above}/{name}"
    try:
        os.mkdir(directory)
    except OSError:
        return None
    if os.path.exists(f"{directory}/memory.stat") and os.access(f"{directory}/cgroup.procs", os.W_OK):
        return directory
    _remove(directory)
    return None


def _own_directory() -> str | None:
    """This process's place in the memory hierarchy, from /proc/self/cgroup and the usual mount points."""
    paths = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    for controller, mount in (("memory", "/sys/fs/cgroup/memory"), ("", "/sys/fs/cgroup")):
        directory = mount + paths.get(controller, "").rstrip("/")
        if controller in paths and os.path.exists(f"{directory}/cgroup.procs"):
            return directory
    return None


def _remove(directory: str) -> None:
    """End the processes in it (only this bench puts any there), and wait until the kernel releases it."""
    for pid in Path(directory, "cgroup.procs").read_text().split():
        send(int(pid), signal.SIGKILL)
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    while True:
        try:
            os.rmdir(directory)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
