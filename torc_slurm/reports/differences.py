"""How far Slurm's MaxRSS and the wrapper's peak differ, and why on this cluster; pure.

MaxRSS depends on version and configuration: polled, so a short peak is missed; of the largest task, not of the node;
with shared pages counted once per process (jobacct_gather/linux); with page cache (cgroup v2 from Slurm 23.11, cgroup
v1 from 24.11).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torc_slurm.reports.causes import Row, max_rss_cause

# The monitor itself uses 12 to 14 MB of the step's cgroup: differences below this, or a tenth, are ignored.
_NEGLIGIBLE_BYTES = 20_000_000
_NEGLIGIBLE_SHARE = 0.1


@dataclass(frozen=True)
class Difference:
    """Steps whose figures differ for one reason, and the two figures of the step where they differ most."""

    reason: str
    steps: tuple[str, ...]
    slurm_bytes: int
    own_bytes: int


def differences(items: Iterable[tuple[str, Row]]) -> tuple[Difference, ...]:
    """The differences of these items (label, item): one entry per reason, with its largest case as the example."""
    by_reason: dict[str, list[tuple[str, int, int]]] = {}
    for label, item in items:
        own, slurm = item["peak_memory_bytes"], item["max_rss_bytes"]
        if isinstance(own, int) and isinstance(slurm, int) and _differ(own, slurm):
            by_reason.setdefault(max_rss_cause(item, slurm, own).explanation, []).append((label, slurm, own))
    return tuple(_of(reason, cases) for reason, cases in by_reason.items())


def _of(reason: str, cases: list[tuple[str, int, int]]) -> Difference:
    largest = max(cases, key=lambda case: abs(case[1] - case[2]))
    label, slurm, own = largest
    return Difference(reason, (label, *(case[0] for case in cases if case is not largest)), slurm, own)


def _differ(own: int, slurm: int) -> bool:
    return abs(own - slurm) > max(_NEGLIGIBLE_BYTES, _NEGLIGIBLE_SHARE * max(own, slurm))
