"""The place of a lab (or of a cluster, in `virtual_cluster`): its directory and its state file."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BASE = Path("/var/tmp")  # noqa: S108  (names in it are random or checked to be ours)


def directory_of(named: str | None, prefix: str) -> Path:
    """The named directory, else the default one of this user and checkout."""
    if named:
        return absolute(named)
    checkout = Path(__file__).resolve().parents[2]
    return BASE / (prefix + hashlib.sha256(f"{os.geteuid()} {checkout}".encode()).hexdigest()[:8])


def absolute(text: str) -> Path:
    if not text.strip():
        raise UsageError("--dir '': empty; name a directory")
    return Path(os.path.abspath(text))


def save(state: DataclassInstance, path: Path) -> None:
    """Replace the state file in one step: a reader never sees half of it."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(asdict(state), default=str, indent=1) + "\n")
    temporary.replace(path)
