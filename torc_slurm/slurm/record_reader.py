"""Turns the cells of sacct's output into records; pure.

A cell that does not match its column is left out, and the record's ``reason`` names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

from torc_slurm.common.errors import ParseError
from torc_slurm.records.accounting import FIELD_NAMES, FIELDS, INDEX, AccountingRecord
from torc_slurm.slurm.cells import READERS, TRES_READERS, Reader, Value

JOB_ID_RAW = re.compile(
    r"(?P<job>[0-9]{1,18})(?:\+[0-9]{1,9})?"
    r"(?:\.(?P<step>[0-9]{1,18}|batch|extern|interactive|TBD)(?:\+(?P<component>[0-9]{1,9}))?)?",
    re.ASCII,
)
# The items that are read, with the text after the equals sign, or nothing if there is none.
_TRES_ITEMS = re.compile(rf"(?:^|(?<=,))({'|'.join(TRES_READERS)})(?:=([^,]*))?(?=,|$)")
_LONGEST_CELL_SHOWN = 40


class _Cell(NamedTuple):
    """Where a field's value is in a record's cells, and how to parse it."""

    number: int
    position: int
    read: Reader
    column: str


class RecordReader:
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

    def records(self, cells: Sequence[str], on_problem: Callable[[str], object]) -> Iterator[AccountingRecord]:
        """The records in the cells of whole records, whose first cells still begin with a newline.

        Column by column: most cells of a column are equal or of one form. A record with an invalid cell is read again,
        by itself.
        """
        width = self._width
        count = len(cells) // width
        columns: list[Iterable[Value]] = [repeat(value, count) for value in _BLANK]
        ids = [JOB_ID_RAW.fullmatch(cell, 1) for cell in cells[::width]]
        columns[0], columns[1], columns[_HET_COMPONENT] = zip(*map(_parts, ids), strict=True)
        invalid = {number for number, match in enumerate(ids) if match is None}
        for cell in self._cells:
            columns[cell.position] = _read_column(cells[cell.number :: width], cell, invalid)
        for number, items in self._tres.items():
            for position, values in _read_tres_column(cells[number::width], items, invalid):
                columns[position] = values
        for number, record in enumerate(map(AccountingRecord._make, zip(*columns, strict=True))):
            if number in invalid:
                yield from self.one(cells[number * width : (number + 1) * width], on_problem)
            else:
                yield record

    def one(self, cells: Sequence[str], on_problem: Callable[[str], object]) -> Iterator[AccountingRecord]:
        """The record in the cells of one, which may be damaged; none if it does not have a job or step id."""
        try:
            yield self._record([cells[0].removeprefix("\n"), *cells[1:]])
        except ParseError as error:
            on_problem(str(error))

    def _record(self, cells: Sequence[str]) -> AccountingRecord:
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
                    odd.append(f"{column} {shown(text)}")
        for number, items in self._tres.items():
            if cells[number]:
                for position, value in _read_tres(cells[number], items, odd).items():
                    values[position] = value
        if odd:
            values[_REASON] = f"ignored, because sacct printed no valid value: {', '.join(dict.fromkeys(odd))}"
        return AccountingRecord._make(values)


_BLANK: tuple[Value, ...] = (0, *(AccountingRecord._field_defaults[name] for name in FIELD_NAMES[1:]))
_HET_COMPONENT, _REASON = INDEX["het_component"], INDEX["reason"]


def _read_column(texts: Sequence[str], cell: _Cell, invalid: set[int]) -> Iterable[Value]:
    """The values of one column's cells; adds the numbers of its invalid cells to ``invalid``."""
    blank = _BLANK[cell.position]
    values = {"": blank}
    wrong = set()
    are_equal = texts.count(texts[0]) == len(texts)
    for text in texts[:1] if are_equal else set(texts):
        if text:
            try:
                values[text] = cell.read(text)
            except ValueError:
                values[text] = blank
                wrong.add(text)
    if wrong:
        invalid.update(number for number, text in enumerate(texts) if text in wrong)
    return repeat(values[texts[0]], len(texts)) if are_equal else [values[text] for text in texts]


def _read_tres_column(
    texts: Sequence[str], items: Mapping[str, _Cell], invalid: set[int]
) -> Iterator[tuple[int, Iterable[Value]]]:
    """The positions and the values of one TRES column's figures; adds to ``invalid`` as `_read_column`."""
    columns: dict[int, list[Value]] = {cell.position: [None] * len(texts) for cell in items.values()}
    by_length: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        if text:
            by_length.setdefault(text.count(","), []).append(number)
    for numbers in by_length.values():
        together = _items_in_order([texts[number] for number in numbers])
        if together is None:
            odd: list[str] = []
            for number in numbers:
                for position, value in _read_tres(texts[number], items, odd).items():
                    columns[position][number] = value
                if odd:
                    invalid.add(number)
                    odd.clear()
            continue
        for name in items.keys() & together.keys():
            wrong: set[int] = set()
            values = columns[items[name].position]
            for number, value in zip(numbers, _read_column(together[name], items[name], wrong), strict=True):
                values[number] = value
            invalid.update(numbers[place] for place in wrong)
    yield from columns.items()


def _items_in_order(texts: Sequence[str]) -> dict[str, list[str]] | None:
    """The items' values by their names, if these texts of one length have the same items, each once and with a value.

    The length is the number of items.
    """
    joined = ",".join(texts)
    if "\n" in joined:
        return None
    parts = [part.partition("=") for part in joined.split(",")]
    count = len(parts) // len(texts)
    found: dict[str, list[str]] = {}
    for place in range(count):
        name = parts[place][0]
        values = [value for each, _, value in parts[place::count] if each == name and value]
        if name in found or len(values) < len(texts):
            return None
        found[name] = values
    return found


def _read_tres(text: str, items: Mapping[str, _Cell], odd: list[str]) -> dict[int, Value]:
    """The figures in a cell of a TRES column by their positions in the record."""
    found: dict[int, Value] = {}
    for name, value in _TRES_ITEMS.findall(text):
        cell = items.get(name)
        if cell is None:
            continue
        if cell.position in found:  # two values for one figure: use neither
            found[cell.position] = None
            odd.append(f"{cell.column} {shown(text)}")
            continue
        found[cell.position] = None
        try:
            found[cell.position] = cell.read(value)
        except ValueError:
            odd.append(f"{cell.column} {shown(value)}")
    return found


def _job_and_step(text: str) -> tuple[int, str | None, int | None]:
    match = JOB_ID_RAW.fullmatch(text)
    if match is None:
        raise ParseError(f"a record of sacct was left out: its JobIDRaw {shown(text)} is not <job> or <job>.<step>")
    return _parts(match)


def _parts(match: re.Match[str] | None) -> tuple[int, str | None, int | None]:
    if match is None:
        return 0, None, None
    job, step, component = match.groups()
    return int(job), step, None if component is None else int(component)


def shown(text: str | bytes) -> str:
    shown = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    return repr(shown if len(shown) <= _LONGEST_CELL_SHOWN else shown[:_LONGEST_CELL_SHOWN] + "…")
