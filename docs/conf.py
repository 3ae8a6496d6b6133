"""Sphinx's settings for the documentation as a site: `ci/docs` builds it."""

from __future__ import annotations

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.highlighting import lexers

from torc_slurm import __version__

project = "torc-slurm"
author = "the torc-slurm developers"
release = version = __version__

extensions = ["myst_parser"]
highlight_language = "text"  # most blocks are a terminal
html_theme = "furo"
html_title = f"torc-slurm {release}"
html_copy_source = False
html_show_sphinx = False
myst_heading_anchors = 4  # links to headings work as they do where the Markdown itself is shown
lexers["kdl"] = TextLexer()  # Pygments knows no KDL

# Pages of the site that are files outside docs/: what links to the file links to the page.
OUTSIDE = {"README": "index", "CHANGELOG": "changelog", "CONTRIBUTING": "contributing"}


def link_pages(_: Sphinx, __: str, source: list[str]) -> None:
    for file, page in OUTSIDE.items():
        source[0] = source[0].replace(f"](../{file}.md", f"]({page}.md")


def setup(app: Sphinx) -> None:
    app.connect("source-read", link_pages)
