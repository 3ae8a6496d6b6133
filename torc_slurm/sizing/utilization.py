"""Which jobs used more than they requested: the check of resource utilization."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from torc_slurm.common.garbage import no_search_for_cycles
from torc_slurm.common.units import exact, format_change
from torc_slurm.sizing.evidence import Evidence, Resource, asked, evidence_of, is_over, show_requested, show_used
from torc_slurm.sizing.facts import Attempt, AttemptEnd, Facts, Figure, Job, Request, by_id
from torc_slurm.sizing.violating_jobs import violating_jobs


@dataclass(frozen=True)
class Use:
    """One resource of one job: use and request. ``is_violation`` also if it was killed at its limit.

    ``note`` says how it was killed, or where the figure comes from; it may be empty.
    """

    job_id: int
    job_name: str
    resource_type: str
    specified: str
    peak_used: str
    over_utilization: str
    is_violation: bool
    note: str


@dataclass(frozen=True)
class Utilization:
    """``uses`` are the violations, and with ``show_all`` also those within their limits; by job, then resource.

    ``run_id`` is None if the latest attempt of each job counts, whatever its run. ``unmeasured`` counts jobs that lack
    a figure for something they requested. ``violating_jobs`` are JSON objects, with ``include_failed``. ``left_out``
    counts the jobs that failed by themselves and are not checked.
    """

    workflow_id: int | None
    run_id: int | None
    total_results: int
    violations: int
    uses: tuple[Use, ...]
    unmeasured: int
    violating_jobs: tuple[dict[str, Any], ...] | None = None
    left_out: int = 0


@no_search_for_cycles()
def check(
    facts: Facts,
    *,
    run_id: int | None = None,
    show_all: bool = False,
    include_failed: bool = False,
    min_over_percent: Decimal | None = None,
) -> Utilization:
    """Compare each job's latest attempt with the request it ran with.

    Args:
        run_id: of this run; None: the latest of each job.
        include_failed: also check jobs that failed by themselves. Those killed for memory or time always count.
        min_over_percent: leave out smaller violations, but none of a job that was killed.
    """
    attempts = list(_attempts(facts, run_id))
    chosen = [each for each in attempts if include_failed or each[1].end is not AttemptEnd.failed]
    shown: list[Use] = []
    unmeasured = violations = 0
    requests = {id(attempt.request): attempt.request for _, attempt in chosen}
    amounts = {number: _requested_amounts(request) for number, request in requests.items()}
    for job, attempt in chosen:
        is_complete = True
        for resource, allowed in amounts[id(attempt.request)]:
            # a job that hung until it was ended broke its run time all the same
            evidence = evidence_of(job, attempt, resource, even_if_hung=True)
            if evidence is None:
                is_complete = False
                continue
            is_violation = _was_killed_at_limit(evidence, resource) or _is_enough(
                evidence.used, allowed, resource, min_over_percent
            )
            violations += is_violation
            if show_all or is_violation:
                shown.append(_use(evidence, resource, allowed, is_violation=is_violation))
        unmeasured += not is_complete
    jobs = None
    if include_failed:
        jobs = tuple(violating_jobs(chosen, [(use.job_id, use.resource_type) for use in shown if use.is_violation]))
    return Utilization(
        facts.workflow_id, run_id, len(chosen), violations, tuple(shown), unmeasured, jobs, len(attempts) - len(chosen)
    )


def _attempts(facts: Facts, run_id: int | None) -> Iterator[tuple[Job, Attempt]]:
    for job in by_id(facts.jobs):
        attempt = job.last_informative(run_id)
        if attempt is not None and job.resource_requirements_id is not None:
            yield job, attempt


def _requested_amounts(request: Request) -> tuple[tuple[Resource, int], ...]:
    found = ((resource, asked(request, resource)) for resource in Resource)
    return tuple((resource, allowed) for resource, allowed in found if allowed is not None)


def _use(evidence: Evidence, resource: Resource, allowed: int, *, is_violation: bool) -> Use:
    attempt, used = evidence.attempt, evidence.used
    return Use(
        job_id=evidence.job.job_id,
        job_name=evidence.job.name,
        resource_type=resource.value,
        specified=show_requested(attempt.request, resource),
        peak_used=show_used(used, resource),
        over_utilization=format_change(used, allowed),
        is_violation=is_violation,
        note=_note(evidence, resource),
    )


def _was_killed_at_limit(evidence: Evidence, resource: Resource) -> bool:
    """An allocation that ends before the job's own time limit is not the job's violation."""
    return evidence.needs_more and (resource is Resource.memory or evidence.attempt.ran_to_its_limit)


def _is_enough(used: Figure, allowed: int, resource: Resource, min_over_percent: Decimal | None) -> bool:
    if not is_over(used, allowed, resource):
        return False
    return min_over_percent is None or (exact(used) - allowed) * 100 / allowed >= min_over_percent


def _note(evidence: Evidence, resource: Resource) -> str:
    attempt = evidence.attempt
    if evidence.needs_more and resource is Resource.memory:
        peak = "not measured" if attempt.peak_memory_bytes is None else show_used(attempt.peak_memory_bytes, resource)
        return f"killed for memory; measured peak {peak}"
    if evidence.needs_more:
        hung = "; used almost no CPU in the second half of it" if attempt.hung else ""
        return (
            "ended at its time limit" if attempt.ran_to_its_limit else "ended by the allocation's time limit"
        ) + hung
    return f"by {attempt.peak_memory_source}" if resource is Resource.memory and attempt.peak_memory_source else ""
