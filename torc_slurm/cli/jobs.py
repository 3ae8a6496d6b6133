"""The group ``torc jobs``: the jobs of a workflow and where each stands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli.options import FormatOption, OutputDirOption, remember, resolve, say
from torc_slurm.cli.workflow_options import WorkflowIdArgument
from torc_slurm.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torc_slurm.cli.answer import Answer, Item
    from torc_slurm.cli.table import Column
    from torc_slurm.database.node_records import Row

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The jobs of a workflow.")

_LIST_EXAMPLE = """\b
Examples:
  torc jobs list
  torc jobs list 3 --status failed -f json
"""
_KEYS = (
    "job_id",
    "workflow_id",
    "name",
    "status",
    "resource_requirements_id",
    "resource_requirements",
    "num_cpus",
    "num_gpus",
    "num_nodes",
    "ntasks_per_node",
    "memory",
    "runtime",
    "depends_on",
    "command",
    "working_dir",
    "env",
    "srun_options",
)
_NAME_WIDTH = 40


@app.callback()
def group(context: typer.Context, format_: FormatOption = None, output_dir: OutputDirOption = None) -> None:
    remember(context, format_, output_dir)


@app.command("list", epilog=_LIST_EXAMPLE)
def list_(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help="Only jobs of this status.")] = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show every job of a workflow with its status and what it requires."""
    from torc_slurm.cli.answer import write
    from torc_slurm.database.workflows import dependencies, job_rows
    from torc_slurm.reports.workflow_status import JOB_STATUSES
    from torc_slurm.usecases.current import current_workflow

    chosen_format, directory = resolve(context, format_, output_dir)
    if status is not None and status not in JOB_STATUSES:
        raise InputError(f"no job has the status {status!r}; there are {', '.join(JOB_STATUSES)}")
    with current_workflow(directory, workflow_id, on_wait=say) as current:
        rows = job_rows(current.database.connection, current.workflow_id)
        waits_for = dependencies(current.database.connection, current.workflow_id)
    write(_answer([row for row in rows if status in (None, row["status"])], waits_for), chosen_format)


def _answer(rows: Sequence[Row], waits_for: dict[int, list[int]]) -> Answer:
    from torc_slurm.cli.answer import Answer
    from torc_slurm.cli.table import Table

    return Answer(
        keys=_KEYS,
        items=(_item(row, waits_for) for row in rows),
        tables=[Table(_columns(), (_cells(row, waits_for) for row in rows))],
        notes=() if rows else ["No job is like that."],
    )


def _item(row: Row, waits_for: dict[int, list[int]]) -> Item:
    """A job with its lists and mappings, which CSV has as JSON texts."""
    item: dict[str, object] = {name: row[name] for name in _KEYS if name != "depends_on"}
    item["depends_on"] = waits_for.get(int(row["job_id"] or 0), [])
    for name in ("env", "srun_options"):
        item[name] = json.loads(str(item[name]))
    return {name: item[name] for name in _KEYS}


def _columns() -> list[Column]:
    from torc_slurm.cli.table import Column

    return [
        Column("ID", right=True),
        Column("Name", least=12),
        Column("Status"),
        Column("Requires", least=8),
        Column("CPUs", right=True),
        Column("Nodes", right=True, optional=3),
        Column("Memory", right=True),
        Column("Run time", right=True),
        Column("Waits for", optional=2),
        Column("Command", optional=4, least=12),
    ]


def _cells(row: Row, waits_for: dict[int, list[int]]) -> list[str]:
    from torc_slurm.cli.table import NOT_KNOWN
    from torc_slurm.text import printable

    others = waits_for.get(int(row["job_id"] or 0), [])
    shown = [row[name] for name in ("num_cpus", "num_nodes", "memory", "runtime")]
    return [
        str(row["job_id"]),
        printable(str(row["name"]), _NAME_WIDTH),
        str(row["status"]),
        printable(str(row["resource_requirements"] or NOT_KNOWN), _NAME_WIDTH),
        *(NOT_KNOWN if value is None else str(value) for value in shown),
        printable(",".join(map(str, others)) or NOT_KNOWN, _NAME_WIDTH),
        printable(str(row["command"]), _NAME_WIDTH),
    ]
