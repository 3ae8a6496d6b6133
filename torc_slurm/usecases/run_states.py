"""The state of each run of a workflow, brought up to date in the main database. Asks squeue once for all of them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torc_slurm.common.errors import CommandError, ParseError
from torc_slurm.common.liveness import Process
from torc_slurm.database.job_states import attempts_without_end, refresh_job_statuses, unfinished_workflows
from torc_slurm.database.main import MainDatabase
from torc_slurm.database.runs import ENDED, GENERATED, RUNNING, SUBMITTED, insert_run, run_rows, update_run
from torc_slurm.files.output_names import claim_path
from torc_slurm.records.workflows import RunRow
from torc_slurm.slurm.clusters import SlurmJob
from torc_slurm.slurm.submission import active_jobs
from torc_slurm.spec.plan import plan_run_ids
from torc_slurm.usecases.activity import RunName, activity_of_claim
from torc_slurm.usecases.attempt_results import rebuild_results
from torc_slurm.usecases.claims import Claim, read_claim
from torc_slurm.usecases.collect import collect_again
from torc_slurm.usecases.stages import first_run_of

_NOBODY = Claim(0.0, "", 0)  # this process asks from outside of all allocations


@dataclass(frozen=True)
class RunState:
    """The state of a run. ``reason`` is a line for the user; ``slurm_job_id`` is None outside Slurm or if unknown.

    ``processes``: signalling these processes of this host ends the run.
    """

    run_id: int
    status: str
    reason: str
    job: SlurmJob | None = None
    claim: Claim | None = None
    processes: tuple[Process, ...] = ()

    @property
    def slurm_job_id(self) -> int | None:
        """Its Slurm job's number."""
        return None if self.job is None else self.job.slurm_job_id

    @property
    def is_active(self) -> bool:
        """Whether it may start jobs now or later without any user action."""
        return self.status in (SUBMITTED, RUNNING)


def refresh_runs(
    connection: sqlite3.Connection,
    output_dir: str,
    workflow_id: int,
    ask_slurm: Callable[[Iterable[SlurmJob]], Mapping[SlurmJob, str]] = active_jobs,
) -> list[RunState]:
    """Bring the rows of a workflow's runs up to date. Returns the state of each run that had not ended before.

    Asks squeue once, and only if such a run has a Slurm job.
    """
    _adopt_plans(connection, output_dir, workflow_id)
    rows = [row for row in run_rows(connection, workflow_id) if row["status"] != ENDED]
    runs = [RunName(output_dir, workflow_id, row["run_id"]) for row in rows]
    claims = [_claim_or_problem(run) for run in runs]
    pairs = zip(rows, claims, strict=True)
    jobs = [job for row, claim in pairs if not isinstance(claim, str) and (job := _slurm_job(row, claim)) is not None]
    active, trouble = _ask(ask_slurm, jobs)
    states = [_state(run, row, claim, active, trouble) for run, row, claim in zip(runs, rows, claims, strict=True)]
    for state in states:
        _write(connection, workflow_id, state)
    return states


def refresh_workflow(
    database: MainDatabase,
    workflow_id: int,
    ask_slurm: Callable[[Iterable[SlurmJob]], Mapping[SlurmJob, str]] = active_jobs,
) -> list[RunState]:
    """Bring a workflow's runs up to date, then the status of each of its jobs. Collects node files first.

    A run that has ended may have written its last jobs after that collect. So the files are read again: otherwise its
    completed jobs would run a second time. Must run inside a transaction.
    """
    connection = database.connection
    states = refresh_runs(connection, database.output_dir, workflow_id, ask_slurm)
    if any(state.status == ENDED for state in states):
        collect_again(database)
    rebuild_results(connection, attempts_without_end(connection, workflow_id))
    active = next((state.run_id for state in reversed(states) if state.is_active), None)
    scripts = {row["run_id"]: row["script"] for row in run_rows(connection, workflow_id)}
    refresh_job_statuses(connection, workflow_id, None if active is None else first_run_of(active, scripts.get(active)))
    return states


def refresh_collected(connection: sqlite3.Connection) -> None:
    """Bring the jobs of all workflows up to date with what was collected, without asking which runs are active."""
    for workflow_id in unfinished_workflows(connection):
        rows = run_rows(connection, workflow_id)
        active = next(
            (
                first_run_of(row["run_id"], row["script"])
                for row in reversed(rows)
                if row["status"] in (SUBMITTED, RUNNING)
            ),
            None,
        )
        refresh_job_statuses(connection, workflow_id, active)


def next_run_id(connection: sqlite3.Connection, output_dir: str, workflow_id: int) -> int:
    """The number of the next run: larger than all that have a row or a plan."""
    known = [row["run_id"] for row in run_rows(connection, workflow_id)]
    return max([0, *known, *plan_run_ids(output_dir, workflow_id)]) + 1


def _adopt_plans(connection: sqlite3.Connection, output_dir: str, workflow_id: int) -> None:
    """Add rows for runs that began in an allocation without a command of the user."""
    known = {row["run_id"] for row in run_rows(connection, workflow_id)}
    for run_id in plan_run_ids(output_dir, workflow_id):
        if run_id not in known:
            found = _claim_or_problem(RunName(output_dir, workflow_id, run_id))
            claim = None if isinstance(found, str) else found
            insert_run(
                connection,
                workflow_id,
                run_id,
                status=GENERATED,
                created_at=time.time() if claim is None else claim.claimed_at,
                slurm_job_id=None if claim is None else claim.slurm_job_id,
                cluster=None if claim is None else claim.cluster,
            )


def _slurm_job(row: RunRow, claim: Claim | None) -> SlurmJob | None:
    number = row["slurm_job_id"] if claim is None else claim.slurm_job_id
    if number is None:
        return None
    cluster = (None if claim is None else claim.cluster) or row["cluster"]
    return SlurmJob(int(number), None if cluster is None else str(cluster))


def _ask(
    ask_slurm: Callable[[Iterable[SlurmJob]], Mapping[SlurmJob, str]], jobs: list[SlurmJob]
) -> tuple[Mapping[SlurmJob, str], str | None]:
    """The active jobs, and why Slurm did not answer."""
    if not jobs:
        return {}, None
    try:
        return ask_slurm(jobs), None
    except (CommandError, ParseError) as error:
        return {}, str(error)


def _claim_or_problem(run: RunName) -> Claim | str | None:
    """The claim, or why it cannot be read. The run's line shows the reason; no command stops for it."""
    try:
        return read_claim(*run)
    except ParseError as error:
        return str(error)
    except OSError as error:
        return f"{claim_path(*run)} cannot be read: {error.strerror or error}"


def _state(
    run: RunName, row: RunRow, claim: Claim | str | None, active: Mapping[SlurmJob, str], trouble: str | None
) -> RunState:
    run_id = run.run_id
    if isinstance(claim, str):
        return RunState(run_id, RUNNING, claim)
    job = _slurm_job(row, claim)
    if claim is None:
        return _unclaimed(row, run_id, job, active, trouble)
    if job is not None and trouble is not None:
        return RunState(run_id, RUNNING, f"{job}; its state is unknown: {trouble}", job, claim)
    activity = activity_of_claim(run, claim, _NOBODY, active.get(job) if job is not None else None)
    status = RUNNING if activity.is_active else ENDED
    return RunState(run_id, status, activity.reason, job, claim, activity.processes)


def _unclaimed(
    row: RunRow, run_id: int, job: SlurmJob | None, active: Mapping[SlurmJob, str], trouble: str | None
) -> RunState:
    if job is not None:
        if trouble is not None:
            return RunState(run_id, SUBMITTED, f"{job}; its state is unknown: {trouble}", job)
        if job in active:
            return RunState(run_id, SUBMITTED, f"{job} is {active[job]}", job)
        return RunState(run_id, ENDED, f"{job} has ended", job)
    if row["status"] == SUBMITTED:
        return RunState(run_id, SUBMITTED, "torc submit was interrupted: look for its job with squeue --me")
    return RunState(run_id, GENERATED, "its script was generated and has not begun")


def _write(connection: sqlite3.Connection, workflow_id: int, state: RunState) -> None:
    update_run(
        connection,
        workflow_id,
        state.run_id,
        status=state.status,
        slurm_job_id=state.slurm_job_id,
        cluster=None if state.job is None else state.job.cluster,
        note=state.reason if state.status == ENDED else None,
    )
