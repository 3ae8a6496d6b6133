"""Tables that fit the terminal: long names lose their middle, then the least useful columns are left out.

`Table` has columns and rows of cells; `lines_of` makes the lines. A cell is a ``str``, or a `Cell` with a colour. Cells
must be printable (`common.text.printable`). If stdout is not a terminal, a table is as wide as it needs to be and has
no colour. Not made with rich, which takes 30 s for 20,000 rows; this takes half a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from torc_slurm.common.text import shortened
from torc_slurm.records.figures import NOT_MEASURED

if TYPE_CHECKING:
    from torc_slurm.sizing.thresholds import Level

NOT_KNOWN = NOT_MEASURED
_GAP = "  "
_UNLIMITED_WIDTH = 1_000_000
_COLOURS: Mapping[str, str] = {"good": "\x1b[32m", "warn": "\x1b[33m", "bad": "\x1b[31m", "muted": "\x1b[2m"}
_RESET = "\x1b[0m"


class Cell(str):
    """The text of a cell with a level, which a terminal shows as a colour."""

    __slots__ = ("level",)
    level: Level

    def __new__(cls, text: str, level: Level = "") -> Cell:
        """A cell; an empty ``level`` is the terminal's own colour."""
        cell = super().__new__(cls, text)
        cell.level = level
        return cell


class Column(NamedTuple):
    """A column of a table.

    ``optional``: 0 for a column that is always shown; of the others, the highest is left out first if the table is too
    wide. ``least``: the number of characters to which its cells may be shortened, in the middle; 0: never. ``key`` is
    its name for ``--format``; without one, the title in lower case with underscores. A column ``on_request`` is shown
    only if ``--format`` names it.
    """

    title: str
    right: bool = False
    optional: int = 0
    least: int = 0
    key: str = ""
    on_request: bool = False

    @property
    def name(self) -> str:
        """The column's name for ``--format``."""
        return self.key or self.title.lower().replace(" ", "_")


class Table(NamedTuple):
    """Columns, and rows with a cell for each. ``all_by`` is the option that shows columns that do not fit."""

    columns: Sequence[Column]
    rows: Iterable[Sequence[str]]
    all_by: str = "-f json"


def chosen(table: Table, names: Sequence[str]) -> Table:
    """The table with only these columns, in this order; none: those that are not ``on_request``.

    Named columns are shown even if the table becomes too wide.

    Raises:
        KeyError: there is no such column; `torc_slurm.cli.options.resolve_columns` refuses it first.
    """
    named = bool(names)
    if not named:
        names = [column.name for column in table.columns if not column.on_request]
    by_name = {column.name: place for place, column in enumerate(table.columns)}
    places = [by_name[name] for name in names]
    columns = [table.columns[place] for place in places]
    columns = [column._replace(optional=0) for column in columns] if named else columns
    return Table(columns, ([row[place] for place in places] for row in table.rows), table.all_by)


def lines_of(table: Table, *, room: int | None = None, colour: bool | None = None) -> Iterator[str]:
    """The table's lines: titles, a rule, a line for each row, and which columns were left out.

    Args:
        room: the largest width in characters; None: the terminal's width, unlimited if stdout is not a terminal.
        colour: None: on a terminal, unless ``NO_COLOR`` is set.
    """
    columns, rows = table.columns, list(table.rows)
    titles = [column.title for column in columns]
    needed = [max(map(_cell_width, cells)) for cells in zip(titles, *rows, strict=True)]
    widths = fitting(columns, needed, terminal_width() if room is None else room)
    in_colour = is_coloured() if colour is None else colour
    ruler = ["-" * min(widths.get(place, 0), needed[place]) for place in range(len(columns))]
    for cells in (titles, ruler, *rows):
        yield _line(columns, widths, cells, in_colour=in_colour)
    if len(widths) < len(columns):
        hidden = ", ".join(dict.fromkeys(title for place, title in enumerate(titles) if place not in widths))
        yield f"No room for: {hidden} ({table.all_by} shows them)"


def fitting(columns: Sequence[Column], needed: Sequence[int], room: int) -> dict[int, int]:
    """The columns to show, by their position, each with its width.

    A line is not wider than ``room`` if enough columns may be shortened or left out. A column is left out only if
    shortening all names as far as allowed is not enough.
    """
    kept = list(range(len(columns)))
    while sum(_least(columns[place], needed[place]) + len(_GAP) for place in kept) - len(_GAP) > room:
        least_useful = max(kept, key=lambda place: columns[place].optional)
        if not columns[least_useful].optional:
            break
        kept.remove(least_useful)
    return _shared(columns, needed, kept, room)


def _least(column: Column, needed: int) -> int:
    return min(needed, max(column.least, _cell_width(column.title))) if column.least else needed


def _shared(columns: Sequence[Column], needed: Sequence[int], kept: Sequence[int], room: int) -> dict[int, int]:
    """Widths: the longest columns are shortened, one character after another, until all fit."""
    widths = {place: needed[place] for place in kept}
    over = sum(widths.values()) + len(_GAP) * (len(kept) - 1) - room
    while over > 0:
        long = [place for place in kept if widths[place] > _least(columns[place], needed[place])]
        if not long:
            break
        widest = max(long, key=lambda place: widths[place])
        widths[widest] -= 1
        over -= 1
    return widths


def _line(columns: Sequence[Column], widths: Mapping[int, int], cells: Sequence[str], *, in_colour: bool) -> str:
    padded = (_padded(cells[place], width, columns[place], in_colour=in_colour) for place, width in widths.items())
    return _GAP.join(padded).rstrip()


def _padded(cell: str, width: int, column: Column, *, in_colour: bool) -> str:
    text = cell
    if column.least and _cell_width(cell) > width:
        text = shortened(cell, width)
        while _cell_width(text) > width:  # some characters take two columns
            text = shortened(text, len(text) - 1)
    space = " " * (width - _cell_width(text))
    if in_colour and isinstance(cell, Cell) and cell.level:
        text = f"{_COLOURS[cell.level]}{text}{_RESET}"
    return space + text if column.right else text + space


def _cell_width(cell: str) -> int:
    """Columns of the terminal: a Chinese character takes two, a combining accent none."""
    if cell.isascii():
        return len(cell)
    from rich.cells import cell_len

    return cell_len(cell)


def coloured(cell: Cell) -> str:
    """A cell's text outside a table, coloured if stdout takes colours."""
    return f"{_COLOURS[cell.level]}{cell}{_RESET}" if cell.level and is_coloured() else str(cell)


def is_coloured() -> bool:
    """Whether stdout takes colours: a terminal that is not ``dumb``, unless ``NO_COLOR`` is set."""
    if os.environ.get("NO_COLOR"):
        return False
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """The width of stdout: ``COLUMNS`` if set, else the terminal's; unlimited if it is not a terminal."""
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdecimal() and int(given) > 0:
        return int(given)
    if not sys.stdout.isatty():
        return _UNLIMITED_WIDTH
    return os.get_terminal_size(sys.stdout.fileno()).columns or _UNLIMITED_WIDTH
