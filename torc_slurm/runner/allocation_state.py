"""The end of the runner's allocation: whether Slurm is ending it, and how long steps may take to end."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace

from torc_slurm.common.errors import TorcError
from torc_slurm.runner.attempts import Ended, Evidence
from torc_slurm.slurm import steps
from torc_slurm.slurm.allocation import Allocation

_STATE_AGE_SECONDS = 1.0

# Time between the jobs' SIGKILL and the allocation's end, for the journal and the epilog; at most half of the rest.
AFTERWARDS_SECONDS = 30.0
LONGEST_GRACE_SECONDS = 120.0


def grace_seconds(allocation: Allocation, now: float) -> float:
    """How long steps that are asked to end at ``now`` may take; pure.

    Before the time limit, all the time that is left, so that jobs can save their data. Else scancel sent the signal:
    then only KillWait is left, and the runner needs a part of it.
    """
    shortest = min(10.0, allocation.kill_wait_seconds / 3)
    left = None if allocation.end_time is None else allocation.end_time - now
    if left is None or left > LONGEST_GRACE_SECONDS + 2 * AFTERWARDS_SECONDS:
        return shortest
    return max(shortest, left - min(AFTERWARDS_SECONDS, left / 2))


class AllocationState:
    """Whether Slurm is ending the allocation; asked at most once a second, however many steps die at once."""

    def __init__(self, slurm_job_id: int) -> None:
        self._slurm_job_id = slurm_job_id
        self._lock = threading.Lock()
        self._asked_at = -_STATE_AGE_SECONDS
        self._is_ending = False

    def is_ending(self) -> bool:
        """Called from threads. If Slurm does not answer, the last answer counts (at first: False)."""
        with self._lock:
            if time.monotonic() - self._asked_at >= _STATE_AGE_SECONDS:
                with contextlib.suppress(TorcError):
                    self._is_ending = steps.job_state(self._slurm_job_id) != "RUNNING"
                self._asked_at = time.monotonic()
            return self._is_ending

    def end_leftover_step(self, end: Ended, step_name: str) -> tuple[Ended, Evidence]:
        """Called from threads. End the step of an srun that failed or was killed, unless Slurm ends the allocation."""
        if self.is_ending():
            return end, Evidence(allocation_is_ending=True)
        return replace(end, is_gone=steps.kill_step_and_wait(self._slurm_job_id, step_name)), Evidence()


def unless_failed(found: tuple[Ended, Evidence] | Exception, end: Ended) -> tuple[Ended, Evidence]:
    """What `AllocationState.end_leftover_step` found out; if it failed, the step may still run."""
    return (replace(end, is_gone=False), Evidence()) if isinstance(found, Exception) else found
