"""The group ``torc results``: what each attempt at a workflow's jobs used, from the wrapper's own figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli.list_options import DEFAULT_LIMIT, LimitOption, SortOption
from torc_slurm.cli.options import Format, FormatOption, OutputDirOption, command_group, resolve, say
from torc_slurm.cli.workflow_options import WorkflowIdArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torc_slurm.cli.answer import Answer
    from torc_slurm.cli.table import Column
    from torc_slurm.database.rows import Row

app = command_group("List what each attempt of a workflow used.")

_LIST_EXAMPLE = """\b
Examples:
  torc results list
  torc results list 3 --run-id 1 -f csv
  torc results list 3 --monitor         what measuring itself cost
"""


@app.command("list", epilog=_LIST_EXAMPLE)
def list_(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    run_id: Annotated[int | None, typer.Option(metavar="N", help="Only this run.")] = None,
    job_id: Annotated[int | None, typer.Option(metavar="N", help="Only this job.")] = None,
    monitor: Annotated[bool, typer.Option("--monitor", help="Also show what the monitor itself used.")] = False,
    sort: SortOption = None,
    limit: LimitOption = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show how each attempt ended and what it used.

    There is one row per attempt, with the figures of torc-step. torc stats shows Slurm's figures.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.database.main import detached_copy
    from torc_slurm.database.results import check_ids, count_results, result_rows
    from torc_slurm.usecases.current import current_workflow

    chosen_format, directory = resolve(context, format_, output_dir)
    with current_workflow(directory, workflow_id, on_wait=say) as current:
        connection = current.database.connection
        check_ids(connection, current.workflow_id, run_id=run_id, job_id=job_id)
        is_table = chosen_format is Format.table
        most = DEFAULT_LIMIT if limit is None and is_table else limit or None
        rows = result_rows(
            connection if is_table else detached_copy(current.database),
            current.workflow_id,
            run_id=run_id,
            job_id=job_id,
            with_monitor=monitor,
            sort=sort and sort.value,
            limit=most,
        )
        shown = list(rows) if is_table else rows
        total = count_results(connection, current.workflow_id, run_id=run_id, job_id=job_id) if is_table else 0
    write(_answer(shown, total, monitor=monitor), chosen_format)


def _answer(rows: Iterable[Row], total: int, *, monitor: bool) -> Answer:
    """``total``: the number of all results, of which a table may show fewer."""
    from torc_slurm.cli.answer import Answer
    from torc_slurm.cli.table import Table
    from torc_slurm.database.results import result_columns

    table = _columns(monitor=monitor)
    keys = result_columns(with_monitor=monitor)
    shown = rows if isinstance(rows, list) else []
    more = f"the first {len(shown):,} of {total:,} are shown: --limit 0 shows all, --sort memory the largest first"
    return Answer(
        keys=keys,
        items=rows,
        tables=[Table([column for column, _ in table], ([cell(row) for _, cell in table] for row in shown))],
        notes=["No results yet."] if not shown else [more] if len(shown) < total else [],
    )


def _columns(*, monitor: bool) -> list[tuple[Column, Callable[[Row], str]]]:
    """The columns and how to show their cells: the attempt, how it ended, and the figures declared for this table."""
    from torc_slurm.cli.table import Column
    from torc_slurm.records.figures import MonitorFigure, figures_in

    figures = [each for each in figures_in("results") if monitor or not isinstance(each, MonitorFigure)]
    return [
        (Column("Job", right=True), _cell("job_id")),
        (Column("Name", least=12), _cell("job_name")),
        (Column("Run", right=True), _cell("run_id")),
        (Column("Attempt", right=True, optional=3), _cell("attempt_id")),
        (Column("Status"), _cell("status")),
        (Column("Exit", right=True), _cell("return_code")),
        (Column("Elapsed", right=True), _cell("exec_time_seconds")),
        *((Column(each.heading, right=True, optional=each.tables["results"]), _cell(each.name)) for each in figures),
        (Column("Nodes", optional=4, least=12), _cell("measured_nodes")),
    ]


def _cell(name: str) -> Callable[[Row], str]:
    from torc_slurm.common.text import printable
    from torc_slurm.records.figures import format_figure

    return lambda row: printable(format_figure(name, row[name]))
