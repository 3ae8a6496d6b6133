"""The group ``torc jobs``: the jobs of a workflow and their status."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli.list_options import DEFAULT_LIMIT, LimitOption
from torc_slurm.cli.options import Format, FormatOption, OutputDirOption, command_group, resolve, say
from torc_slurm.cli.workflow_options import WorkflowIdArgument
from torc_slurm.common.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torc_slurm.cli.answer import Answer, Item
    from torc_slurm.cli.table import Column
    from torc_slurm.records.workflows import JobRow

app = command_group("List the jobs of a workflow.")

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


@app.command("list", epilog=_LIST_EXAMPLE)
def list_(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only jobs with this status, such as failed.")
    ] = None,
    limit: LimitOption = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show every job with its status and its request."""
    from torc_slurm.cli.answer import write
    from torc_slurm.database.main import detached_copy
    from torc_slurm.database.workflows import dependencies, job_rows, status_counts_of
    from torc_slurm.records.statuses import JOB_STATUSES
    from torc_slurm.usecases.current import current_workflow

    chosen_format, directory = resolve(context, format_, output_dir)
    if status is not None and status not in JOB_STATUSES:
        raise InputError(f"no job has the status {status!r}; there are {', '.join(JOB_STATUSES)}")
    is_table = chosen_format is Format.table
    most = DEFAULT_LIMIT if limit is None and is_table else limit or None
    with current_workflow(directory, workflow_id, on_wait=say) as current:
        connection = current.database.connection if is_table else detached_copy(current.database)
        rows = job_rows(connection, current.workflow_id, statuses=None if status is None else [status], limit=most)
        shown = list(rows) if is_table else rows
        counts = status_counts_of(connection, current.workflow_id) if is_table else {}
        waits_for = dependencies(connection, current.workflow_id)
    total = sum(counts.values()) if status is None else counts.get(status, 0)
    write(_answer(shown, total, waits_for), chosen_format)


def _answer(rows: Iterable[JobRow], total: int, waits_for: dict[int, list[int]]) -> Answer:
    """``total``: the number of all jobs, of which a table may show fewer."""
    from torc_slurm.cli.answer import Answer
    from torc_slurm.cli.table import Table

    shown = rows if isinstance(rows, list) else []
    more = f"the first {len(shown):,} of {total:,} are shown: --limit 0 shows all"
    return Answer(
        keys=_KEYS,
        items=(_item(row, waits_for) for row in rows),
        tables=[Table(_columns(), (_cells(row, waits_for) for row in shown))],
        notes=["No job matches."] if not shown else [more] if len(shown) < total else [],
    )


def _item(row: JobRow, waits_for: dict[int, list[int]]) -> Item:
    """A job with its lists and mappings, which become JSON texts in CSV."""
    item: dict[str, object] = {**row, "depends_on": waits_for.get(row["job_id"], [])}
    for name in ("env", "srun_options"):
        item[name] = _loaded(str(item[name]))
    return {name: item[name] for name in _KEYS}


_loaded = functools.lru_cache(maxsize=64)(json.loads)  # most jobs have the same, or none


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


def _cells(row: JobRow, waits_for: dict[int, list[int]]) -> list[str]:
    from torc_slurm.cli.table import NOT_KNOWN
    from torc_slurm.common.text import printable

    others = waits_for.get(row["job_id"], [])
    shown = (row["num_cpus"], row["num_nodes"], row["memory"], row["runtime"])
    return [
        str(row["job_id"]),
        printable(row["name"], _NAME_WIDTH),
        row["status"],
        printable(row["resource_requirements"] or NOT_KNOWN, _NAME_WIDTH),
        *(NOT_KNOWN if value is None else str(value) for value in shown),
        printable(",".join(map(str, others)) or NOT_KNOWN, _NAME_WIDTH),
        printable(row["command"], _NAME_WIDTH),
    ]
