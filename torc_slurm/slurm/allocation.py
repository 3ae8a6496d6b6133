"""What an allocation has on each of its nodes: CPUs, memory, GPUs; from its environment and scontrol.

SLURM_JOB_CPUS_PER_NODE + ``scontrol show job -d`` + ``scontrol show node`` -> parse (pure) -> `Allocation`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torc_slurm.errors import ParseError
from torc_slurm.identity import tasks_per_node
from torc_slurm.slurm.commands import scontrol
from torc_slurm.slurm.node_list import expand_node_list

# In the lines that -d adds: "Nodes=n[1-2] CPU_IDs=0-7 Mem=16384 GRES=gpu:2(IDX:0-1)". Mem is in MiB; 0: not tracked.
_NODE_LINE = re.compile(r"^\s*Nodes=(\S+) CPU_IDs=(\S*) Mem=([0-9]+) GRES=(\S*)", re.MULTILINE)
_GPUS = re.compile(r"(?:^|,)gpu(?::[^:(),]+)?:([0-9]+)")
_INDEXES = re.compile(r"\([^)]*\)")
_THREADS = re.compile(r"^NodeName=(\S+)|\bThreadsPerCore=([0-9]+)", re.MULTILINE)


@dataclass(frozen=True)
class NodeShare:
    """What the allocation has on one node; ``memory_mib`` is None where Slurm does not hand out memory."""

    name: str
    cpus: int
    memory_mib: int | None
    gpus: int = 0
    threads_per_core: int = 1


@dataclass(frozen=True)
class Allocation:
    """A running allocation, as its batch script or salloc's shell sees it."""

    slurm_job_id: int
    nodes: tuple[NodeShare, ...]
    has_gres: bool = False


def read_allocation(environ: Mapping[str, str]) -> Allocation:
    """The allocation that this process is in; asks scontrol twice.

    Raises:
        ParseError: the environment or scontrol's answer is not understood.
        CommandError: scontrol does not answer.
    """
    job = environ["SLURM_JOB_ID"]
    nodes = environ.get("SLURM_JOB_NODELIST", "")
    return parse_allocation(
        environ,
        job_text=scontrol(["show", "job", "-d", job]),
        node_text=scontrol(["show", "node", nodes]),
    )


def parse_allocation(environ: Mapping[str, str], job_text: str, node_text: str) -> Allocation:
    """Put together what the environment and the two answers say; pure.

    Raises:
        ParseError: a node without CPUs, or one that scontrol does not mention.
    """
    cpus = cpus_per_node(environ)
    details = _node_details(job_text)
    threads = _threads_per_core(node_text)
    missing = [name for name in cpus if name not in details]
    if missing or not cpus:
        raise ParseError(f"scontrol show job -d does not say what this allocation has on {', '.join(missing) or 'it'}")
    shares = tuple(
        NodeShare(name, count, details[name][0] or None, details[name][1], threads.get(name, 1))
        for name, count in cpus.items()
    )
    has_gres = any(details[name][2] for name in cpus)
    return Allocation(int(environ["SLURM_JOB_ID"]), shares, has_gres)


def cpus_per_node(environ: Mapping[str, str]) -> dict[str, int]:
    """CPUs by node, in Slurm's order: ``SLURM_JOB_NODELIST`` beside ``SLURM_JOB_CPUS_PER_NODE`` (``4(x2),2``).

    Raises:
        ParseError: they do not fit together.
    """
    nodes = expand_node_list(environ.get("SLURM_JOB_NODELIST", ""))
    text = environ.get("SLURM_JOB_CPUS_PER_NODE", "")
    try:
        return dict(zip(nodes, tasks_per_node(text), strict=True))
    except ValueError:
        raise ParseError(
            f"SLURM_JOB_CPUS_PER_NODE={text!r} does not fit SLURM_JOB_NODELIST={environ.get('SLURM_JOB_NODELIST')!r}"
        ) from None


def _node_details(job_text: str) -> dict[str, tuple[int, int, bool]]:
    """MiB of memory, GPUs, and whether there is any GRES, by node."""
    found: dict[str, tuple[int, int, bool]] = {}
    for names, _, memory, gres in _NODE_LINE.findall(job_text):
        gpus = sum(map(int, _GPUS.findall(_INDEXES.sub("", gres))))
        for name in expand_node_list(names):
            found[name] = (int(memory), gpus, bool(gres))
    return found


def _threads_per_core(node_text: str) -> dict[str, int]:
    """By node. An ``--exact`` step gets whole cores, with CR_CPU too: one of 1 CPU takes 2 threads (seen on 22.05)."""
    threads: dict[str, int] = {}
    name = ""
    for new_name, count in _THREADS.findall(node_text):
        name = new_name or name
        if count:
            threads[name] = int(count)
    return threads
