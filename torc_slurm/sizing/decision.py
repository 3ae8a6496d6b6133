"""Decides, for one requirement and one resource, whether to request more, less or the same, and why.

The new amount follows only from the evidence (every informative attempt, of all runs), not from the current request:
so a second correction changes nothing. The current request decides only whether to change it:

- up, if the latest attempt of a job was killed or ended for this resource, or used more than its request;
- down, if the latest attempt of every job of the requirement completed, with figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from heapq import nlargest
from operator import attrgetter

from torc_slurm.common.errors import InputError
from torc_slurm.common.units import exact, format_memory, format_run_time, scaled
from torc_slurm.sizing.evidence import Evidence, Resource, asked, evidence_of, is_over, is_sure, measured, show_used
from torc_slurm.sizing.facts import Attempt, AttemptEnd, Figure, Job, Request, Requirement
from torc_slurm.sizing.guards import Bounded, Guards, bounded, round_up, write_amount
from torc_slurm.sizing.waiting import wait_factor, wait_words

UP, DOWN, KEPT = "upscale", "downscale", "kept"
_LARGEST_MULTIPLIER = 100
_AFTER_A_KILL = Decimal(2)
_MOST_NAMED = 3
_MOST_EVIDENCE = 20


@dataclass(frozen=True)
class Options:
    """How to correct. ``answer_failures_once``: a failure counts only until its request was changed."""

    memory_multiplier: Decimal = Decimal("1.2")
    cpu_multiplier: Decimal = Decimal("1.2")
    runtime_multiplier: Decimal = Decimal("1.2")
    downsize: bool = True
    answer_failures_once: bool = False
    guards: Guards = field(default_factory=Guards)

    def __post_init__(self) -> None:
        for resource in Resource:
            value = self.multiplier(resource)
            if not value.is_finite() or not 1 <= value <= _LARGEST_MULTIPLIER:
                raise InputError(
                    f"a {resource.name} multiplier of {value} is out of range; give 1 (nothing to spare) to "
                    f"{_LARGEST_MULTIPLIER}, such as 1.2"
                )

    def multiplier(self, resource: Resource) -> Decimal:
        return {
            Resource.memory: self.memory_multiplier,
            Resource.cpu: self.cpu_multiplier,
            Resource.runtime: self.runtime_multiplier,
        }[resource]


@dataclass(frozen=True)
class Decision:
    """What to do about one resource of one requirement.

    ``jobs`` share the requirement; ``direction`` is UP, DOWN or KEPT; ``original`` and ``new`` are as in a workflow
    file (``original`` is None if nothing was requested); ``evidence`` is the most demanding of the
    ``evidence_count`` that were examined, and ``max_measured`` the largest measured use in bytes, seconds or percent of
    a core (None: nothing was measured).
    """

    requirement: Requirement
    jobs: tuple[Job, ...]
    resource: Resource
    direction: str
    original: str | int | None
    new: str | int | None
    reason: str
    evidence: tuple[Evidence, ...] = ()
    evidence_count: int = 0
    max_measured: Figure | None = None


def decide(
    requirement: Requirement, jobs: Sequence[Job], resource: Resource, options: Options, num_cpus: int | None = None
) -> Decision:
    """What to do about a resource of a requirement.

    Args:
        jobs: all that share it, in the order of their ids.
        num_cpus: the new number of CPUs; None: the current one. Nodes with fewer CPUs are not considered.
    """
    found = (evidence_of(job, attempt, resource) for job in jobs for attempt in job.in_order)
    evidence = tuple(each for each in found if each is not None)
    case = _Case(requirement, tuple(jobs), resource, options, evidence, num_cpus or requirement.request.num_cpus)
    if asked(requirement.request, resource) is None:
        return case.kept("nothing is requested")
    if not evidence:
        return case.kept(_why_unchanged(jobs, resource))
    return case.decide()


def _is_last(evidence: Evidence) -> bool:
    return evidence.attempt is evidence.job.last_informative()


@dataclass(frozen=True)
class _Case:
    """One requirement and one resource, during the decision."""

    requirement: Requirement
    jobs: tuple[Job, ...]
    resource: Resource
    options: Options
    evidence: tuple[Evidence, ...]
    num_cpus: int

    @cached_property
    def now(self) -> int:
        """The current request: bytes, seconds or CPUs."""
        amount = _amount(asked(self.requirement.request, self.resource), self.resource)
        assert amount is not None, self.requirement
        return amount

    def decide(self) -> Decision:
        request = dataclasses.replace(self.requirement.request, num_cpus=self.num_cpus)
        need = self._need()
        requests = {id(each.attempt.request): each.attempt.request for each in self.evidence}.values()
        had = max((each for each in map(self._had, requests) if each is not None), default=None)
        used = self._completed_use
        result = bounded(need, self.resource, request=request, had=had, used=used, guards=self.options.guards)
        if round_up(need, self.resource, request) > self.now:
            return self._more(result)
        return self._less(max(result.amount, self._round(used)), result.notes)

    def _need(self) -> Decimal:
        """The largest product of a use and its multiplier. Only the largest use of each multiplier is multiplied."""
        largest: dict[Decimal, Figure] = {}
        for each in self.evidence:
            multiplier = self._multiplier(each)
            if multiplier not in largest or each.used > largest[multiplier]:
                largest[multiplier] = each.used
        return max(scaled(used, multiplier) for multiplier, used in largest.items())

    # --- more ------------------------------------------------------------------------------------------------------

    def _more(self, result: Bounded) -> Decision:
        causes = sorted(filter(self._is_cause, self.evidence), key=lambda each: each.used, reverse=True)
        if not causes:
            return self.kept(self._fits())
        helped = next(self._helped(result.amount, causes), None)
        if result.amount <= self.now or helped is None:
            return self.kept(f"{self._cause_text(causes[0])}, but {'; '.join(result.notes)}: it cannot be requested")
        return self._changed(UP, result.amount, self._cause_text(helped), result.notes, self._multiplier(helped))

    def _multiplier(self, evidence: Evidence) -> Decimal:
        """What a use is multiplied by: at least 2 after a kill for memory, which leaves the need unknown."""
        is_unknown = self.resource is Resource.memory and evidence.needs_more and _is_last(evidence)
        return max(self._usual_multiplier, _AFTER_A_KILL) if is_unknown else self._usual_multiplier

    @cached_property
    def _usual_multiplier(self) -> Decimal:
        return self.options.multiplier(self.resource)

    def _helped(self, amount: int, causes: Iterable[Evidence]) -> Iterator[Evidence]:
        """The causes that this amount removes: it covers every completed attempt, and what the killed job had."""
        if amount >= self._round(self._completed_use):
            yield from (each for each in causes if not each.needs_more or amount >= self._round(each.used))

    def _is_cause(self, evidence: Evidence) -> bool:
        if evidence.needs_more:
            return _is_last(evidence) and not self._was_answered(evidence)
        if evidence.attempt.end is not AttemptEnd.completed:
            return False
        if self._is_over(evidence, self.requirement.request):
            return True
        return self._is_over(evidence, evidence.attempt.request) and _is_last(evidence)

    def _is_over(self, evidence: Evidence, request: Request) -> bool:
        allowed = asked(request, self.resource)
        return allowed is not None and is_over(evidence.used, allowed, self.resource)

    def _was_answered(self, evidence: Evidence) -> bool:
        had = self._had(evidence.attempt.request)
        return self.options.answer_failures_once and had is not None and had < self.now

    def _cause_text(self, cause: Evidence) -> str:
        attempt, used = cause.attempt, show_used(cause.used, self.resource)
        who = f"{_name(cause.job)} (run {attempt.run_id}, attempt {attempt.attempt_id})"
        if self.resource is Resource.memory and cause.needs_more:
            return f"{who} was killed for memory: it needs more than {used}{self._peak_note(cause)}"
        if cause.needs_more:
            unsure = " (unknown whether it hung: granularity time_series would show it)" if attempt.hung is None else ""
            return f"{who} was ended at its time limit: it needs more than {used}{unsure}"
        return f"{who} used {used}{_source(attempt, self.resource)}"

    def _peak_note(self, cause: Evidence) -> str:
        peak = cause.attempt.peak_memory_bytes
        if peak is None:
            return " (its peak was not measured)"
        return "" if peak == cause.used else f" (measured peak {format_memory(peak)})"

    # --- less ------------------------------------------------------------------------------------------------------

    def _less(self, amount: int, notes: tuple[str, ...]) -> Decision:
        if amount >= self.now:
            return self.kept("; ".join((self._fits(), *notes)))
        unsure = list(self._unsure())
        if unsure:
            return self.kept(f"the known figures would allow less, but {_some(unsure)}")
        waited = list(self._waited(amount)) if self.resource is Resource.cpu else []
        if waited:
            return self.kept(
                f"the known figures would allow less, but {_some(waited)}: it may use more if CPUs are free"
            )
        if not self.options.downsize:
            return self.kept(
                f"{write_amount(amount, self.resource)} would be enough; downsizing is off (--no-downsize)"
            )
        most = max(self.evidence, key=lambda each: each.used)
        reason = f"all completed; largest use: {self._cause_text(most)}"
        return self._changed(DOWN, amount, reason, notes, self.options.multiplier(self.resource))

    def _unsure(self) -> Iterator[str]:
        for job in self.jobs:
            last = job.last_informative()
            if last is None:
                yield f"{_name(job)} has no attempt that shows what it needs"
            elif self.resource is Resource.runtime and last.hung and last.end is not AttemptEnd.completed:
                yield _hung(job, last)
            elif last.end is not AttemptEnd.completed:
                yield f"{_name(job)} {_end(last)}"
            elif not is_sure(last, self.resource):
                yield f"{_name(job)} has no complete figures"

    def _waited(self, amount: int) -> Iterator[str]:
        """The jobs that would have needed more CPUs than this without waiting."""
        for each in self.evidence:
            times = each.attempt.cpu_wait_seconds, each.attempt.cpu_seconds
            factor = wait_factor(*times)
            if factor > 1 and self._round(scaled(each.used, self._usual_multiplier) * factor) > amount:
                yield f"{_name(each.job)} {wait_words(*times)}"

    # --- what is said ----------------------------------------------------------------------------------------------

    def _changed(
        self, direction: str, amount: int, reason: str, notes: tuple[str, ...], multiplier: Decimal
    ) -> Decision:
        multiplied = f"{reason}; times {multiplier}"
        return self._decision(direction, write_amount(amount, self.resource), "; ".join((multiplied, *notes)))

    def kept(self, reason: str) -> Decision:
        return self._decision(KEPT, self._original(), reason)

    def _decision(self, direction: str, new: str | int | None, reason: str) -> Decision:
        figures = (measured(each.attempt, self.resource) if each.needs_more else each.used for each in self.evidence)
        most = max((figure for figure in figures if figure is not None), default=None)
        return Decision(
            self.requirement,
            self.jobs,
            self.resource,
            direction,
            self._original(),
            new,
            reason,
            tuple(nlargest(_MOST_EVIDENCE, self.evidence, key=attrgetter("used"))),
            len(self.evidence),
            most,
        )

    def _original(self) -> str | int | None:
        request = self.requirement.request
        if self.resource is Resource.cpu:
            return request.num_cpus
        return request.memory if self.resource is Resource.memory else request.runtime

    def _fits(self) -> str:
        most = max(self.evidence, key=lambda each: each.used)
        failed = "" if most.attempt.end is AttemptEnd.completed else f", which {_end(most.attempt)}"
        fits = f"it fits: at most {show_used(most.used, self.resource)} by {_name(most.job)}{failed}"
        hung = _hung_jobs(self.jobs) if self.resource is Resource.runtime else []
        return f"{fits}; {_some(hung)}: more time would not help" if hung else fits

    @cached_property
    def _completed_use(self) -> Decimal | None:
        done = [each.used for each in self.evidence if each.attempt.end is AttemptEnd.completed]
        return exact(max(done)) if done else None

    def _had(self, request: Request) -> int | None:
        return _amount(asked(request, self.resource), self.resource)

    def _round(self, used: Figure | None) -> int:
        return 0 if used is None else round_up(exact(used), self.resource, self.requirement.request)


def _why_unchanged(jobs: Sequence[Job], resource: Resource) -> str:
    if not jobs:
        return "no job uses it"
    if not any(job.informative_attempts for job in jobs):
        return "none of its jobs has an attempt that shows what it needs"
    hung = _hung_jobs(jobs)
    if resource is Resource.runtime and hung:
        return f"{_some(hung)}: more time would not help"
    return "nothing was measured of its jobs (NULL is not 0)"


def _hung_jobs(jobs: Iterable[Job]) -> list[str]:
    """The jobs whose latest attempt was idle when it was ended."""
    last = [(job, job.last_informative()) for job in jobs]
    return [_hung(job, each) for job, each in last if each and each.hung and each.end is not AttemptEnd.completed]


def _hung(job: Job, attempt: Attempt) -> str:
    after = "" if attempt.exec_time_seconds is None else f" after {format_run_time(exact(attempt.exec_time_seconds))}"
    return f"{_name(job)} was ended{after} and used almost no CPU in the second half of its time (it hung)"


def _end(attempt: Attempt) -> str:
    if attempt.end is AttemptEnd.out_of_time and not attempt.ran_to_its_limit:
        return "was ended with its allocation, before its own limit"
    return attempt.end.value if attempt.end is AttemptEnd.failed else f"was {attempt.end.value}"


def _amount(allowed: int | None, resource: Resource) -> int | None:
    return allowed if allowed is None or resource is not Resource.cpu else allowed // 100


def _source(attempt: Attempt, resource: Resource) -> str:
    return f" by {attempt.peak_memory_source}" if resource is Resource.memory and attempt.peak_memory_source else ""


def _name(job: Job) -> str:
    return f"job {job.job_id} {job.name}"


def _some(phrases: Iterable[str]) -> str:
    named = list(phrases)
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return "; ".join(named[:_MOST_NAMED]) + more
