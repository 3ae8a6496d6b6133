"""What a job takes of the nodes, and whether it can ever fit; pure.

Per node: num_cpus CPUs, num_gpus GPUs and the requested memory. A job that requests no memory takes the share of the
node's memory that belongs to its CPUs.
"""

from __future__ import annotations

from collections.abc import Sequence

from torc_slurm.common.units import MIB, format_gb
from torc_slurm.runner.placement import Demand, Node, fits_empty
from torc_slurm.spec.plan import JobPlan


def allocation_demand(job: JobPlan, nodes: Sequence[Node]) -> Demand:
    """What the job's step takes on each of its nodes."""
    memory_mib = share_mib(job.num_cpus, nodes) if job.memory_mib is None else job.memory_mib
    return Demand(job.num_cpus, memory_mib, job.num_gpus, job.num_nodes)


def share_mib(cpus: int, nodes: Sequence[Node]) -> int:
    """The share of a node's memory for so many CPUs (whole cores), where it is smallest; 0: memory is not allocated."""
    shares = [
        node.memory_mib * min(node.cpus, -(-cpus // node.threads_per_core) * node.threads_per_core) // node.cpus
        for node in nodes
        if node.memory_mib is not None
    ]
    return min(shares, default=0)


def misfit(job: JobPlan, demand: Demand, nodes: Sequence[Node], place: str) -> str | None:
    """Why the job can never run on these nodes, with both sizes; None if it can."""
    if fits_empty(demand, nodes):
        return None
    on_one = " on one node" if demand.nodes == 1 and len(nodes) > 1 else ""
    return f"it requests {_requested(job, demand)}{on_one}; {place} has {_largest(nodes)}"


def _requested(job: JobPlan, demand: Demand) -> str:
    memory_bytes = demand.memory_mib * MIB if job.memory_bytes is None else job.memory_bytes
    size = _size(demand.cpus, memory_bytes, demand.gpus)
    return f"{size} on each of {demand.nodes} nodes" if demand.nodes > 1 else size


def _largest(nodes: Sequence[Node]) -> str:
    memory = [node.memory_mib for node in nodes if node.memory_mib is not None]
    size = _size(
        max((node.cpus for node in nodes), default=0),
        max(memory, default=0) * MIB,
        max((node.gpus for node in nodes), default=0),
    )
    return f"{len(nodes)} nodes of at most {size}" if len(nodes) != 1 else size


def _size(cpus: int, memory_bytes: int, gpus: int) -> str:
    parts = [f"{cpus} {'CPU' if cpus == 1 else 'CPUs'}"]
    if memory_bytes:
        parts.append(format_gb(memory_bytes))
    if gpus:
        parts.append(f"{gpus} {'GPU' if gpus == 1 else 'GPUs'}")
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
