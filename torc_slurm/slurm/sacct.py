"""Runs sacct and parses its output, record by record as it comes.

The output describes itself: its first line names the columns, and the delimiter is a random string that no job name
can contain, so a name with ``|``, newlines or a forged record in it stays a name. A cell that does not match its column
is left out, and the record's ``reason`` names it. A record whose columns cannot be told apart is refused, but no other
record. Output without its head or its end is refused as a whole.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from torc_slurm.common.errors import CommandError, ParseError
from torc_slurm.records.accounting import (
    ALWAYS,
    FIELD_NAMES,
    FIELDS,
    FOR_ALLOCATIONS,
    FOR_LISTS,
    INDEX,
    AccountingRecord,
)
from torc_slurm.slurm import commands
from torc_slurm.slurm.cells import READERS, TRES_READERS, Reader

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

_JOB_ID_RAW = re.compile(
    r"(?P<job>[0-9]{1,18})(?:\+[0-9]{1,9})?"
    r"(?:\.(?P<step>[0-9]{1,18}|batch|extern|interactive|TBD)(?:\+(?P<component>[0-9]{1,9}))?)?",
    re.ASCII,
)
# The items that are read, with the text after the equals sign, or nothing if there is none.
_TRES_ITEMS = re.compile(rf"(?:^|(?<=,))({'|'.join(TRES_READERS)})(?:=([^,]*))?(?=,|$)")
_LONGEST_HEAD = 65536
_LONGEST_DAMAGE = 20  # records in which no next one begins: then all of it is one damaged record
_LONGEST_CELL_SHOWN = 40


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
    reader = _RecordReader(names)
    for cells in _records(_cells(rest, source, delimiter), len(names)):
        try:
            yield reader.record(cells)
        except ParseError as error:
            on_problem(str(error))


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
        raise ParseError(f"sacct's output does not begin with the names of its columns: {_shown(head[:80])}")
    delimiter = head[len(first) : end]
    if not has_end:
        raise ParseError(f"sacct's output is cut off in its first line: …{_shown(head[-40:])}")
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


def _records(pieces: Iterable[list[str]], width: int) -> Iterator[list[str]]:
    """Each record's cells: ``width`` of them, or another number if the record is damaged.

    Every cell is followed by the delimiter and every record by a newline. The function counts cells and not lines,
    because a name may begin or end with a newline. The newline after a record stands before the next one's first cell.
    """
    cells: list[str] = []
    for more in pieces:
        cells += more
        start = 0
        while len(cells) - start > width:
            end = start + width
            if not (cells[start].startswith("\n") and cells[end].startswith("\n")):
                found = _next_record(cells, start + 1)
                if found is None and len(cells) - start < _LONGEST_DAMAGE * width:
                    break  # it may come with the next piece
                end = len(cells) if found is None else found
            yield [cells[start].removeprefix("\n"), *cells[start + 1 : end]]
            start = end
        del cells[:start]
    if cells != ["\n"]:
        raise ParseError(f"sacct's output is cut off or ends in a damaged record: …{''.join(cells)[-60:]!r}")


def _next_record(cells: list[str], start: int) -> int | None:
    """The index where the next record begins (a cell after a newline with a job's or step's id, and the id again), or
    the end.
    """
    for number in range(start, len(cells)):
        if cells[number].startswith("\n"):
            if number == len(cells) - 1:
                return number if cells[number] == "\n" else None
            if _JOB_ID_RAW.fullmatch(cells[number][1:]) and "\n" not in cells[number + 1]:
                return number
    return None


class _Cell(NamedTuple):
    """Where a field's value is in a record's cells, and how to parse it."""

    number: int
    position: int
    read: Reader
    column: str


class _RecordReader:
    """Turns cells of these columns into records."""

    def __init__(self, names: Sequence[str]) -> None:
        self._width = len(names)
        number_of = {name: number for number, name in enumerate(names)}
        self._cells: list[_Cell] = []
        self._tres: dict[int, dict[str, _Cell]] = {}
        for field, declared in FIELDS.items():
            number = number_of.get(declared.sacct)
            if number is None:
                continue
            if declared.reads in READERS:
                self._cells.append(_Cell(number, INDEX[field], READERS[declared.reads], declared.sacct))
            else:
                item = _Cell(number, INDEX[field], TRES_READERS[declared.reads], f"{declared.sacct} {declared.reads}")
                self._tres.setdefault(number, {})[declared.reads] = item
        self._id = number_of["JobIDRaw"]

    def record(self, cells: Sequence[str]) -> AccountingRecord:
        """Raises ParseError if the record does not have a job or step id."""
        job_id, step_id, component = _job_and_step(cells[self._id if len(cells) == self._width else 0])
        values = list(_BLANK)
        values[:2] = job_id, step_id
        values[_HET_COMPONENT] = component
        if len(cells) != self._width:
            values[_REASON] = f"Slurm's record is damaged: it has {len(cells)} columns in place of {self._width}"
            return AccountingRecord._make(values)
        odd: list[str] = []
        for number, position, read, column in self._cells:
            if text := cells[number]:
                try:
                    values[position] = read(text)
                except ValueError:
                    odd.append(f"{column} {_shown(text)}")
        for number, items in self._tres.items():
            if cells[number]:
                _read_tres(cells[number], items, values, odd)
        if odd:
            values[_REASON] = f"ignored, because sacct printed no valid value: {', '.join(dict.fromkeys(odd))}"
        return AccountingRecord._make(values)


_BLANK: tuple[int | float | str | None, ...] = (
    0,
    *(AccountingRecord._field_defaults[name] for name in FIELD_NAMES[1:]),
)
_HET_COMPONENT, _REASON = INDEX["het_component"], INDEX["reason"]


def _read_tres(text: str, items: dict[str, _Cell], values: list[int | float | str | None], odd: list[str]) -> None:
    seen: set[str] = set()
    for name, value in _TRES_ITEMS.findall(text):
        cell = items.get(name)
        if cell is None:
            continue
        if name in seen:  # two values for one figure: use neither
            values[cell.position] = None
            odd.append(f"{cell.column} {_shown(text)}")
            continue
        seen.add(name)
        try:
            values[cell.position] = cell.read(value)
        except ValueError:
            odd.append(f"{cell.column} {_shown(value)}")


def _job_and_step(text: str) -> tuple[int, str | None, int | None]:
    match = _JOB_ID_RAW.fullmatch(text)
    if match is None:
        raise ParseError(f"a record of sacct was left out: its JobIDRaw {_shown(text)} is not <job> or <job>.<step>")
    component = match["component"]
    return int(match["job"]), match["step"], None if component is None else int(component)


def _shown(text: str | bytes) -> str:
    shown = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    return repr(shown if len(shown) <= _LONGEST_CELL_SHOWN else shown[:_LONGEST_CELL_SHOWN] + "…")
