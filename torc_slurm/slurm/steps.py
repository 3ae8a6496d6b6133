"""Lists and signals the steps of a running allocation, and checks whether the allocation itself still runs.

Steps are ended through the controller, never by signalling srun: on SIGTERM, srun kills the step with SIGKILL at once,
and no exit would be recorded.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Collection, Iterable

from torc_slurm.common.errors import CommandError, CommandTimeout
from torc_slurm.slurm.clusters import cluster_arguments, without_headings
from torc_slurm.slurm.commands import query_environment, run
from torc_slurm.slurm.states import may_have_processes

TIMEOUT_SECONDS = 20.0
_KILL_WAIT_SECONDS, _KILL_PAUSE_SECONDS = 60.0, 0.5
_STATE = re.compile(r"[A-Z][A-Z_]+", re.ASCII)


def running_steps(slurm_job_id: int) -> dict[str, str]:
    """Step numbers by step name, of the steps that run now (see `commands.run` for errors)."""
    text = _squeue(["--steps", "--jobs", str(slurm_job_id), "--format", "%i|%j"])
    return {name: step.rpartition(".")[2] for step, _, name in (line.partition("|") for line in text.splitlines())}


def job_state(slurm_job_id: int, cluster: str | None = None) -> str | None:
    """``RUNNING``, ``COMPLETING``, …; None if the job is unknown, which means that it ended long ago.

    Raises:
        CommandError, CommandNotFound, CommandTimeout: the controller does not answer.
    """
    try:
        chosen = [*cluster_arguments(cluster), "--states", "all", "--jobs", str(slurm_job_id), "--format", "%T"]
        lines = [line.strip() for line in without_headings(_squeue(chosen))]
    except CommandTimeout:
        raise
    except CommandError as error:
        if "Invalid job id" in error.stderr:
            return None
        raise
    states = [line for line in lines if _STATE.fullmatch(line)] or lines  # a site's wrapper may print other lines
    return next((state for state in states if is_running(state)), states[0] if states else None)


def is_running(state: str | None) -> bool:
    """Whether a job in that state (None: unknown to Slurm) can have processes."""
    return state is not None and may_have_processes(state)


def signal_steps(slurm_job_id: int, steps: Collection[str], signal_name: str) -> None:
    """Ask the controller to send a signal (``TERM``, ``KILL``) once to every process of these steps.

    It is not an error if a step has already ended, or if the allocation is ending (Slurm has signalled its steps then).

    Raises:
        CommandNotFound, CommandTimeout: scancel is missing or hangs.
        CommandError: it failed in another way.
    """
    if not steps:
        return
    names = [f"{slurm_job_id}.{step}" for step in sorted(steps)]
    try:
        run(
            ["scancel", "--ctld", f"--signal={signal_name}", *names],
            timeout_seconds=TIMEOUT_SECONDS,
            environment=query_environment(),
        )
    except CommandTimeout:
        raise
    except CommandError as error:
        if not _only_says_it_is_over(error.stderr.splitlines()):
            raise


def kill_step_and_wait(slurm_job_id: int, name: str) -> bool:
    """Kill the step of that name, if there is one; whether Slurm says within a minute that there is none (any more)."""
    deadline = time.monotonic() + _KILL_WAIT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(CommandError):
            step = running_steps(slurm_job_id).get(name)
            if step is None:
                return True
            signal_steps(slurm_job_id, [step], "KILL")
        time.sleep(_KILL_PAUSE_SECONDS)
    return False


def _only_says_it_is_over(lines: Iterable[str]) -> bool:
    words = ("Invalid job id", "already completing or completed")
    return all(any(word in line for word in words) for line in lines if line.strip())


def _squeue(arguments: list[str]) -> str:
    return run(["squeue", "--noheader", *arguments], timeout_seconds=TIMEOUT_SECONDS, environment=query_environment())
