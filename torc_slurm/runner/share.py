"""The part of a plan that a run is to do, and how the run ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torc_slurm.records.statuses import COMPLETED
from torc_slurm.spec.plan import JobPlan, Plan


@dataclass(frozen=True)
class RunResult:
    """How a run ended: the jobs by state, the number of jobs that never started, why it was stopped."""

    plan: Plan
    states: Mapping[str, int]
    not_started: int
    stopped: str | None

    @property
    def all_completed(self) -> bool:
        return not self.not_started and set(self.states) <= {COMPLETED}


@dataclass(frozen=True)
class Share:
    """The part of a plan to run: the jobs of one stage (None: all), at most ``most_jobs`` at a time (None: all)."""

    stage: int | None = None
    most_jobs: int | None = None

    def holds(self, job: JobPlan) -> bool:
        """Whether the job belongs to the share."""
        return self.stage is None or job.stage == self.stage

    def needs(self, job: JobPlan, jobs: Mapping[int, JobPlan]) -> tuple[int, ...]:
        """The jobs that the job waits for; if it does not mind failures, none that an earlier stage left unfinished."""
        if self.stage is None or job.settings.cancel_on_blocking_job_failure:
            return job.depends_on
        return tuple(other for other in job.depends_on if other in jobs and jobs[other].stage >= self.stage)
