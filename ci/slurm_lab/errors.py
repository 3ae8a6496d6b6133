"""The two errors of the lab's commands, and their exit statuses."""

from __future__ import annotations

from pathlib import Path


class LabError(Exception):
    """Something failed: exit status 1. `logs` are the files whose ends show why."""

    exit_status = 1

    def __init__(self, message: str, logs: tuple[Path, ...] = ()) -> None:
        super().__init__(message)
        self.logs = logs


class UsageError(LabError):
    """The input was wrong, nothing was done: exit status 2."""

    exit_status = 2
