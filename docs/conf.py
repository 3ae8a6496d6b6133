"""Sphinx's settings for the documentation as a site: `ci/docs` builds it."""

from torc_slurm import __version__

project = "torc-slurm"
author = "the torc-slurm developers"
release = version = __version__

extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"torc-slurm {release}"
html_copy_source = False
html_show_sphinx = False
myst_heading_anchors = 4  # links to headings work as they do where the Markdown itself is shown
