"""``torc run``: runs the jobs of a workflow here or, in a batch script, those of a plan."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli.due_plots import make_due_plots
from torc_slurm.cli.options import Format, FormatOption, OutputDirOption, resolve, say
from torc_slurm.cli.run_view import progress_view
from torc_slurm.cli.workflow_options import SourceArgument
from torc_slurm.common.errors import DatabaseError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torc_slurm.runner.share import RunResult, Share
    from torc_slurm.spec.plan import Plan

EXAMPLE = """\b
Examples:
  torc run examples/quick.yaml          plain processes, as many as fit this machine
  torc run 3                            run the unfinished jobs of workflow 3
  salloc -N2 --exclusive torc run workflow.yaml     inside an allocation: steps on its nodes
"""


def run(
    context: typer.Context,
    source: SourceArgument = None,
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="FILE", help="Run this plan; only scripts that torc wrote use this."),
    ] = None,
    max_parallel_jobs: Annotated[
        int | None, typer.Option("--max-parallel-jobs", metavar="N", min=1, help="At most N jobs at a time.")
    ] = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Run a workflow's unfinished jobs here.

    Unfinished jobs are those that are not completed. They start in the order of their dependencies: inside an
    allocation as steps, elsewhere as plain processes of this machine. At the first Ctrl-C (or SIGTERM), torc sends
    SIGTERM to the running jobs and, if they have not ended after a grace period, SIGKILL. A second Ctrl-C kills them at
    once. What was measured is kept. The exit status is 0 only if every job completed.
    """
    if plan is not None:
        if source is not None:
            raise InputError("give a workflow or --plan, not both")
        status = _run_plan(plan, max_parallel_jobs)
    else:
        chosen_format, directory = resolve(context, format_, output_dir)
        status = _run_workflow(source, directory, chosen_format, max_parallel_jobs)
    raise typer.Exit(status)


def _run_plan(path: str, most_jobs: int | None) -> int:
    """In an allocation; never opens the main database."""
    from torc_slurm.runner.share import Share
    from torc_slurm.usecases.stages import read_stage

    try:
        plan, stage, run_id = read_stage(path)
    except OSError as error:
        raise InputError(f"the plan {path} cannot be read: {error.strerror}") from error
    if most_jobs is None and plan.most_jobs:
        most_jobs = plan.most_jobs[min(stage or 1, len(plan.most_jobs)) - 1]
    result = _carry_out(plan, Share(stage, most_jobs), run_id)
    if result is None:
        return 0
    counts = [f"{count} {state}" for state, count in sorted(result.states.items())]
    if result.not_started:
        counts.append(f"{result.not_started} not started")
    say(f"{_title(result.plan)} has ended: {', '.join(counts)}")
    return _exit_status(result)


def _run_workflow(source: str | None, output_dir: str, chosen_format: Format, most_jobs: int | None) -> int:
    from torc_slurm.cli.workflow_options import load, user_name, working_dir
    from torc_slurm.runner.execute import check_here
    from torc_slurm.runner.share import Share
    from torc_slurm.usecases.claims import claim_of_this_process
    from torc_slurm.usecases.next_run import Source
    from torc_slurm.usecases.prepare_run import prepare_run
    from torc_slurm.usecases.takeover import check_free

    environ = dict(os.environ)

    def check(plan: Plan) -> None:
        check_here(plan, environ)
        check_free(plan, claim_of_this_process(environ))

    is_file = source is not None and not source.isdecimal()
    wanted = Source(
        workflow=load(source) if source is not None and is_file else None if source is None else int(source),
        working_dir=working_dir(),
        spec_file=os.path.abspath(source) if source is not None and is_file else None,
        user_name=user_name(),
    )
    plan = prepare_run(output_dir, wanted, check=check, on_wait=say)
    result = _carry_out(plan, Share(most_jobs=most_jobs))
    if result is None:
        return 0
    _finish(output_dir, result.plan, chosen_format, result)
    return _exit_status(result)


def _carry_out(plan: Plan, share: Share, run_id: int | None = None) -> RunResult | None:
    """Take the plan's run, or the next one, and run it; None if every job is completed."""
    from torc_slurm.runner.execute import execute
    from torc_slurm.usecases.claims import claim_of_this_process
    from torc_slurm.usecases.takeover import take_run

    environ = dict(os.environ)
    me = claim_of_this_process(environ)
    try:
        taken = take_run(plan, me, say, run_id) if plan.jobs else None
    except OSError as error:
        raise DatabaseError(
            f"run {plan.run_id} cannot start: {error}; check that you may write in {plan.output_dir}"
        ) from error
    if taken is None:
        say(f"every job of workflow {plan.workflow_id} is completed; nothing is left to run")
        return None
    if taken.run_id != plan.run_id:
        say(f"run {plan.run_id} has ended; continuing with the unfinished jobs as run {taken.run_id}")
    with progress_view(_title(taken)) as view:
        return execute(taken, me, environ, view, share)


def _title(plan: Plan) -> str:
    return f"workflow {plan.workflow_id} ({plan.workflow_name}), run {plan.run_id}"


def _exit_status(result: RunResult) -> int:
    from torc_slurm.runner.execute import exit_status

    return exit_status(result)


def _finish(output_dir: str, plan: Plan, chosen_format: Format, result: RunResult) -> None:
    """Collect the measurements into the main database, and show the run."""
    from torc_slurm.cli.answer import Answer, write
    from torc_slurm.usecases.current import current_workflow

    with current_workflow(output_dir, plan.workflow_id, on_wait=say):
        pass
    make_due_plots(output_dir, plan.workflow_id)
    states = dict(result.states) | ({"not_started": result.not_started} if result.not_started else {})
    item: dict[str, object] = {"workflow_id": plan.workflow_id, "run_id": plan.run_id}
    answer = Answer(
        keys=[*item, *states],
        document=item | {"jobs": states},
        csv_items=[item | states],
        notes=_summary_lines(output_dir, plan, result),
    )
    write(answer, chosen_format)


def _summary_lines(output_dir: str, plan: Plan, result: RunResult) -> Iterator[str]:
    """Only made when shown, because it reads node files."""
    from torc_slurm.database.node_records import read_node_file
    from torc_slurm.files.output_names import node_files_of_run
    from torc_slurm.records.statuses import RUNNING
    from torc_slurm.reports.summary import NOT_STARTED, summary_lines, summary_rows

    records = [read_node_file(path) for path in node_files_of_run(output_dir, plan.workflow_id, plan.run_id)]
    rows = summary_rows(plan, records)
    known = [row for row in rows if row.status not in (NOT_STARTED, RUNNING)]
    states = None
    if len(known) + result.not_started < len(rows):  # the journal could not be written to its end
        rows, states = known, {**result.states, NOT_STARTED: result.not_started}
    yield from summary_lines(_title(plan), rows, _next_commands(plan, result), states)


def _next_commands(plan: Plan, result: RunResult) -> list[str]:
    commands = [f"torc stats {plan.workflow_id}    what each job used"]
    if not result.all_completed:
        commands.append(f"torc run {plan.workflow_id}    run the unfinished jobs again")
    return commands
