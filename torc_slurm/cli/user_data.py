"""The group ``torc user-data``: JSON values that jobs share."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from torc_slurm.cli.options import Format, FormatOption, OutputDirOption, command_group, resolve
from torc_slurm.cli.workflow_options import WorkflowIdArgument
from torc_slurm.common.errors import InputError
from torc_slurm.common.text import printable

app = command_group("Get, update and list values that jobs share.")

_GET_EXAMPLE = """\b
Example:
  torc user-data get 3 | jq .data
"""
_UPDATE_EXAMPLE = """\b
Examples:
  torc user-data update 3 --data '{"lr": 0.001}'
  my_program | torc user-data update 3 --data -
"""
_LIST_EXAMPLE = """\b
Example:
  torc user-data list
"""
IdArgument = Annotated[
    int,
    typer.Argument(
        metavar="ID", help="The value's id: in a job's command, ${user_data.input.NAME} becomes this id.", min=1
    ),
]


@app.command(epilog=_GET_EXAMPLE)
def get(
    context: typer.Context, user_data_id: IdArgument, format_: FormatOption = None, output_dir: OutputDirOption = None
) -> None:
    """Show one value, as a JSON object with its id, name and data."""
    from torc_slurm.cli.answer import Answer, write
    from torc_slurm.usecases.user_data import get_user_data

    _, directory = resolve(context, format_, output_dir)
    write(Answer(document=get_user_data(directory, user_data_id, os.environ).as_item()), Format.json)


@app.command(epilog=_UPDATE_EXAMPLE)
def update(
    context: typer.Context,
    user_data_id: IdArgument,
    data: Annotated[str, typer.Option("--data", "-d", metavar="JSON", help="The new value; - for stdin.")],
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Replace a value; other jobs see the new value at once."""
    from torc_slurm.cli.answer import Answer, write
    from torc_slurm.usecases.user_data import update_user_data

    chosen_format, directory = resolve(context, format_, output_dir)
    try:
        text = sys.stdin.read() if data == "-" else data
    except UnicodeDecodeError as error:
        raise InputError(f"stdin is not UTF-8: {error.reason}") from error
    found = update_user_data(directory, user_data_id, text, os.environ)
    if chosen_format is not Format.table:
        write(Answer(document=found.as_item()), Format.json)


@app.command("list", epilog=_LIST_EXAMPLE)
def list_(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Show the values of a workflow as they are now."""
    import json

    from torc_slurm.cli.answer import Answer, write
    from torc_slurm.cli.table import Column, Table
    from torc_slurm.usecases.user_data import list_user_data

    chosen_format, directory = resolve(context, format_, output_dir)
    items = [each.as_item() for each in list_user_data(directory, workflow_id)]
    rows = [[str(each["id"]), printable(each["name"]), printable(json.dumps(each["data"]))] for each in items]
    columns = [Column("ID", right=True), Column("Name", least=12), Column("Data", least=12)]
    answer = Answer(
        keys=("id", "workflow_id", "name", "data"),
        items=items,
        csv_items=[each | {"data": json.dumps(each["data"])} for each in items],
        tables=[Table(columns, rows)],
        notes=[] if items else ["The workflow has no user_data."],
    )
    write(answer, chosen_format)
