"""The place of a lab (or of a cluster, in `virtual_cluster`): its directory and its state file, until it ends."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from . import alive_lock
from .errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BASE = Path("/var/tmp")  # noqa: S108  (names in it are random or checked to be ours)
DETACHED = "detached"


class Placed(Protocol):
    """A lab or a cluster."""

    @property
    def dir(self) -> Path: ...


LabT = TypeVar("LabT", bound=Placed)


@dataclass(frozen=True)
class Running(Generic[LabT]):
    """A running lab or cluster, and the descriptor by which its keepers know that this process lives."""

    lab: LabT
    caller: int
    wait_gone: Callable[[LabT], None]

    def detach(self) -> None:
        """Let it outlive this process."""
        (self.lab.dir / DETACHED).touch()
        os.close(self.caller)

    def end(self) -> None:
        """End it, and wait for that."""
        os.close(self.caller)
        self.wait_gone(self.lab)


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


def stale(base: Path, prefix: str, state_name: str) -> list[Path]:
    """This user's directories under `base` of labs that lost their keepers."""
    mine = [path for path in base.glob(f"{prefix}*") if path.is_dir() and path.stat().st_uid == os.geteuid()]
    return [path for path in mine if (path / state_name).exists() and not alive_lock.is_held(path)]


def last_lines(path: Path, lines: int = 40) -> str:
    """The end of a log under its name."""
    try:
        last = path.read_text(errors="replace").splitlines()[-lines:]
    except OSError as error:
        last = [f"(not readable: {error.strerror})"]
    return "\n".join([f"--- {path.parent.name}/{path.name}, last lines:", *last])
