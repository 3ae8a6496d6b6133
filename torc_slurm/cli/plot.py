"""The command ``torc plot-resources``: node files in, self-contained HTML pages out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli import own_jobs
from torc_slurm.cli.accounting_options import say_which_backend
from torc_slurm.cli.options import FormatOption, OutputDirOption, resolve, say
from torc_slurm.cli.own_jobs import NameOption, SinceOption, SlurmJobIdsOption
from torc_slurm.common.errors import InputError, TorcError
from torc_slurm.common.identity import named_step, step_number
from torc_slurm.files.output_names import PLOT_PREFIX, PLOTS_DIR

if TYPE_CHECKING:
    from torc_slurm.cli.answer import Answer
    from torc_slurm.database.series import SeriesFile, SeriesFiles
    from torc_slurm.plots.model import Run
    from torc_slurm.plots.write import Wanted, Written

EXAMPLE = """\b
Examples:
  torc plot-resources torc_output/resource_utilization/*_3_1.db -o plots
  torc plot-resources --workflow 3 -o plots
  torc plot-resources --workflow 3 --job-ids 4,5 -o plots -f json
  torc plot-resources --slurm-job-id 1234,1240 -o plots
"""
_MOST_NAMED = 12


def plot_resources(
    context: typer.Context,
    databases: Annotated[
        list[str] | None, typer.Argument(metavar="[DB]...", help="Node files of one workflow or allocation.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Directory for the pages; default: resource_plots in the output directory.",
        ),
    ] = None,
    workflow: Annotated[
        int | None, typer.Option(metavar="ID", help="A workflow instead of node files; torc collects it first.")
    ] = None,
    run_id: Annotated[
        int | None, typer.Option(metavar="N", help="With --workflow: this run; default: the latest.")
    ] = None,
    slurm_job_id: SlurmJobIdsOption = None,
    since: SinceOption = None,
    name: NameOption = None,
    job_ids: Annotated[
        str | None,
        typer.Option(
            metavar="N,N", help="Only these jobs, each with its page; for your own script, step numbers or batch."
        ),
    ] = None,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Start of the file names.")] = PLOT_PREFIX,
    all_job_pages: Annotated[
        bool, typer.Option("--all-job-pages", help="Write a page for every job, even if there are more than 200.")
    ] = False,
    self_contained: Annotated[
        bool,
        typer.Option("--self-contained", help="Put Plotly into each page (2 MB more), so that you can mail it alone."),
    ] = False,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Plot measurements over time, as HTML pages.

    torc writes a page for each job, and pages for all jobs. They need no network: open them from disk. They share one
    file, plotly-….js. A plot needs a time series: set granularity: time_series under resource_monitor in a workflow
    file, or use torc-step --granularity time_series.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.plots.write import Wanted

    chosen_format, directory = resolve(context, format_, output_dir)
    chosen = own_jobs.Chosen(slurm_job_id, since, name)
    written: list[Written] = []
    for paths, own_prefix in _runs(databases or [], workflow, run_id, chosen, directory, _checked_prefix(prefix)):
        wanted = Wanted(
            directory=output or _default_directory(paths),
            prefix=own_prefix,
            job_ids=None if job_ids is None else _numbers(job_ids),
            all_job_pages=all_job_pages,
            self_contained=self_contained,
        )
        written += _plot(paths, wanted)
    write(_answer(written), chosen_format)


def _runs(
    databases: Sequence[str],
    workflow: int | None,
    run_id: int | None,
    chosen: own_jobs.Chosen,
    output_dir: str,
    prefix: str,
) -> list[tuple[list[str], str]]:
    """The node files to plot together, each time with the prefix of the pages' names."""
    if sum((workflow is not None, bool(databases), chosen.is_given)) != 1:
        raise InputError(
            "give node files (torc_output/resource_utilization/*.db), --workflow ID, or your own jobs with "
            "--slurm-job-id, --since or --name, and only one of these"
        )
    if databases:
        return [(list(dict.fromkeys(map(os.path.abspath, databases))), prefix)]
    if workflow is not None:
        return [(_collected(workflow, run_id, output_dir), prefix)]
    found = _collected_own_jobs(own_jobs.recorded_jobs(chosen, output_dir), run_id, output_dir)
    return [(files, prefix if len(found) == 1 else f"{prefix}_{job}") for job, files in found.items()]


def _collected_own_jobs(ids: str, run_id: int | None, output_dir: str) -> dict[int, list[str]]:
    """The node files of each of these Slurm jobs, after a collect; jobs without a record are named and left out."""
    from torc_slurm.database.selection import Selection, select_attempts, selected_jobs
    from torc_slurm.database.series import node_files_of_attempts
    from torc_slurm.usecases.late_accounting import up_to_date

    selection = Selection(ids, run_id=run_id)
    attempts: dict[int, list[int]] = {}
    with up_to_date(output_dir, selection, on_wait=say) as current:
        connection = current.database.connection
        for row in select_attempts(connection, selection):
            if row["workflow_id"] is None:
                attempts.setdefault(int(str(row["slurm_job_id"])), []).append(int(str(row["id"])))
        found = {job: node_files_of_attempts(connection, rows) for job, rows in attempts.items()}
        known = selected_jobs(connection, selection)
    say_which_backend(current)
    missing = [job for job in selection.slurm_jobs or () if job not in known]
    if not found:
        raise InputError(f"no record of Slurm job {', '.join(missing[:5])} in {output_dir}; give its --output-dir")
    if missing:
        say(f"no record of Slurm job {', '.join(missing[:5])}" + (" and more" if len(missing) > 5 else ""))
    return {job: [os.path.join(output_dir, name) for name in files] for job, files in found.items()}


def _collected(workflow: int, run_id: int | None, output_dir: str) -> list[str]:
    """The node files of a workflow's run, after a collect that also asks for late accounting."""
    from torc_slurm.database.selection import Selection
    from torc_slurm.database.series import node_files_of
    from torc_slurm.usecases.late_accounting import up_to_date

    with up_to_date(output_dir, Selection(workflow_id=workflow, run_id=run_id), on_wait=say) as current:
        files = node_files_of(current.database.connection, workflow, run_id)
    say_which_backend(current)
    if not files:
        run = "" if run_id is None else f", run {run_id},"
        raise InputError(f"nothing was measured of workflow {workflow}{run} in {output_dir} (torc workflows list)")
    return [os.path.join(output_dir, name) for name in files]


def _default_directory(paths: Sequence[str]) -> str:
    from torc_slurm.database.series import output_dir_of

    return os.path.join(output_dir_of(paths) or "", PLOTS_DIR)


def _checked_prefix(prefix: str) -> str:
    if not prefix or os.path.basename(prefix) != prefix:
        raise InputError(f"--prefix {prefix!r} is not the beginning of a file name; the directory goes to -o")
    return prefix


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    numbers = [number for part in parts if (number := step_number(part)) is not None]
    if not parts or len(numbers) < len(parts):
        raise InputError(f"--job-ids {text!r} are not job ids; write them as 1,2,3 or batch")
    return numbers


def _plot(paths: Sequence[str], wanted: Wanted) -> list[Written]:
    from torc_slurm.plots.write import write_pages

    with opened_run(paths) as run, progress_bar("Plotting") as progress:
        _say_what_is_left_out(run, wanted)
        return write_pages(run, wanted, progress)


@contextlib.contextmanager
def opened_run(
    paths: Sequence[str], *, needs_series: bool = True, on_unreadable: Callable[[str], None] | None = None
) -> Iterator[Run]:
    """The run of these node files, open for reading its series.

    Args:
        on_unreadable: called with the error of a file, which is then left out; None: raise the error.

    Raises:
        InputError: a file does not exist, the files belong to different runs, or none has a required series.
        DatabaseError: a file cannot be read as a node file.
    """
    from torc_slurm.database.series import SeriesFiles
    from torc_slurm.plots.words import HOW_TO_GET_A_SERIES

    with SeriesFiles() as opened:
        run, has_series = _gathered(opened, paths, on_unreadable, with_series=needs_series)
        if needs_series and not has_series:
            named = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
            raise InputError(f"{named}: no time series there (only summaries); {HOW_TO_GET_A_SERIES}")
        yield run


def _gathered(
    opened: SeriesFiles, paths: Sequence[str], on_unreadable: Callable[[str], None] | None, *, with_series: bool
) -> tuple[Run, bool]:
    """The run of these node files, and whether one of them has a time series.

    Raises:
        InputError, DatabaseError: as `opened_run`.
    """
    from torc_slurm.plots.gather import Gathering
    from torc_slurm.usecases.attempts_of_files import AttemptsOfFiles

    has_series = False
    with AttemptsOfFiles(paths) as attempts, progress_bar("Reading") as progress:
        gathering = Gathering(attempts)
        for number, path in enumerate(paths, start=1):
            try:
                file = _read(opened, path, with_series=with_series)
            except TorcError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(str(error))
            else:
                has_series |= file.has_samples
                gathering.add(file)
            progress(number, len(paths))
        return gathering.run(), has_series


def _read(files: SeriesFiles, path: str, *, with_series: bool) -> SeriesFile:
    """One node file.

    Raises:
        InputError: it does not exist.
        TorcError: it cannot be read.
    """
    try:
        return files.read(path, with_series=with_series)
    except FileNotFoundError:
        raise InputError(f"there is no node file {path}; they are in <output_dir>/resource_utilization") from None
    except OSError as error:
        raise TorcError(f"{path} cannot be read: {error.strerror or error}") from error


def _say_what_is_left_out(run: Run, wanted: Wanted) -> None:
    from torc_slurm.plots.write import MOST_JOB_PAGES

    if wanted.job_ids is None and not wanted.all_job_pages and len(run.jobs) > MOST_JOB_PAGES:
        say(f"no page for each of {len(run.jobs)} {run.word}s: name some with --job-ids, or use --all-job-pages")


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, if that is a terminal; yields a function that takes the number done and the total."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:  # before rich 14, a disabled bar still prints an empty line
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _item(page: Written) -> dict[str, object]:
    return page._asdict() | {"job_id": None if page.job_id is None else named_step(page.job_id)}


def _answer(written: Sequence[Written]) -> Answer:
    from torc_slurm.cli.answer import Answer
    from torc_slurm.cli.table import Column, Table
    from torc_slurm.common.text import printable
    from torc_slurm.common.units import format_memory

    jobs = [page for page in written if page.kind == "job"]
    shown = jobs[:_MOST_NAMED] + [page for page in written if page.kind != "job"]
    more = len(jobs) - _MOST_NAMED
    return Answer(
        keys=["path", "kind", "job_id", "size_bytes"],
        items=[_item(page) for page in written],
        tables=[
            Table(
                [Column("Page", least=30), Column("Size", right=True)],
                [[printable(page.path), format_memory(page.size_bytes)] for page in shown],
            )
        ],
        notes=[f"and {more} more pages of single jobs"] if more > 0 else [],
    )
