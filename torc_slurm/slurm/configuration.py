"""The cluster's settings that decide what an accounting figure means: version and gather plugin."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from torc_slurm.common.errors import CommandError
from torc_slurm.common.units import exact
from torc_slurm.slurm import commands

NO_GATHERING = "jobacct_gather/none"
_SETTING = re.compile(r"^(\w+)\s*= ?(.*)$", re.MULTILINE)
_TASK_FREQUENCY = re.compile(r"(?:.*,)?(?:task=)?([0-9]{1,9})(?:,.*)?", re.IGNORECASE | re.ASCII)


class SlurmFacts(NamedTuple):
    """Values of ``scontrol show config``; None: unknown."""

    slurm_version: str | None = None
    gather_type: str | None = None
    gather_params: str | None = None
    gather_frequency: str | None = None
    cgroup_plugin: str | None = None
    cluster_name: str | None = None

    @property
    def gathers(self) -> bool:
        """False if Slurm is known to poll nothing at all."""
        return self.gather_type is None or not self.gather_type.endswith("none")

    @property
    def gather_interval_seconds(self) -> float | None:
        """Seconds between two polls of a task; 0: only at its end; None: unknown."""
        match = _TASK_FREQUENCY.fullmatch(self.gather_frequency or "")
        return None if match is None else float(exact(int(match[1])))


def parse_config(text: str) -> SlurmFacts:
    """Facts from the output of ``scontrol show config``."""
    settings = {name.lower(): value.strip() for name, value in _SETTING.findall(text)}

    def setting(name: str) -> str | None:
        value = settings.get(name, "")
        return None if value in ("", "(null)") else value

    return SlurmFacts(
        slurm_version=setting("slurm_version"),
        # 24.11 prints (null) both for jobacct_gather/none and for no setting.
        gather_type=NO_GATHERING if settings.get("jobacctgathertype") == "(null)" else setting("jobacctgathertype"),
        gather_params=setting("jobacctgatherparams"),
        gather_frequency=setting("jobacctgatherfrequency"),
        cgroup_plugin=setting("cgroupplugin"),
        cluster_name=setting("clustername"),
    )


@functools.cache
def slurm_facts(cluster: str | None = None) -> SlurmFacts:
    """The facts of a cluster (None: the local one), read once per process; all None if scontrol fails."""
    chosen = [] if cluster is None else [f"--clusters={cluster}"]
    try:
        return parse_config(commands.scontrol([*chosen, "show", "config"]))
    except CommandError:
        return SlurmFacts()
