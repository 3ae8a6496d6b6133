"""Starts jobs with posix_spawn, through the launcher: 1 to 2 ms less than a fork of Python (2026-11-29).

The launcher (``torc-step --start-job``) does in the new process what must happen there, and becomes the job.
"""

from __future__ import annotations

import os
import time

from torc_slurm.step.job import OOM_SCORE_RAISE, Job, set_aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence

    from torc_slurm.step.job import Received
else:
    import _signal

_CAN_START_JOBS = 77  # the same as in launcher/torc_step.c


class Spawner:
    """Starts jobs after `take_signals`. ``launcher``: the compiled torc-step."""

    def __init__(self, launcher: str, received: Received) -> None:
        self._launcher = launcher
        self._received = received
        self._option = f"--start-job={os.getpid()},{OOM_SCORE_RAISE}"

    def can_start_jobs(self) -> bool:
        """Whether the launcher runs here and knows how."""
        if self._received.sigchld == _signal.SIG_IGN:  # posix_spawn cannot give that back to a job
            return False
        try:
            quiet = [(os.POSIX_SPAWN_OPEN, output, os.devnull, os.O_WRONLY, 0) for output in (1, 2)]
            _, status = os.waitpid(self._spawn([], {}, quiet), 0)
        except (OSError, AttributeError):
            return False
        return os.WIFEXITED(status) and os.WEXITSTATUS(status) == _CAN_START_JOBS

    def start(self, command: list[str], environment: dict[bytes, bytes]) -> Job:
        """Start a job, as `job.fork_job` does.

        Raises:
            OSError: no other process could be started.
        """
        begin_time, begin_monotonic = time.time(), time.monotonic()
        return Job(self._spawn(command, set_aside(environment)), begin_time, begin_monotonic, is_spawned=True)

    def _spawn(
        self,
        command: list[str],
        environment: dict[bytes, bytes],
        files: Sequence[tuple[int, int, str, int, int]] = (),
    ) -> int:
        return os.posix_spawn(
            self._launcher,
            ["torc-step", self._option, *command],
            environment,
            file_actions=files,
            setsigmask=self._received.mask,
            setsigdef=(_signal.SIGPIPE, _signal.SIGXFSZ),  # Python ignores them
        )
