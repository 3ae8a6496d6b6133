"""Groups of jobs in one step: which jobs share a step, how each ends, and which must run again if the step is killed.

Until a job of a group begins, the journal and all other modules see it as ready.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from torc_slurm.records.statuses import TIMEOUT
from torc_slurm.runner.attempts import Attempt, Ended, EndRequest, Evidence, Started
from torc_slurm.runner.launcher import Launcher, LaunchError
from torc_slurm.runner.outcome import signal_of
from torc_slurm.runner.placement import Placement
from torc_slurm.spec.plan import JobPlan
from torc_slurm.spec.values import MOST_IN_GROUP

# How long a group of ``group: auto`` should take: long beside the cost of its step, short enough to lose.
AUTO_SECONDS = 30.0
_SHORTEST_SECONDS = 0.01


@dataclass(frozen=True)
class GroupListener:
    """Callbacks for the jobs of groups. Times are Unix seconds."""

    began: Callable[[Attempt, Started, int], object]
    ended: Callable[[int, Ended, Evidence | None, EndRequest | None, bool], None]
    refused: Callable[[JobPlan, str], None]
    ready_again: Callable[[Collection[int]], None]
    stop: Callable[[str], None]
    note: Callable[[str], None]


class Groups:
    """The running groups."""

    def __init__(
        self, jobs: Mapping[int, JobPlan], launcher: Launcher, placement: Placement, listener: GroupListener
    ) -> None:
        self._jobs = jobs
        self._launcher = launcher
        self._placement = placement
        self._listener = listener
        self._running: dict[int, _Group] = {}
        self._count = 0
        self._alone: set[int] = set()  # their group ended before any of its jobs began
        self._run_times: dict[object, tuple[int, float]] = {}

    @property
    def keys(self) -> frozenset[int]:
        """The launcher's keys of the running groups."""
        return frozenset(self._running)

    def learn(self, job: JobPlan, seconds: float) -> None:
        """Note the run time of a completed job: ``auto`` uses it for later jobs of the same demand."""
        if job.settings.group == 0:
            count, total = self._run_times.get(self._launcher.demand(job), (0, 0.0))
            self._run_times[self._launcher.demand(job)] = count + 1, total + seconds

    def take_along(self, job: JobPlan) -> tuple[int, list[int]]:
        """A group's key and the jobs that share the step of this job, which was just placed; none: it runs alone."""
        key, size = -(self._count + 1), self._size(job)
        if size == 1 or not self._can_be_grouped(job):
            return key, []
        found = self._placement.take_along(job.job_id, key, size - 1, lambda other: self._fits(job, self._jobs[other]))
        self._count += bool(found)
        return key, found

    def start(self, key: int, attempts: Sequence[Attempt]) -> None:
        """Start a group. It reports when each job begins."""
        group = _Group(attempts, self._listener, key)
        try:
            group.started = self._launcher.start_group(
                key, attempts, group.take_message, lambda *end: self._ended(key, *end)
            )
        except LaunchError as error:
            self._placement.release(key)
            for attempt in attempts:
                self._listener.refused(attempt.job, str(error))
            return
        self._running[key] = group

    def _size(self, job: JobPlan) -> int:
        if job.settings.group != 0:
            return job.settings.group or 1
        count, total = self._run_times.get(self._launcher.demand(job), (0, 0.0))
        return max(1, min(MOST_IN_GROUP, int(AUTO_SECONDS / max(_SHORTEST_SECONDS, total / count)))) if count else 1

    def _can_be_grouped(self, job: JobPlan) -> bool:
        return (
            job.num_nodes == job.ntasks_per_node == 1
            and job.job_id not in self._alone
            and self._launcher.can_be_grouped(job)
        )

    def _fits(self, job: JobPlan, other: JobPlan) -> bool:
        return other.settings.group == job.settings.group and self._can_be_grouped(other)

    def _ended(self, key: int, end: Ended, evidence: Evidence) -> None:
        group = self._running.pop(key)
        self._placement.release(key)
        if evidence.allocation_is_ending:
            self._listener.stop("the allocation is being ended")
        again = group.end(end)
        if not group.has_settled:
            self._alone.update(again)
        if end.stderr.strip():
            self._listener.note(f"a group of {len(group.attempts)} jobs: {' '.join(end.stderr.split())[-300:]}")
        if end.is_gone:
            self._listener.ready_again(again)
            return
        for job_id in again:
            self._listener.refused(
                self._jobs[job_id],
                "torc could not end the step that this job was waiting in; the job may still start there",
            )


class _Group:
    """A running group and its progress."""

    def __init__(self, attempts: Sequence[Attempt], listener: GroupListener, key: int) -> None:
        self.attempts = attempts
        self.started = Started(0)
        self.has_settled = False  # any job's end
        self._listener = listener
        self._key = key
        self._open = set(range(len(attempts)))  # their end is not known
        self._begun: list[int] = []
        self._exits: dict[int, str] = {}  # of jobs whose record is still being written

    def take_message(self, text: str) -> None:
        """Handle a line from the group."""
        kind, _, rest = text.partition(" ")
        number, _, rest = rest.partition(" ")
        with contextlib.suppress(ValueError):  # not a line of ours
            index = int(number)
            if index not in self._open:
                return
            if kind == "began":
                self._begun.append(index)
                self._listener.began(self.attempts[index], self.started, self._key)
            elif kind == "unbegun":
                self._begun.remove(index)
            elif kind == "refused":
                self._settle(index)
                self._listener.refused(self.attempts[index].job, rest)
            elif kind == "exited":
                self._exits[index] = rest
            elif kind == "ended":
                self._job_ended(index, *map(float, rest.split()))

    def _settle(self, index: int) -> None:
        self._open.remove(index)
        self.has_settled = True

    def _job_ended(self, index: int, code: float, begin: float, end: float, over_time: float, oom_kills: float) -> None:
        self._settle(index)
        job = self.attempts[index].job
        end_request = None
        if over_time:
            end_request = EndRequest(begin, TIMEOUT, f"it was ended at its run time of {job.runtime_seconds} s")
        known = Evidence((int(code),), int(oom_kills), end)
        # another job began after it, and a group that is told to end starts no more: so this job ended by itself
        self._listener.ended(job.job_id, Ended(int(code), begin, end), known, end_request, index != self._begun[-1])

    def end(self, end: Ended) -> list[int]:
        """The group's process has ended, and its running job too. Returns the jobs that have not begun."""
        for index in [each for each in self._begun if each in self._open]:
            if index in self._exits:
                self._job_ended(index, *map(float, self._exits[index].split()))
            else:
                self._settle(index)
                self._listener.ended(self.attempts[index].job.job_id, _in_doubt(end), None, None, False)
        return [self.attempts[index].job.job_id for index in sorted(self._open)]


def _in_doubt(end: Ended) -> Ended:
    """The end of a job that began and whose end was not reported: never an exit code of its own."""
    if signal_of(end.status) is not None:
        return end
    return replace(end, ran=False, status=1, stderr=end.stderr or "the step did not report how this job ended")
