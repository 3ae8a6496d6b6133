"""The group ``torc results``: what each attempt at a workflow's jobs used, from the wrapper's own figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli.options import Format, FormatOption, OutputDirOption, remember, resolve, say
from torc_slurm.cli.workflow_options import WorkflowIdArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torc_slurm.cli.render import Row

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The results of a workflow's jobs.")

_LIST_EXAMPLE = """\b
Examples:
  torc results list
  torc results list 3 --run-id 1 -f csv
  torc results list 3 --monitor         what measuring itself cost
"""
_FIRST = (
    "workflow_id",
    "job_id",
    "job_name",
    "run_id",
    "attempt_id",
    "return_code",
    "status",
    "start_time",
    "end_time",
    "exec_time_seconds",
    "peak_cpu_percent",
    "avg_cpu_percent",
    "peak_memory_gb",
    "avg_memory_gb",
    "peak_memory_bytes",
    "avg_memory_bytes",
    "sampled_rss_peak_bytes",
)
_NAME_WIDTH = 40


@app.callback()
def group(context: typer.Context, format_: FormatOption = None, output_dir: OutputDirOption = None) -> None:
    remember(context, format_, output_dir)


@app.command("list", epilog=_LIST_EXAMPLE)
def list_(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    run_id: Annotated[int | None, typer.Option(metavar="N", help="Only this run.")] = None,
    job_id: Annotated[int | None, typer.Option(metavar="N", help="Only this job.")] = None,
    monitor: Annotated[bool, typer.Option("--monitor", help="Also what the monitor itself used.")] = False,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show one row per attempt: how it ended and what it used. Slurm's own view is in: torc slurm stats."""
    from torc_slurm.database.results import check_ids, result_columns, result_rows
    from torc_slurm.usecases.current import current_workflow

    chosen_format, directory = resolve(context, format_, output_dir)
    with current_workflow(directory, workflow_id, on_wait=say) as current:
        connection = current.database.connection
        check_ids(connection, current.workflow_id, run_id=run_id, job_id=job_id)
        rows = result_rows(connection, current.workflow_id, run_id=run_id, job_id=job_id, with_monitor=monitor)
        columns = result_columns(with_monitor=monitor)
    _show([*_FIRST, *(name for name in columns if name not in _FIRST)], rows, chosen_format, monitor=monitor)


def _show(columns: Sequence[str], rows: Sequence[Row], chosen_format: Format, *, monitor: bool) -> None:
    from torc_slurm.cli.render import Column, emit, emit_csv, emit_items, emit_table

    if chosen_format is Format.json:
        emit_items([{name: row[name] for name in columns} for row in rows])
    elif chosen_format is Format.csv:
        emit_csv(columns, rows)
    elif not rows:
        emit("No results yet.\n")
    else:
        table = _table(monitor=monitor)
        titles = [Column(title, right, optional) for title, right, optional, _ in table]
        emit_table(titles, [[cell(row) for *_, cell in table] for row in rows])


def _table(*, monitor: bool) -> list[tuple[str, bool, int, Callable[[Row], str]]]:
    """Title, whether right-aligned, from which on left out where there is no room, and what a cell shows."""
    from torc_slurm.units import format_cpu_percent, format_memory, format_run_time

    columns: list[tuple[str, bool, int, Callable[[Row], str]]] = [
        ("Job", True, 0, _plain("job_id")),
        ("Name", False, 0, _plain("job_name")),
        ("Run", True, 0, _plain("run_id")),
        ("Attempt", True, 3, _plain("attempt_id")),
        ("Status", False, 0, _plain("status")),
        ("Exit", True, 0, _plain("return_code")),
        ("Elapsed", True, 0, _number("exec_time_seconds", format_run_time)),
        ("Peak memory", True, 0, _number("peak_memory_bytes", format_memory)),
        ("Avg memory", True, 2, _number("avg_memory_bytes", format_memory)),
        ("Peak CPU", True, 0, _number("peak_cpu_percent", format_cpu_percent)),
        ("Avg CPU", True, 0, _number("avg_cpu_percent", format_cpu_percent)),
        ("Nodes", False, 4, _plain("measured_nodes")),
    ]
    if monitor:
        columns += [
            ("Monitor CPU", True, 0, _number("monitor_cpu_seconds", format_run_time)),
            ("Monitor memory", True, 0, _number("monitor_memory_bytes", format_memory)),
        ]
    return columns


def _plain(name: str) -> Callable[[Row], str]:
    from torc_slurm.cli.render import NOT_KNOWN
    from torc_slurm.text import printable

    return lambda row: NOT_KNOWN if row[name] is None else printable(str(row[name]), _NAME_WIDTH)


def _number(name: str, write: Callable[[int | float], str]) -> Callable[[Row], str]:
    from torc_slurm.cli.render import NOT_KNOWN

    def cell(row: Row) -> str:
        value = row[name]
        return write(value) if isinstance(value, (int, float)) else NOT_KNOWN

    return cell
