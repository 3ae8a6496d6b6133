"""``torc workflows correct-resources``: what to request instead, saved in the workflow and written into its file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli import own_jobs
from torc_slurm.cli.accounting_options import BackendOption, NoAccountingOption, backend_of
from torc_slurm.cli.options import FormatOption, OutputDirOption, resolve, say
from torc_slurm.cli.own_jobs import GroupByOption, NameOption, SinceOption, SlurmJobIdsOption
from torc_slurm.cli.sizing_options import (
    DEFAULT_MULTIPLIER,
    CpuMultiplierOption,
    ExplainOption,
    LargestFactorOption,
    MaxCpusOption,
    MaxMemoryOption,
    MaxRuntimeOption,
    MemoryMultiplierOption,
    MinMemoryOption,
    RuntimeMultiplierOption,
    SpecOutputOption,
    WriteSpecOption,
    check_output,
    guards_of,
    job_ids_of,
    options_of,
    say_what_is_missing,
)
from torc_slurm.cli.workflow_options import WorkflowIdArgument

if TYPE_CHECKING:
    from torc_slurm.sizing.guards import Guards
    from torc_slurm.usecases.sizing_facts import SizingFacts

_EXAMPLE = """\b
Examples:
  {command} 3 --dry-run --explain                what it would do, and why
  {command} 3 --write-spec                       also change the workflow file, and show the diff
  {command} --script job.sbatch --dry-run        your own script: from what its jobs used
  {command} --since 1w --explain                 your jobs of the last week, in groups
  {command} 3 --no-downsize --max-memory 64g     only raise requests, up to 64 GB
"""


def correct_example(command: str) -> str:
    """The examples under the command's help, with the name it was called by."""
    return _EXAMPLE.format(command=command)


def correct_resources(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the changes; change nothing.")] = False,
    no_downsize: Annotated[bool, typer.Option("--no-downsize", help="Never reduce a request.")] = False,
    memory_multiplier: MemoryMultiplierOption = DEFAULT_MULTIPLIER,
    cpu_multiplier: CpuMultiplierOption = DEFAULT_MULTIPLIER,
    runtime_multiplier: RuntimeMultiplierOption = DEFAULT_MULTIPLIER,
    job_ids: Annotated[
        str | None,
        typer.Option("--job-ids", metavar="1,2", help="Change only the requirements that these jobs use."),
    ] = None,
    explain: ExplainOption = False,
    write_spec: WriteSpecOption = False,
    output: SpecOutputOption = None,
    max_memory: MaxMemoryOption = None,
    max_cpus: MaxCpusOption = None,
    max_runtime: MaxRuntimeOption = None,
    min_memory: MinMemoryOption = "100m",
    largest_factor: LargestFactorOption = 10,
    partition: Annotated[
        str | None,
        typer.Option(
            "--partition",
            metavar="NAME",
            help="Request no more than this partition has; default: the workflow's partition.",
        ),
    ] = None,
    script: Annotated[
        str | None,
        typer.Option(
            "--script", metavar="FILE", help="Edit the #SBATCH lines of this script, from what its jobs used."
        ),
    ] = None,
    slurm_job_id: SlurmJobIdsOption = None,
    since: SinceOption = None,
    name: NameOption = None,
    group_by: GroupByOption = None,
    no_accounting: NoAccountingOption = False,
    accounting_backend: BackendOption = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Change requests to what the jobs need.

    torc raises a request if a job was killed at its limit, or used more. It reduces a request if the latest attempt of
    every job completed. The new value comes from all attempts of all runs. The workflow's next run uses it. For your
    own Slurm jobs torc only prints what to request; with --script it edits the script.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.cli.sizing_view import corrections_answer
    from torc_slurm.sizing.corrections import correct
    from torc_slurm.sizing.trends import NO_TRENDS, trends_of
    from torc_slurm.usecases.correct import apply, over_walltime, spec_edit
    from torc_slurm.usecases.sizing_facts import sizing_facts

    chosen_format, directory = resolve(context, format_, output_dir)
    chosen = own_jobs.Chosen(slurm_job_id, since, name, group_by)
    own_jobs.refuse_workflow(workflow_id, chosen)
    if script is not None:
        edited = own_jobs.correct_script(script, chosen, directory, dry_run=dry_run, no_downsize=no_downsize)
        write(edited, chosen_format)
        return
    if chosen.is_given:
        groups = own_jobs.groups_from(chosen, directory)
        write(
            own_jobs.corrections_answer(groups, no_downsize=no_downsize, dry_run=dry_run, explain=explain),
            chosen_format,
        )
        return
    check_output(output, write_spec=write_spec)
    guards = guards_of(
        max_memory=max_memory,
        max_runtime=max_runtime,
        max_cpus=max_cpus,
        min_memory=min_memory,
        largest_factor=largest_factor,
    )
    chosen_jobs = job_ids_of(job_ids)
    multipliers = (memory_multiplier, cpu_multiplier, runtime_multiplier)
    options_of(*multipliers, guards=guards)  # report wrong options before asking Slurm
    with sizing_facts(
        directory, workflow_id, ask_accounting=not no_accounting, backend=backend_of(accounting_backend), on_wait=say
    ) as found:
        options = options_of(
            *multipliers, guards=_with_partition(found, guards, partition, explain), downsize=not no_downsize
        )
        corrections = correct(found.facts, options, chosen_jobs)
        edit = spec_edit(found, corrections, output) if write_spec else None
        warnings = over_walltime(found, corrections)
        if not dry_run and (corrections.adjustments or edit is not None):
            apply(found, corrections, changed_by=context.command_path, now=time.time(), edit=edit)
    say_what_is_missing(found)
    for warning in warnings:
        say(warning)
    trends = trends_of(found.facts) if explain else NO_TRENDS
    answer = corrections_answer(corrections, dry_run=dry_run, explain=explain, edit=edit, trends=trends)
    write(answer, chosen_format)


def _with_partition(found: SizingFacts, guards: Guards, partition: str | None, explain: bool) -> Guards:
    """The bounds with those of the partition; if Slurm does not know them, say so."""
    from torc_slurm.usecases.correct import capacity_for
    from torc_slurm.usecases.partition import guarded

    capacity = capacity_for(found, partition)
    if explain and capacity.problem is not None:
        say(f"the partition's nodes are unknown, so they do not limit requests: {capacity.problem}")
    return guarded(guards, capacity)
