"""What of the cluster's configuration decides what an accounting figure means: version and gather plugin."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from torc_slurm.errors import CommandError
from torc_slurm.slurm import commands
from torc_slurm.units import exact

NO_GATHERING = "jobacct_gather/none"
_SETTING = re.compile(r"^(\w+)\s*= ?(.*)$", re.MULTILINE)
_TASK_FREQUENCY = re.compile(r"(?:.*,)?(?:task=)?([0-9]{1,9})(?:,.*)?", re.IGNORECASE | re.ASCII)


class SlurmFacts(NamedTuple):
    """As ``scontrol show config`` has them; None: not known."""

    slurm_version: str | None = None
    gather_type: str | None = None
    gather_params: str | None = None
    gather_frequency: str | None = None
    cgroup_plugin: str | None = None
    cluster_name: str | None = None

    @property
    def gathers(self) -> bool:
        """False where Slurm is known to poll nothing at all."""
        return self.gather_type is None or not self.gather_type.endswith("none")

    @property
    def gather_interval_seconds(self) -> float | None:
        """Seconds between two polls of a task; 0 means only at its end; None: not known."""
        match = _TASK_FREQUENCY.fullmatch(self.gather_frequency or "")
        return None if match is None else float(exact(int(match[1])))


def parse_config(text: str) -> SlurmFacts:
    """Facts from what ``scontrol show config`` prints."""
    settings = {name.lower(): value.strip() for name, value in _SETTING.findall(text)}

    def setting(name: str) -> str | None:
        value = settings.get(name, "")
        return None if value in ("", "(null)") else value

    return SlurmFacts(
        slurm_version=setting("slurm_version"),
        # 24.11 prints (null) where jobacct_gather/none is configured, and where nothing is.
        gather_type=NO_GATHERING if settings.get("jobacctgathertype") == "(null)" else setting("jobacctgathertype"),
        gather_params=setting("jobacctgatherparams"),
        gather_frequency=setting("jobacctgatherfrequency"),
        cgroup_plugin=setting("cgroupplugin"),
        cluster_name=setting("clustername"),
    )


@functools.cache
def slurm_facts(cluster: str | None = None) -> SlurmFacts:
    """The facts of a cluster (None: the local one), asked once per process; all None where scontrol cannot tell."""
    chosen = [] if cluster is None else [f"--clusters={cluster}"]
    try:
        return parse_config(commands.scontrol([*chosen, "show", "config"]))
    except CommandError:
        return SlurmFacts()
