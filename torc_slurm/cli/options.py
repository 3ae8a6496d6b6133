"""The options that every command takes, before or after its name, and what they come to."""

from __future__ import annotations

import os
import sys
from enum import Enum
from typing import Annotated, NamedTuple

import typer

from torc_slurm.identity import absolute_output_dir
from torc_slurm.text import printable

DEBUG_VARIABLE = "TORC_DEBUG"


class Format(str, Enum):
    """How a command's answer is written to stdout."""

    table = "table"
    json = "json"
    csv = "csv"


FormatOption = Annotated[
    Format | None,
    typer.Option("--format", "-f", help="How to write the answer.", show_default="table"),
]
OutputDirOption = Annotated[
    str | None,
    typer.Option(
        "--output-dir",
        metavar="DIR",
        help="Where the records are.",
        show_default="$TORC_OUTPUT_DIR, else torc_output",
    ),
]


class Settings(NamedTuple):
    """What was said in front of a command's name, then with the command's own options over it; None: not
    said.
    """

    format: Format | None = None
    output_dir: str | None = None


def remember(context: typer.Context, given_format: Format | None, output_dir: str | None) -> None:
    """For a group: keep what was said so far for the command that follows."""
    before: Settings = context.obj or Settings()
    context.obj = Settings(given_format or before.format, output_dir or before.output_dir)


def resolve(context: typer.Context, given_format: Format | None, output_dir: str | None) -> tuple[Format, str]:
    """For a command: the format, and the output directory as an absolute path."""
    before: Settings = context.obj or Settings()
    directory = absolute_output_dir(output_dir or before.output_dir, dict(os.environ))
    return given_format or before.format or Format.table, directory


def say(message: str) -> None:
    """One line for the user, on stderr."""
    print(f"torc: {printable(message)}", file=sys.stderr, flush=True)
