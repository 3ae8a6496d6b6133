"""``torc submit`` and ``torc slurm generate``: from a workflow file, or a workflow, to a run in an allocation."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli.options import FormatOption, OutputDirOption, resolve, say
from torc_slurm.cli.workflow_options import (
    AccountOption,
    NodesOption,
    PartitionOption,
    QosOption,
    RerunChangedOption,
    SchedulerOption,
    SourceArgument,
    TemplateOption,
    TimeOption,
    UpdateOption,
    request_for,
)
from torc_slurm.common.errors import InputError, UnwritableError

if TYPE_CHECKING:
    from torc_slurm.cli.answer import Answer
    from torc_slurm.usecases.submit import Launched

SUBMIT_EXAMPLE = """\b
Examples:
  torc submit workflow.yaml
  torc submit workflow.yaml --dry-run             show the script
  torc submit 3 -N 4 -t 2:00:00                   run the unfinished jobs of workflow 3
  torc submit workflow.yaml -- --mail-type=END    any other option of sbatch
"""
GENERATE_EXAMPLE = """\b
Examples:
  torc slurm generate workflow.yaml -o run.sh && sbatch run.sh
  torc slurm generate 3                           the next run of workflow 3, to stdout
"""


def submit(
    context: typer.Context,
    source: SourceArgument = None,
    sbatch_arguments: Annotated[
        list[str] | None, typer.Argument(metavar="-- SBATCH_ARGS", help="More options for sbatch.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the script; create nothing.")] = False,
    account: AccountOption = None,
    partition: PartitionOption = None,
    qos: QosOption = None,
    nodes: NodesOption = None,
    time: TimeOption = None,
    scheduler: SchedulerOption = None,
    template: TemplateOption = None,
    update: UpdateOption = False,
    rerun_changed: RerunChangedOption = False,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Submit a workflow's unfinished jobs to Slurm.

    Unfinished jobs are those that are not completed. They are the workflow's next run, in one allocation, or in several
    if jobs name their own schedulers. From a file, torc first creates a workflow; if sbatch refuses, torc removes that
    workflow again.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.usecases import submit as submission

    chosen_format, directory = resolve(context, format_, output_dir)
    request = request_for(
        source,
        scheduler=scheduler,
        template=template,
        account=account,
        partition=partition,
        qos=qos,
        nodes=nodes,
        time=time,
        sbatch_arguments=sbatch_arguments,
        update=update,
        rerun_changed=rerun_changed,
    )
    launched = submission.dry_run(directory, request) if dry_run else submission.submit(directory, request, on_wait=say)
    for message in launched.messages:
        say(message)
    if dry_run:
        write(_script_answer(launched, dry_run=True), chosen_format)
    else:
        write(_submitted_answer(launched), chosen_format)


def generate(
    context: typer.Context,
    source: SourceArgument = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the script to this file; default: stdout."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only write the script; create no workflow and no run.")
    ] = False,
    account: AccountOption = None,
    partition: PartitionOption = None,
    qos: QosOption = None,
    nodes: NodesOption = None,
    time: TimeOption = None,
    scheduler: SchedulerOption = None,
    template: TemplateOption = None,
    update: UpdateOption = False,
    rerun_changed: RerunChangedOption = False,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Write the sbatch script of a workflow's next run.

    torc creates the workflow and its next run as torc submit does, writes the script to stdout or a file, and prints
    the ids on stderr. Nothing runs until you submit the script with sbatch.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.usecases import submit as submission

    chosen_format, directory = resolve(context, format_, output_dir)
    request = request_for(
        source,
        scheduler=scheduler,
        template=template,
        account=account,
        partition=partition,
        qos=qos,
        nodes=nodes,
        time=time,
        update=update,
        rerun_changed=rerun_changed,
    )
    with _written(output) as lines:
        launched = (
            submission.dry_run(directory, request) if dry_run else submission.generate(directory, request, on_wait=say)
        )
        lines.append(launched.script)
    for message in launched.messages:
        say(message)
    write(_script_answer(launched, dry_run=dry_run, path=output), chosen_format)
    if not dry_run:
        say(f"workflow {launched.workflow_id}, run {launched.run_id}, {_jobs(launched)}")


@contextlib.contextmanager
def _written(path: str | None) -> Iterator[list[str]]:
    """Collect a text and write it to the file at the end; a path that cannot be written is refused at once.

    Raises:
        UnwritableError: the file cannot be written.
    """
    from torc_slurm.files.whole_files import new_draft, remove_abandoned_drafts

    parts: list[str] = []
    if path is None:
        yield parts
        return
    target = os.path.abspath(path)
    if os.path.isdir(target):
        raise InputError(f"{path} is a directory; give a file with -o")
    try:
        remove_abandoned_drafts(os.path.dirname(target))
        descriptor, draft = new_draft(os.path.dirname(target))
    except OSError as error:
        raise UnwritableError(path, error, "give another path with -o") from error
    try:
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            yield parts
            file.write("".join(parts))
        os.chmod(draft, 0o755)  # noqa: S103 - a script, to be run and read like others
        os.replace(draft, target)
    except BaseException:
        os.unlink(draft)
        raise


def _jobs(launched: Launched) -> str:
    return f"{launched.job_count} {'job' if launched.job_count == 1 else 'jobs'}"


def _ids(launched: Launched) -> dict[str, object]:
    return {
        "workflow_id": launched.workflow_id,
        "run_id": launched.run_id,
        "slurm_job_id": launched.slurm_job_id,
        "job_count": launched.job_count,
    }


def _submitted_answer(launched: Launched) -> Answer:
    from torc_slurm.cli.answer import one

    workflow = launched.workflow_id
    return one(
        _ids(launched)
        | {"script": launched.script_path, "collector_slurm_job_id": launched.collector_job_id}
        | ({"later_slurm_job_ids": list(launched.later_job_ids)} if launched.later_job_ids else {}),
        f"Workflow {workflow}, run {launched.run_id}: {_jobs(launched)} in {launched.allocation}",
        f"Watch it: torc status {workflow} --wait    afterwards: torc stats {workflow}",
    )


def _script_answer(launched: Launched, *, dry_run: bool, path: str | None = None) -> Answer:
    """The script; on a terminal, nothing if it was written to a file."""
    from torc_slurm.cli.answer import one

    item = _ids(launched) | {"dry_run": dry_run, "script": path if path is not None else launched.script}
    return one(item, *([] if path is not None else launched.script.removesuffix("\n").split("\n")))
