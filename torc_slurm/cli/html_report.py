"""The command ``torc reports html``: a run on one page that needs no network."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from torc_slurm.cli import own_jobs
from torc_slurm.cli.accounting_options import BackendOption, NoAccountingOption, backend_of, say_which_backend
from torc_slurm.cli.options import FormatOption, OutputDirOption, resolve, say
from torc_slurm.cli.own_jobs import NameOption, SinceOption, SlurmJobIdsOption
from torc_slurm.cli.plot import opened_run, progress_bar
from torc_slurm.common.errors import InputError, TorcError
from torc_slurm.common.identity import step_number
from torc_slurm.files.output_names import REPORT_NAME

if TYPE_CHECKING:
    import sqlite3

    from torc_slurm.cli.answer import Answer
    from torc_slurm.database.rows import Row, Value
    from torc_slurm.database.selection import Selection
    from torc_slurm.plots.page import Section
    from torc_slurm.plots.report import Requests
    from torc_slurm.plots.write import Overview
    from torc_slurm.records.workflows import JobRow
    from torc_slurm.reports.step_stats import Gaps
    from torc_slurm.sizing.facts import Facts
    from torc_slurm.usecases.own_jobs import GroupCorrection

_JOB_PAGE = re.compile(r".+_job_([0-9]{1,18}|batch|extern|interactive)\.html")
_OTHER_PAGE = re.compile(r".+?_((?:cpu|memory)_all_jobs|summary|allocation)\.html")
_MOST_IDS = 5

EXAMPLE = """\b
Examples:
  torc reports html 3 -o report.html
  torc reports html                               the latest workflow, into resource_report.html
  torc reports html --slurm-job-id 1234 -o report.html
  torc reports html --since 1w --name 'train.*'   your own jobs of the last week
"""


def html(
    context: typer.Context,
    workflow_id: Annotated[
        int | None, typer.Argument(metavar="ID", help="A workflow's id; default: the latest workflow.", min=1)
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Write the page to this file.")
    ] = REPORT_NAME,
    run_id: Annotated[
        int | None, typer.Option(metavar="N", help="Only attempts of this run; default: each job's latest attempt.")
    ] = None,
    slurm_job_id: SlurmJobIdsOption = None,
    since: SinceOption = None,
    name: NameOption = None,
    plots: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Link to the plots in this directory; default: the directory of FILE."),
    ] = None,
    no_accounting: NoAccountingOption = False,
    accounting_backend: BackendOption = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Write one page about a workflow.

    The page shows the jobs and their statuses, violations, corrections and their reasons, savings and plots. It needs
    no network and no other file: mail it, or open it from disk. Without a time series, plots show averages. With
    several Slurm jobs there are no plots.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.plots.page import render
    from torc_slurm.plots.report import Report, report_page
    from torc_slurm.plots.write import make_directory, write_file

    chosen_format, directory = resolve(context, format_, output_dir)
    chosen = own_jobs.Chosen(slurm_job_id, since, name)
    own_jobs.refuse_workflow(workflow_id, chosen)
    if plots is not None and not os.path.isdir(plots):
        raise InputError(f"there is no directory {plots}; --plots is where torc plot-resources wrote its pages")
    asking = _Asking(not no_accounting, backend_of(accounting_backend))
    make_directory(os.path.dirname(os.path.abspath(output)))
    if chosen.is_given:
        found = _found_own_jobs(directory, chosen, run_id, asking)
    else:
        found = _found_workflow(directory, workflow_id, run_id, asking)
    links, pages = ({}, {}) if found.is_several else _pages(output, plots)
    report = Report(
        title=found.title,
        attempts=found.attempts,
        unstarted=found.unstarted,
        gaps=found.gaps,
        overview=None if found.is_several else _overview(found.files),
        sizing=found.sizing,
        requests=found.requests,
        links=links,
        pages=pages,
        is_several=found.is_several,
    )
    size = write_file(output, render(report_page(report)))
    write(_answer(output, size), chosen_format)
    if found.files and report.overview is None and not found.is_several:  # there is a page, without figures over time
        raise typer.Exit(1)


class _Asking(NamedTuple):
    """Whether to ask Slurm's accounting for what is missing, and how."""

    ask: bool
    backend: str


class _Found(NamedTuple):
    """The database's content for the page; ``files`` are the node files of the shown attempts."""

    title: str
    attempts: list[Row]
    gaps: Gaps
    files: list[str]
    unstarted: list[JobRow] = []  # noqa: RUF012 - never changed
    sizing: Sequence[Section] = ()
    requests: Requests = {}  # noqa: RUF012 - never changed
    is_several: bool = False  # several Slurm jobs, whose steps have the same numbers


def _found_workflow(directory: str, workflow_id: int | None, run_id: int | None, asking: _Asking) -> _Found:
    from torc_slurm.cli.sizing_options import say_what_is_missing
    from torc_slurm.database.selection import Selection
    from torc_slurm.database.workflows import job_rows
    from torc_slurm.plots.report import latest_of_each_job, requests_of_facts
    from torc_slurm.usecases.sizing_facts import sizing_facts

    with sizing_facts(directory, workflow_id, ask_accounting=asking.ask, backend=asking.backend, on_wait=say) as found:
        found.require_run(run_id)
        connection, number = found.database.connection, found.workflow_id
        attempts, gaps = _rows(connection, Selection(workflow_id=number, run_id=run_id))
        shown = attempts if run_id is not None else latest_of_each_job(attempts)
        files = _files_of(connection, shown, directory)
        tried = {row["job_id"] for row in attempts}
        unstarted = (
            [row for row in job_rows(connection, number) if row["job_id"] not in tried] if run_id is None else []
        )
        name, facts = found.workflow["name"], found.facts
    say_what_is_missing(found)
    return _Found(
        title=f"workflow {number}, {name}" + ("" if run_id is None else f", run {run_id},"),
        attempts=shown,
        gaps=gaps,
        files=files,
        unstarted=unstarted,
        sizing=_sizing(facts, run_id),
        requests=requests_of_facts(facts),
    )


def _sizing(facts: Facts, run_id: int | None, own_jobs: Sequence[GroupCorrection] | None = None) -> Sequence[Section]:
    from torc_slurm.plots.report import sizing_sections
    from torc_slurm.sizing.corrections import correct
    from torc_slurm.sizing.decision import Options
    from torc_slurm.sizing.savings import savings
    from torc_slurm.sizing.utilization import check

    corrections = correct(facts, Options())
    return sizing_sections(check(facts, run_id=run_id), corrections, savings(facts, corrections, run_id), own_jobs)


def _found_own_jobs(directory: str, chosen: own_jobs.Chosen, run_id: int | None, asking: _Asking) -> _Found:
    from torc_slurm.database.selection import Selection
    from torc_slurm.usecases.late_accounting import up_to_date

    ids = own_jobs.recorded_jobs(chosen, directory)
    selection = Selection(ids, run_id=run_id)
    with up_to_date(directory, selection, ask_accounting=asking.ask, backend=asking.backend, on_wait=say) as current:
        attempts, gaps = _rows(current.database.connection, selection)
        files = _files_of(current.database.connection, attempts, directory)
    say_which_backend(current)
    jobs = {row["slurm_job_id"] for row in attempts}
    if not attempts:
        raise InputError(f"no record of Slurm job {_some(ids)} in {directory}; give its --output-dir")
    title = f"Slurm job {_some(ids)}" if len(jobs) == 1 else f"{len(jobs)} Slurm jobs"
    sizing = _sizing_of_own_jobs(chosen, directory) if asking.ask else ()
    return _Found(title, attempts, gaps, files, sizing=sizing, is_several=len(jobs) > 1)


def _some(ids: str) -> str:
    """The ids for a message, no more than a few."""
    several = ids.split(",")
    return ", ".join(several[:_MOST_IDS]) + (
        f" and {len(several) - _MOST_IDS} more" if len(several) > _MOST_IDS else ""
    )


def _sizing_of_own_jobs(chosen: own_jobs.Chosen, directory: str) -> Sequence[Section]:
    """As `torc check`, `correct` and `savings` answer for these jobs; nothing if Slurm does not answer."""
    from torc_slurm.usecases.own_jobs import corrections_of, facts_of_groups

    try:
        groups = own_jobs.groups_from(chosen, directory)
    except TorcError as error:
        say(f"the page has no requests and suggestions: {error}")
        return ()
    return _sizing(facts_of_groups(groups), None, corrections_of(groups))


def _rows(connection: sqlite3.Connection, selection: Selection) -> tuple[list[Row], Gaps]:
    """Of all attempts: what a page shows of each, and what is missing."""
    from torc_slurm.database.rows import compact_rows
    from torc_slurm.database.selection import attempt_ids, attempt_values, select_notes, source_of
    from torc_slurm.plots.report import ATTEMPT_COLUMNS
    from torc_slurm.reports.step_stats import GAP_COLUMNS, gaps_of

    ids = attempt_ids(connection, selection)
    shown: list[tuple[Value, ...]] = []
    columns = (*ATTEMPT_COLUMNS, *GAP_COLUMNS)
    count = len(ATTEMPT_COLUMNS)

    def passing() -> Iterator[tuple[Value, ...]]:
        for values in attempt_values(connection, ids, map(source_of, columns)):
            shown.append(values[:count])
            yield values[count:]

    gaps = gaps_of(passing(), select_notes(connection, ids))
    return list(compact_rows(ATTEMPT_COLUMNS, shown)), gaps


def _files_of(connection: sqlite3.Connection, attempts: Sequence[Row], directory: str) -> list[str]:
    from torc_slurm.database.series import node_files_of_attempts

    ids = [int(str(row["id"])) for row in attempts]
    return [os.path.join(directory, name) for name in node_files_of_attempts(connection, ids)]


def _overview(files: Sequence[str]) -> Overview | None:
    """The content of the node files; unreadable files are named and left out. None if none is left."""
    from torc_slurm.plots.write import read_overview

    present = [path for path in files if os.path.exists(path)]
    if len(present) < len(files):
        gone = len(files) - len(present)
        what = "node file no longer exists" if gone == 1 else "node files no longer exist"
        say(f"{gone} {what}: left out of the plots")
    if not present:
        return None
    try:
        with (
            opened_run(
                present, needs_series=False, on_unreadable=lambda problem: say(f"left out of the plots: {problem}")
            ) as run,
            progress_bar("Reading") as progress,
        ):
            return read_overview(run, progress, lambda problem: say(f"the plots lack a time series: {problem}"))
    except TorcError as error:
        say(f"the page has no plots over time: {error}")
        return None


def _pages(page: str, plots: str | None) -> tuple[dict[int, str], dict[str, str]]:
    """Addresses, relative to the page, of the pages of single jobs and of other existing pages."""
    from urllib.parse import quote

    here = os.path.dirname(os.path.abspath(page))
    directory = here if plots is None else os.path.abspath(plots)
    jobs: dict[int, str] = {}
    others: dict[str, str] = {}
    for name in _names_in(directory):
        address = quote(os.path.relpath(os.path.join(directory, name), here))
        if (match := _JOB_PAGE.fullmatch(name)) is not None:
            name_or_number = match[1]
            jobs[step_number(name_or_number) or 0] = address
        elif (other := _OTHER_PAGE.fullmatch(name)) is not None:
            others[other[1].replace("_", " ")] = address
    return jobs, others


def _names_in(directory: str) -> list[str]:
    """The files of a directory; none if it cannot be listed: then the page has no links."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _answer(path: str, size: int) -> Answer:
    from torc_slurm.cli.answer import Answer
    from torc_slurm.common.text import printable
    from torc_slurm.common.units import format_memory

    item = {"path": path, "size_bytes": size}
    return Answer(keys=list(item), items=[item], notes=[f"{printable(path)} ({format_memory(size)})"])
