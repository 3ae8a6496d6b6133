"""What an allocation has on each of its nodes (CPUs, memory, GPUs), from its environment and scontrol.

SLURM_JOB_CPUS_PER_NODE + ``scontrol show job -d`` + ``scontrol show node`` -> parse (pure) -> `Allocation`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from torc_slurm.common.errors import ParseError
from torc_slurm.common.identity import tasks_per_node
from torc_slurm.slurm.commands import scontrol
from torc_slurm.slurm.node_list import expand_node_list

# In the lines that -d adds: "Nodes=n[1-2] CPU_IDs=0-7 Mem=16384 GRES=gpu:2(IDX:0-1)". Mem is in MiB; 0: not tracked.
_NODE_LINE = re.compile(r"^\s*Nodes=(\S+) CPU_IDs=(\S*) Mem=([0-9]+) GRES=(\S*)", re.MULTILINE)
_GPUS = re.compile(r"(?:^|,)gpu(?::[^:(),]+)?:([0-9]+)")
_INDEXES = re.compile(r"\([^)]*\)")
_THREADS = re.compile(r"^NodeName=(\S+)|\bThreadsPerCore=([0-9]+)", re.MULTILINE)
_END_TIME = re.compile(r"\bEndTime=([0-9T:\-]+)")
_KILL_WAIT = re.compile(r"^KillWait\s*=\s*([0-9]+)", re.MULTILINE)
DEFAULT_KILL_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class NodeShare:
    """What the allocation has on one node; ``memory_mib`` is None if Slurm does not allocate memory."""

    name: str
    cpus: int
    memory_mib: int | None
    gpus: int = 0
    threads_per_core: int = 1


@dataclass(frozen=True)
class Allocation:
    """A running allocation, as its batch script or salloc's shell sees it.

    ``end_time`` (Unix seconds) is its time limit; None: no limit. ``kill_wait_seconds`` is how long Slurm waits between
    SIGTERM and SIGKILL when it ends a job.
    """

    slurm_job_id: int
    nodes: tuple[NodeShare, ...]
    has_gres: bool = False
    end_time: float | None = None
    kill_wait_seconds: float = DEFAULT_KILL_WAIT_SECONDS


def read_allocation(environ: Mapping[str, str]) -> Allocation:
    """The allocation of this process. Calls scontrol three times.

    Raises:
        ParseError: the environment or scontrol's answer has another form.
        CommandError: scontrol does not answer.
    """
    job = environ["SLURM_JOB_ID"]
    nodes = environ.get("SLURM_JOB_NODELIST", "")
    return parse_allocation(
        environ,
        job_text=scontrol(["show", "job", "-d", job]),
        node_text=scontrol(["show", "node", nodes]),
        config_text=scontrol(["show", "config"]),
    )


def parse_allocation(
    environ: Mapping[str, str], job_text: str, node_text: str = "", config_text: str = ""
) -> Allocation:
    """Combine the environment and the answers, whose times must be in UTC; pure.

    Raises:
        ParseError: a node without CPUs, or one that scontrol does not list.
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
    return Allocation(
        slurm_job_id=int(environ["SLURM_JOB_ID"]),
        nodes=shares,
        has_gres=any(details[name][2] for name in cpus),
        end_time=_end_time(job_text),
        kill_wait_seconds=_kill_wait_seconds(config_text),
    )


def cpus_per_node(environ: Mapping[str, str]) -> dict[str, int]:
    """CPUs by node, in Slurm's order, from ``SLURM_JOB_NODELIST`` and ``SLURM_JOB_CPUS_PER_NODE`` (``4(x2),2``).

    Raises:
        ParseError: the two do not match.
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
    """MiB of memory, number of GPUs, and whether there is any GRES, by node."""
    found: dict[str, tuple[int, int, bool]] = {}
    for names, _, memory, gres in _NODE_LINE.findall(job_text):
        gpus = sum(map(int, _GPUS.findall(_INDEXES.sub("", gres))))
        for name in expand_node_list(names):
            found[name] = (int(memory), gpus, bool(gres))
    return found


def _end_time(job_text: str) -> float | None:
    match = _END_TIME.search(job_text)
    if match is None:
        return None
    return datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()


def _kill_wait_seconds(config_text: str) -> float:
    match = _KILL_WAIT.search(config_text)
    return DEFAULT_KILL_WAIT_SECONDS if match is None else float(match[1])


def _threads_per_core(node_text: str) -> dict[str, int]:
    """By node. An ``--exact`` step gets whole cores, with CR_CPU too: one of 1 CPU takes 2 threads (seen on 22.05)."""
    threads: dict[str, int] = {}
    name = ""
    for new_name, count in _THREADS.findall(node_text):
        name = new_name or name
        if count:
            threads[name] = int(count)
    return threads
