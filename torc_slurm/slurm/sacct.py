"""Runs sacct and parses its output, record by record as it comes.

The output describes itself: its first line names the columns, and the delimiter is a random string that no job name
can contain, so a name with ``|``, newlines or a forged record in it stays a name. A cell that does not match its column
is left out, and the record's ``reason`` names it. A record whose columns cannot be told apart is refused, but no other
record. Output without its head or its end is refused as a whole.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from torc_slurm.common.errors import CommandError, ParseError
from torc_slurm.records.accounting import (
    ALWAYS,
    FIELDS,
    FOR_ALLOCATIONS,
    FOR_LISTS,
    AccountingRecord,
)
from torc_slurm.slurm import commands
from torc_slurm.slurm.record_reader import JOB_ID_RAW, RecordReader, shown

_FIRST_COLUMNS = ("JobIDRaw", "JobID")
_LAST_COLUMN = "JobName"  # users choose its text


def _columns(asked: str, *, are_new: bool) -> tuple[str, ...]:
    fields = (field for field in FIELDS.values() if field.asked in (ALWAYS, asked) and field.is_new is are_new)
    names = dict.fromkeys(field.sacct for field in fields if field.sacct)
    return tuple(name for name in names if name not in (*_FIRST_COLUMNS, _LAST_COLUMN))


# All of these exist from Slurm 20.11 to 26.05 (`sacct -e`): the columns for one allocation, and for a list of jobs.
COLUMNS: tuple[str, ...] = (*_FIRST_COLUMNS, *_columns(FOR_ALLOCATIONS, are_new=False), _LAST_COLUMN)
LIST_COLUMNS: tuple[str, ...] = (*_FIRST_COLUMNS, *_columns(FOR_LISTS, are_new=False), _LAST_COLUMN)
# Left out if sacct refuses a query and does not know them.
NEW_COLUMNS: tuple[str, ...] = _columns(FOR_ALLOCATIONS, are_new=True)
NEW_LIST_COLUMNS: tuple[str, ...] = _columns(FOR_LISTS, are_new=True)
_ALL_COLUMNS = frozenset({*COLUMNS, *NEW_COLUMNS, *LIST_COLUMNS, *NEW_LIST_COLUMNS})

_LONGEST_HEAD = 65536
_LONGEST_DAMAGE = 20  # records in which no next one begins: then all of it is one damaged record


# --- asking -------------------------------------------------------------------------------------------------------


def query(selection: Sequence[str], *, timeout_seconds: float, for_list: bool = False) -> Iterator[bytes]:
    """Start sacct for a selection (``["-j", "12"]``); its output comes in pieces: one query to Slurm's database.

    ``-j`` searches from the epoch on, so a job that ran past midnight is found.

    Args:
        for_list: ask for the columns that lists of jobs show, and return only the last run of a requeued job.

    Raises:
        CommandError: sacct is missing, did not answer in time, or refused; possibly after some pieces.
    """
    start = functools.partial(_start, selection, timeout_seconds, for_list)
    if for_list:  # a person waits: begin at once
        return _or_with_known_columns(start(NEW_LIST_COLUMNS), NEW_LIST_COLUMNS, start)
    known = known_columns()
    return start([name for name in NEW_COLUMNS if name in known])


def _start(selection: Sequence[str], timeout_seconds: float, for_list: bool, new: Sequence[str]) -> Iterator[bytes]:
    columns = LIST_COLUMNS if for_list else COLUMNS
    delimiter = f"\x1f{os.urandom(5).hex()}\x1f"
    arguments = [*selection, *([] if for_list else ["-D"]), "-p", "--noconvert", f"--delimiter={delimiter}", "-o"]
    return commands.stream(
        ["sacct", *arguments, ",".join([*columns[:-1], *new, _LAST_COLUMN])],
        timeout_seconds=timeout_seconds,
        environment=commands.query_environment(),
    )


def _or_with_known_columns(
    pieces: Iterator[bytes], new: Sequence[str], start: Callable[[Sequence[str]], Iterator[bytes]]
) -> Iterator[bytes]:
    """The pieces. If sacct refused before the first one, and does not know all columns, the pieces without those."""
    try:
        first = next(pieces, b"")
    except CommandError as error:
        known = known_columns() if type(error) is CommandError else frozenset(new)
        if known.issuperset(new):
            raise
        pieces = start([name for name in new if name in known])
    else:
        yield first
    yield from pieces


@functools.lru_cache(maxsize=1)
def known_columns() -> frozenset[str]:
    """The columns that this sacct knows. Asked once per process, without a query to the database."""
    try:
        listed = commands.sacct(["-e"], timeout_seconds=commands.SCONTROL_TIMEOUT_SECONDS)
    except CommandError:
        listed = ""
    return frozenset(listed.split()) or _ALL_COLUMNS  # no answer: the columns are not why the query failed


# --- reading ------------------------------------------------------------------------------------------------------


def parse(text: str) -> list[AccountingRecord]:
    """The records in sacct's whole output (see `parse_stream`)."""
    return list(parse_stream([text.encode("utf-8", "surrogateescape")]))


def parse_stream(
    pieces: Iterable[bytes], on_problem: Callable[[str], object] = lambda _line: None, *, for_list: bool = False
) -> Iterator[AccountingRecord]:
    """The records in the output of `query`, in sacct's order: each job's record before its steps'.

    Args:
        on_problem: receives one line for each record that was refused because its job or step is not readable.

    Raises:
        ParseError: the output does not begin with the requested columns, or is cut off at its end.
    """
    source = iter(pieces)
    head, rest = _head(source)
    names, delimiter = _column_names(head, LIST_COLUMNS if for_list else COLUMNS, has_end=bool(rest))
    reader = RecordReader(names)
    for cells, are_whole in _records(_cells(rest, source, delimiter), len(names)):
        if are_whole:
            yield from reader.records(cells, on_problem)
        else:
            yield from reader.one(cells, on_problem)


def _head(source: Iterator[bytes]) -> tuple[bytes, bytes]:
    """The line with the names of the columns, and the beginning of the rest, which starts with the newline.

    Lines before it come from a wrapper of the site.
    """
    text = b""
    first = _FIRST_COLUMNS[0].encode()
    while len(text) < _LONGEST_HEAD:
        *lines, _ = text.split(b"\n")
        number = next((number for number, line in enumerate(lines) if line.startswith(first)), None)
        if number is not None:
            return lines[number], text[sum(len(line) + 1 for line in lines[:number]) + len(lines[number]) :]
        piece = next(source, None)
        if piece is None:
            break
        text += piece
    head, newline, rest = text.partition(b"\n")
    return head, newline + rest


def _column_names(head: bytes, required: Sequence[str], *, has_end: bool) -> tuple[list[str], bytes]:
    first, second = (name.encode() for name in _FIRST_COLUMNS)
    end = head.find(second, len(first))
    if not head.startswith(first) or end <= len(first):
        raise ParseError(f"sacct's output does not begin with the names of its columns: {shown(head[:80])}")
    delimiter = head[len(first) : end]
    if not has_end:
        raise ParseError(f"sacct's output is cut off in its first line: …{shown(head[-40:])}")
    *columns, last = head.split(delimiter)
    names = [name.decode("utf-8", "backslashreplace") for name in columns]
    if last or set(required) - set(names) or set(names) - _ALL_COLUMNS or len(set(names)) != len(names):
        raise ParseError(f"sacct printed other columns than requested: {' '.join(names)[:400]!r}")
    return names, delimiter


def _cells(rest: bytes, source: Iterator[bytes], delimiter: bytes) -> Iterator[list[str]]:
    """The cells, some at a time; the last list holds only the text after the last delimiter."""
    shown_delimiter = delimiter.decode("utf-8", "backslashreplace")
    while True:
        whole, found, rest = rest.rpartition(delimiter)
        if found:
            yield whole.decode("utf-8", "backslashreplace").split(shown_delimiter)
        piece = next(source, None)
        if piece is None:
            break
        rest += piece
    yield [rest.decode("utf-8", "backslashreplace")]


def _records(pieces: Iterable[list[str]], width: int) -> Iterator[tuple[list[str], bool]]:
    """The cells of some records, ``width`` for each of them; or, with False, those of one damaged record.

    Every cell is followed by the delimiter and every record by a newline. The function counts cells and not lines,
    because a name may begin or end with a newline. The newline after a record stands before the next one's first cell.
    """
    cells: list[str] = []
    for more in pieces:
        cells += more
        start = 0
        while len(cells) - start > width:
            whole = _count_whole(cells[start::width])
            end = start + whole * width
            if not whole:
                found = _next_record(cells, start + 1)
                if found is None and len(cells) - start < _LONGEST_DAMAGE * width:
                    break  # it may come with the next piece
                end = len(cells) if found is None else found
            yield cells[start:end], whole > 0
            start = end
        del cells[:start]
    if cells != ["\n"]:
        raise ParseError(f"sacct's output is cut off or ends in a damaged record: …{''.join(cells)[-60:]!r}")


def _count_whole(first_cells: Sequence[str]) -> int:
    """How many records are whole: their own first cell and the next record's begin with a newline."""
    for number, cell in enumerate(first_cells):
        if not cell.startswith("\n"):
            return max(0, number - 1)
    return len(first_cells) - 1


def _next_record(cells: list[str], start: int) -> int | None:
    """The index where the next record begins (a cell after a newline with a job's or step's id, and the id again), or
    the end.
    """
    for number in range(start, len(cells)):
        if cells[number].startswith("\n"):
            if number == len(cells) - 1:
                return number if cells[number] == "\n" else None
            if JOB_ID_RAW.fullmatch(cells[number][1:]) and "\n" not in cells[number + 1]:
                return number
    return None
