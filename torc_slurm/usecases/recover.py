"""Recovers a workflow: raises the requests that its unfinished jobs exceeded, so that its next run can finish them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from decimal import Decimal

from torc_slurm.common.errors import TorcError
from torc_slurm.common.units import parse_iso_duration, round_up_to_minute, scaled, slurm_time_limit
from torc_slurm.database.sizing import last_run_id
from torc_slurm.database.workflows import dependencies
from torc_slurm.sizing.decision import UP, Options
from torc_slurm.sizing.evidence import Resource
from torc_slurm.sizing.recovery import Cause, Recovery, Unfinished, plan_recovery
from torc_slurm.slurm.sbatch_options import limit_seconds
from torc_slurm.usecases.activity import active_run_text
from torc_slurm.usecases.correct import capacity_for, scheduler_of
from torc_slurm.usecases.partition import Capacity, guarded
from torc_slurm.usecases.sizing_facts import SizingFacts

# An allocation needs more time than its longest job: for its start, and for the warning before its end.
_WALLTIME_FACTOR = Decimal("1.1")
_WALLTIME_EXTRA_SECONDS = 180
_MOST_REASONS = 3


@dataclass(frozen=True)
class RecoveryPlan:
    """What will be done. ``walltime`` is the time to request for the next allocation; None: the scheduler's."""

    recovery: Recovery
    capacity: Capacity
    runs_so_far: int
    max_attempts: int
    walltime: str | None
    reruns_all: bool = False

    @property
    def left_out(self) -> frozenset[int]:
        """The jobs that another run would not help, and that are not asked for."""
        if self.reruns_all:
            return frozenset()
        return frozenset(each.job.job_id for each in self.recovery.unfinished if not each.is_helped)

    @property
    def is_needed(self) -> bool:
        """Whether any job is not completed."""
        return bool(self.recovery.unfinished)


def plan(
    found: SizingFacts,
    options: Options,
    *,
    max_attempts: int,
    retry_failed: bool = False,
    scheduler: str | None = None,
    partition: str | None = None,
) -> RecoveryPlan:
    """Decide everything, change nothing.

    Args:
        max_attempts: the largest total number of runs of the workflow.
        scheduler: the name of the next run's scheduler; None: the first.
        partition: replaces the scheduler's.

    Raises:
        InputError: there is no such scheduler or partition.
        TorcError: a run is active, all allowed runs were used, or another run would not help.
    """
    active = found.active_run
    if active is not None:
        raise TorcError(active_run_text(found.workflow_id, active.run_id, active.reason))
    capacity = capacity_for(found, partition, scheduler)
    chosen = dataclasses.replace(options, guards=guarded(options.guards, capacity))
    waits_for = dependencies(found.database.connection, found.workflow_id)
    recovery = plan_recovery(found.facts, chosen, waits_for, retry_failed=retry_failed)
    runs = last_run_id(found.database.connection, found.workflow_id)
    if recovery.unfinished:
        _refuse(found.workflow_id, recovery, runs, max_attempts)
    walltime = _walltime(found, recovery, capacity, scheduler)
    return RecoveryPlan(recovery, capacity, runs, max_attempts, walltime, reruns_all=retry_failed)


def _refuse(workflow_id: int, recovery: Recovery, runs: int, max_attempts: int) -> None:
    if runs >= max_attempts:
        raise TorcError(
            f"workflow {workflow_id} has had {runs} runs, and --max-attempts is {max_attempts}; "
            f"{_reasons(recovery.unfinished)}"
        )
    if not recovery.helped:
        raise TorcError(
            f"another run would not help workflow {workflow_id}: {_reasons(recovery.unfinished)}; fix that, then run "
            f"the unfinished jobs: torc submit {workflow_id}"
        )


def _reasons(jobs: tuple[Unfinished, ...]) -> str:
    ordered = sorted(jobs, key=lambda each: each.cause is Cause.not_run)
    listed = "; ".join(f"job {each.job.job_id} {each.job.name}: {each.reason}" for each in ordered[:_MOST_REASONS])
    more = len(ordered) - _MOST_REASONS
    return f"{listed}; and {more} more" if more > 0 else listed


def _walltime(found: SizingFacts, recovery: Recovery, capacity: Capacity, scheduler: str | None) -> str | None:
    """A longer time limit for the allocation, if a job that ran out of time would not fit the scheduler's."""
    limit = limit_seconds(scheduler_of(found, scheduler).walltime)
    longest = _longest_runtime(found, recovery)
    if limit is None or longest is None:
        return None
    needed = round_up_to_minute(scaled(longest, _WALLTIME_FACTOR) + _WALLTIME_EXTRA_SECONDS)
    if capacity.time_limit_seconds is not None:
        needed = min(needed, capacity.time_limit_seconds)
    return slurm_time_limit(needed) if needed > limit else None


def _longest_runtime(found: SizingFacts, recovery: Recovery) -> int | None:
    """The longest corrected run time, in seconds, of the jobs that ran out of time."""
    after = {
        each.requirement.resource_requirements_id: parse_iso_duration(str(each.new))
        for each in recovery.corrections.decisions
        if each.resource is Resource.runtime and each.direction == UP
    }
    now = {each.resource_requirements_id: each.request.runtime_seconds for each in found.facts.requirements}
    late = [each.job.resource_requirements_id for each in recovery.unfinished if each.cause is Cause.time]
    times = [after.get(number) or now.get(number) for number in late if number is not None]
    return max((time for time in times if time is not None), default=None)
