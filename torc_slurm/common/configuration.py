"""The user's and the site's configuration: ``config.toml`` in ``$TORC_CONFIG_DIR``, ``~/.config/torc-slurm``,
``/etc/torc-slurm``.

TOML, one table for each command that reads it. The user's values override the site's.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

from torc_slurm.common.errors import InputError

_NAME = "config.toml"


def section(name: str) -> Mapping[str, Any]:
    """The table of that name, the user's values over the site's; empty if no file has it.

    Raises:
        InputError: a file is not valid TOML.
    """
    merged: dict[str, Any] = {}
    for path in _paths():
        table = _read(path).get(name, {})
        if not isinstance(table, dict):
            raise InputError(f"{path}: {name} is not a table; write [{name}] and its values below it")
        merged |= table
    return merged


def _paths() -> list[str]:
    """The site's file, then the user's."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    own = os.environ.get("TORC_CONFIG_DIR") or os.path.join(home, "torc-slurm")
    return [os.path.join("/etc/torc-slurm", _NAME), os.path.join(own, _NAME)]


@functools.cache
def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return {}
    import tomli  # costs 5 ms, and few have a configuration

    try:
        return tomli.loads(content.decode())
    except ValueError as error:
        raise InputError(f"{path} cannot be read as TOML: {error}") from None
