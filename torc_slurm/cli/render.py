"""Writes answers to stdout as JSON, CSV or a table; no foreign text reaches the terminal as it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import typer

from torc_slurm.text import printable

Value = int | float | str | None
Row = Mapping[str, Value]

BROKEN_PIPE_EXIT_STATUS = 141  # what a shell shows for a program that SIGPIPE ended
NOT_KNOWN = "-"
_UNLIMITED_WIDTH = 1_000_000
_MOST_INDENTED = 200
_GAP = "  "


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


def emit_items(items: Sequence[Row]) -> None:
    """``{"items": [...]}``, indented where that is for reading, one item a line where it is long.

    Control characters are escaped by JSON itself, all else outside ASCII too.
    """
    import json

    if len(items) <= _MOST_INDENTED:
        emit(json.dumps({"items": list(items)}, indent=2, allow_nan=False) + "\n")
        return
    lines = ",\n".join(json.dumps(item, allow_nan=False) for item in items)  # ten times as fast as with an indent
    emit(f'{{"items": [\n{lines}\n]}}\n')


def emit_object(document: Mapping[str, object]) -> None:
    """One JSON object."""
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


def emit_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, all_by: str = "-f json") -> None:
    """A table as wide as it needs to be; on a terminal columns are left out until it fits, and the last line
    says which, and that ``all_by`` shows all.

    Cells must have gone through `printable`. Written by hand: rich takes 30 s for 20,000 rows, this half a second.
    """
    titles = [column.title for column in columns]
    widths = [max(map(_cell_width, cells)) for cells in zip(titles, *rows, strict=True)]
    kept = fitting(columns, widths, _terminal_width())
    ruler = ["-" * width for width in widths]
    lines = [_line(columns, widths, kept, cells) for cells in (titles, ruler, *rows)]
    if len(kept) < len(columns):
        hidden = ", ".join(title for index, title in enumerate(titles) if index not in kept)
        lines.append(f"No room for: {hidden} ({all_by} shows them)")
    emit("".join(f"{line}\n" for line in lines))


def fitting(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """Which columns to show, by index, so that a line is not wider than ``room`` (as far as some are optional)."""
    kept = list(range(len(columns)))
    while sum(widths[index] + len(_GAP) for index in kept) - len(_GAP) > room:
        least = max(kept, key=lambda index: columns[index].optional)
        if not columns[least].optional:
            break
        kept.remove(least)
    return kept


def _line(columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int], cells: Sequence[str]) -> str:
    padded = (_padded(cells[index], widths[index], right=columns[index].right) for index in kept)
    return _GAP.join(padded).rstrip()


def _padded(cell: str, width: int, *, right: bool) -> str:
    space = " " * (width - _cell_width(cell))
    return space + cell if right else cell + space


def _cell_width(cell: str) -> int:
    """Columns of the terminal: a Chinese character takes two, a combining accent none."""
    if cell.isascii():
        return len(cell)
    from rich.cells import cell_len

    return cell_len(cell)


def _terminal_width() -> int:
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else _UNLIMITED_WIDTH
