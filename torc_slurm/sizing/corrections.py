"""Corrections of a workflow: the decisions about all its requirements, and the adjustments that follow from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torc_slurm.common.errors import InputError
from torc_slurm.common.garbage import no_search_for_cycles
from torc_slurm.sizing.decision import DOWN, UP, Decision, Options, decide
from torc_slurm.sizing.evidence import Resource
from torc_slurm.sizing.facts import Facts, Job, Requirement


@dataclass(frozen=True)
class Adjustment:
    """The changes in one direction for one requirement: one to three decisions, and the jobs that share it."""

    requirement: Requirement
    direction: str
    jobs: tuple[Job, ...]
    decisions: tuple[Decision, ...]

    def of(self, resource: Resource) -> Decision | None:
        """The decision about a resource; None if it does not change in this direction."""
        return next((each for each in self.decisions if each.resource is resource), None)


@dataclass(frozen=True)
class Corrections:
    """All decisions, in the order of requirements, and the adjustments among them.

    ``jobs_analyzed`` counts the jobs that have a request and at least one informative attempt.
    """

    workflow_id: int | None
    options: Options
    jobs_analyzed: int
    decisions: tuple[Decision, ...]
    adjustments: tuple[Adjustment, ...]

    @property
    def requirements_updated(self) -> int:
        """The number of requirements that change. One that goes up and down counts once."""
        return len({each.requirement.resource_requirements_id for each in self.adjustments})

    def jobs_affected(self, resource: Resource, direction: str) -> int:
        """The number of jobs that share a requirement that changes in this direction."""
        return sum(len(each.jobs) for each in self.adjustments if each.direction == direction and each.of(resource))


@no_search_for_cycles()
def correct(
    facts: Facts, options: Options, job_ids: Collection[int] = (), resources: Collection[Resource] = tuple(Resource)
) -> Corrections:
    """What to request instead.

    Args:
        job_ids: check only the requirements of these jobs, with all jobs that share them; empty: all requirements.
        resources: check only these.

    Raises:
        InputError: the workflow has no such job.
    """
    chosen = _chosen(facts, job_ids)
    decisions, adjustments, analyzed = [], [], 0
    for requirement in chosen:
        jobs = facts.sharing(requirement)
        analyzed += sum(bool(job.informative_attempts) for job in jobs if not job_ids or job.job_id in job_ids)
        made = [each for each in _decisions(requirement, jobs, options, resources) if each.resource in resources]
        decisions += made
        adjustments += _adjustments(requirement, jobs, made)
    return Corrections(facts.workflow_id, options, analyzed, tuple(decisions), tuple(adjustments))


def _chosen(facts: Facts, job_ids: Collection[int]) -> list[Requirement]:
    known = {job.job_id: job.resource_requirements_id for job in facts.jobs}
    unknown = sorted(set(job_ids) - set(known))
    if unknown:
        raise InputError(
            f"workflow {facts.workflow_id} has no job {unknown[0]}; "
            f"torc jobs list {facts.workflow_id} shows those it has"
        )
    wanted = {known[job_id] for job_id in job_ids}
    ordered = sorted(facts.requirements, key=lambda each: each.resource_requirements_id)
    return [each for each in ordered if not job_ids or each.resource_requirements_id in wanted]


def _decisions(
    requirement: Requirement, jobs: Sequence[Job], options: Options, resources: Collection[Resource]
) -> list[Decision]:
    """CPUs first: the new number decides on which nodes the memory must fit."""
    cpu = decide(requirement, jobs, Resource.cpu, options)
    cpus = cpu.new if Resource.cpu in resources else cpu.original
    memory = decide(requirement, jobs, Resource.memory, options, int(cpus or 1))
    return [memory, decide(requirement, jobs, Resource.runtime, options), cpu]


def _adjustments(requirement: Requirement, jobs: Sequence[Job], made: Sequence[Decision]) -> list[Adjustment]:
    found = []
    for direction in (UP, DOWN):
        changes = tuple(each for each in made if each.direction == direction)
        if changes:
            found.append(Adjustment(requirement, direction, tuple(jobs), changes))
    return found
