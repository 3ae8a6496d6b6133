"""Makes one page: heading and tables as HTML, figures compressed inside it, Plotly's bundle inside or next to it.

The browser unpacks both (with DecompressionStream, else with a few lines of script); this reduces Plotly's bundle from
4.8 MB to 2 MB. A policy in the page lets only its own scripts run and forbids requests.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import jinja2

from torc_slurm import __version__
from torc_slurm.common.errors import TorcError
from torc_slurm.plots.palette import THEMES
from torc_slurm.plots.quoting import MOST_CHARACTERS_OF_A_TEXT, plain

Dictionary = dict[str, Any]

_ASSETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "assets")
_SCRIPTS = ("inflate.js", "tables.js", "figures.js", "page.js")
_GZIP = 31  # zlib's number for a stream in gzip's format
_ROWS_AT_ONCE = 500
_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True)
class Table:
    """A small table of text."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class DataTable:
    """A table of any number of rows, shown by the page's script: a cell is ``[sort key, text, address, class]``.

    ``columns`` have ``title`` and ``number``. ``rows`` makes the rows when the page is written, because all of them
    take much memory.
    """

    columns: Sequence[Mapping[str, object]]
    rows: Callable[[], Iterable[Sequence[object]]]


@dataclass(frozen=True)
class Section:
    """A part of a page: text, small tables, figures, in that order.

    ``tiles`` have ``value`` and ``name``, ``links`` ``href`` and ``name``; ``data_table`` names one of the page's.
    """

    id: str
    title: str = ""
    paragraphs: Sequence[str] = ()
    tiles: Sequence[Mapping[str, str]] = ()
    table: Table | None = None
    links: Sequence[Mapping[str, str]] = ()
    figures: Sequence[Dictionary] = ()
    data_table: str = ""


@dataclass(frozen=True)
class Page:
    """The content of a page. Its text is foreign: `render` escapes it."""

    heading: str
    lead: str
    sections: Sequence[Section]
    file_name: str
    clock_time: float
    series: Mapping[str, Dictionary] = field(default_factory=dict)
    facts: Table | None = None
    tables: Mapping[str, DataTable] = field(default_factory=dict)
    notes: Sequence[str] = ()


def render(page: Page, plotly_file: str | None = None) -> str:
    """The page as HTML.

    Args:
        plotly_file: the name of Plotly's bundle next to the page; None: the bundle is in the page itself.

    Raises:
        TorcError: the plotly package lacks its bundle.
    """
    figures = [figure for section in page.sections for figure in section.figures]
    content = {
        "figures": figures,
        "series": page.series,
        "tables": page.tables,
        "themes": THEMES,
        "clock": clock(page.clock_time),
        "file_name": page.file_name,
    }
    data = packed(piece.encode() for piece in json_pieces(content))
    return _template().render(
        heading=page.heading,
        lead=page.lead,
        facts=page.facts,
        sections=page.sections,
        notes=page.notes,
        version=__version__,
        css=_asset("page.css"),
        script="\n".join(map(_asset, _SCRIPTS)),
        data=data,
        plotly=packed_plotly() if figures and plotly_file is None else "",
        plotly_file=plotly_file if figures else None,
        nonce=hashlib.sha256(data.encode()).hexdigest()[:32],
    )


def _shown(value: object) -> object:
    """The text of a template's expression: one line of limited length; escaped later."""
    return plain(value, MOST_CHARACTERS_OF_A_TEXT) if type(value) is str else value


def clock(at: float) -> Dictionary:
    """The time zone of this machine at a Unix time: seconds east of Greenwich, and its name."""
    local = time.localtime(at)
    sign, offset = "-" if local.tm_gmtoff < 0 else "+", abs(local.tm_gmtoff)
    name = f"UTC{sign}{offset // 3600:02d}:{offset // 60 % 60:02d}" if offset else "UTC"
    return {"offset_seconds": local.tm_gmtoff, "name": name}


def json_pieces(value: object) -> Iterator[str]:
    """Compact JSON in pieces: one for each member of a mapping, and for a few rows of a `DataTable`."""
    if isinstance(value, DataTable):
        yield f'{{"columns":{_json(value.columns)},"rows":['
        rows = iter(value.rows())
        comma = ""
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            yield comma + _json(some)[1:-1]
            comma = ","
        yield "]}"
    elif isinstance(value, Mapping):
        comma = "{"
        for name, member in value.items():
            yield f"{comma}{_json(name)}:"
            yield from json_pieces(member)
            comma = ","
        yield "}" if value else "{}"
    else:
        yield _json(value)


def packed(pieces: Iterable[bytes], level: int = 6) -> str:
    """gzip in base64; always the same for the same content, in whatever pieces it comes."""
    packer = zlib.compressobj(level, wbits=_GZIP)
    return base64.b64encode(b"".join([*map(packer.compress, pieces), packer.flush()])).decode("ascii")


def plotly_file_name() -> str:
    """The name of Plotly's bundle next to pages that share it; each version has its own."""
    return f"plotly-{hashlib.sha256(plotly_bundle()).hexdigest()[:12]}.js"


@functools.cache
def packed_plotly() -> str:
    """Plotly's bundle, packed for a page.

    Raises:
        TorcError: it does not exist.
    """
    return packed([plotly_bundle()], 9)


@functools.cache
def plotly_bundle() -> bytes:
    """Plotly's bundle from the Python package.

    Raises:
        TorcError: it does not exist.
    """
    package = importlib.util.find_spec("plotly")  # not imported: that takes longer than all else here
    places = (package.submodule_search_locations if package else None) or ["plotly"]
    path = os.path.join(places[0], "package_data", "plotly.min.js")
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise TorcError(f"{path} cannot be read: {error.strerror}; pip install 'plotly>=6' again") from error


@functools.cache
def _asset(name: str) -> str:
    with open(os.path.join(_ASSETS, name), encoding="utf-8") as file:
        return file.read()


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")
