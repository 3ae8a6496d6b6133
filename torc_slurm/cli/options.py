"""The options that every command takes, before or after its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Annotated, NamedTuple

import typer

from torc_slurm.common.identity import absolute_output_dir
from torc_slurm.common.text import printable

DEBUG_VARIABLE = "TORC_DEBUG"


class Format(str, Enum):
    """How a command's answer is written to stdout."""

    table = "table"
    json = "json"
    csv = "csv"


FORMATS = tuple(each.value for each in Format)
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="table|json|csv",
        help="Output format; default: table.",
    ),
]
ColumnsFormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="table|json|csv|COLUMNS",
        help="Output format, or the columns of a table, such as name,state,memory; default: table.",
    ),
]
OutputDirOption = Annotated[
    str | None,
    typer.Option(
        "--output-dir",
        metavar="DIR",
        help="Directory with the records; default: $TORC_OUTPUT_DIR, else torc_output.",
    ),
]


class Settings(NamedTuple):
    """The options before a command's name, overridden by the command's own; None: not given."""

    format: str | None = None
    output_dir: str | None = None


def remember(context: typer.Context, given_format: str | None, output_dir: str | None) -> None:
    """For a group: keep the options given so far for the command that follows."""
    before: Settings = context.obj or Settings()
    context.obj = Settings(given_format or before.format, output_dir or before.output_dir)


def command_group(help_text: str) -> typer.Typer:
    """A group of commands; the common options may also stand before its name."""
    app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help=help_text)

    @app.callback()
    def group(context: typer.Context, format_: FormatOption = None, output_dir: OutputDirOption = None) -> None:
        remember(context, format_, output_dir)

    return app


def resolve(context: typer.Context, given_format: str | None, output_dir: str | None) -> tuple[Format, str]:
    """For a command: the format, and the output directory as an absolute path.

    Raises:
        typer.BadParameter: there is no such format.
    """
    chosen_format, _, directory = resolve_columns(context, given_format, output_dir, ())
    return chosen_format, directory


def resolve_columns(
    context: typer.Context,
    given_format: str | None,
    output_dir: str | None,
    known: Sequence[str],
    older_names: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Format, tuple[str, ...], str]:
    """For a command whose table has columns that ``--format`` may name: the format, the names, the directory.

    Args:
        known: the names of the table's columns.
        older_names: other accepted names, each with the column's name.

    Raises:
        typer.BadParameter: there is no such format or column.
    """
    before: Settings = context.obj or Settings()
    directory = absolute_output_dir(output_dir or before.output_dir, dict(os.environ))
    text = given_format or before.format or Format.table.value
    if text in FORMATS:
        return Format(text), (), directory
    given = (name.strip() for name in text.split(",") if name.strip())
    names = tuple(older_names.get(name, name) for name in given)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        formats = ", ".join(f"{name!r}" for name in FORMATS)
        columns = f", nor of the columns {', '.join(known)}" if known else ""
        wrong = unknown[0] if unknown else text
        raise typer.BadParameter(
            f"{wrong!r} is not one of {formats}{columns}", ctx=context, param_hint="'--format' / '-f'"
        )
    return Format.table, names, directory


def say(message: str) -> None:
    """Print one line for the user on stderr."""
    print(f"torc: {printable(message)}", file=sys.stderr, flush=True)
