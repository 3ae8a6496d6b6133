"""The percentages from which a figure is good, fair or bad: the defaults, and a site's or a user's own.

The defaults are those of Princeton's jobstats. ``[seff]`` in the configuration file changes them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal, NamedTuple

from torc_slurm.common.configuration import section
from torc_slurm.common.errors import InputError
from torc_slurm.records.statuses import COMPLETED, RETRIABLE
from torc_slurm.sizing.job_use import STATUSES

Level = Literal["good", "warn", "bad", "muted", ""]


class Bounds(NamedTuple):
    """Percentages: below ``bad`` a figure is bad, below ``good`` fair, else good; above ``high`` bad again."""

    bad: float
    good: float
    high: float = float("inf")


DEFAULTS: Mapping[str, Bounds] = {
    "cpu": Bounds(65, 80),
    "gpu": Bounds(15, 40),
    "memory": Bounds(70, 70, 98),
    "time": Bounds(10, 60, 98),
}


def level_of(kind: str, percent: float) -> Level:
    """The level of a percentage of cpu, gpu, memory or time."""
    bounds = _bounds()[kind]
    if percent < bounds.bad or percent > bounds.high:
        return "bad"
    return "warn" if percent < bounds.good else "good"


def level_of_state(state: str | None) -> Level:
    """The level of a status of torc's or a state of Slurm's: bad if the job may have to change."""
    status = STATUSES.get((state or "").partition(" ")[0])
    return "bad" if status in RETRIABLE else "good" if status == COMPLETED else ""


@functools.cache
def _bounds() -> Mapping[str, Bounds]:
    found = dict(DEFAULTS)
    for name, value in section("seff").items():
        kind, _, bound = name.rpartition("_")
        if name == "output_dirs":
            continue
        if kind not in found or bound not in Bounds._fields or not isinstance(value, (int, float)):
            raise InputError(
                f"[seff] {name} = {value!r} in the configuration is not understood; write for example cpu_good = 80, "
                "memory_bad = 50 (percent)"
            )
        found[kind] = found[kind]._replace(**{bound: float(value)})
    return found
