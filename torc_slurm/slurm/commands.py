"""Runs Slurm's commands: the only module of the project that starts them.

Each call has a time limit (sacct and sacctmgr can hang while slurmdbd is down), a closed stdin, and its own session,
which is killed as a whole at the limit. An error keeps argv, exit status and stderr.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from torc_slurm.common.errors import CommandError, CommandNotFound, CommandTimeout, InputError
from torc_slurm.slurm import environment

LOGIN_TIMEOUT_SECONDS = 60.0
EPILOG_TIMEOUT_SECONDS = 20.0
SCONTROL_TIMEOUT_SECONDS = 10.0
TIMEOUT_VARIABLE = "TORC_SACCT_TIMEOUT_SECONDS"

_NOT_FOUND_REMEDY = "load the module that brings Slurm's commands, or run this where they are installed"
_TIMEOUT_REMEDY = f"try again later, or allow it more time with {TIMEOUT_VARIABLE}"
_AFTER_KILL_SECONDS = 2.0
_PIECE_BYTES = 1 << 18
_MOST_MESSAGES_BYTES = 1 << 16


def sacct_timeout_seconds(default: float) -> float:
    """The time limit for sacct: ``TORC_SACCT_TIMEOUT_SECONDS`` if set, else the default.

    Raises:
        InputError: the variable is not a number over 0.
    """
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86400:
        raise InputError(f"{TIMEOUT_VARIABLE}={text!r} is not a time limit; give seconds over 0, such as 60")
    return seconds


def query_environment() -> dict[str, str]:
    """This process's environment for a query to Slurm (see `environment.query_environment`)."""
    return environment.query_environment(os.environ)


def sacct(arguments: Sequence[str], *, timeout_seconds: float) -> str:
    """The stdout of ``sacct`` with these arguments (see `run` for errors)."""
    return run(["sacct", *arguments], timeout_seconds=timeout_seconds, environment=query_environment())


def scontrol(arguments: Sequence[str], *, timeout_seconds: float = SCONTROL_TIMEOUT_SECONDS) -> str:
    """The stdout of ``scontrol`` with these arguments (see `run` for errors)."""
    return run(["scontrol", *arguments], timeout_seconds=timeout_seconds, environment=query_environment())


def run(argv: Sequence[str], *, timeout_seconds: float, environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return its stdout. Bytes that are not UTF-8 become ``\\xNN``.

    Raises:
        CommandError: as `run_with_messages`.
    """
    return run_with_messages(argv, timeout_seconds=timeout_seconds, environment=environment)[0]


def run_with_messages(
    argv: Sequence[str], *, timeout_seconds: float, environment: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Like `run`, but also returns stderr: plugins of a site print messages for the user there.

    Raises:
        CommandNotFound: no such command on PATH.
        CommandTimeout: it did not end within the limit; it and its children have been killed.
        CommandError: it could not be started, or exited non-zero.
    """
    process = _start(list(argv), environment)
    try:
        stdout, stderr = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise CommandTimeout(list(argv), timeout_seconds, _TIMEOUT_REMEDY) from None
    except BaseException:
        _kill(process)
        raise
    if process.returncode != 0:
        raise CommandError(list(argv), process.returncode, _text(stderr))
    return _text(stdout), _text(stderr)


def stream(
    argv: Sequence[str], *, timeout_seconds: float, environment: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """Start a command; its stdout comes in pieces. If the caller stops reading, the command is killed.

    Raises:
        CommandNotFound, CommandTimeout, CommandError: as `run_with_messages`, the last two while the caller reads,
            perhaps after some pieces.
    """
    pieces = _stream(argv, timeout_seconds, environment)
    next(pieces)
    return pieces


def _stream(argv: Sequence[str], timeout_seconds: float, environment: Mapping[str, str] | None) -> Iterator[bytes]:
    """An empty piece when the command has started, then its stdout."""
    left = timeout_seconds  # the caller's own time between two pieces does not count
    with tempfile.TemporaryFile() as messages:
        process = _start(list(argv), environment, stderr=messages)
        assert process.stdout is not None
        try:
            yield b""
            with selectors.DefaultSelector() as ready:
                ready.register(process.stdout, selectors.EVENT_READ)
                while True:
                    asked_at = time.monotonic()
                    if left <= 0 or not ready.select(left):
                        raise CommandTimeout(list(argv), timeout_seconds, _TIMEOUT_REMEDY)
                    left -= time.monotonic() - asked_at
                    piece = os.read(process.stdout.fileno(), _PIECE_BYTES)
                    if not piece:
                        break
                    yield piece
            try:
                returncode = process.wait(max(0.0, left))
            except subprocess.TimeoutExpired:
                raise CommandTimeout(list(argv), timeout_seconds, _TIMEOUT_REMEDY) from None
        finally:
            if process.returncode is None:
                _kill(process)
            else:
                process.stdout.close()
        if returncode != 0:
            messages.seek(0)
            raise CommandError(list(argv), returncode, _text(messages.read(_MOST_MESSAGES_BYTES)))


def _text(output: bytes) -> str:
    return output.decode("utf-8", "backslashreplace")


def _start(
    argv: list[str], environment: Mapping[str, str] | None, stderr: int | IO[bytes] = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise CommandNotFound(argv, _NOT_FOUND_REMEDY) from None
    except OSError as error:
        raise CommandError(argv, None, str(error)) from error


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the command's process group. Does not wait long for a child that left the group and keeps the pipe open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_AFTER_KILL_SECONDS)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
