"""Which run a script may run: takes the run of a plan exclusively, or goes on as the next one with what is not done.

At most one run of a workflow starts jobs. Every run has one claim, which exactly one process on any host can make. Who
wants to run a plan makes its claim and those of all runs before it; one that somebody else made first has to be of a
run that has ended. So two scripts, or one given to sbatch twice, can never both go on, however late a shared file
system shows each the other's files.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from torc_slurm.database.exit_records import completed_jobs, node_files_of_run, run_has_ended
from torc_slurm.errors import DatabaseError, TorcError
from torc_slurm.plan import (
    Claim,
    Plan,
    PlanExistsError,
    claim_path,
    claim_run,
    create_plan_file,
    next_plan,
    plan_path,
    plan_run_ids,
    read_claim,
    read_plan,
)
from torc_slurm.slurm import steps
from torc_slurm.slurm.states import described, may_have_processes

SUPERSEDED = "superseded"  # the purpose of a claim that only keeps others away
COMPLETING_SECONDS = 90.0
_COMPLETING_PAUSE_SECONDS = 2.0


class RunTakenError(TorcError):
    """Another run of the workflow is active, or was taken back; the message says which, where, and what to do."""


def claim_of_this_process(environ: Mapping[str, str]) -> Claim:
    """Who we are: the allocation, if this is one, and the process."""
    job = environ.get("SLURM_JOB_ID", "")
    restarts = environ.get("SLURM_RESTART_COUNT", "")
    return Claim(
        claimed_at=time.time(),
        host=socket.gethostname(),
        pid=os.getpid(),
        slurm_job_id=int(job) if job.isdecimal() else None,
        restart_count=int(restarts) if restarts.isdecimal() else 0,
    )


def take_run(
    plan: Plan, me: Claim, note: Callable[[str], None] = lambda _text: None, run_id: int | None = None
) -> Plan | None:
    """The plan that this process may run from now on: the given one or, where its run has ended, the next one.

    None where every job of the workflow is completed.

    Args:
        run_id: what the next run is to be called at least: a later stage of the workflow has its number already.
        note: takes a line for the user where there is something to wait for.

    Raises:
        RunTakenError: another run is active, or this one was taken back.
        DatabaseError: an earlier run's node file cannot be read; what it completed would be run again.
        OSError, ParseError: the plans cannot be read or written.
    """
    found = read_claim(plan.output_dir, plan.workflow_id, plan.run_id)
    if found is not None and found.purpose == SUPERSEDED:
        raise RunTakenError(
            f"run {plan.run_id} of workflow {plan.workflow_id} was taken back by torc submit or torc workflows cancel; "
            f"to run what is left: torc submit {plan.workflow_id}"
        )
    while True:
        plan = _newest(plan)
        _close_earlier(plan, me, note)
        if claim_run(plan.output_dir, plan.workflow_id, plan.run_id, me):
            return _without_what_was_done_since(plan)
        _wait_for_its_end(plan, plan.run_id, me, note)
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
    """Refuse a plan whose run could not be taken, before it is written down.

    Raises:
        RunTakenError, CommandError: as `take_run`.
    """
    for run_id in plan_run_ids(plan.output_dir, plan.workflow_id):
        if run_id < plan.run_id:
            _wait_for_its_end(plan, run_id, me, lambda _text: None)


def _newest(plan: Plan) -> Plan:
    """The plan of the workflow's last run, as far as it can be seen from here."""
    last = max([plan.run_id, *plan_run_ids(plan.output_dir, plan.workflow_id)])
    return plan if last == plan.run_id else read_plan(plan_path(plan.output_dir, plan.workflow_id, last))


def _close_earlier(plan: Plan, me: Claim, note: Callable[[str], None]) -> None:
    """No run before this one may begin any more, and those that have begun must have ended.

    Raises:
        RunTakenError: one is active.
    """
    closing = replace(me, purpose=SUPERSEDED)
    for run_id in plan_run_ids(plan.output_dir, plan.workflow_id):
        if run_id < plan.run_id and not claim_run(plan.output_dir, plan.workflow_id, run_id, closing):
            _wait_for_its_end(plan, run_id, me, note)


def _wait_for_its_end(plan: Plan, run_id: int, me: Claim, note: Callable[[str], None]) -> None:
    """Return once the run, which somebody has claimed, has ended; waits only for an allocation that is being ended.

    Raises:
        RunTakenError: it is active.
        CommandError: Slurm does not say.
    """
    claim = read_claim(plan.output_dir, plan.workflow_id, run_id)
    if claim is None or claim.purpose == SUPERSEDED or _journal_says_ended(plan, run_id):
        return
    deadline = time.monotonic() + COMPLETING_SECONDS
    while True:
        where, may_pass = _where_it_runs(plan, run_id, claim, me)
        if where is None:
            return
        if not may_pass or time.monotonic() > deadline:
            raise RunTakenError(
                f"run {run_id} of workflow {plan.workflow_id} is active: {where}; "
                f"wait for its end, or end it with torc workflows cancel {plan.workflow_id}"
            )
        note(f"run {run_id} is being ended ({where}); waiting for that")
        time.sleep(_COMPLETING_PAUSE_SECONDS)


def _where_it_runs(plan: Plan, run_id: int, claim: Claim, me: Claim) -> tuple[str | None, bool]:
    """Where the run is active, None where it is no more; and whether that is about to end by itself."""
    if claim.slurm_job_id is None:
        return _where_it_runs_locally(plan, run_id, claim), False
    if claim.slurm_job_id == me.slurm_job_id:
        return _where_it_runs_here(plan, run_id, claim, me), False
    state = steps.job_state(claim.slurm_job_id)
    if state is None or not may_have_processes(state):
        return None, False
    return f"Slurm job {claim.slurm_job_id} is {described(state)}", state == "COMPLETING"


def _where_it_runs_here(plan: Plan, run_id: int, claim: Claim, me: Claim) -> str | None:
    """In our own allocation: an earlier life of it, or another process of it, or steps that its runner left behind."""
    if claim.restart_count != me.restart_count:
        return None
    if claim.host == me.host and _is_torc(claim.pid):
        return f"process {claim.pid} of this allocation runs it"
    prefix, suffix = f"wf{plan.workflow_id}_j", f"_r{run_id}_a"
    left = [name for name in steps.running_steps(claim.slurm_job_id or 0) if name.startswith(prefix) and suffix in name]
    return f"its runner has died, and {len(left)} of its steps still run" if left else None


def _where_it_runs_locally(plan: Plan, run_id: int, claim: Claim) -> str | None:
    if claim.host != socket.gethostname():
        path = claim_path(plan.output_dir, plan.workflow_id, run_id)
        return f"process {claim.pid} on {claim.host}, which cannot be seen from here (if it has ended, remove {path})"
    if _is_torc(claim.pid):
        return f"process {claim.pid} runs it"
    left = _processes_of(plan, run_id)
    return f"torc has died, and its jobs still run as processes {', '.join(map(str, left))}" if left else None


def _is_torc(pid: int) -> bool:
    """Whether that process runs and is still a torc: numbers are used again."""
    return pid != os.getpid() and any(b"torc" in word for word in _command_line(pid))


def _processes_of(plan: Plan, run_id: int) -> list[int]:
    """The wrappers of this host that run jobs of that run, by their command lines."""
    words = {
        f"--workflow-id={plan.workflow_id}".encode(),
        f"--run-id={run_id}".encode(),
        f"--output-dir={plan.output_dir}".encode("utf-8", "surrogateescape"),
    }
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()] if os.path.isdir("/proc/self") else []
    return [pid for pid in pids if words <= set(_command_line(pid))]


def _command_line(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


# --- what earlier runs left ------------------------------------------------------------------------------------


def _journal_says_ended(plan: Plan, run_id: int) -> bool:
    try:
        paths = node_files_of_run(plan.output_dir, plan.workflow_id, run_id)
        return run_has_ended(paths, plan.workflow_id, run_id)
    except (DatabaseError, OSError):
        return False


def _without_what_was_done_since(plan: Plan) -> Plan | None:
    """The plan, less what an earlier run has completed after the plan was made (its script had only been generated)."""
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
        return completed_jobs(paths, plan.workflow_id)
    except (DatabaseError, OSError) as error:
        raise DatabaseError(f"which jobs are completed is not known: {error} (or move the file away)") from error
