"""Which jobs may start, by their dependencies. Pure: no clock, no process.

jobs -> blocked | ready -> started -> ended. If a job does not complete, its dependents are cancelled and all others
continue. A job with ``cancel_on_blocking_job_failure: false`` only waits until the others have ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple


class Cancelled(NamedTuple):
    """A job that will not run, and the failed job on which it depends, directly or through others."""

    job_id: int
    because_of: int


class JobQueue:
    """The dependencies of a run. A dependency on a job that is not in the run counts as completed."""

    def __init__(
        self, dependencies: Iterable[tuple[int, Iterable[int]]], does_not_mind: Collection[int] = frozenset()
    ) -> None:
        """Take ``(job_id, ids of the jobs it depends on)`` for every job of the run.

        Args:
            does_not_mind: jobs that also run if a job they depend on did not complete.
        """
        wanted = {job_id: set(depends_on) for job_id, depends_on in dependencies}
        self._waits_for = {job_id: needs & wanted.keys() for job_id, needs in wanted.items()}
        self._dependents: dict[int, list[int]] = {job_id: [] for job_id in wanted}
        for job_id, needs in self._waits_for.items():
            for other in needs:
                self._dependents[other].append(job_id)
        self._unfinished = set(wanted)
        self._does_not_mind = does_not_mind

    @property
    def is_over(self) -> bool:
        """Whether every job has ended or was cancelled."""
        return not self._unfinished

    @property
    def unfinished(self) -> frozenset[int]:
        """The jobs that are blocked, ready or running."""
        return frozenset(self._unfinished)

    def initially_ready(self) -> list[int]:
        """The jobs that wait for no other, in the given order."""
        return [job_id for job_id, needs in self._waits_for.items() if not needs]

    def complete(self, job_id: int) -> list[int]:
        """Mark the job completed; returns the jobs that this makes ready."""
        self._unfinished.remove(job_id)
        return [dependent for dependent in self._dependents[job_id] if self._is_ready_without(dependent, job_id)]

    def withdraw(self, job_id: int) -> None:
        """The job ended; the next run decides about its dependents."""
        self._unfinished.remove(job_id)

    def fail(self, job_id: int) -> tuple[list[Cancelled], list[int]]:
        """Mark the job failed. Returns the jobs that this cancels (direct dependents first), and those it makes
        ready.
        """
        self._unfinished.remove(job_id)
        cancelled: list[Cancelled] = []
        ready: list[int] = []
        ended = [job_id]
        for other in ended:
            for dependent in self._dependents[other]:
                if dependent in self._does_not_mind:
                    if self._is_ready_without(dependent, other):
                        ready.append(dependent)
                elif dependent in self._unfinished:
                    self._unfinished.remove(dependent)
                    cancelled.append(Cancelled(dependent, job_id))
                    ended.append(dependent)
        return cancelled, ready

    def _is_ready_without(self, job_id: int, ended: int) -> bool:
        self._waits_for[job_id].discard(ended)
        return not self._waits_for[job_id] and job_id in self._unfinished
