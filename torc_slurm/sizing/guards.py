"""The bounds of every correction.

An amount is what can be requested: bytes of a whole unit, seconds of a whole minute, a number of CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from torc_slurm.common.errors import InputError
from torc_slurm.common.units import (
    format_iso_duration,
    format_memory,
    format_run_time,
    parse_memory,
    round_up_memory,
    round_up_to_minute,
    scaled,
    step_memory_mib,
)
from torc_slurm.sizing.evidence import Resource, cpu_tolerance
from torc_slurm.sizing.facts import Request

DEFAULT_LARGEST_FACTOR = Decimal(10)
DEFAULT_LEAST_MEMORY = "100m"
_LEAST_RUNTIME_SECONDS = 60
_MEGABYTE, _GIGABYTE = 10**6, 10**9


@dataclass(frozen=True)
class NodeSize:
    """What a kind of node offers to jobs."""

    cpus: int
    memory_mib: int


@dataclass(frozen=True)
class Guards:
    """The bounds of every correction. A bound that is None or empty is unknown and does not apply.

    ``nodes`` are the kinds of node of the partition, ``time_limit_seconds`` its limit, ``partition`` its name. The user
    sets ``most_*``. ``largest_factor`` limits how far one correction goes above what the job had.
    """

    least_memory: str = DEFAULT_LEAST_MEMORY
    largest_factor: Decimal = DEFAULT_LARGEST_FACTOR
    most_memory: str | None = None
    most_cpus: int | None = None
    most_runtime_seconds: int | None = None
    partition: str | None = None
    nodes: tuple[NodeSize, ...] = ()
    time_limit_seconds: int | None = None

    def __post_init__(self) -> None:
        if not self.largest_factor.is_finite() or self.largest_factor < 1:
            raise InputError(f"the largest factor {self.largest_factor} is less than 1; give 1 or more")


@dataclass(frozen=True)
class Bounded:
    """An amount within the bounds. ``notes`` name the bound that changed it; ``wanted`` is the amount before that."""

    amount: int
    notes: tuple[str, ...]


def round_up(need: Decimal, resource: Resource, request: Request) -> int:
    """The smallest amount that can be requested for a need (bytes, seconds, percent of a core).

    CPUs are a multiple of the tasks per node, and at least that number.
    """
    if resource is Resource.memory:
        return parse_memory(round_up_memory(max(need, Decimal(1))))
    if resource is Resource.runtime:
        return max(_LEAST_RUNTIME_SECONDS, round_up_to_minute(need))
    cores = ((need - cpu_tolerance(need)) / 100).to_integral_value(ROUND_CEILING)
    return -(-max(1, int(cores)) // request.ntasks_per_node) * request.ntasks_per_node


def write_amount(amount: int, resource: Resource) -> str | int:
    """An amount as in a workflow file: ``13g``, ``PT12M``, ``4``."""
    if resource is Resource.memory:
        return _memory_text(amount)
    return format_iso_duration(amount) if resource is Resource.runtime else amount


def bounded(
    need: Decimal, resource: Resource, *, request: Request, had: int | None, used: Decimal | None, guards: Guards
) -> Bounded:
    """The amount to request, within the bounds.

    Args:
        need: the need that the evidence shows, times the multiplier.
        had: the largest amount that the attempts of this evidence were given; the factor is relative to it.
        used: the largest use of a completed attempt. It was possible, so the factor does not cut it off.
    """
    amount = round_up(need, resource, request)
    least = _floor(resource, request, guards)
    amount, notes = (least, (_floor_note(least, resource),)) if amount < least else (amount, ())
    for cap, note in (
        (
            _by_factor(resource, request, had, used, guards),
            f"no more than {guards.largest_factor} times at once (--largest-factor)",
        ),
        (_largest_possible(need, resource, request, guards), _capacity_note(resource, guards)),
    ):
        if cap is not None and amount > cap:
            amount, notes = cap, (*notes, note)
    return Bounded(amount, notes)


def _floor(resource: Resource, request: Request, guards: Guards) -> int:
    if resource is Resource.memory:
        return parse_memory(guards.least_memory)
    return _LEAST_RUNTIME_SECONDS if resource is Resource.runtime else request.ntasks_per_node


def _floor_note(least: int, resource: Resource) -> str:
    shown = {Resource.memory: format_memory, Resource.runtime: format_run_time}.get(resource, str)
    return f"no less than {shown(least)}"


def _by_factor(
    resource: Resource, request: Request, had: int | None, used: Decimal | None, guards: Guards
) -> int | None:
    if had is None:
        return None
    unit = 100 if resource is Resource.cpu else 1
    most = scaled(had * unit, guards.largest_factor)
    return round_up(most if used is None else max(most, used), resource, request)


def _largest_possible(need: Decimal, resource: Resource, request: Request, guards: Guards) -> int | None:
    """The largest amount that the user and the partition allow; None if neither has a bound."""
    if resource is Resource.memory:
        return _largest_memory(need, request, guards)
    if resource is Resource.runtime:
        return _whole_minutes(_least_of(guards.most_runtime_seconds, guards.time_limit_seconds))
    most = _least_of(guards.most_cpus, max((node.cpus for node in guards.nodes), default=None))
    return None if most is None else most // request.ntasks_per_node * request.ntasks_per_node


def _largest_memory(need: Decimal, request: Request, guards: Guards) -> int | None:
    """In whole GB; in whole MB if rounding to GB would exceed the bound."""
    fits = _memory_fits(request, guards)
    if fits is None:
        return None
    wanted = parse_memory(round_up_memory(max(need, Decimal(1), Decimal(parse_memory(guards.least_memory)))))
    if fits(wanted):
        return wanted
    return _largest_that_fits(-(-int(need.to_integral_value(ROUND_CEILING)) // _MEGABYTE), fits)


def _largest_that_fits(megabytes: int, fits: Callable[[int], bool]) -> int:
    """The largest number of whole MB, up to ``megabytes``, that fits, in bytes; 0 if none does."""
    low, high = 0, megabytes
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * _MEGABYTE) else (low, middle - 1)
    return low * _MEGABYTE


def _memory_fits(request: Request, guards: Guards) -> Callable[[int], bool] | None:
    """Returns a test: whether a request of so many bytes is allowed and fits a node, as Slurm will get it."""
    node_mib = max((node.memory_mib for node in guards.nodes if node.cpus >= request.num_cpus), default=None)
    most_bytes = None if guards.most_memory is None else parse_memory(guards.most_memory)
    if node_mib is None and most_bytes is None:
        return None

    def fits(memory_bytes: int) -> bool:
        if most_bytes is not None and memory_bytes > most_bytes:
            return False
        text = _memory_text(memory_bytes)
        return node_mib is None or step_memory_mib(text) <= node_mib

    return fits


def _memory_text(memory_bytes: int) -> str:
    """``13g``, ``12600m``: exactly these bytes, in the largest possible unit."""
    for unit, size in (("g", _GIGABYTE), ("m", _MEGABYTE), ("k", 10**3)):
        if memory_bytes % size == 0:
            return f"{memory_bytes // size}{unit}"
    return f"{memory_bytes}b"


def _capacity_note(resource: Resource, guards: Guards) -> str:
    """The bound that applies: the user's own, else the partition's."""
    own = {
        Resource.memory: guards.most_memory,
        Resource.runtime: guards.most_runtime_seconds and format_run_time(guards.most_runtime_seconds),
        Resource.cpu: guards.most_cpus,
    }[resource]
    if own is not None:
        return f"no more than {own}, as was given"
    has = "its time limit" if resource is Resource.runtime else "what a node has"
    return f"no more than {has} in partition {guards.partition}"


def _least_of(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _whole_minutes(seconds: int | None) -> int | None:
    return None if seconds is None else seconds // 60 * 60
