"""Finds the shipped templates: inside the installed package, or next to it in an editable checkout."""

from __future__ import annotations

import os

import torc_slurm
from torc_slurm.common.errors import InputError, TorcError

_DIRECTORY = "sbatch_templates"


def templates_directory() -> str:
    """The absolute path of the directory that holds the shipped templates.

    Raises:
        TorcError: this installation has none.
    """
    package = os.path.dirname(os.path.abspath(torc_slurm.__file__))
    for above in (package, os.path.dirname(package)):
        directory = os.path.join(above, _DIRECTORY)
        if os.path.isdir(directory):
            return directory
    raise TorcError(f"this installation has no {_DIRECTORY} in or next to {package}; install torc-slurm again")


def names() -> list[str]:
    """The file names of all shipped templates, sorted."""
    return sorted(name for name in os.listdir(templates_directory()) if not name.startswith((".", "__")))


def find(name: str) -> str:
    """The absolute path of one shipped template.

    Raises:
        InputError: there is no such template; the message lists the templates.
    """
    known = names()
    if name not in known:
        raise InputError(f"there is no template {name!r}; there are {', '.join(known)}")
    return os.path.join(templates_directory(), name)
