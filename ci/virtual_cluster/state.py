"""One cluster on disk: the paths of its files, its stored state, and whether it is alive."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from slurm_lab.errors import LabError

from .config import Settings

STATE = "cluster.json"
KEEPER_LOG = "keeper.log"


@dataclass(frozen=True)
class Image:
    """The folders that the machines boot from; clusters share them and do not change them."""

    kernel: Path
    root: Path
    environment: Path
    project: Path


@dataclass(frozen=True)
class Cluster:
    """A cluster as requested. `keeper`: the process that removes it; `init`: the first of its namespaces."""

    settings: Settings
    image: Image
    made_dir: bool
    keeper: int = 0
    init: int = 0

    @property
    def dir(self) -> Path:
        return self.settings.dir

    @property
    def share(self) -> Path:
        """What the machines see at /cluster."""
        return self.dir / "share"

    @property
    def tree(self) -> Path:
        """The root of the machines, visible in the cluster's namespaces only."""
        return self.dir / "memory" / "tree"

    def console(self, machine: str) -> Path:
        return self.share / "log" / machine / "console"

    def logs(self, machine: str) -> tuple[Path, ...]:
        return tuple(sorted((self.share / "log" / machine).glob("*")))


def load(directory: Path) -> Cluster:
    try:
        raw = json.loads((directory / STATE).read_text())
    except OSError as error:
        raise LabError(f"no cluster in {directory}: start one with `ci/cluster up`") from error
    except ValueError as error:
        raise LabError(f"{directory / STATE}: not JSON ({error}); remove {directory}") from error
    settings = raw["settings"] | {"dir": directory, "extra_lines": tuple(raw["settings"]["extra_lines"])}
    image = Image(**{name: Path(path) for name, path in raw["image"].items()})
    return Cluster(Settings(**settings), image, raw["made_dir"], raw["keeper"], raw["init"])


def exists(directory: Path) -> bool:
    return (directory / STATE).exists()
