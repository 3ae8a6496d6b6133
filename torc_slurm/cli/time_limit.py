"""A time limit for a command that must never block its caller."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import NoReturn

from torc_slurm.common.errors import TorcError


@contextlib.contextmanager
def fail_after(seconds: int) -> Iterator[None]:
    """Limit the body's time: after it, raise a TorcError, even if a file system does not answer."""

    def give_up(_signal: int, _frame: object) -> NoReturn:
        raise TorcError(f"given up after {seconds} s; run torc slurm collect on the login node")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
