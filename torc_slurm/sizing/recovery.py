"""Decides for each job of a workflow that is not completed whether another run would help.

It helps a job that was killed for memory or time, after its request was raised; and a job that the cluster ended, or
that never ran. A job that failed by itself, or hung, would most likely fail again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from torc_slurm.sizing.corrections import Corrections, correct
from torc_slurm.sizing.decision import UP, Decision, Options
from torc_slurm.sizing.evidence import Resource, asked
from torc_slurm.sizing.facts import Attempt, AttemptEnd, Facts, Job, Request, by_id

_NO_HELP = "it would fail the same way again"


class Cause(Enum):
    """Why a job is not completed."""

    memory = "memory"
    time = "time"
    failed = "failed"
    lost = "lost"
    not_run = "not_run"


class Unfinished(NamedTuple):
    """A job that is not completed. ``is_helped``: whether another run would help; ``reason`` says why."""

    job: Job
    cause: Cause
    is_helped: bool
    reason: str


@dataclass(frozen=True)
class Recovery:
    """The corrections that unfinished jobs need, and whether another run would help each of these jobs."""

    corrections: Corrections
    unfinished: tuple[Unfinished, ...]

    @property
    def helped(self) -> tuple[Unfinished, ...]:
        """The jobs that another run would help."""
        return tuple(each for each in self.unfinished if each.is_helped)


def plan_recovery(
    facts: Facts, options: Options, waits_for: Mapping[int, Sequence[int]], *, retry_failed: bool = False
) -> Recovery:
    """What to raise, and which jobs another run would help.

    Args:
        waits_for: the jobs that each job waits for, by ids.
        retry_failed: assume that another run also helps jobs that failed by themselves.
    """
    open_jobs = [job for job in by_id(facts.jobs) if all(each.end is not AttemptEnd.completed for each in job.attempts)]
    causes = {job.job_id: _cause(job) for job in open_jobs}
    killed = {number for number, cause in causes.items() if cause in (Cause.memory, Cause.time)}
    corrections = Corrections(facts.workflow_id, options, 0, (), ())
    if killed:
        corrections = correct(facts, options, killed, (Resource.memory, Resource.runtime))
    outlook = _Outlook(facts, corrections, causes, retry_failed)
    ran = {job.job_id: outlook.of(job) for job in open_jobs if causes[job.job_id] is not Cause.not_run}
    found = (
        ran[job.job_id] if job.job_id in ran else _not_run(job, _first_hopeless(job.job_id, waits_for, ran))
        for job in open_jobs
    )
    return Recovery(corrections, tuple(found))


def _cause(job: Job) -> Cause:
    last = _last(job)
    if last is None:
        return Cause.not_run
    return {
        AttemptEnd.out_of_memory: Cause.memory,
        AttemptEnd.out_of_time: Cause.time,
        AttemptEnd.failed: Cause.failed,
    }.get(last.end, Cause.lost)


def _last(job: Job) -> Attempt | None:
    return max(job.attempts, key=lambda each: (each.run_id, each.attempt_id), default=None)


def _not_run(job: Job, blocker: Unfinished | None) -> Unfinished:
    if blocker is None:
        return Unfinished(job, Cause.not_run, True, "it has not run yet")
    return Unfinished(job, Cause.not_run, False, f"it waits for job {blocker.job.job_id} {blocker.job.name}")


def _first_hopeless(
    job_id: int, waits_for: Mapping[int, Sequence[int]], ran: Mapping[int, Unfinished]
) -> Unfinished | None:
    """A job that this one waits for, directly or not, and that another run would not help."""
    seen, todo = set[int](), list(waits_for.get(job_id, ()))
    while todo:
        other = todo.pop(0)
        if other in seen:
            continue
        seen.add(other)
        if other in ran and not ran[other].is_helped:
            return ran[other]
        todo += waits_for.get(other, ())
    return None


@dataclass(frozen=True)
class _Outlook:
    """Whether another run helps a job that has run before."""

    facts: Facts
    corrections: Corrections
    causes: Mapping[int, Cause]
    retry_failed: bool

    def of(self, job: Job) -> Unfinished:
        cause, last = self.causes[job.job_id], _last(job)
        assert last is not None
        if cause is Cause.lost:
            return Unfinished(job, cause, True, f"its status is {last.status}: something other than the job ended it")
        if cause is Cause.failed:
            ended = "" if last.return_code is None else f" with exit code {last.return_code}"
            again = "it runs again" if self.retry_failed else _NO_HELP
            return Unfinished(job, cause, self.retry_failed, f"it failed{ended}: {again}")
        resource = Resource.memory if cause is Cause.memory else Resource.runtime
        return Unfinished(job, cause, *self._raised(job, last, resource))

    def _raised(self, job: Job, last: Attempt, resource: Resource) -> tuple[bool, str]:
        if cut_short(last, resource):
            return True, "its allocation ended before its own limit"
        decision = self._decision(job, resource)
        if decision is None:
            return False, f"it requests no {resource.name}: give it resource_requirements"
        if decision.direction == UP:
            return True, f"{decision.original} -> {decision.new}"
        before, now = asked(last.request, resource), asked(decision.requirement.request, resource)
        if before is not None and now is not None and now > before:
            return True, f"its request was raised since: {_written(last.request, resource)} -> {decision.original}"
        return False, decision.reason

    def _decision(self, job: Job, resource: Resource) -> Decision | None:
        return next(
            (
                each
                for each in self.corrections.decisions
                if each.resource is resource
                and each.requirement.resource_requirements_id == job.resource_requirements_id
                and each.original is not None
            ),
            None,
        )


def cut_short(attempt: Attempt, resource: Resource) -> bool:
    """Whether it was ended for time before its own limit, and was not idle."""
    return resource is Resource.runtime and not attempt.ran_to_its_limit and not attempt.hung


def _written(request: Request, resource: Resource) -> str | None:
    return request.memory if resource is Resource.memory else request.runtime
