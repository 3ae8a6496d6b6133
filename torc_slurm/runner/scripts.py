"""Commands that are not jobs: of actions, and recovery scripts. They run next to the runner, on its host."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torc_slurm.files.output_names import STDIO_DIR
from torc_slurm.files.shared_directory import make_shared_directory
from torc_slurm.runner.children import Children
from torc_slurm.runner.launcher import LaunchError
from torc_slurm.runner.step_command import NOT_INHERITED
from torc_slurm.spec.plan import Plan


@dataclass(frozen=True)
class Script:
    """Commands for ``bash -c``, one after another until one fails; ``log`` names their output file."""

    title: str
    commands: Sequence[str]
    log: str
    working_dir: str
    variables: Mapping[str, str]


class Scripts:
    """Runs scripts side by side, and calls back when they end."""

    def __init__(self, plan: Plan, children: Children, environ: Mapping[str, str], note: Callable[[str], None]) -> None:
        self._plan = plan
        self._children = children
        self._environ = {name: value for name, value in environ.items() if name not in NOT_INHERITED}
        self._note = note
        self._pids: set[int] = set()
        self._open = 0

    @property
    def are_running(self) -> bool:
        """Whether any script still runs."""
        return self._open > 0

    def run(self, script: Script, done: Callable[[int], None]) -> None:
        """Start a script. ``done`` gets the exit status of the command that failed, else 0."""
        self._open += 1
        self._next(script, 0, done)

    def run_all(self, scripts: Sequence[Script], done: Callable[[], None]) -> None:
        """Run scripts one after another. A failure is reported, and the next one runs."""
        if not scripts:
            done()
            return

        def ended(_status: int) -> None:
            self.run_all(scripts[1:], done)

        self.run(scripts[0], ended)

    def end(self) -> None:
        """Ask running scripts to end; start no next command."""
        for pid in self._pids:
            self._children.signal_group(pid, signal.SIGTERM)

    def path_of(self, script: Script) -> str:
        """The path of its output."""
        return os.path.join(self._plan.output_dir, STDIO_DIR, script.log)

    def _next(self, script: Script, index: int, done: Callable[[int], None]) -> None:
        if index == len(script.commands):
            self._finish(script, 0, done)
            return
        pids: list[int] = []

        def ended(status: int) -> None:
            self._pids.difference_update(pids)
            if status:
                self._finish(script, status, done)
            else:
                self._next(script, index + 1, done)

        try:
            pids.append(self._start(script, index, ended))
            self._pids.update(pids)
        except LaunchError as error:
            self._note(f"{script.title}: {error}")
            self._finish(script, 1, done, is_reported=True)

    def _start(self, script: Script, index: int, ended: Callable[[int], None]) -> int:
        path = self.path_of(script)
        how = os.O_APPEND if index else os.O_TRUNC
        try:
            make_shared_directory(os.path.dirname(path))
            log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o666)
        except OSError as error:
            raise LaunchError(f"its output cannot be written to {path}: {error.strerror}") from error
        try:
            return self._children.start(
                ["bash", "-c", script.commands[index]],
                ended,
                cwd=script.working_dir,
                environment=self._environ | dict(script.variables),
                stdout=log,
                stderr=log,
            )
        finally:
            os.close(log)

    def _finish(self, script: Script, status: int, done: Callable[[int], None], *, is_reported: bool = False) -> None:
        self._open -= 1
        if status and not is_reported:
            self._note(f"{script.title} failed with exit code {status}: see {self.path_of(script)}")
        done(status)
