"""Decides which run a script may run: it takes the plan's run exclusively, or continues as the next run.

At most one run of a workflow starts jobs. Every run has one claim, which exactly one process on any host can make. To
run a plan, a process claims its run and all earlier runs; if another process has claimed one of these, that run must
have ended. So two scripts, or one that was submitted twice, never both continue, however late a shared file system
shows one the other's files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

from torc_slurm.common.errors import DatabaseError, TorcError
from torc_slurm.database.exit_records import completed_jobs
from torc_slurm.files.output_names import node_files_of_run, plan_path
from torc_slurm.slurm import steps
from torc_slurm.slurm.states import described, may_have_processes
from torc_slurm.spec.plan import Plan, PlanExistsError, create_plan_file, next_plan, plan_run_ids, read_plan
from torc_slurm.usecases.activity import Activity, RunName, active_run_text, activity_of_claim, journal_says_ended
from torc_slurm.usecases.claims import SUPERSEDED, Claim, claim_run, read_claim

COMPLETING_SECONDS = 90.0
_COMPLETING_PAUSE_SECONDS = 2.0


class RunTakenError(TorcError):
    """Another run of the workflow is active, or was withdrawn. The message says which, where, and what to do."""


def take_run(
    plan: Plan, me: Claim, note: Callable[[str], None] = lambda _text: None, run_id: int | None = None
) -> Plan | None:
    """The plan that this process may now run: the given one or, if its run has ended, the next one.

    None if every job of the workflow is completed.

    Args:
        run_id: the smallest number of the next run: a later stage of the workflow has its number already.
        note: takes a line for the user when the process must wait.

    Raises:
        RunTakenError: another run is active, or this one was withdrawn.
        DatabaseError: an earlier run's node file cannot be read, so its completed jobs would run again.
        OSError, ParseError: the plans cannot be read or written.
    """
    found = read_claim(plan.output_dir, plan.workflow_id, plan.run_id)
    if found is not None and found.purpose == SUPERSEDED:
        raise RunTakenError(
            f"run {plan.run_id} of workflow {plan.workflow_id} was withdrawn by torc submit or torc cancel; "
            f"to run what is left: torc submit {plan.workflow_id}"
        )
    while True:
        plan = _newest(plan)
        _close_earlier(plan, me, note)
        if claim_run(plan.output_dir, plan.workflow_id, plan.run_id, me):
            return _without_completed_jobs(plan)
        _wait_for_end(plan, plan.run_id, me, note)
        number = max(plan.run_id + 1, run_id or 0)
        following = next_plan(plan, _completed(plan, _node_files_until(plan, plan.run_id)), number)
        if not following.jobs:
            return None
        try:
            create_plan_file(following)
            plan = following
        except PlanExistsError:
            plan = read_plan(following.path)


def check_free(plan: Plan, me: Claim) -> None:
    """Refuse a plan whose run could not be taken, before it is recorded.

    Raises:
        RunTakenError, CommandError: as `take_run`.
    """
    for run_id in plan_run_ids(plan.output_dir, plan.workflow_id):
        if run_id < plan.run_id:
            _wait_for_end(plan, run_id, me, lambda _text: None)


def _newest(plan: Plan) -> Plan:
    """The plan of the workflow's last run, as far as this host can see."""
    last = max([plan.run_id, *plan_run_ids(plan.output_dir, plan.workflow_id)])
    return plan if last == plan.run_id else read_plan(plan_path(plan.output_dir, plan.workflow_id, last))


def _close_earlier(plan: Plan, me: Claim, note: Callable[[str], None]) -> None:
    """Make sure that no earlier run begins any more, and that those that began have ended.

    Raises:
        RunTakenError: one is active.
    """
    closing = replace(me, purpose=SUPERSEDED)
    for run_id in plan_run_ids(plan.output_dir, plan.workflow_id):
        if run_id < plan.run_id and not claim_run(plan.output_dir, plan.workflow_id, run_id, closing):
            _wait_for_end(plan, run_id, me, note)


def _wait_for_end(plan: Plan, run_id: int, me: Claim, note: Callable[[str], None]) -> None:
    """Return when a claimed run has ended; waits only if its allocation is ending.

    Raises:
        RunTakenError: it is active.
        CommandError: Slurm does not answer.
    """
    run = RunName(plan.output_dir, plan.workflow_id, run_id)
    claim = read_claim(*run)
    if claim is None or claim.purpose == SUPERSEDED or journal_says_ended(run):
        return
    deadline = time.monotonic() + COMPLETING_SECONDS
    while (activity := _activity(run, claim, me)).is_active:
        if not activity.is_ending or time.monotonic() > deadline:
            raise RunTakenError(active_run_text(plan.workflow_id, run_id, activity.reason))
        note(f"waiting for the end of run {run_id} ({activity.reason})")
        time.sleep(_COMPLETING_PAUSE_SECONDS)


def _activity(run: RunName, claim: Claim, me: Claim) -> Activity:
    state = None
    if claim.slurm_job_id is not None and claim.slurm_job_id != me.slurm_job_id:
        found = steps.job_state(claim.slurm_job_id, claim.cluster)
        # A requeued allocation will continue as the next run.
        state = described(found) if found is not None and may_have_processes(found) else None
    return activity_of_claim(run, claim, me, state)


# --- what earlier runs left ------------------------------------------------------------------------------------


def _without_completed_jobs(plan: Plan) -> Plan | None:
    """The plan without the jobs that an earlier run has completed since the plan was made (a generated script)."""
    made_at = os.stat(plan.path).st_mtime
    paths = _node_files_until(plan, plan.run_id - 1)
    if all(os.stat(path).st_mtime < made_at for path in paths):
        return plan
    left = next_plan(plan, _completed(plan, paths), plan.run_id)
    return left if left.jobs else None


def _node_files_until(plan: Plan, last_run_id: int) -> list[str]:
    """The node files of this run of the workflow and of those before it."""
    run_ids = [run_id for run_id in plan_run_ids(plan.output_dir, plan.workflow_id) if run_id <= last_run_id]
    return [path for run_id in run_ids for path in node_files_of_run(plan.output_dir, plan.workflow_id, run_id)]


def _completed(plan: Plan, paths: list[str]) -> set[int]:
    """The jobs that completed in the runs of these node files."""
    try:
        return completed_jobs(paths, plan.workflow_id, {job.job_id: job.counts_from_run for job in plan.jobs})
    except (DatabaseError, OSError) as error:
        raise DatabaseError(
            f"cannot tell which jobs are completed: {error}; repair that, or move the file away (its jobs then run "
            "again)"
        ) from error
