"""The group ``torc slurm``: what Slurm's steps used, and collecting it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli.accounting_options import (
    Backend,
    BackendOption,
    NoAccountingOption,
    backend_of,
    say_which_backend,
)
from torc_slurm.cli.due_plots import make_due_plots
from torc_slurm.cli.list_options import DEFAULT_LIMIT, LimitOption, SortOption
from torc_slurm.cli.options import (
    DEBUG_VARIABLE,
    ColumnsFormatOption,
    Format,
    FormatOption,
    OutputDirOption,
    command_group,
    resolve,
    resolve_columns,
    say,
)
from torc_slurm.cli.time_limit import fail_after
from torc_slurm.common.errors import InputError, TorcError
from torc_slurm.common.identity import named_step, step_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torc_slurm.cli.answer import Answer
    from torc_slurm.database.selection import NotRecorded, Selection
    from torc_slurm.records.accounting import AccountingRecord
    from torc_slurm.reports.step_stats import StatsReport
    from torc_slurm.usecases.late_accounting import UpToDate

_MOST_NAMED_FILES = 10
_EPILOG_LIMIT_SECONDS = 90

app = command_group("Show and collect what steps used; write sbatch scripts.")

_STATS_EXAMPLE = """\b
Examples:
  {command} --slurm-job-id 1234
  {command} --slurm-job-id 1234 -f json
  {command} 3 --compare  Slurm's figures next to the wrapper's
  {command}              the run or job that was recorded last
  {command} --local      what ran outside Slurm
"""
_COLLECT_EXAMPLE = """\b
Examples:
  torc slurm collect
  torc slurm collect --output-dir /scratch/me/torc_output -f json
"""
_EPILOG_EXAMPLE = """\b
Example, near the top of your own sbatch script, so that it runs however the script ends:
  trap 'torc slurm epilog || :' EXIT
\b
Or, as the script's last line, only if the script gets there:
  torc slurm epilog
"""


def stats_example(command: str) -> str:
    """The examples under the stats command's help, with the name it was called by."""
    return _STATS_EXAMPLE.format(command=command)


def _job_id(text: str) -> int:
    number = step_number(text)
    if number is None:
        raise typer.BadParameter(f"{text!r} is not the number of a job or step, nor batch")
    return number


@app.command(epilog=stats_example("torc slurm stats"))
def stats(
    context: typer.Context,
    workflow_id: Annotated[int | None, typer.Argument(metavar="WORKFLOW_ID", help="A workflow's id.")] = None,
    slurm_job_id: Annotated[
        str | None, typer.Option(metavar="N,N", help="Allocations, by Slurm job id; 12_3 is a task of an array.")
    ] = None,
    run_id: Annotated[int | None, typer.Option(metavar="N", help="Only this run.")] = None,
    job_id: Annotated[
        int | None,
        typer.Option(
            metavar="N", parser=_job_id, help="Only this job; for a step of your own script, its number or batch."
        ),
    ] = None,
    attempt_id: Annotated[int | None, typer.Option(metavar="N", help="Only this attempt.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Show what ran outside Slurm.")] = False,
    all_steps: Annotated[
        bool,
        typer.Option("--all-steps", help="Also show steps that ran without torc-step, if accounting was asked."),
    ] = False,
    all_columns: Annotated[bool, typer.Option("--all-columns", help="Show every column, one value per line.")] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Compare the figures of torc-step, the cgroup and Slurm, and say why they differ."
        ),
    ] = False,
    sort: SortOption = None,
    limit: LimitOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Explain units, missing figures, differences and warnings.")
    ] = False,
    no_accounting: NoAccountingOption = False,
    accounting_backend: BackendOption = None,
    format_: ColumnsFormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show what each step used, and what Slurm says about it.

    torc first collects what the nodes wrote, and asks accounting once for each allocation whose rows are not final.
    Without any id, it shows the run or job that was recorded last in the output directory.
    """
    from torc_slurm.cli.answer import Answer, write
    from torc_slurm.cli.stats_view import TABLE_COLUMNS
    from torc_slurm.database.main import detached_copy
    from torc_slurm.database.selection import (
        Selection,
        attempt_ids,
        attempt_rows,
        count_attempts,
        first_not_recorded,
        select_notes,
        select_unmeasured,
        selected_jobs,
    )
    from torc_slurm.reports.step_stats import ITEM_COLUMNS, stats_report, streamed_items
    from torc_slurm.usecases.late_accounting import up_to_date

    chosen_format, columns, directory = resolve_columns(context, format_, output_dir, TABLE_COLUMNS)
    is_table = chosen_format is Format.table
    backend = backend_of(accounting_backend)
    selection = Selection(slurm_job_id, workflow_id, run_id, job_id, attempt_id, local)
    with up_to_date(
        directory,
        selection,
        latest_only=True,
        ask_accounting=not no_accounting,
        all_steps=all_steps,
        backend=backend,
        on_wait=say,
    ) as current:
        connection = current.database.connection
        most = DEFAULT_LIMIT if limit is None and is_table else limit or None
        ids = attempt_ids(connection, current.selection, sort=sort and sort.value, limit=most)
        total = len(ids) if most is None or len(ids) < most else count_attempts(connection, current.selection)
        missing = None if ids else first_not_recorded(connection, current.selection)
        found = selected_jobs(connection, current.selection) if current.selection.slurm_jobs else set()
        unmeasured = select_unmeasured(connection, current.selection)
        copy = detached_copy(current.database) if ids and not is_table and not compare else None
        report = stats_report(
            [] if copy is not None else list(attempt_rows(connection, ids)),
            unmeasured,
            select_notes(connection, ids) if is_table else [],
            all_steps=all_steps,
        )
    _say_what_is_missing(current)
    if all_steps:  # else the reason is shown next to the NULL figures
        _say_what_was_not_answered(current)
    _say_which_jobs_are_missing(current.selection, found)
    if missing is not None:
        raise _not_recorded(current.selection, missing)
    if not ids and not report.items:
        report = _of_unrecorded(directory, selection, None if no_accounting else backend, all_steps=all_steps)
    if copy is not None:
        items = streamed_items(copy, ids, unmeasured if all_steps else ())
        answer = Answer(keys=ITEM_COLUMNS, items=items)
    else:
        answer = _answer(report, compare=compare, all_columns=all_columns, explain=explain)
    if is_table and len(ids) < total:
        more = f"the first {len(ids):,} of {total:,} are shown: --limit 0 shows all, --sort memory the largest first"
        answer = answer._replace(notes=[*answer.notes, more])
    write(answer, chosen_format, () if compare else columns)
    if current.selection.workflow_id is not None:
        make_due_plots(directory, current.selection.workflow_id)


@app.command(epilog=_COLLECT_EXAMPLE)
def collect(
    context: typer.Context,
    workflow_id: Annotated[
        int | None, typer.Argument(metavar="WORKFLOW_ID", help="Ask accounting only for this workflow.")
    ] = None,
    slurm_job_id: Annotated[str | None, typer.Option(metavar="N", help="Ask accounting only for this job.")] = None,
    no_accounting: NoAccountingOption = False,
    accounting_backend: BackendOption = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Copy to torc.db what the nodes wrote.

    torc also asks accounting for rows that are not final. You can repeat this. torc names and skips a node file that is
    damaged or being written. It exits with 1 only if there were files and it could read none.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.cli.collect_view import files_answer
    from torc_slurm.database.selection import Selection
    from torc_slurm.database.workflows import workflow_row
    from torc_slurm.usecases.late_accounting import up_to_date

    chosen_format, directory = resolve(context, format_, output_dir)
    selection, backend = Selection(slurm_job_id, workflow_id), backend_of(accounting_backend)
    with up_to_date(directory, selection, ask_accounting=not no_accounting, backend=backend, on_wait=say) as current:
        if workflow_id is not None:
            workflow_row(current.database.connection, workflow_id)  # refuses an unknown id
    _say_what_is_missing(current)
    _say_what_was_not_answered(current)
    write(files_answer(current), chosen_format)
    make_due_plots(directory, workflow_id)
    if current.files and all(file.outcome == "skipped" for file in current.files):
        raise typer.Exit(1)


@app.command(epilog=_EPILOG_EXAMPLE)
def epilog(
    context: typer.Context,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if anything failed.")] = False,
    accounting_backend: BackendOption = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Ask Slurm's accounting once, at the end of an sbatch script.

    torc stores the answer in the node file of this node, never in torc.db. It cannot harm the script: each
    failure is a line on stderr, and the exit status is 0 (without --strict).
    """
    try:
        with fail_after(_EPILOG_LIMIT_SECONDS):
            problems = _run_epilog(*resolve(context, format_, output_dir), accounting_backend)
    except OSError as error:
        place = error.filename or "the output directory"
        problems = [f"{place} cannot be used: {error.strerror or error}; give your job's own --output-dir"]
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        problems = [str(error) if isinstance(error, TorcError) else f"unexpected {type(error).__name__}: {error}"]
    for problem in problems:
        say(f"epilog: {problem}")
    if problems and strict:
        raise typer.Exit(1)


def _run_epilog(chosen_format: Format, directory: str, backend: Backend | None) -> list[str]:
    """Run the epilog and print the result; returns what failed."""
    from torc_slurm.cli.answer import write
    from torc_slurm.cli.epilog_view import epilog_answer
    from torc_slurm.usecases.epilog import Allocation, closed_to_root, record_accounting

    if os.path.exists(directory) and not os.path.isdir(directory):
        return [f"{directory} is a file, not an output directory; give your job's own --output-dir"]
    allocation = Allocation.from_environment(os.environ)
    if refusal := closed_to_root(directory):
        return [refusal]
    report = record_accounting(directory, allocation, backend=backend_of(backend))
    if report.note is not None:
        say(f"epilog: {report.note}")
    write(epilog_answer(report, directory), chosen_format)
    return report.problems


def _say_what_is_missing(current: UpToDate) -> None:
    """Say on stderr that the database is a copy, which files were skipped, that another backend was used."""
    say_which_backend(current)
    if current.database.read_only_reason:
        say(f"{current.database.read_only_reason}: this answer was collected in memory and is not stored")
    skipped = [file for file in current.files if file.outcome == "skipped"]
    for file in skipped[:_MOST_NAMED_FILES]:
        say(f"skipped {file.path}: {(file.problem or '').removeprefix(file.path).strip()}")
    if len(skipped) > _MOST_NAMED_FILES:
        say(f"skipped {len(skipped) - _MOST_NAMED_FILES} more node files; torc slurm collect names all")


def _say_what_was_not_answered(current: UpToDate) -> None:
    if current.unanswered_reason is not None:
        say(f"accounting did not answer: {current.unanswered_reason}")


def _of_unrecorded(directory: str, selection: Selection, backend: str | None, *, all_steps: bool) -> StatsReport:
    """If there is no record: what Slurm's accounting has, if it was asked (``backend`` None: not asked).

    Raises:
        InputError: neither; the message names the unknown id, the directory, Slurm's answer and the remedy.
    """
    from torc_slurm.reports.step_stats import stats_report
    from torc_slurm.usecases.late_accounting import ask_about_unrecorded

    if selection.slurm_jobs is None:
        return _of_workflow(directory, selection)
    every: list[AccountingRecord] = []
    problems = []
    for job in selection.slurm_jobs:
        ask = backend is not None and job.isdigit()
        rows, note = ask_about_unrecorded(int(job), backend) if ask else ([], None)
        if note is not None:
            say(f"accounting: {note}")
        known = [row for row in rows if row.state is not None]
        every += known
        problems.append(f"no record of Slurm job {job} in {directory}{_what_slurm_says(rows, known)}")
    if every and all_steps:
        return stats_report([], [row.as_row() for row in every], [], all_steps=True)
    for problem in problems[:-1]:
        say(problem)
    raise InputError(problems[-1])


def _say_which_jobs_are_missing(selection: Selection, found: set[str]) -> None:
    """Say which of several Slurm jobs have no record, if others have."""
    missing = [job for job in selection.slurm_jobs or () if job not in found]
    if found and missing:
        say(f"no record of Slurm job {', '.join(missing)}")


def _what_slurm_says(rows: Sequence[AccountingRecord], known: Sequence[AccountingRecord]) -> str:
    """What Slurm has about the job, or why it has nothing, and the next thing to try."""
    if known:
        state = next((f" ({row.job_state})" for row in known if row.job_state is not None), "")
        steps = "1 step" if len(known) == 1 else f"{len(known)} steps"
        return f"; Slurm has {steps} of it{state}: --all-steps shows them"
    reason = f" ({str(rows[0].reason).partition(';')[0]})" if rows else ""
    return f"{reason}; if it ran elsewhere, give its --output-dir"


def _not_recorded(selection: Selection, missing: NotRecorded) -> InputError:
    from torc_slurm.cli.stats_view import number_ranges

    whose = "what ran outside Slurm" if selection.local else f"workflow {selection.workflow_id}"
    if selection.slurm_job is not None:
        whose = f"Slurm job {selection.slurm_job}"
    if selection.run_id is not None and missing.kind != "run":
        whose = f"run {selection.run_id} of {whose}"
    there = f"is {missing.kind}" if len(missing.recorded) == 1 else f"are {missing.kind}s"
    return InputError(
        f"{missing.kind} {named_step(missing.given)} of {whose} is not recorded; "
        f"recorded {there} {number_ranges(missing.recorded)}"
    )


def _of_workflow(directory: str, selection: Selection) -> StatsReport:
    """An empty report, for a workflow that has no record yet.

    Raises:
        InputError: there is no such workflow, or no such run, job or attempt of it.
    """
    from torc_slurm.database.main import open_copy
    from torc_slurm.database.workflows import workflow_row
    from torc_slurm.reports.step_stats import stats_report

    if selection.workflow_id is None:
        raise _nothing_fits(directory, selection)
    with open_copy(directory, "a look") as database:
        try:
            workflow_row(database.connection, selection.workflow_id)
        except InputError:
            raise _nothing_fits(directory, selection) from None
    if (selection.run_id, selection.job_id, selection.attempt_id) != (None, None, None):
        raise InputError(f"nothing of workflow {selection.workflow_id} fits --run-id, --job-id and --attempt-id")
    say(f"no record of workflow {selection.workflow_id} yet")
    return stats_report([], [], [], all_steps=False)


def _nothing_fits(directory: str, selection: Selection) -> InputError:
    if selection.workflow_id is not None:
        return InputError(
            f"there is no workflow {selection.workflow_id} in {directory}; "
            f"for a Slurm job id write --slurm-job-id {selection.workflow_id}"
        )
    return InputError(f"no matching record in {directory}; run a command under torc-step, or use --output-dir")


def _answer(report: StatsReport, *, compare: bool, all_columns: bool, explain: bool) -> Answer:
    from torc_slurm.cli.compare_view import comparison_answer
    from torc_slurm.cli.stats_view import records_answer, report_answer
    from torc_slurm.reports.compare import compare as compared

    if compare:
        return comparison_answer(compared(report.items))
    return records_answer(report) if all_columns else report_answer(report, explain=explain)
