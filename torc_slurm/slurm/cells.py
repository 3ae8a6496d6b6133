"""Parses the cells of sacct's output, one function per kind of cell; pure.

A cell that does not match its column raises ValueError: the caller leaves it out, reports it, and keeps the rest of the
record. Real sacct prints overflowed or unset values: ``NONE``, ``infinite``, 18446744073709551615, AveCPU
``213503982334-14:25:51``. Values that a job's steps share are cached.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import datetime

from torc_slurm.common.errors import InputError
from torc_slurm.common.units import LARGEST_INTEGER, parse_slurm_size, parse_slurm_time

Value = int | float | str | None
Reader = Callable[[str], Value]

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}", re.ASCII)
_MINUTES_AND_SECONDS = re.compile(r"([0-9]{2,6}):([0-9]{2})(\.[0-9]{1,9})?", re.ASCII)
_CANCELLER = re.compile(r"\S+ by ([0-9]{1,18})", re.ASCII)
_EXIT_CODE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})", re.ASCII)
_REQUESTED_MEMORY = re.compile(r"([0-9]{1,20})(?:\.[0-9]{1,9})?[KMGTPE]?[nc]?", re.ASCII)
_NO_TIME = frozenset({"Unknown", "None", "N/A"})
_NO_TEXT = frozenset({"None assigned", "(null)", "N/A"})
_MINUTES_WITHOUT_LIMIT = frozenset({"UNLIMITED", "Partition_Limit"})
# Slurm's NO_VAL and INFINITE in 32 bits, which some versions print as numbers.
_NO_VALUE = frozenset({4294967294, 4294967295})
_MOST_GPU_PERCENT = 10_000_000  # of 100,000 GPUs


@functools.lru_cache(maxsize=16384)
def text(cell: str) -> str | None:
    """A name or a list."""
    return None if cell in _NO_TEXT else cell


@functools.lru_cache(maxsize=16384)
def count(cell: str) -> int | None:
    """A whole number; None for Slurm's value of an unset one."""
    if not (cell.isascii() and cell.isdecimal()) or len(cell) > 19:
        raise ValueError(cell)
    number = int(cell)
    if number > LARGEST_INTEGER:
        raise ValueError(cell)
    return None if number in _NO_VALUE else number


def size(cell: str) -> int:
    """Bytes of ``213284K``. 2**63 bytes or more come from a counter that overflowed."""
    if cell.isdecimal() and cell.isascii() and len(cell) < 19:  # with --noconvert all are
        return int(cell)
    try:
        number = parse_slurm_size(cell)
    except InputError:
        raise ValueError(cell) from None
    if number > LARGEST_INTEGER:
        raise ValueError(cell)
    return number


def duration(cell: str) -> float:
    """Seconds of ``1-02:03:04`` or ``00:09.372``."""
    if match := _MINUTES_AND_SECONDS.fullmatch(cell):  # most CPU times
        return float(f"{int(match[1]) * 60 + int(match[2])}{match[3] or ''}")
    if ":" not in cell:
        raise ValueError(cell)
    try:
        seconds = parse_slurm_time(cell)
    except InputError:
        raise ValueError(cell) from None
    if seconds is None or int(seconds) in _NO_VALUE:
        raise ValueError(cell)
    return float(seconds)


def minutes(cell: str) -> float | None:
    """Seconds of a time limit in minutes; None: no limit."""
    if cell in _MINUTES_WITHOUT_LIMIT:
        return None
    number = count(cell)
    return None if number is None else number * 60.0


@functools.lru_cache(maxsize=16384)
def moment(cell: str) -> float | None:
    """Unix time of ``2026-03-29T02:30:00``, which is UTC."""
    if cell in _NO_TIME:
        return None
    if _TIME.fullmatch(cell) is None:
        raise ValueError(cell)
    return datetime.fromisoformat(f"{cell}+00:00").timestamp()


def requested_memory(cell: str) -> str | None:
    """ReqMem as Slurm prints it; None for the 2**64 MiB that 22.05 prints if nothing was requested."""
    value = text(cell)
    match = _REQUESTED_MEMORY.fullmatch(value or "")
    if value is not None and match is None:
        raise ValueError(cell)
    return None if match is None or len(match[1]) > 18 else value


@functools.lru_cache(maxsize=1024)
def state(cell: str) -> str:
    """``CANCELLED`` of ``CANCELLED by 1000``. Any other word is a state too, if an unknown one."""
    return cell.partition(" by ")[0].rstrip("+")


@functools.lru_cache(maxsize=1024)
def canceller(cell: str) -> int | None:
    """The user id in ``CANCELLED by 1000``."""
    match = _CANCELLER.fullmatch(cell)
    if match is None and " by " in cell:
        raise ValueError(cell)
    return None if match is None else int(match[1])


@functools.lru_cache(maxsize=1024)
def exit_code(cell: str) -> int:
    """The first number of ``exit:signal``."""
    return _exit_pair(cell)[0]


@functools.lru_cache(maxsize=1024)
def exit_signal(cell: str) -> int:
    """The second number of ``exit:signal``."""
    return _exit_pair(cell)[1]


def _exit_pair(cell: str) -> tuple[int, int]:
    match = _EXIT_CODE.fullmatch(cell)
    if match is None:
        raise ValueError(cell)
    return int(match[1]), int(match[2])


def gpu_percent(cell: str) -> float:
    """GPU utilization, summed over GPUs."""
    number = size(cell)
    if number in _NO_VALUE or number > _MOST_GPU_PERCENT:
        raise ValueError(cell)
    return float(number)


# By the value of `records.accounting.Field.reads`.
READERS: dict[str, Reader] = {
    "text": text,
    "count": count,
    "size": size,
    "duration": duration,
    "minutes": minutes,
    "moment": moment,
    "requested memory": requested_memory,
    "state": state,
    "canceller": canceller,
    "exit code": exit_code,
    "exit signal": exit_signal,
}
# The items of TRES columns (``cpu=00:00:04,fs/disk=36414,mem=213284K``) that are read; others are ignored.
TRES_READERS: dict[str, Reader] = {"mem": size, "fs/disk": size, "gres/gpumem": size, "gres/gpuutil": gpu_percent}
