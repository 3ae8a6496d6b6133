"""The input of right-sizing: requirements, the jobs that share them, and every attempt at those jobs.

Sizes are bytes, times seconds, CPU percent of one core. None means not measured: nothing is sized from it. Memory and
CPU are those of the attempt's largest node, because requests are per node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import NamedTuple

from torc_slurm.common.units import MIB, exact, monitor_allowance_mib, parse_iso_duration, parse_memory, step_memory_mib
from torc_slurm.records.statuses import CANCELLED, COMPLETED, FAILED, OOM, TIMEOUT

Figure = int | float | Decimal
NO_NUMBERS: Mapping[str, float] = {}

# Slurm ends a step at its time limit or later; the wrapper's clock starts a little after Slurm's.
NEAR_LIMIT_SECONDS = 5
# If the cgroup does not show a killed job's own limit, this share of the limit counts as reaching it.
_NEAR_MEMORY_LIMIT = Decimal("0.95")
# A limit above this many times the request is not the job's own but the allocation's, for all steps together
# (limit_resources: false). Slurm's AllowedRAMSpace can set a job's own limit a little above its request.
_OWN_LIMIT_FACTOR = Decimal("1.25")
_SIGKILL, _SIGTERM = 9, 15


class AttemptEnd(Enum):
    """How an attempt ended, for sizing."""

    completed = "completed"
    failed = "failed"
    out_of_memory = "killed for memory"
    out_of_time = "ended at its time limit"
    silent = "says nothing"  # running, cancelled, preempted, or its node failed


@dataclass(frozen=True)
class Request:
    """What a job may use, per node. ``memory`` and ``runtime`` are as in the workflow file; None: nothing requested."""

    memory: str | None = None
    num_cpus: int = 1
    runtime: str | None = None
    num_nodes: int = 1
    ntasks_per_node: int = 1

    @cached_property
    def memory_bytes(self) -> int | None:
        return None if self.memory is None else parse_memory(self.memory)

    @cached_property
    def runtime_seconds(self) -> int | None:
        return None if self.runtime is None else parse_iso_duration(self.runtime)

    @cached_property
    def step_limit_bytes(self) -> int | None:
        """The limit that Slurm sets for a step with this request: the request and the allowance for the monitor."""
        return None if self.memory is None else step_memory_mib(self.memory) * MIB

    @cached_property
    def allowance_bytes(self) -> int:
        """The part of that limit that is for the monitor."""
        return 0 if self.memory is None else monitor_allowance_mib(self.memory) * MIB


@dataclass(frozen=True)
class Requirement:
    """A named request that jobs share, with its current values."""

    resource_requirements_id: int
    name: str
    request: Request


class _AttemptFields(NamedTuple):
    run_id: int
    attempt_id: int
    status: str
    request: Request
    return_code: int | None = None
    return_signal: int | None = None
    exec_time_seconds: Figure | None = None
    peak_memory_bytes: int | None = None
    peak_memory_source: str | None = None
    memory_limit_bytes: int | None = None
    oom_kills: int | None = None
    peak_cpu_percent: Figure | None = None
    avg_cpu_percent: Figure | None = None
    cpu_seconds: Figure | None = None
    cpu_wait_seconds: Figure | None = None
    hung: bool | None = None
    is_lower_bound: bool = False
    runtime_enforced: bool = False
    all_nodes_cpu_seconds: Figure | None = None
    all_nodes_avg_memory_bytes: Figure | None = None
    numbers: Mapping[str, float] = NO_NUMBERS


class Attempt(_AttemptFields):
    """One attempt at a job: what it was given, how it ended, what it used.

    ``cpu_wait_seconds``: how long its threads were ready and had no CPU. ``hung``: whether it used no CPU in the last
    half of its time; None: unknown. ``is_lower_bound``: some of its nodes did not report. ``numbers``: what its use may
    follow (sizing.trends). ``all_nodes_cpu_seconds`` and ``all_nodes_avg_memory_bytes`` are only for savings.
    """

    @cached_property
    def end(self) -> AttemptEnd:
        """How it ended, for sizing. A kill for memory or time counts even if Slurm calls it failed or cancelled."""
        if self.status == COMPLETED:
            return AttemptEnd.completed
        if self.status == OOM or self._was_killed_for_memory():
            return AttemptEnd.out_of_memory
        if self.status == TIMEOUT or self._was_ended_for_time():
            return AttemptEnd.out_of_time
        return AttemptEnd.failed if self.status == FAILED else AttemptEnd.silent

    @property
    def own_memory_limit_bytes(self) -> int | None:
        """The limit of this job alone, without the allowance for the monitor; None if only a shared limit is known."""
        step_limit, limit = self.request.step_limit_bytes, self.memory_limit_bytes
        if step_limit is None or limit is None or limit > step_limit * _OWN_LIMIT_FACTOR:
            return None
        return limit - self.request.allowance_bytes if limit == step_limit else limit

    @property
    def ran_to_its_limit(self) -> bool:
        """Whether it ran for as long as it requested; an allocation can end before that."""
        asked = self.request.runtime_seconds
        if asked is None:
            return False
        return self.exec_time_seconds is None or exact(self.exec_time_seconds) + NEAR_LIMIT_SECONDS >= asked

    def _was_killed_for_memory(self) -> bool:
        if self.status not in (FAILED, CANCELLED) or self.return_code == 0:
            return False
        if self.oom_kills:
            return True
        limit, peak = self.own_memory_limit_bytes, self.peak_memory_bytes
        if limit is None or peak is None or not self._died_of(_SIGKILL):
            return False
        return peak >= limit * _NEAR_MEMORY_LIMIT

    def _was_ended_for_time(self) -> bool:
        if self.status not in (FAILED, CANCELLED) or not self.runtime_enforced or self.exec_time_seconds is None:
            return False
        return self.ran_to_its_limit and (self._died_of(_SIGTERM) or self._died_of(_SIGKILL))

    def _died_of(self, signal: int) -> bool:
        return self.return_signal == signal or self.return_code == 128 + signal


class _JobFields(NamedTuple):
    job_id: int
    name: str
    resource_requirements_id: int | None
    attempts: tuple[Attempt, ...] = ()


class Job(_JobFields):
    """A job with all its attempts, of all runs. ``resource_requirements_id`` None: it requested nothing."""

    def last_informative(self, run_id: int | None = None) -> Attempt | None:
        """The latest informative attempt (of one run, if given); None if there is none."""
        informative = (
            self.informative_attempts
            if run_id is None
            else [each for each in self.informative_attempts if each.run_id == run_id]
        )
        return informative[0] if len(informative) == 1 else max(informative, key=_number, default=None)

    @cached_property
    def informative_attempts(self) -> tuple[Attempt, ...]:
        """The attempts that say what the job needs."""
        return tuple([each for each in self.attempts if each.end is not AttemptEnd.silent])

    @property
    def in_order(self) -> Sequence[Attempt]:
        """All attempts, the first one first."""
        return self.attempts if len(self.attempts) < 2 else sorted(self.attempts, key=_number)


@dataclass(frozen=True)
class Facts:
    """A workflow as right-sizing sees it. ``workflow_id`` None: groups of the user's own jobs."""

    workflow_id: int | None
    requirements: tuple[Requirement, ...]
    jobs: tuple[Job, ...] = field(default=())

    def sharing(self, requirement: Requirement) -> tuple[Job, ...]:
        """The jobs that share a requirement, by their ids."""
        return self._by_requirement.get(requirement.resource_requirements_id, ())

    @cached_property
    def _by_requirement(self) -> dict[int | None, tuple[Job, ...]]:
        found: defaultdict[int | None, list[Job]] = defaultdict(list)
        for job in by_id(self.jobs):
            found[job.resource_requirements_id].append(job)
        return {number: tuple(jobs) for number, jobs in found.items()}


def by_id(jobs: Iterable[Job]) -> Sequence[Job]:
    """Jobs in the order of their ids."""
    return sorted(jobs, key=lambda job: job.job_id)


def _number(attempt: Attempt) -> tuple[int, int]:
    return attempt.run_id, attempt.attempt_id
