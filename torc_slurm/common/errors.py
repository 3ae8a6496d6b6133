"""Every error that torc-slurm raises on purpose; each message says what failed, with which value, and the remedy.

TorcError                    could not be done: exit status 1
├── InputError               the user's input is wrong: exit status 2
│   ├── UnwritableError      it names a place that cannot be written
│   └── ProblemsError        wrong in several places: one line for each
│       ├── SpecError        a workflow file is wrong
│       └── MisfitError      jobs that never fit the allocation
├── CommandError             a command (sacct, sbatch, …) failed
│   ├── CommandNotFound      it is not installed or not on PATH
│   └── CommandTimeout       it did not answer within its time limit
├── ParseError               a command's output or a file's text does not have its documented form
└── DatabaseError            a node file or the main database cannot be used
    └── NodeFileBusy         a process is writing it: a later collect will read it
"""

from __future__ import annotations

import errno


class TorcError(Exception):
    """Base of all: ``str(error)`` is one line for the user."""

    exit_status = 1


class InputError(TorcError):
    """The user's input is wrong; the message names the input and what to give instead."""

    exit_status = 2


class UnwritableError(InputError):
    """The path that the user gave cannot be written; exit status 1, because the input itself is not wrong."""

    def __init__(self, path: str, error: OSError, remedy: str) -> None:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            self.exit_status = TorcError.exit_status
        super().__init__(f"{path} cannot be written: {error.strerror or error}; {remedy}")


class ProblemsError(InputError):
    """Input that is wrong in several places; ``lines`` has one line per problem, up to a limit."""

    MOST_LINES = 20

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        self.lines = problems[: self.MOST_LINES]
        if len(problems) > self.MOST_LINES:
            self.lines.append(f"… and {len(problems) - self.MOST_LINES} more problems")
        super().__init__("; ".join(self.lines))


class SpecError(ProblemsError):
    """A workflow file is wrong: each problem with its file and line."""


class MisfitError(ProblemsError):
    """Jobs that never fit the requested allocation: each with both sizes."""


class CommandError(TorcError):
    """A command failed: keeps its argv, exit status (None if it did not start or end) and stderr."""

    def __init__(self, argv: list[str], returncode: int | None, stderr: str, remedy: str = "") -> None:
        self.argv = argv
        self.returncode = returncode
        self.stderr = stderr
        self.remedy = remedy
        super().__init__(self._message())

    def _message(self) -> str:
        said = " ".join(self.stderr.split()) or "it said nothing"
        message = f"{self.argv[0]} failed (exit status {self.returncode}): {said}"
        return f"{message}; {self.remedy}" if self.remedy else message


class CommandNotFound(CommandError):
    """The command does not exist."""

    def __init__(self, argv: list[str], remedy: str = "") -> None:
        super().__init__(argv, None, "", remedy)

    def _message(self) -> str:
        message = f"{self.argv[0]} was not found on PATH"
        return f"{message}; {self.remedy}" if self.remedy else message


class CommandTimeout(CommandError):
    """The command was killed because it did not answer in time."""

    def __init__(self, argv: list[str], timeout_seconds: float, remedy: str = "") -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(argv, None, "", remedy)

    def _message(self) -> str:
        message = f"{self.argv[0]} did not answer within {self.timeout_seconds:g} s"
        return f"{message}; {self.remedy}" if self.remedy else message


class ParseError(TorcError):
    """A program's output does not have its documented form."""


class DatabaseError(TorcError):
    """A SQLite file of ours cannot be read or written; the message names the file."""


class NodeFileBusy(DatabaseError):
    """The node file changed while it was copied; reading it later will work."""
