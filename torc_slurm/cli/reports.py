"""The group ``torc reports``: which jobs exceeded their requests, what was wasted, what was changed."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from torc_slurm.cli import own_jobs
from torc_slurm.cli.accounting_options import BackendOption, NoAccountingOption, backend_of
from torc_slurm.cli.options import FormatOption, OutputDirOption, command_group, resolve, say
from torc_slurm.cli.own_jobs import NameOption, SinceOption, SlurmJobIdsOption
from torc_slurm.cli.sizing_options import (
    DEFAULT_MULTIPLIER,
    CpuMultiplierOption,
    MemoryMultiplierOption,
    RunIdOption,
    RuntimeMultiplierOption,
    guards_of,
    options_of,
    say_what_is_missing,
)
from torc_slurm.cli.workflow_options import WorkflowIdArgument

VIOLATIONS_EXIT_STATUS = 3

app = command_group("Compare what jobs used with what they requested.")

_CHECK_EXAMPLE = """\b
Examples:
  {command} 3
  {command} --since 1w                                     your own Slurm jobs of the last week
  {command} 3 --all -f json                                also jobs within their requests
  {command} --fail-on-violation --min-over-utilization 5   for scripts
"""
_SAVINGS_EXAMPLE = """\b
Example:
  torc reports savings 3
"""
_CHANGES_EXAMPLE = """\b
Example:
  torc reports changes 3 -f json
"""


def check_example(command: str) -> str:
    """The examples under the check's help, with the name it was called by."""
    return _CHECK_EXAMPLE.format(command=command)


@app.command("check-resource-utilization", epilog=check_example("torc reports check-resource-utilization"))
def check_resource_utilization(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    run_id: RunIdOption = None,
    show_all: Annotated[bool, typer.Option("--all", help="Also show jobs within their requests.")] = False,
    include_failed: Annotated[
        bool,
        typer.Option("--include-failed", help="Also check jobs whose command failed; killed jobs always count."),
    ] = False,
    min_over_utilization: Annotated[
        float | None,
        typer.Option("--min-over-utilization", metavar="PERCENT", help="Hide violations smaller than this.", min=0),
    ] = None,
    fail_on_violation: Annotated[
        bool, typer.Option("--fail-on-violation", help="Exit with 3 if there is a violation.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Report whether memory or run time depends on a job's parameter, a torc-step --note, or the array "
            "index.",
        ),
    ] = False,
    slurm_job_id: SlurmJobIdsOption = None,
    since: SinceOption = None,
    name: NameOption = None,
    no_accounting: NoAccountingOption = False,
    accounting_backend: BackendOption = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show jobs that used more than they requested.

    torc compares each job's latest attempt with its request. It also shows jobs that were killed for memory or ended at
    their time limit. It ignores jobs without resource_requirements.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.cli.sizing_view import utilization_answer
    from torc_slurm.common.units import exact
    from torc_slurm.sizing.trends import trends_of
    from torc_slurm.sizing.utilization import check
    from torc_slurm.usecases.sizing_facts import sizing_facts

    chosen_format, directory = resolve(context, format_, output_dir)
    least = None if min_over_utilization is None else exact(min_over_utilization)
    chosen = own_jobs.Chosen(slurm_job_id, since, name)
    own_jobs.refuse_workflow(workflow_id, chosen)
    with contextlib.ExitStack() as stack:
        if chosen.is_given:
            facts = own_jobs.facts_from(chosen, directory)
        else:
            asks = not no_accounting
            backend = backend_of(accounting_backend)
            found = stack.enter_context(
                sizing_facts(directory, workflow_id, ask_accounting=asks, backend=backend, on_wait=say)
            )
            found.require_run(run_id)
            facts = found.facts
        report = check(facts, run_id=run_id, show_all=show_all, include_failed=include_failed, min_over_percent=least)
    if not chosen.is_given:
        say_what_is_missing(found)
    write(utilization_answer(report, trends_of(facts) if explain else None), chosen_format)
    if fail_on_violation and report.violations:
        raise typer.Exit(VIOLATIONS_EXIT_STATUS)


@app.command(epilog=_SAVINGS_EXAMPLE)
def savings(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    run_id: RunIdOption = None,
    memory_multiplier: MemoryMultiplierOption = DEFAULT_MULTIPLIER,
    cpu_multiplier: CpuMultiplierOption = DEFAULT_MULTIPLIER,
    runtime_multiplier: RuntimeMultiplierOption = DEFAULT_MULTIPLIER,
    slurm_job_id: SlurmJobIdsOption = None,
    since: SinceOption = None,
    name: NameOption = None,
    no_accounting: NoAccountingOption = False,
    accounting_backend: BackendOption = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show core-hours and GB-hours used and wasted.

    Requested is the request times the run time, of all attempts; After is the same with corrected requests. Reserved is
    the request times the requested run time, once for each job. Only jobs with resource_requirements count.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.cli.sizing_view import savings_answer
    from torc_slurm.sizing.corrections import correct
    from torc_slurm.sizing.savings import savings as savings_of
    from torc_slurm.usecases.sizing_facts import sizing_facts

    chosen_format, directory = resolve(context, format_, output_dir)
    options = options_of(memory_multiplier, cpu_multiplier, runtime_multiplier, guards=guards_of())
    chosen = own_jobs.Chosen(slurm_job_id, since, name)
    own_jobs.refuse_workflow(workflow_id, chosen)
    if chosen.is_given:
        facts = own_jobs.facts_from(chosen, directory)
        write(savings_answer(None, run_id, savings_of(facts, correct(facts, options), run_id)), chosen_format)
        return
    with sizing_facts(
        directory, workflow_id, ask_accounting=not no_accounting, backend=backend_of(accounting_backend), on_wait=say
    ) as found:
        found.require_run(run_id)
        rows = savings_of(found.facts, correct(found.facts, options), run_id)
    say_what_is_missing(found)
    write(savings_answer(found.workflow_id, run_id, rows), chosen_format)


@app.command(epilog=_CHANGES_EXAMPLE)
def changes(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show the saved corrections and their reasons.

    JSON and CSV also have the evidence: the most demanding attempts.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.cli.sizing_view import changes_answer
    from torc_slurm.database.sizing import change_rows
    from torc_slurm.usecases.current import current_workflow

    chosen_format, directory = resolve(context, format_, output_dir)
    with current_workflow(directory, workflow_id, on_wait=say) as current:
        rows = change_rows(current.database.connection, current.workflow_id)
    write(changes_answer(rows), chosen_format)
