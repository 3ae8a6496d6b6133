"""The status of a workflow, from its jobs' statuses and its latest run; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torc_slurm.database.runs import GENERATED
from torc_slurm.records.statuses import COMPLETED, FAILED, JOB_STATUSES, READY, RUNNING, SUBMITTED, UNSUCCESSFUL
from torc_slurm.records.workflows import JobRow, ListedWorkflowRow, WorkflowRow

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


class LatestRun(NamedTuple):
    """The latest run of a workflow."""

    run_id: int
    status: str
    slurm_job_id: int | None


def latest_run(row: ListedWorkflowRow) -> LatestRun | None:
    """The latest run of a listed workflow; None if it has none."""
    if row["run_id"] is None or row["run_status"] is None:
        return None
    return LatestRun(row["run_id"], row["run_status"], row["slurm_job_id"])


def workflow_status(
    workflow: WorkflowRow, counts: Mapping[str, int], run: LatestRun | None, reason: str | None = None
) -> WorkflowStatus:
    """Build the status.

    Args:
        workflow: its row.
        counts: the number of its jobs by status.
        run: its latest run; None if it has none.
        reason: a line about that run.
    """
    run_status = None if run is None else run.status
    return WorkflowStatus(
        workflow_id=workflow["workflow_id"],
        name=workflow["name"],
        status=_status(counts, run_status),
        run_id=None if run is None else run.run_id,
        run_status=run_status,
        slurm_job_id=None if run is None else run.slurm_job_id,
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
    said = evidence.get(job["job_id"])
    return f" ({said})" if said else ""
