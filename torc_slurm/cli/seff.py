"""``torc seff``: what any Slurm job requested and used, and what to request next time."""

from __future__ import annotations

from typing import Annotated

import typer

from torc_slurm.cli.options import ColumnsFormatOption, OutputDirOption, Settings, resolve_columns, say
from torc_slurm.cli.own_jobs import job_filter, nothing_found, output_dirs

EXAMPLE = """\b
Examples:
  torc seff 1234                       one job: bars, steps, advice, lines to paste
  torc seff 1234 1240_[1-5] logs/      jobs, array tasks and the output files in a directory
  torc seff                            my jobs of today and yesterday
  torc seff --since 1w --state FAILED,TIMEOUT
  torc seff --since 2d -f jobid,name,mem,ask
"""
_DEFAULT_SINCE = "yesterday"


def seff(
    context: typer.Context,
    jobs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[JOB]...",
            help="Any number of: 123, 123_4, 123_[1-5,9], 120-125, slurm-123.out, or a directory with such files.",
        ),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", "-u", metavar="USER", help="Whose jobs, * for all users; default: yours.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only jobs since then: 2d, 1w, 2026-11-01; default: yesterday.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only jobs until then, as for --since; default: now.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", "-s", metavar="STATES", help="Only jobs in these states: FAILED,TIMEOUT,OUT_OF_MEMORY."
        ),
    ] = None,
    partition: Annotated[
        str | None, typer.Option("--partition", "-p", metavar="NAME", help="Only jobs in this partition.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="REGEX", help="Only jobs whose whole name matches.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N jobs, in sacct's order.")
    ] = None,
    expand: Annotated[bool, typer.Option("--expand", help="One line for each task of an array.")] = False,
    format_: ColumnsFormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show what Slurm jobs used, and what to request next time.

    It works for any job, calls sacct once for all of them, and needs no output directory. If torc-step measured a step,
    torc shows torc-step's figures instead of Slurm's.
    """
    from torc_slurm.slurm.job_query import job_rows

    asked = job_filter(
        jobs or [],
        since=since or (None if jobs else _DEFAULT_SINCE),
        until=until,
        user=user,
        states=[word.strip() for word in (state or "").split(",") if word.strip()],
        partition=partition,
        name=name,
        limit=limit,
    )
    rows = job_rows(asked.question, on_problem=say)  # sacct runs during the next imports

    from torc_slurm.cli import seff_view
    from torc_slurm.cli.answer import write
    from torc_slurm.usecases.efficiency import job_efficiencies

    chosen, columns, directory = resolve_columns(
        context, format_, output_dir, seff_view.COLUMN_NAMES, seff_view.OLDER_NAMES
    )
    before: Settings = context.obj or Settings()
    directories = output_dirs(directory, is_given=bool(output_dir or before.output_dir))
    uses, meaning = job_efficiencies(rows, asked, directories, on_problem=say)
    if not uses:
        say(nothing_found(asked))
    answer = seff_view.answer(uses, meaning, columns=columns, expand=expand, is_named=bool(asked.question.jobs))
    write(answer, chosen, columns)
    if not uses and asked.question.jobs:
        raise typer.Exit(2)
