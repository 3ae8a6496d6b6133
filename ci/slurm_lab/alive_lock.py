"""The lock in a directory that means "this is alive": of a lab here, of a cluster in `virtual_cluster`."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .errors import LabError

ALIVE = "alive"


def hold(directory: Path, taken: str) -> int:
    """Take the lock and return its descriptor, which the keepers inherit; `taken` is the error's text.

    The kernel releases it when the last process that holds the descriptor has exited, for any reason.
    """
    descriptor = os.open(directory / ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise LabError(taken) from None
    return descriptor


def is_held(directory: Path) -> bool:
    """Whether any process holds the lock. The check takes it for an instant."""
    try:
        descriptor = os.open(directory / ALIVE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
