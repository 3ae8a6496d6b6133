"""Parses Slurm's trackable resources as sacct prints them: ``cpu=4,mem=800M,node=1``; pure."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from torc_slurm.common.errors import InputError
from torc_slurm.common.units import parse_slurm_size

_COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)


class Resources(NamedTuple):
    """The allocated resources, summed over all nodes; None if Slurm does not say."""

    cpus: int | None = None
    memory_bytes: int | None = None
    nodes: int | None = None
    gpus: int | None = None


@functools.lru_cache(maxsize=1024)
def parse_resources(text: str | None) -> Resources:
    """The CPUs, memory, nodes and GPUs of ``AllocTRES``. Skips other items."""
    amounts = dict(part.partition("=")[::2] for part in (text or "").split(","))
    return Resources(
        _count(amounts.get("cpu")),
        _size(amounts.get("mem")),
        _count(amounts.get("node")),
        _count(amounts.get("gres/gpu")) or _typed_gpus(amounts),
    )


def _typed_gpus(amounts: dict[str, str]) -> int | None:
    """The GPUs of all types, where the site tracks only those (``gres/gpu:a100=2``); None if one count is unknown."""
    counts = [_count(amount) for name, amount in amounts.items() if name.startswith("gres/gpu:")]
    known = [count for count in counts if count is not None]
    return sum(known) or None if len(known) == len(counts) else None


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and _COUNT.fullmatch(text) else None


def _size(text: str | None) -> int | None:
    try:
        return None if text is None else parse_slurm_size(text)
    except InputError:
        return None
