"""Control groups of a test's own, of either version of the kernel's interface."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measured import await_that

_MOUNT = Path("/sys/fs/cgroup")


class ControlGroup:
    """One directory; what is started in it ends before it does."""

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self.version = version

    def limit(self, **files: str) -> None:
        """Write into its files; a double underscore stands for the dot of their names."""
        for name, text in files.items():
            (self.path / name.replace("__", ".")).write_text(text)

    def enter(self) -> None:
        """For a new process before it becomes the program."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def processes(self) -> list[str]:
        return (self.path / "cgroup.procs").read_text().split()


@contextmanager
def control_group(controller: str) -> Iterator[ControlGroup]:
    """Fails where the kernel has no such controller, or where it is not ours to use."""
    is_v2 = (_MOUNT / "cgroup.controllers").exists()
    above = _MOUNT if is_v2 else _MOUNT / controller
    if is_v2:
        (above / "cgroup.subtree_control").write_text(f"+{controller}")
    group = ControlGroup(above / f"torc-test-{os.getpid()}", 2 if is_v2 else 1)
    group.path.mkdir()
    try:
        yield group
    finally:
        await_that(lambda: not group.processes(), "the group's processes ended")
        group.path.rmdir()
