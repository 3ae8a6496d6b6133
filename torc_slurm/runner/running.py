"""A running attempt, and its row in the journal."""

from __future__ import annotations

from torc_slurm.runner.attempts import Attempt, Ended, EndRequest, Outcome, Started
from torc_slurm.runner.journal import Row
from torc_slurm.runner.launcher import Launcher
from torc_slurm.spec.plan import JobPlan, Plan


class Running:
    """An attempt whose process has not ended, or whose end is still being examined."""

    def __init__(self, attempt: Attempt, started: Started, start_time: float, key: int) -> None:
        self.attempt = attempt
        self.started = started
        self.start_time = start_time
        self.key = key  # what its launcher knows it by: the job's id, or its group's
        self.end_request: EndRequest | None = None


def state_row(
    plan: Plan,
    launcher: Launcher,
    job: JobPlan,
    state: str,
    *,
    attempt_id: int,
    reason: str | None = None,
    running: Running | None = None,
    ended: Ended | None = None,
    outcome: Outcome | None = None,
) -> Row:
    """The journal's row of a job; ``attempt_id`` counts only if nothing runs."""
    return {
        "workflow_id": plan.workflow_id,
        "run_id": plan.run_id,
        "job_id": job.job_id,
        "attempt_id": attempt_id if running is None else running.attempt.attempt_id,
        "job_name": job.name,
        "state": state,
        "reason": reason if outcome is None else outcome.reason,
        "launcher": launcher.name,
        "slurm_job_id": launcher.slurm_job_id,
        "step_id": None if ended is None else ended.step_id,
        "step_name": None if running is None else running.started.step_name,
        "nodes": None if running is None else ",".join(running.attempt.nodes),
        "pid": None if running is None else running.started.pid,
        "start_time": None if running is None else running.start_time,
        "end_time": None if ended is None else ended.end_time,
        "return_code": None if outcome is None else outcome.return_code,
        "launcher_status": None if ended is None else ended.status,
        "launcher_stderr": None if ended is None else ended.stderr or None,
    }
