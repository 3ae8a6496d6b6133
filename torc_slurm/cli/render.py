"""Writes answers to stdout as JSON, CSV or a table; no foreign text reaches the terminal as it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import typer

from torc_slurm.cli.text import printable

Value = int | float | str | None
Row = Mapping[str, Value]

BROKEN_PIPE_EXIT_STATUS = 141  # what a shell shows for a program that SIGPIPE ended
NOT_KNOWN = "-"
_UNLIMITED_WIDTH = 100_000


class Column(NamedTuple):
    """A column of a table; of those with ``optional`` over 0 the highest is left out first where there is no
    room.
    """

    title: str
    right: bool = False
    optional: int = 0


def emit(text: str) -> None:
    """Write to stdout; ends quietly where nobody reads any more (``torc … | head``)."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BROKEN_PIPE_EXIT_STATUS) from None


def emit_json(document: object) -> None:
    """One JSON document. Control characters are escaped by JSON itself, all else outside ASCII too."""
    import json

    emit(json.dumps(document, indent=2, allow_nan=False) + "\n")


def emit_csv(columns: Sequence[str], rows: Iterable[Row]) -> None:
    """A header and one line per row; NULL is an empty cell. Control characters are written as escapes."""
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(row[name]) for name in columns] for row in rows)
    emit(buffer.getvalue())


def _csv_cell(value: Value) -> Value:
    return printable(value) if isinstance(value, str) else value


def emit_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as it needs to be; on a terminal columns are left out until it fits, and the last line
    says which.

    Cells must have gone through `printable`.
    """
    hidden: list[str] = []
    kept = list(range(len(columns)))
    room = _width()
    text = _table([columns[index] for index in kept], _cells(rows, kept))
    while _widest(text) > room and (least := _least_needed(columns, kept)) is not None:
        kept.remove(least)
        hidden.append(columns[least].title)
        text = _table([columns[index] for index in kept], _cells(rows, kept))
    if hidden:
        text += f"No room for: {', '.join(hidden)} (--all-columns or -f json shows them)\n"
    emit(text)


def _least_needed(columns: Sequence[Column], kept: Sequence[int]) -> int | None:
    optional = [index for index in kept if columns[index].optional]
    return max(optional, key=lambda index: columns[index].optional) if optional else None


def _cells(rows: Sequence[Sequence[str]], kept: Sequence[int]) -> list[list[str]]:
    return [[row[index] for index in kept] for row in rows]


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    from io import StringIO

    from rich.box import MARKDOWN, SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    has_lines = (sys.stdout.encoding or "").lower().startswith("utf")
    table = Table(box=SIMPLE_HEAD if has_lines else MARKDOWN, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(file=StringIO(), width=_UNLIMITED_WIDTH, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(table)
    return "".join(line.rstrip() + "\n" for line in capture.get().splitlines())


def _widest(text: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, text.splitlines()), default=0)


def _width() -> int:
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else _UNLIMITED_WIDTH
