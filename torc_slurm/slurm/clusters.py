"""Jobs by number and cluster: Slurm's commands ask the local cluster unless they are given another one."""

from __future__ import annotations

import functools
from typing import NamedTuple

from torc_slurm.slurm.configuration import slurm_facts


class SlurmJob(NamedTuple):
    """A Slurm job; ``cluster`` None: the local cluster. Two clusters can use the same number."""

    slurm_job_id: int
    cluster: str | None = None

    def __str__(self) -> str:
        """``Slurm job 12``; with the cluster's name unless it is the local one."""
        name = f"Slurm job {self.slurm_job_id}"
        return f"{name} on cluster {self.cluster}" if cluster_arguments(self.cluster) else name


@functools.cache
def cluster_arguments(cluster: str | None) -> tuple[str, ...]:
    """``--clusters=NAME`` for a Slurm command; nothing for the local cluster, which can answer without slurmdbd."""
    return () if cluster is None or cluster == slurm_facts().cluster_name else (f"--clusters={cluster}",)


def without_headings(text: str) -> list[str]:
    """The lines of an answer without ``CLUSTER: NAME``, which squeue and sinfo print for another cluster."""
    return [line for line in text.splitlines() if line.strip() and not line.startswith("CLUSTER: ")]
