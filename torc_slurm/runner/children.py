"""Child processes of the runner: started in their own sessions, reaped on SIGCHLD."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torc_slurm.runner.launcher import LaunchError
from torc_slurm.runner.loop import Loop


class _Child(NamedTuple):
    wait: Callable[[], int]
    on_end: Callable[[int], None]


class Children:
    """Starts processes and calls back with their exit status as a shell has it: 128 + signal if a signal killed them.

    Each has its own session: a Ctrl-C at the terminal goes only to the runner, which ends its children in order.
    """

    def __init__(self, loop: Loop) -> None:
        self._children: dict[int, _Child] = {}
        loop.on_signal(signal.SIGCHLD, self._reap)

    def start(
        self,
        argv: Sequence[str],
        on_end: Callable[[int], None],
        *,
        cwd: str,
        environment: Mapping[str, str],
        stdout: int,
        stderr: int,
        pass_fds: Sequence[int] = (),
        stdin: int = subprocess.DEVNULL,
    ) -> int:
        """Start a process, by default with an empty stdin; returns its pid.

        Raises:
            LaunchError: it could not be started.
        """
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=dict(environment),
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(_why(error, argv[0], cwd)) from error
        except ValueError as error:  # a NUL character in a variable or a word
            raise LaunchError(f"it could not be started: {error}") from error
        self._children[process.pid] = _Child(process.wait, on_end)
        return process.pid

    def adopt(self, pid: int, on_end: Callable[[int], None]) -> None:
        """Take a child in a session of its own that `ForkServer` started."""
        self._children[pid] = _Child(lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), on_end)

    def signal(self, pid: int, number: int) -> None:
        """Signal a child that has not been reaped."""
        if pid in self._children:
            os.kill(pid, number)

    def signal_group(self, pid: int, number: int) -> None:
        """Signal a child and all processes of its session's first group."""
        if pid in self._children:
            _kill_group(pid, number)

    def _reap(self) -> None:
        for pid in tuple(self._children):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                child = self._children.pop(pid)
                # As Slurm does at the end of a step, kill what is left in its group, before its pid can be reused.
                _kill_group(pid, signal.SIGKILL)
                status = child.wait()
                child.on_end(128 - status if status < 0 else status)


def _kill_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # the group is empty


def _why(error: OSError, program: str, cwd: str) -> str:
    if error.filename == cwd:
        return f"its working directory {cwd} cannot be entered: {error.strerror}"
    return f"{program} could not be started: {error.strerror}"
