"""One lab on disk: the paths of its files, its stored state, and whether it is alive."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, fields
from pathlib import Path

from .config import Settings
from .errors import LabError

STATE = "lab.json"
SUBDIRECTORIES = ("conf", "run", "log", "state", "spool", "db", "home")

# In the environment of everything that belongs to a lab, and nowhere else: `slurm-lab env` does not print it.
MEMBER_VARIABLE = "TORC_LAB_MEMBER"


@dataclass(frozen=True)
class Lab:
    """A lab as it was started. `made_dir`: this lab made the directory, and removes it."""

    settings: Settings
    made_dir: bool
    since: float = field(default_factory=time.time)
    keepers: tuple[int, ...] = ()

    @property
    def dir(self) -> Path:
        return self.settings.dir

    @property
    def conf(self) -> Path:
        return self.dir / "conf" / "slurm.conf"

    @property
    def run(self) -> Path:
        return self.dir / "run"

    @property
    def log(self) -> Path:
        return self.dir / "log"

    def home(self, user: str) -> Path:
        return self.dir / "home" / user

    @property
    def daemons(self) -> tuple[str, ...]:
        """In the order in which they are started."""
        on_nodes = (f"slurmd-{node}" for node in self.settings.nodes)
        return ("munged", "mariadbd", "slurmdbd", "slurmctld", *on_nodes)

    def exports(self) -> dict[str, str]:
        """The variables with which a shell uses the lab, and a test finds its parts."""
        return {
            "SLURM_CONF": str(self.conf),
            "TORC_LAB_DIR": str(self.dir),
            "TORC_LAB_ID": self.settings.id,
            "TORC_LAB_LOG_DIR": str(self.log),
            "TORC_LAB_NODES": ",".join(self.settings.nodes),
            "TORC_LAB_USER": self.settings.user,
            "TORC_LAB_HOME": str(self.home(self.settings.user)),
            "TORC_LAB_CGROUP": "on" if self.settings.cgroups else "off",
        }


def load(directory: Path) -> Lab:
    try:
        raw = json.loads((directory / STATE).read_text())
    except OSError as error:
        raise LabError(f"no lab in {directory}: start one with `ci/slurm-lab up`") from error
    except ValueError as error:
        raise LabError(f"{directory / STATE}: not JSON ({error}); remove {directory}") from error
    known = {known.name for known in fields(Settings)}
    settings = {name: value for name, value in raw["settings"].items() if name in known}
    settings.update(dir=Path(settings["dir"]), extra_lines=tuple(settings["extra_lines"]))
    return Lab(Settings(**settings), raw["made_dir"], raw["since"], tuple(raw["keepers"]))


def exists(directory: Path) -> bool:
    return (directory / STATE).exists()
