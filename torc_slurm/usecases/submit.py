"""Submits a workflow's next run: plan, script, sbatch. A failure leaves nothing behind.

Three phases. Under the database's lock the run is checked and recorded with its plan, all or nothing. Then, without the
lock, torc calls sbatch. Then it records the job id or, if sbatch refused, removes everything.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torc_slurm.common.errors import CommandError, CommandTimeout, InputError, TorcError
from torc_slurm.database.job_states import refresh_job_statuses
from torc_slurm.database.main import open_copy, open_main, open_to_write, transaction
from torc_slurm.database.runs import GENERATED, SUBMITTED, delete_run, insert_run, update_run
from torc_slurm.database.workflows import take_back_workflow
from torc_slurm.files.output_names import plan_path
from torc_slurm.files.whole_files import private_mode
from torc_slurm.slurm import submission
from torc_slurm.slurm.clusters import SlurmJob, cluster_arguments
from torc_slurm.spec.plan import Plan, create_plan_file
from torc_slurm.spec.workflow import Workflow
from torc_slurm.usecases import templates
from torc_slurm.usecases.activity import active_run_text
from torc_slurm.usecases.claims import supersede
from torc_slurm.usecases.collect import collect_node_files
from torc_slurm.usecases.installation import torc_command
from torc_slurm.usecases.prepare_submit import Prepared, Request, prepare
from torc_slurm.usecases.stages import write_stage

_DRY = "nothing is created (--dry-run)"


@dataclass(frozen=True)
class Launched:
    """A run that was prepared or submitted; ``script`` is its text, ``messages`` are lines for the user.

    ``collector_job_id``: the Slurm job that collects it afterwards, if requested. ``later_job_ids``: the Slurm jobs of
    its later stages, each of which waits for the one before; ``stage_count``: the number of stages.
    """

    workflow_id: int
    run_id: int
    job_count: int
    script: str
    script_path: str | None = None
    slurm_job_id: int | None = None
    messages: tuple[str, ...] = ()
    collector_job_id: int | None = None
    later_job_ids: tuple[int, ...] = ()
    stage_count: int = 1
    cluster: str | None = None

    @property
    def allocation(self) -> str:
        """The Slurm jobs that were submitted, in words."""
        collector = "" if self.collector_job_id is None else f", collected by job {self.collector_job_id} afterwards"
        later = "".join(f", then Slurm job {job}" for job in self.later_job_ids)
        if self.slurm_job_id is None:
            return "a Slurm job whose number could not be read"
        return f"{SlurmJob(self.slurm_job_id, self.cluster)}{later}{collector}"


def dry_run(output_dir: str, request: Request) -> Launched:
    """What `submit` or `generate` would do, on a temporary copy of the database.

    Raises:
        TorcError: as `submit` and `generate`.
    """
    with open_copy(output_dir, _DRY) as database:
        prepared = prepare(database, request)
        plan = prepared.plan
        words = ("sbatch", "--parsable", *request.sbatch_arguments)
        told = (f"the sbatch command would be: {shlex.join(words)} SCRIPT",) if request.sbatch_arguments else ()
        messages = (*prepared.warnings, *told, *_collector_by_hand(prepared))
        scripts = "\n".join(each.script for each in prepared.allocations)
        count = len(prepared.allocations)
        return Launched(plan.workflow_id, plan.run_id, len(plan.jobs), scripts, messages=messages, stage_count=count)


def generate(output_dir: str, request: Request, *, on_wait: Callable[[str], None] = lambda _message: None) -> Launched:
    """Create the workflow (unless it exists) and the plan of its next run, and render the script for sbatch.

    Raises:
        TorcError: as `submit`, except for sbatch.
    """
    count = dry_run(output_dir, request).stage_count
    if count > 1:
        raise InputError(
            f"jobs of this workflow name schedulers of their own, which takes {count} allocations and as many scripts: "
            "torc submit submits them all; --scheduler NAME puts all jobs into one"
        )
    prepared = _write_down(output_dir, request, GENERATED, on_wait)
    plan, messages = prepared.plan, (*prepared.warnings, *_collector_by_hand(prepared))
    return Launched(plan.workflow_id, plan.run_id, len(plan.jobs), prepared.script, messages=messages)


def submit(output_dir: str, request: Request, *, on_wait: Callable[[str], None] = lambda _message: None) -> Launched:
    """Prepare the next run and give its script to sbatch.

    Raises:
        InputError: unknown ids or names, a job that can never fit, a text that cannot stand in an #SBATCH line.
        TorcError: a run is active, or every job is completed.
        CommandError: there is no sbatch, or it refused; nothing was created. After sbatch has accepted a script,
            nothing is removed: a message says what could not be read from its answer.
        CommandTimeout: sbatch did not answer; the run stays, because it may have been submitted.
    """
    prepared = _write_down(output_dir, request, SUBMITTED, on_wait)
    plan = prepared.plan
    answers: list[submission.Submitted] = []
    jobs: list[SlurmJob] = []
    for allocation in prepared.allocations:
        if len(jobs) < len(answers):  # without a job id, the next stage cannot depend on it
            break
        after = [f"--dependency=afterany:{jobs[-1].slurm_job_id}"] if jobs else []
        try:
            answers.append(submission.submit(allocation.script_path, [*request.sbatch_arguments, *after]))
        except CommandTimeout as error:
            raise TorcError(_unknown_submission(plan, error)) from error
        except CommandError:
            for job in reversed(jobs):
                submission.cancel(job)
            _take_back(output_dir, prepared, on_wait)
            raise
        if (submitted := answers[-1].job) is not None:
            jobs.append(submitted)
            with open_main(output_dir, on_wait=on_wait) as database, transaction(database.connection):
                number, cluster = submitted
                update_run(
                    database.connection, plan.workflow_id, allocation.run_id, slurm_job_id=number, cluster=cluster
                )
    collector, trouble = _submit_collector(prepared, jobs[-1]) if len(jobs) == len(prepared.allocations) else (None, ())
    if len(answers) < len(prepared.allocations):
        left = len(prepared.allocations) - len(answers)
        trouble = (
            *trouble,
            f"{left} later {'allocation was' if left == 1 else 'allocations were'} not submitted; when the submitted "
            f"one has ended, submit the rest with torc submit {plan.workflow_id}",
        )
    said = [line for answer in answers for line in answer.messages.splitlines()]
    return Launched(
        plan.workflow_id,
        plan.run_id,
        len(plan.jobs),
        prepared.script,
        prepared.allocations[0].script_path,
        jobs[0].slurm_job_id if jobs else None,
        (*prepared.warnings, *said, *trouble),
        collector,
        tuple(job.slurm_job_id for job in jobs[1:]),
        len(prepared.allocations),
        jobs[0].cluster if jobs else None,
    )


def _submit_collector(prepared: Prepared, job: SlurmJob) -> tuple[int | None, tuple[str, ...]]:
    """The job that collects the run afterwards, if requested; or why there is none."""
    if _collector_of(prepared) is None:
        return None, ()
    options, script, words = _collector_call(prepared, str(job.slurm_job_id))
    try:
        answer = submission.submit(script, [*cluster_arguments(job.cluster), *options], words)
        return (None, (answer.messages,)) if answer.job is None else (answer.job.slurm_job_id, ())
    except CommandError as error:
        return None, (f"no collector was submitted ({error}); torc slurm collect does the same later",)


def _collector_call(prepared: Prepared, job: str) -> tuple[Sequence[str], str, Sequence[str]]:
    """The options for sbatch, the script, and the script's arguments."""
    plan = prepared.plan
    options = (f"--dependency=afterany:{job}", *(_collector_of(prepared) or ()))
    torc = torc_command(plan.python)
    return options, templates.find("afterany_collect.sh"), (job, plan.output_dir, *torc)


def _collector_of(prepared: Prepared) -> tuple[str, ...] | None:
    """Once, after the last allocation, with the options of the first scheduler that requests it."""
    return next((each.collector for each in prepared.allocations if each.collector is not None), None)


def _collector_by_hand(prepared: Prepared) -> tuple[str, ...]:
    """What to type after a script that the user submits."""
    if _collector_of(prepared) is None:
        return ()
    options, script, words = _collector_call(prepared, "JOB")
    return (f"to collect it afterwards: {shlex.join(['sbatch', *options, script, *words])}",)


def _unknown_submission(plan: Plan, error: CommandTimeout) -> str:
    return (
        f"{error}; unknown whether run {plan.run_id} of workflow {plan.workflow_id} was submitted: check with "
        f"squeue --me; if it was not, run torc cancel {plan.workflow_id}"
    )


def _write_down(output_dir: str, request: Request, status: str, on_wait: Callable[[str], None]) -> Prepared:
    """Record the next run and its plan (if submitted, its script too): all or nothing."""
    if not os.path.isdir(output_dir):  # find errors before the directory is made
        dry_run(output_dir, request)
    with open_to_write(output_dir, on_wait=on_wait) as database:
        if not isinstance(request.workflow, Workflow):
            collect_node_files(database)
        with contextlib.ExitStack() as undo:
            with transaction(database.connection):
                prepared = prepare(database, request)
                _take_back_generated(prepared)
                _insert(database.connection, prepared, status)
                undo.callback(_unlink, create_plan_file(prepared.plan))
                if status == SUBMITTED:
                    for path in _files_of(prepared):
                        undo.callback(_unlink, path)
                    _write_scripts(prepared)
            undo.pop_all()
    return prepared


def _take_back_generated(prepared: Prepared) -> None:
    """Withdraw generated scripts, so that no job can run twice at once: such a script then finds its run taken.

    Raises:
        TorcError: it has just begun.
    """
    plan = prepared.plan
    for state in prepared.generated:
        if not supersede(plan.output_dir, plan.workflow_id, state.run_id):
            raise TorcError(active_run_text(plan.workflow_id, state.run_id, state.reason))


def _insert(connection: sqlite3.Connection, prepared: Prepared, status: str) -> None:
    plan = prepared.plan
    for allocation in prepared.allocations:
        insert_run(
            connection,
            plan.workflow_id,
            allocation.run_id,
            status=status,
            created_at=time.time(),
            scheduler=allocation.scheduler,
            script=allocation.script_path if status == SUBMITTED else None,
        )
    refresh_job_statuses(connection, plan.workflow_id, plan.run_id if status == SUBMITTED else None)


def _files_of(prepared: Prepared) -> list[str]:
    """The scripts, and the files that name the stage of each."""
    plan, scripts = prepared.plan, [each.script_path for each in prepared.allocations]
    stages = range(1, len(scripts) + 1) if len(scripts) > 1 else ()
    return scripts + [plan_path(plan.output_dir, plan.workflow_id, plan.run_id, stage) for stage in stages]


def _write_scripts(prepared: Prepared) -> None:
    for number, allocation in enumerate(prepared.allocations, 1):
        if len(prepared.allocations) > 1:
            write_stage(prepared.plan, number, allocation.run_id)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(allocation.script_path, flags, private_mode())
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(allocation.script)


def _take_back(output_dir: str, prepared: Prepared, on_wait: Callable[[str], None]) -> None:
    """After sbatch refused: remove the run, its plan, its script, and a workflow that was created for it."""
    plan = prepared.plan
    with open_main(output_dir, on_wait=on_wait) as database, transaction(database.connection):
        for allocation in prepared.allocations:
            delete_run(database.connection, plan.workflow_id, allocation.run_id)
        if prepared.created:
            take_back_workflow(database.connection, plan.workflow_id)
        else:
            refresh_job_statuses(database.connection, plan.workflow_id, None)
    for path in (*_files_of(prepared), plan_path(plan.output_dir, plan.workflow_id, plan.run_id)):
        _unlink(path)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
