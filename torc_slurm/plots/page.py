"""Makes one page: heading and tables as HTML, figures compressed inside it, Plotly's bundle inside or next to it.

The browser unpacks both (with DecompressionStream, else with a few lines of script); this reduces Plotly's bundle from
4.8 MB to 2 MB. A policy in the page lets only its own scripts run and forbids requests.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import importlib.util
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

from torc_slurm import __version__
from torc_slurm.common.errors import TorcError
from torc_slurm.plots.palette import THEMES
from torc_slurm.plots.quoting import MOST_CHARACTERS_OF_A_TEXT, plain

Dictionary = dict[str, Any]

_ASSETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "assets")
_SCRIPTS = ("inflate.js", "tables.js", "figures.js", "page.js")


@dataclass(frozen=True)
class Table:
    """A small table of text."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


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
    tables: Mapping[str, Dictionary] = field(default_factory=dict)
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
    data = packed(json.dumps(content, separators=(",", ":"), allow_nan=False).encode())
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


def packed(content: bytes, level: int = 6) -> str:
    """gzip in base64; always the same for the same content."""
    return base64.b64encode(gzip.compress(content, level, mtime=0)).decode("ascii")


def plotly_file_name() -> str:
    """The name of Plotly's bundle next to pages that share it; each version has its own."""
    return f"plotly-{hashlib.sha256(plotly_bundle()).hexdigest()[:12]}.js"


@functools.cache
def packed_plotly() -> str:
    """Plotly's bundle, packed for a page.

    Raises:
        TorcError: it does not exist.
    """
    return packed(plotly_bundle(), 9)


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
