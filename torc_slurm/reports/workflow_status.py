"""The status of a workflow, from its jobs' statuses and its latest run; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torc_slurm.database.runs import GENERATED
from torc_slurm.records.statuses import COMPLETED, FAILED, JOB_STATUSES, READY, RUNNING, SUBMITTED, UNSUCCESSFUL
from torc_slurm.records.workflows import JobRow, ListedWorkflowRow

MOST_NAMED = 10

Value = int | float | str | None


@dataclass(frozen=True)
class WorkflowStatus:
    """``status`` is that of an active run, else ``completed``, ``failed``, ``generated`` or ``ready``."""

    workflow_id: int
    name: str
    status: str
    run_id: int | None
    run_status: str | None
    slurm_job_id: int | None
    reason: str | None
    counts: Mapping[str, int]

    @property
    def job_count(self) -> int:
        return sum(self.counts.values())

    @property
    def is_completed(self) -> bool:
        return self.counts.get(COMPLETED, 0) == self.job_count

    def as_item(self) -> dict[str, Value]:
        """The item of a list: every status with its count."""
        names = ("workflow_id", "name", "status", "run_id", "run_status", "slurm_job_id", "reason", "job_count")
        return {name: getattr(self, name) for name in names} | {name: self.counts.get(name, 0) for name in JOB_STATUSES}


def workflow_status(row: ListedWorkflowRow, counts: Mapping[str, int], reason: str | None = None) -> WorkflowStatus:
    """Build the status.

    Args:
        row: the workflow's row, with its latest run.
        counts: the number of its jobs by status.
        reason: a line about that run.
    """
    return WorkflowStatus(
        workflow_id=row["workflow_id"],
        name=row["name"],
        status=_status(counts, row["run_status"]),
        run_id=row["run_id"],
        run_status=row["run_status"],
        slurm_job_id=row["slurm_job_id"],
        reason=reason,
        counts=dict(counts),
    )


def _status(counts: Mapping[str, int], run_status: str | None) -> str:
    if run_status in (SUBMITTED, RUNNING):
        return run_status
    if counts.get(COMPLETED, 0) == sum(counts.values()):
        return COMPLETED
    if any(counts.get(name) for name in UNSUCCESSFUL):
        return FAILED
    return run_status if run_status == GENERATED else READY


def progress_line(status: WorkflowStatus) -> str:
    """``run 2 running: 5 of 12 completed, 3 running, 4 blocked``."""
    counts = [f"{status.counts[name]} {name}" for name in JOB_STATUSES if status.counts.get(name) and name != COMPLETED]
    done = f"{status.counts.get(COMPLETED, 0)} of {status.job_count} completed"
    what = "no run yet" if status.run_id is None else f"run {status.run_id} {status.run_status}"
    return f"{what}: {', '.join([done, *counts])}"


def unsuccessful_jobs(jobs: Sequence[JobRow], evidence: Mapping[int, str], total: int) -> list[str]:
    """A line for each job that ended but did not complete, up to a limit.

    Args:
        jobs: rows of ``jobs`` with the statuses `UNSUCCESSFUL`: at least `MOST_NAMED`, or all.
        evidence: why, by ``job_id``.
        total: the number of such jobs.
    """
    shown = jobs[:MOST_NAMED]
    lines = [f"job {job['job_id']} {job['name']}: {job['status']}{_why(job, evidence)}" for job in shown]
    return [*lines, f"… and {total - len(shown)} more"] if total > len(shown) else lines


def _why(job: JobRow, evidence: Mapping[int, str]) -> str:
    text = evidence.get(job["job_id"])
    return f" ({text})" if text else ""
