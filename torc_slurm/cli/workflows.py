"""The group ``torc workflows``: lists workflows, shows their status, and ends or deletes them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli.due_plots import make_due_plots
from torc_slurm.cli.options import FormatOption, OutputDirOption, command_group, resolve, say
from torc_slurm.cli.workflow_options import WorkflowIdArgument, load, user_name, working_dir

if TYPE_CHECKING:
    from torc_slurm.reports.workflow_status import WorkflowStatus
    from torc_slurm.usecases.current import Current

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0

app = command_group("Create, list, show, cancel and delete workflows.")

_CREATE_EXAMPLE = """\b
Example:
  {command} workflow.yaml && torc submit
"""
_LIST_EXAMPLE = """\b
Example:
  torc workflows list -f json
"""
_SHOW_EXAMPLE = """\b
Example:
  {command} 3
"""
_STATUS_EXAMPLE = """\b
Examples:
  {command}
  {command} 3 --wait && echo all done
"""
_CANCEL_EXAMPLE = """\b
Example:
  {command} 3
"""
_DELETE_EXAMPLE = """\b
Example:
  {command} 3
"""


def create_example(command: str) -> str:
    """The examples under the help of this command, by the name it was called."""
    return _CREATE_EXAMPLE.format(command=command)


def show_example(command: str) -> str:
    """The examples under the help of this command, by the name it was called."""
    return _SHOW_EXAMPLE.format(command=command)


def status_example(command: str) -> str:
    """The examples under the help of this command, by the name it was called."""
    return _STATUS_EXAMPLE.format(command=command)


def cancel_example(command: str) -> str:
    """The examples under the help of this command, by the name it was called."""
    return _CANCEL_EXAMPLE.format(command=command)


def delete_example(command: str) -> str:
    """The examples under the help of this command, by the name it was called."""
    return _DELETE_EXAMPLE.format(command=command)


@app.command(epilog=create_example("torc workflows create"))
def create(
    context: typer.Context,
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A workflow file (YAML, .json, .json5, .kdl).")],
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Check a workflow file and store it; nothing runs yet.

    Jobs without a working_dir will run in the directory where you call this command.
    """
    import os

    from torc_slurm.cli.answer import write
    from torc_slurm.cli.workflow_view import created_answer
    from torc_slurm.database.main import open_to_write, transaction
    from torc_slurm.database.workflows import create_workflow

    chosen_format, directory = resolve(context, format_, output_dir)
    workflow = load(spec)
    with open_to_write(directory, on_wait=say) as database, transaction(database.connection):
        workflow_id = create_workflow(
            database.connection,
            workflow,
            output_dir=directory,
            working_dir=working_dir(),
            spec_file=os.path.abspath(spec),
            user_name=user_name(),
            now=time.time(),
        )
    write(created_answer(workflow_id, workflow.name, len(workflow.jobs)), chosen_format)


@app.command("list", epilog=_LIST_EXAMPLE)
def list_(context: typer.Context, format_: FormatOption = None, output_dir: OutputDirOption = None) -> None:
    """Show all workflows with their jobs by status."""
    from torc_slurm.cli.answer import write
    from torc_slurm.cli.workflow_view import workflows_answer
    from torc_slurm.database.workflows import status_counts, workflow_rows
    from torc_slurm.reports.workflow_status import workflow_status
    from torc_slurm.usecases.current import current_workflows

    chosen_format, directory = resolve(context, format_, output_dir)
    with current_workflows(directory, on_wait=say) as database:
        counts = status_counts(database.connection)
        rows = workflow_rows(database.connection)
    statuses = [workflow_status(row, counts.get(row["workflow_id"], {})) for row in rows]
    write(workflows_answer(rows, statuses), chosen_format)


@app.command(epilog=show_example("torc workflows show"))
def show(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show a workflow's settings, requirements and runs."""
    from torc_slurm.cli.answer import write
    from torc_slurm.cli.workflow_view import workflow_answer
    from torc_slurm.database.runs import run_rows
    from torc_slurm.database.workflows import requirement_rows, schedulers
    from torc_slurm.usecases.current import current_workflow

    chosen_format, directory = resolve(context, format_, output_dir)
    with current_workflow(directory, workflow_id, on_wait=say) as current:
        connection = current.database.connection
        status = _status(current)
        requirements = requirement_rows(connection, current.workflow_id)
        found = schedulers(connection, current.workflow_id)
        runs = run_rows(connection, current.workflow_id)
    write(workflow_answer(current.workflow, status, requirements, found, runs), chosen_format)


@app.command(epilog=status_example("torc workflows status"))
def status(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the run has ended; exit with 1 unless every job completed.")
    ] = False,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show a workflow's progress and why jobs failed."""
    from torc_slurm.cli.answer import write
    from torc_slurm.cli.workflow_view import status_answer
    from torc_slurm.database.job_states import reasons
    from torc_slurm.database.workflows import job_rows
    from torc_slurm.records.statuses import UNSUCCESSFUL
    from torc_slurm.reports.workflow_status import MOST_NAMED
    from torc_slurm.usecases.current import current_workflow

    chosen_format, directory = resolve(context, format_, output_dir)
    chosen = _wait(directory, workflow_id) if wait else workflow_id
    with current_workflow(directory, chosen, on_wait=say) as current:
        found = _status(current)
        jobs = list(job_rows(current.database.connection, current.workflow_id, statuses=UNSUCCESSFUL, limit=MOST_NAMED))
        evidence = reasons(current.database.connection, current.workflow_id, [row["job_id"] for row in jobs])
    write(status_answer(found, jobs, evidence), chosen_format)
    make_due_plots(directory, current.workflow_id)
    if wait and not found.is_completed:
        raise typer.Exit(1)


@app.command(epilog=cancel_example("torc workflows cancel"))
def cancel(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """End a workflow's active run.

    Completed jobs stay completed; the next run takes the unfinished jobs. torc also withdraws a generated script that
    has not started.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.cli.workflow_view import done_answer
    from torc_slurm.usecases.cancel import cancel_runs
    from torc_slurm.usecases.current import current_workflow

    chosen_format, directory = resolve(context, format_, output_dir)
    with current_workflow(directory, workflow_id, on_wait=say) as current:
        lines = cancel_runs(current)
    write(done_answer(current.workflow_id, "cancelled", lines or ["No run is active."]), chosen_format)


@app.command(epilog=delete_example("torc workflows delete"))
def delete(
    context: typer.Context,
    workflow_id: Annotated[int, typer.Argument(metavar="ID", help="A workflow's id.", min=1)],
    purge: Annotated[bool, typer.Option("--purge", help="Also delete its plots in resource_plots.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Delete a workflow, its records and its user_data.

    The output of its jobs stays. On a terminal, torc asks first. It names the directories of plots that stay, and their
    sizes; --purge deletes them too. It refuses while a run is active.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.cli.workflow_view import done_answer
    from torc_slurm.common.errors import TorcError
    from torc_slurm.common.text import printable
    from torc_slurm.common.units import format_memory
    from torc_slurm.usecases import delete as deletion

    chosen_format, directory = resolve(context, format_, output_dir)
    plots = deletion.plots_of(directory, workflow_id)

    def confirm(name: str) -> None:
        if not yes and sys.stdin.isatty() and sys.stdout.isatty():
            also = f" and {len(plots)} directories of plots" if plots and purge else ""
            if not typer.confirm(f"Delete workflow {workflow_id} ({printable(name)}), its results{also}?"):
                raise TorcError("nothing was deleted")

    deletion.delete(directory, workflow_id, confirm=confirm, on_wait=say)
    lines = [f"workflow {workflow_id} is deleted; the outputs of its jobs stay"]
    if purge:
        deletion.remove_plots(plots)
        lines += [f"deleted {path}" for path in plots]
    else:
        sizes = [(path, format_memory(deletion.size_of(path))) for path in plots]
        lines += [f"its plots stay in {path} ({size}): --purge deletes them" for path, size in sizes]
    write(done_answer(workflow_id, "deleted", lines), chosen_format)


def _status(current: Current) -> WorkflowStatus:
    from torc_slurm.database.runs import run_rows
    from torc_slurm.database.workflows import status_counts_of, workflow_rows
    from torc_slurm.reports.workflow_status import workflow_status

    counts = status_counts_of(current.database.connection, current.workflow_id)
    runs = run_rows(current.database.connection, current.workflow_id)
    open_run = current.runs[-1].reason if current.runs else None
    ended = None if not runs else runs[-1]["reason"] or runs[-1]["note"]
    reason = ended if open_run is None else open_run
    (row,) = workflow_rows(current.database.connection, current.workflow_id)
    return workflow_status(row, counts, reason)


def _wait(directory: str, workflow_id: int | None) -> int:
    """Print the progress on stderr whenever it changes, until no run is active or waits for its script to begin."""
    from torc_slurm.reports.workflow_status import progress_line
    from torc_slurm.usecases.current import current_workflow

    said, pause = "", _FIRST_PAUSE_SECONDS
    while True:
        with current_workflow(directory, workflow_id, on_wait=say) as current:
            line = progress_line(_status(current))
        if line != said:
            say(line)
            said, pause = line, _FIRST_PAUSE_SECONDS
        if not any(run.is_active or run.status == "generated" for run in current.runs):
            return current.workflow_id
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, pause * 1.5)
