"""The files that a job was to make: whether they are there once it has exited 0."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

from torc_slurm.usecases.inputs import on_disk

_MOST_NAMED = 3


def missing_outputs(paths: Sequence[str], working_dir: str, patience_seconds: float) -> list[str]:
    """Those of the files that are not there.

    Args:
        patience_seconds: how long to wait for what another host has just written, on a shared file system.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        missing = [path for path in paths if not os.path.exists(on_disk(path, working_dir))]
        if not missing or time.monotonic() >= deadline:
            return missing
        for directory in {os.path.dirname(on_disk(path, working_dir)) for path in missing}:
            with contextlib.suppress(OSError):
                os.listdir(directory)  # what an NFS client remembers of it is read again
        time.sleep(0.25)


def missing_words(missing: Sequence[str]) -> str:
    """The reason of a job that exited 0 and did not make all its files."""
    named = ", ".join(missing[:_MOST_NAMED])
    more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    return f"it exited 0 but did not create {named}{more}"
