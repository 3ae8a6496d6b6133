"""How commands answer: each makes an `Answer`, and `write` prints it as JSON, CSV or tables.

No other module checks the format to print its answer.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple, TypeVar

import typer

from torc_slurm.cli.json_text import indented, lines_of_items, lines_of_rows
from torc_slurm.cli.options import Format
from torc_slurm.cli.streams import OutputError, give_up_stdout
from torc_slurm.cli.table import Table, chosen, lines_of
from torc_slurm.common.same_keys import SameKeys
from torc_slurm.common.text import printable

Item = Mapping[str, object]
T = TypeVar("T")
_SIGNED_NUMBER = re.compile(r"[+-][0-9.,]+ ?%?")

BROKEN_PIPE_EXIT_STATUS = 141  # what a shell shows after SIGPIPE
_MOST_INDENTED = 200
_AT_ONCE = 500


class Answer(NamedTuple):
    """A command's answer. Iterables are read once, and only for the format that needs them.

    JSON is ``{"items": [...]}`` of ``items``, or ``document`` if there is one. CSV has the columns ``keys`` and a line
    for each of ``csv_items``, else of ``items``. A terminal gets ``tables`` (without empty ones), then ``notes``, one
    line each, which must be printable, then ``aside``; with JSON and CSV, ``aside`` goes to stderr.
    """

    keys: Sequence[str] = ()
    items: Iterable[Item] = ()
    document: Item | None = None
    csv_items: Iterable[Item] | None = None
    tables: Sequence[Table] = ()
    notes: Iterable[str] = ()
    aside: Iterable[str] = ()


def one(item: Item, *notes: str) -> Answer:
    """An answer with one object; ``notes`` are lines for a terminal."""
    return Answer(keys=list(item), items=[item], document=item, notes=notes)


def write(answer: Answer, chosen_format: Format, columns: Sequence[str] = ()) -> None:
    """Write the answer to stdout.

    Args:
        columns: only these columns of the first table, by name; none: all.

    Raises:
        typer.Exit: the reader has closed the pipe (``torc … | head``).
        OutputError: stdout cannot be written.
    """
    if chosen_format is Format.csv:
        _write_csv(answer.keys, answer.items if answer.csv_items is None else answer.csv_items)
    elif chosen_format is Format.table:
        _write_tables(answer, columns)
        return
    elif answer.document is not None:
        emit(indented(answer.document) + "\n")
    else:
        _write_items(answer.items)
    print("".join(f"{line}\n" for line in answer.aside), end="", file=sys.stderr, flush=True)


def emit(text: str) -> None:
    """Write to stdout; exit quietly if the reader has closed the pipe.

    Raises:
        OutputError: it cannot be written, because a disk is full for example.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        give_up_stdout()
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(BROKEN_PIPE_EXIT_STATUS) from None
        raise OutputError(error) from error


def _write_items(items: Iterable[Item]) -> None:
    """Write the items as they come: indented if they are few, else one per line.

    JSON escapes control characters and all characters outside ASCII.
    """
    if isinstance(items, SameKeys):
        keys = items.keys
        _write_batches(items.values, lambda some: SameKeys(keys, some), lambda some: lines_of_rows(keys, some))
    else:
        _write_batches(items, list, lines_of_items)


def _write_batches(
    values: Iterable[T], items_of: Callable[[list[T]], Iterable[Item]], texts_of: Callable[[list[T]], Iterable[str]]
) -> None:
    rest = iter(values)
    first = list(islice(rest, _MOST_INDENTED + 1))
    if len(first) <= _MOST_INDENTED:
        emit(indented({"items": list(items_of(first))}) + "\n")
        return
    before = '{"items": [\n'
    for some in _batches(chain(first, rest)):  # ten times as fast as with an indent
        emit(before + ",\n".join(texts_of(some)))
        before = ",\n"
    emit("\n]}\n")


def _write_csv(keys: Sequence[str], items: Iterable[Item]) -> None:
    """A header and one line per item; NULL is an empty cell. Control characters become escapes."""
    emit(_csv_text([keys]))
    for some in _batches([_csv_cell(item[key]) for key in keys] for item in items):
        emit(_csv_text(some))


def _csv_text(rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _csv_cell(value: object) -> object:
    """Numbers unchanged; text printable, and never a formula for a spreadsheet; lists and mappings as JSON."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)) or value is None:
        return value
    text = printable(value if isinstance(value, str) else json.dumps(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and _SIGNED_NUMBER.fullmatch(text) is None else text


def _batches(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _write_tables(answer: Answer, columns: Sequence[str]) -> None:
    written = False
    for number, table in enumerate(answer.tables):
        rows = list(table.rows)
        if rows:
            ready = table._replace(rows=rows)
            lines = lines_of(chosen(ready, () if number else columns))
            emit(("\n" if written else "") + "".join(f"{line}\n" for line in lines))
            written = True
    notes = [*answer.notes, *answer.aside]
    if notes:
        emit("".join(f"{line}\n" for line in ([""] if written else []) + notes))
