"""From a workflow to its next run: plan, script, and what sbatch makes of it; whatever fails leaves nothing behind.

Three phases. Under the database's lock the run is checked, written down and given its plan, all or nothing. Then, with
the lock free for others, sbatch is called. Then its job id is noted, or, where it refused, everything taken back.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torc_slurm import __version__
from torc_slurm.claims import supersede
from torc_slurm.database.job_states import refresh_job_statuses
from torc_slurm.database.main import MainDatabase, open_copy, open_main, open_to_write, transaction
from torc_slurm.database.node_records import Row
from torc_slurm.database.runs import GENERATED, SUBMITTED, delete_run, insert_run, update_run
from torc_slurm.database.workflows import create_workflow, schedulers, take_back_workflow, workflow_row
from torc_slurm.errors import CommandError, CommandTimeout, MisfitError, ParseError, TorcError
from torc_slurm.plan import Plan, create_plan_file, plan_path
from torc_slurm.slurm import submission
from torc_slurm.slurm.fit import misfits, too_few_nodes
from torc_slurm.slurm.sbatch_options import (
    Overrides,
    choose_scheduler,
    collector_options,
    directive,
    limit_seconds,
    output_pattern,
    overridden,
    sbatch_options,
)
from torc_slurm.spec.workflow import Scheduler, Workflow
from torc_slurm.usecases import templates
from torc_slurm.usecases.batch_script import ScriptValues, render_script
from torc_slurm.usecases.collect import collect_node_files
from torc_slurm.usecases.installation import interpreter, module_command
from torc_slurm.usecases.next_run import plan_of
from torc_slurm.usecases.run_states import RunState, next_run_id, refresh_workflow

_DRY = "nothing is created (--dry-run)"


@dataclass(frozen=True)
class Request:
    """What is to be run and how; ``workflow`` is a checked file to be created first, or the id of one that is there.

    ``working_dir`` and ``spec_file`` are absolute; they and ``user_name`` go into a workflow that is created.
    """

    workflow: Workflow | int | None
    working_dir: str
    environ: Mapping[str, str]
    spec_file: str | None = None
    user_name: str | None = None
    scheduler: str | None = None
    overrides: Overrides = field(default_factory=Overrides)
    template: str | None = None
    sbatch_arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Launched:
    """A run that was prepared or submitted; ``script`` is its text, ``messages`` are lines for the user.

    ``collector_job_id``: the Slurm job that collects it afterwards, where one was asked for.
    """

    workflow_id: int
    run_id: int
    job_count: int
    script: str
    script_path: str | None = None
    slurm_job_id: int | None = None
    messages: tuple[str, ...] = ()
    collector_job_id: int | None = None

    @property
    def allocation(self) -> str:
        """The Slurm jobs that were submitted, in words."""
        collector = "" if self.collector_job_id is None else f", collected by job {self.collector_job_id} afterwards"
        return f"Slurm job {self.slurm_job_id}{collector}"


@dataclass(frozen=True)
class _Prepared:
    """A run before anything of it is on disk; ``generated`` are earlier runs whose scripts have not begun.

    ``collector``: the sbatch options of the job that collects it afterwards; None: not asked for.
    """

    plan: Plan
    script: str
    scheduler: str
    created: bool
    warnings: tuple[str, ...]
    generated: tuple[RunState, ...] = ()
    collector: tuple[str, ...] | None = None


def dry_run(output_dir: str, request: Request) -> Launched:
    """What `submit` or `generate` would make, in a copy of the database that is thrown away.

    Raises:
        TorcError: as these two.
    """
    with open_copy(output_dir, _DRY) as database:
        prepared = _prepare(database, request)
        plan = prepared.plan
        words = ("sbatch", "--parsable", *request.sbatch_arguments)
        told = (f"sbatch would be called so: {shlex.join(words)} SCRIPT",) if request.sbatch_arguments else ()
        messages = (*prepared.warnings, *told, *_collector_by_hand(prepared))
        return Launched(plan.workflow_id, plan.run_id, len(plan.jobs), prepared.script, messages=messages)


def generate(output_dir: str, request: Request, *, on_wait: Callable[[str], None] = lambda _message: None) -> Launched:
    """Create the workflow (if it is not there yet) and the plan of its next run, and render the script for sbatch.

    Raises:
        TorcError: as `submit`, without what concerns sbatch.
    """
    prepared = _write_down(output_dir, request, GENERATED, on_wait)
    plan, messages = prepared.plan, (*prepared.warnings, *_collector_by_hand(prepared))
    return Launched(plan.workflow_id, plan.run_id, len(plan.jobs), prepared.script, messages=messages)


def submit(output_dir: str, request: Request, *, on_wait: Callable[[str], None] = lambda _message: None) -> Launched:
    """Prepare the next run and give its script to sbatch.

    Raises:
        InputError: unknown ids or names, a job that can never fit, a text that no #SBATCH line can hold.
        TorcError: a run is active, or every job is completed.
        CommandError: sbatch is not there or refused; nothing was created then.
        CommandTimeout: sbatch did not answer; the run stays, because it may have been submitted.
    """
    prepared = _write_down(output_dir, request, SUBMITTED, on_wait)
    plan = prepared.plan
    script_path = _script_path(plan)
    try:
        answer = submission.submit(script_path, request.sbatch_arguments)
    except CommandTimeout as error:
        raise TorcError(_not_known(plan, error)) from error
    except (CommandError, ParseError):
        _take_back(output_dir, prepared, on_wait)
        raise
    with open_main(output_dir, on_wait=on_wait) as database, transaction(database.connection):
        update_run(database.connection, plan.workflow_id, plan.run_id, slurm_job_id=answer.slurm_job_id)
    collector, trouble = _submit_collector(prepared, answer.slurm_job_id)
    return Launched(
        plan.workflow_id,
        plan.run_id,
        len(plan.jobs),
        prepared.script,
        script_path,
        answer.slurm_job_id,
        (*prepared.warnings, *answer.messages.splitlines(), *trouble),
        collector,
    )


def _submit_collector(prepared: _Prepared, slurm_job_id: int) -> tuple[int | None, tuple[str, ...]]:
    """The job that collects the run afterwards, where one was asked for; or why there is none."""
    if prepared.collector is None:
        return None, ()
    options, script, words = _collector_call(prepared, str(slurm_job_id))
    try:
        return submission.submit(script, options, words).slurm_job_id, ()
    except (CommandError, ParseError) as error:
        return None, (f"no collector was submitted ({error}); torc slurm collect does the same later",)


def _collector_call(prepared: _Prepared, job: str) -> tuple[Sequence[str], str, Sequence[str]]:
    """The options for sbatch, the script, and what the script is given."""
    plan = prepared.plan
    options = (f"--dependency=afterany:{job}", *(prepared.collector or ()))
    torc = module_command("torc_slurm.cli.main", plan.python)
    return options, templates.find("afterany_collect.sh"), (job, plan.output_dir, *torc)


def _collector_by_hand(prepared: _Prepared) -> tuple[str, ...]:
    """What to type behind a script that the user gives to sbatch."""
    if prepared.collector is None:
        return ()
    options, script, words = _collector_call(prepared, "JOB")
    return (f"to collect it afterwards: {shlex.join(['sbatch', *options, script, *words])}",)


def _not_known(plan: Plan, error: CommandTimeout) -> str:
    return (
        f"{error}; whether run {plan.run_id} of workflow {plan.workflow_id} was submitted is not known: look with "
        f"squeue --me, and if it was not, torc workflows cancel {plan.workflow_id} gives it up"
    )


def _write_down(output_dir: str, request: Request, status: str, on_wait: Callable[[str], None]) -> _Prepared:
    """The next run in the database and its plan (submitted: its script too) on disk; all of it or nothing."""
    if not os.path.isdir(output_dir):  # what is wrong is found before the directory is made
        dry_run(output_dir, request)
    with open_to_write(output_dir, on_wait=on_wait) as database:
        if not isinstance(request.workflow, Workflow):
            collect_node_files(database)
        with contextlib.ExitStack() as undo:
            with transaction(database.connection):
                prepared = _prepare(database, request)
                _take_back_generated(prepared)
                _insert(database.connection, prepared, status)
                undo.callback(_unlink, create_plan_file(prepared.plan))
                if status == SUBMITTED:
                    undo.callback(_unlink, _script_path(prepared.plan))
                    _write_script(prepared)
            undo.pop_all()
    return prepared


def _prepare(database: MainDatabase, request: Request) -> _Prepared:
    connection, output_dir = database.connection, database.output_dir
    created = isinstance(request.workflow, Workflow)
    wanted = _create(database, request) if isinstance(request.workflow, Workflow) else request.workflow
    row = workflow_row(connection, wanted)
    workflow_id = int(row["workflow_id"] or 0)
    states = [] if created else refresh_workflow(connection, output_dir, workflow_id)
    for state in states:
        if state.is_active:
            raise TorcError(_is_active(workflow_id, state))
    run_id = next_run_id(connection, output_dir, workflow_id)
    plan = plan_of(connection, row, run_id=run_id, output_dir=output_dir, python=interpreter())
    if not plan.jobs:
        raise TorcError(f"every job of workflow {workflow_id} is completed; there is nothing left to run")
    scheduler, defaults = _scheduler(connection, row, request)
    nodes = submission.nodes_of(_known_nodes(), scheduler.partition or _text(defaults.get("partition")))
    too_large = misfits(plan.jobs, scheduler, nodes)
    if too_large:
        raise MisfitError(too_large)
    return _Prepared(
        plan=plan,
        script=_script(plan, scheduler, defaults, nodes, request),
        scheduler=scheduler.name,
        created=created,
        warnings=too_few_nodes(scheduler, nodes),
        generated=tuple(state for state in states if state.status == GENERATED),
        collector=_collector(plan, scheduler, defaults),
    )


def _scheduler(
    connection: sqlite3.Connection, workflow: Row, request: Request
) -> tuple[Scheduler, dict[str, str | bool]]:
    """The scheduler as the command line changes it, and the other sbatch options of the workflow."""
    chosen = choose_scheduler(schedulers(connection, int(workflow["workflow_id"] or 0)), request.scheduler)
    return overridden(chosen, request.overrides), json.loads(str(workflow["slurm_defaults"]))


def _create(database: MainDatabase, request: Request) -> int:
    assert isinstance(request.workflow, Workflow)
    return create_workflow(
        database.connection,
        request.workflow,
        output_dir=database.output_dir,
        working_dir=request.working_dir,
        spec_file=request.spec_file,
        user_name=request.user_name,
        now=time.time(),
    )


def _take_back_generated(prepared: _Prepared) -> None:
    """No job may run twice at once: a script that was only generated must find its run taken.

    Raises:
        TorcError: it has begun in this very moment.
    """
    plan = prepared.plan
    for state in prepared.generated:
        if not supersede(plan.output_dir, plan.workflow_id, state.run_id):
            raise TorcError(_is_active(plan.workflow_id, state))


def _is_active(workflow_id: int, state: RunState) -> str:
    return (
        f"run {state.run_id} of workflow {workflow_id} is active ({state.reason}); wait for it with "
        f"torc workflows status {workflow_id} --wait, or end it with torc workflows cancel {workflow_id}"
    )


def _collector(plan: Plan, scheduler: Scheduler, defaults: Mapping[str, str | bool]) -> tuple[str, ...] | None:
    if not scheduler.collect_afterwards:
        return None
    return tuple(collector_options(scheduler, defaults, output=_output(plan)))


def _output(plan: Plan) -> str:
    return output_pattern(plan.output_dir, f"slurm_output_wf{plan.workflow_id}_sl%j.o")


def _script(
    plan: Plan,
    scheduler: Scheduler,
    defaults: Mapping[str, str | bool],
    nodes: Sequence[submission.Nodes],
    request: Request,
) -> str:
    limit = limit_seconds(scheduler.walltime or _text(defaults.get("time")))
    options = sbatch_options(
        scheduler,
        defaults,
        job_name=plan.workflow_name,
        output=_output(plan),
        limit=submission.time_limit_of(nodes) if limit is None else limit,
    )
    values = ScriptValues(
        version=__version__,
        workflow_id=plan.workflow_id,
        workflow_name=plan.workflow_name,
        run_id=plan.run_id,
        job_count=len(plan.jobs),
        directives=[directive(option) for option in options],
        setup="\n".join(scheduler.setup),
        torc=module_command("torc_slurm.cli.main", plan.python),
        plan=plan.path,
        output_dir=plan.output_dir,
    )
    return render_script(request.template, values, request.environ)


def _text(value: str | bool | None) -> str | None:
    return value if isinstance(value, str) else None


def _known_nodes() -> list[submission.Nodes]:
    """What the nodes have; nothing where Slurm cannot be asked: then the runner fails what does not fit."""
    try:
        return submission.partition_nodes()
    except (CommandError, ParseError):
        return []


def _insert(connection: sqlite3.Connection, prepared: _Prepared, status: str) -> None:
    plan = prepared.plan
    insert_run(
        connection,
        plan.workflow_id,
        plan.run_id,
        status=status,
        created_at=time.time(),
        scheduler=prepared.scheduler,
        script=_script_path(plan) if status == SUBMITTED else None,
    )
    refresh_job_statuses(connection, plan.workflow_id, plan.run_id if status == SUBMITTED else None)


def _script_path(plan: Plan) -> str:
    return plan.path.removesuffix(".json") + ".sbatch"


def _write_script(prepared: _Prepared) -> None:
    path = _script_path(prepared.plan)
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(prepared.script)


def _take_back(output_dir: str, prepared: _Prepared, on_wait: Callable[[str], None]) -> None:
    """After sbatch refused: no run, no plan, no script, and no workflow that was made for it."""
    plan = prepared.plan
    with open_main(output_dir, on_wait=on_wait) as database, transaction(database.connection):
        delete_run(database.connection, plan.workflow_id, plan.run_id)
        if prepared.created:
            take_back_workflow(database.connection, plan.workflow_id)
        else:
            refresh_job_statuses(database.connection, plan.workflow_id, None)
    for path in (_script_path(plan), plan_path(plan.output_dir, plan.workflow_id, plan.run_id)):
        _unlink(path)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
