"""Which runs of a workflow are active: from their claims, from Slurm, and from the processes of this host.

At most one is. A run that was only generated is not active until its script begins; a run whose allocation has left
Slurm's queue has ended, whatever it could still write.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torc_slurm.database.job_states import attempts_without_end, refresh_job_statuses, unfinished_workflows
from torc_slurm.database.node_records import Row
from torc_slurm.database.runs import ENDED, GENERATED, RUNNING, SUBMITTED, insert_run, run_rows, update_run
from torc_slurm.errors import CommandError
from torc_slurm.plan import Claim, claim_run, plan_run_ids, read_claim
from torc_slurm.slurm.submission import active_jobs
from torc_slurm.usecases.attempt_results import rebuild_results

SUPERSEDED = "superseded"


@dataclass(frozen=True)
class RunState:
    """Where a run stands; ``reason`` is a line for the user, ``slurm_job_id`` None outside Slurm or where not known."""

    run_id: int
    status: str
    reason: str
    slurm_job_id: int | None = None
    claim: Claim | None = None

    @property
    def is_active(self) -> bool:
        """Whether it may start jobs now or later without anybody doing anything."""
        return self.status in (SUBMITTED, RUNNING)


def settle_runs(
    connection: sqlite3.Connection,
    output_dir: str,
    workflow_id: int,
    ask_slurm: Callable[[Iterable[int]], Mapping[int, str]] = active_jobs,
) -> list[RunState]:
    """Bring the rows of a workflow's runs up to date and return where each run stands that had not ended before.

    Asks squeue once, and only where a run that has not ended has a Slurm job.
    """
    _adopt_plans(connection, output_dir, workflow_id)
    rows = [row for row in run_rows(connection, workflow_id) if row["status"] != ENDED]
    claims = {int(row["run_id"] or 0): read_claim(output_dir, workflow_id, int(row["run_id"] or 0)) for row in rows}
    jobs = [job for row in rows if (job := _slurm_job(row, claims[int(row["run_id"] or 0)])) is not None]
    active, trouble = _ask(ask_slurm, jobs)
    states = [_judge(row, claims[int(row["run_id"] or 0)], active, trouble) for row in rows]
    for state in states:
        _write(connection, workflow_id, state)
    return states


def refresh_workflow(
    connection: sqlite3.Connection,
    output_dir: str,
    workflow_id: int,
    ask_slurm: Callable[[Iterable[int]], Mapping[int, str]] = active_jobs,
) -> list[RunState]:
    """Settle a workflow's runs, then the status of each of its jobs; collect what the nodes wrote first."""
    states = settle_runs(connection, output_dir, workflow_id, ask_slurm)
    rebuild_results(connection, attempts_without_end(connection, workflow_id))
    active = next((state.run_id for state in reversed(states) if state.is_active), None)
    refresh_job_statuses(connection, workflow_id, active)
    return states


def refresh_collected(connection: sqlite3.Connection) -> None:
    """Bring the jobs of all workflows up to date with what was collected, without asking which runs are active."""
    for workflow_id in unfinished_workflows(connection):
        rows = run_rows(connection, workflow_id)
        active = next(
            (int(row["run_id"] or 0) for row in reversed(rows) if row["status"] in (SUBMITTED, RUNNING)), None
        )
        refresh_job_statuses(connection, workflow_id, active)


def supersede(output_dir: str, workflow_id: int, run_id: int) -> bool:
    """Take a run that was only generated, so that its script starts nothing; False where it has just begun.

    Raises:
        OSError: the directory cannot be written.
    """
    claim = Claim(claimed_at=time.time(), host=socket.gethostname(), pid=os.getpid(), purpose=SUPERSEDED)
    if claim_run(output_dir, workflow_id, run_id, claim):
        return True
    found = read_claim(output_dir, workflow_id, run_id)
    return found is not None and found.purpose == SUPERSEDED


def next_run_id(connection: sqlite3.Connection, output_dir: str, workflow_id: int) -> int:
    """The number of the next run: after all that have a row or a plan."""
    known = [int(row["run_id"] or 0) for row in run_rows(connection, workflow_id)]
    return max([0, *known, *plan_run_ids(output_dir, workflow_id)]) + 1


def _adopt_plans(connection: sqlite3.Connection, output_dir: str, workflow_id: int) -> None:
    """Note the runs that began in an allocation by themselves."""
    known = {row["run_id"] for row in run_rows(connection, workflow_id)}
    for run_id in plan_run_ids(output_dir, workflow_id):
        if run_id not in known:
            claim = read_claim(output_dir, workflow_id, run_id)
            insert_run(
                connection,
                workflow_id,
                run_id,
                status=GENERATED,
                created_at=time.time() if claim is None else claim.claimed_at,
                slurm_job_id=None if claim is None else claim.slurm_job_id,
            )


def _slurm_job(row: Row, claim: Claim | None) -> int | None:
    if claim is not None:
        return claim.slurm_job_id
    return None if row["slurm_job_id"] is None else int(row["slurm_job_id"])


def _ask(
    ask_slurm: Callable[[Iterable[int]], Mapping[int, str]], jobs: list[int]
) -> tuple[Mapping[int, str], str | None]:
    """The active jobs, and why Slurm could not be asked."""
    if not jobs:
        return {}, None
    try:
        return ask_slurm(jobs), None
    except CommandError as error:
        return {}, str(error)


def _judge(row: Row, claim: Claim | None, active: Mapping[int, str], trouble: str | None) -> RunState:
    run_id, job = int(row["run_id"] or 0), _slurm_job(row, claim)
    if claim is not None and claim.purpose == SUPERSEDED:
        return RunState(run_id, ENDED, "it was taken back before its script began", job, claim)
    if job is not None:
        if trouble is not None:
            return RunState(run_id, RUNNING if claim else SUBMITTED, f"Slurm job {job}, of which {trouble}", job, claim)
        if job in active:
            return RunState(run_id, RUNNING if claim else SUBMITTED, f"Slurm job {job} is {active[job]}", job, claim)
        return RunState(run_id, ENDED, f"Slurm job {job} has ended", job, claim)
    if claim is not None:
        return _judge_local(run_id, claim)
    if row["status"] == SUBMITTED:
        return RunState(run_id, SUBMITTED, "torc submit was interrupted: look for its job with squeue --me")
    return RunState(run_id, GENERATED, "its script was generated and has not begun")


def _judge_local(run_id: int, claim: Claim) -> RunState:
    where = f"process {claim.pid} on {claim.host}"
    if claim.host != socket.gethostname():
        return RunState(run_id, RUNNING, f"{where}, which cannot be seen from here", claim=claim)
    if _is_ours(claim.pid):
        return RunState(run_id, RUNNING, f"{where} runs", claim=claim)
    return RunState(run_id, ENDED, f"{where} has ended", claim=claim)


def _is_ours(pid: int) -> bool:
    """Whether that process is still a torc: numbers are used again."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"torc" in file.read()
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _write(connection: sqlite3.Connection, workflow_id: int, state: RunState) -> None:
    update_run(
        connection,
        workflow_id,
        state.run_id,
        status=state.status,
        slurm_job_id=state.slurm_job_id,
        note=state.reason if state.status == ENDED else None,
    )
