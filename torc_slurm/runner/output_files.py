"""Checks that the files a job must create exist after it has exited 0."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

from torc_slurm.records.statuses import FAILED
from torc_slurm.runner.attempts import Outcome
from torc_slurm.usecases.inputs import on_disk

_MOST_NAMED = 3


def missing_outputs(paths: Sequence[str], working_dir: str, patience_seconds: float) -> list[str]:
    """The files that do not exist.

    Args:
        patience_seconds: how long to wait for files that another host has just written, on a shared file system.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        missing = [path for path in paths if not os.path.exists(on_disk(path, working_dir))]
        if not missing or time.monotonic() >= deadline:
            return missing
        for directory in {os.path.dirname(on_disk(path, working_dir)) for path in missing}:
            with contextlib.suppress(OSError):
                os.listdir(directory)  # makes an NFS client read the directory again
        time.sleep(0.25)


def _missing_words(missing: Sequence[str]) -> str:
    """The reason for a job that exited 0 but did not create all its files."""
    named = ", ".join(missing[:_MOST_NAMED])
    more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    return f"it exited 0 but did not create {named}{more}"


def without_files(outcome: Outcome, missing: list[str] | Exception) -> Outcome:
    """The outcome of a job that exited 0, after checking its files."""
    if isinstance(missing, Exception):
        return Outcome(FAILED, outcome.return_code, f"it exited 0, but its files could not be checked: {missing}")
    return Outcome(FAILED, outcome.return_code, _missing_words(missing)) if missing else outcome
