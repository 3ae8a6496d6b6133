"""The only place that parses and formats sizes, times and percentages.

Inside the program sizes are bytes and times are seconds. Three kinds of text meet here:

- what a user writes: ``8g`` is 8·10⁹ bytes, ``8Gi`` 8·2³⁰; run times are ISO 8601 (``PT4H``);
- what Slurm writes and reads: K, M, G, … are 1024-based, times ``D-HH:MM:SS``;
- what is shown: GB is 10⁹ bytes, percentages are rounded half up to one place.

All arithmetic is decimal: 8.1 x 1.2 is 9.72 and not a little more, so no binary rounding error makes a request larger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_HALF_UP, Context, Decimal, localcontext
from functools import cache
from typing import TypeVar

from torc_slurm.common.errors import InputError

Number = int | float | Decimal
_Amount = TypeVar("_Amount", int, float)

MIB = 1024**2
MONITOR_ALLOWANCE_MIB = 16
LARGEST_INTEGER = 2**63 - 1  # what a SQLite INTEGER holds

_PREFIXES = "kmgtp"
_MEMORY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([kmgtp])(i?)b?|([0-9]{1,18}) ?b", re.IGNORECASE | re.ASCII)
_MEMORY_REMEDY = "write a number and a unit: 500m, 8g, 1.5t (decimal) or 8Gi (binary)"

_SLURM_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)([KMGTPE]?)", re.ASCII)
_SLURM_TIME = re.compile(
    r"(?:(?P<days>[0-9]{1,9})-)?(?P<first>[0-9]{1,9})(?::(?P<second>[0-9]{1,2}))?(?::(?P<third>[0-9]{1,2}))?"
    r"(?P<fraction>\.[0-9]{1,9})?",
    re.ASCII,
)
_SLURM_NO_LIMIT = frozenset({"unlimited", "infinite", "partition_limit"})
_SLURM_TIME_REMEDY = "write D-HH:MM:SS, HH:MM:SS, MM:SS or minutes, as sbatch --time takes them"

_ISO_PART = r"[0-9]{1,12}(?:[.,][0-9]{1,9})?"
_ISO_DURATION = re.compile(
    rf"P(?=.)(?:(?P<weeks>{_ISO_PART})W|(?:(?P<days>{_ISO_PART})D)?"
    rf"(?:T(?=.)(?:(?P<hours>{_ISO_PART})H)?(?:(?P<minutes>{_ISO_PART})M)?(?:(?P<seconds>{_ISO_PART})S)?)?)",
    re.ASCII,
)
_ISO_SECONDS = {"weeks": 604800, "days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
_PRECISE = Context(prec=60)  # made once: to make one takes longer than to round a number
_ISO_REMEDY = "write an ISO 8601 duration of weeks, days, hours, minutes or seconds: PT30M, PT4H, P1DT2H"


def exact(value: Number) -> Decimal:
    """The number as it prints: 1.2 is 1.2 and not 1.1999999999999999556.

    Raises:
        InputError: not a finite number.
    """
    if value.__class__ is int:
        return Decimal(value)
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    if not number.is_finite():
        raise InputError(f"{value} is not a finite number")
    return number


def scaled(value: Number, multiplier: Number) -> Decimal:
    """Value x multiplier, exactly: 10 500 000 000 x 1.2 is 12 600 000 000."""
    return _PRECISE.multiply(exact(value), exact(multiplier))


def _ceiling(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_CEILING))


@cache
def _unit(places: int) -> Decimal:
    """1, 0.1, 0.01, …: what is rounded to."""
    return Decimal(1).scaleb(-places)


def _half_up(value: Decimal, places: int) -> Decimal:
    rounded = value.quantize(_unit(places), ROUND_HALF_UP, _PRECISE)
    return abs(rounded) if rounded == 0 else rounded  # never "-0.0"


# --- memory ---------------------------------------------------------------------------------------------------


def _memory_parts(text: str) -> tuple[Decimal, int, bool]:
    """(number, power of the unit, whether the unit is binary)."""
    match = _MEMORY.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise InputError(f"memory {text!r} is not understood; {_MEMORY_REMEDY}")
    number, prefix, binary, plain_bytes = match.groups()
    if plain_bytes is not None:
        return Decimal(plain_bytes), 0, False
    return Decimal(number), _PREFIXES.index(prefix.lower()) + 1, bool(binary)


def _whole_bytes(text: str, number: Decimal, power: int, base: int) -> int:
    value = _ceiling(scaled(number, base**power))
    if value <= 0 or value > LARGEST_INTEGER:
        raise InputError(f"memory {text!r} is out of range; {_MEMORY_REMEDY}")
    return value


def parse_memory(text: str) -> int:
    """Bytes of a memory request: ``8g`` is 8·10⁹, ``8Gi`` is 8·2³⁰, ``1024b`` is 1024; rounded up to whole bytes.

    A bare number is refused: Slurm would take it as MiB, others as bytes.

    Raises:
        InputError: not of that form, zero, or more than a 64-bit integer holds.
    """
    number, power, binary = _memory_parts(text)
    return _whole_bytes(text, number, power, 1024 if binary else 1000)


def slurm_memory_mib(text: str) -> int:
    """Whole MiB to request from Slurm, rounded up, with decimal units read as binary ones.

    ``8g`` gives 8192, ``1.5g`` 1536: never less than requested. Slurm itself refuses ``1.5G``, ``1Gi`` and ``1P``.
    """
    number, power, _ = _memory_parts(text)
    return -(-_whole_bytes(text, number, power, 1024) // MIB)


def monitor_allowance_mib(text: str) -> int:
    """MiB to add for the monitor, which runs inside the step: 16 if Slurm's rounding left less than that."""
    slack_bytes = slurm_memory_mib(text) * MIB - parse_memory(text)
    return 0 if slack_bytes >= MONITOR_ALLOWANCE_MIB * MIB else MONITOR_ALLOWANCE_MIB


def step_memory_mib(text: str) -> int:
    """Whole MiB that a step requests from Slurm: the memory request and the monitor's allowance."""
    return slurm_memory_mib(text) + monitor_allowance_mib(text)


def round_up_memory(memory_bytes: Number) -> str:
    """The smallest whole-unit request that is not less: 12.6·10⁹ gives ``13g``, 720·10⁶ ``720m``, 10 ``1k``."""
    value = exact(memory_bytes)
    if value <= 0:
        raise InputError(f"memory {memory_bytes} cannot be requested; it must be more than 0")
    for unit, size in (("g", 10**9), ("m", 10**6), ("k", 10**3)):
        if value >= size or unit == "k":
            count = -(-_ceiling(value) // size)
            break
    bigger = {"k": "m", "m": "g"}.get(unit)
    return f"1{bigger}" if bigger and count == 1000 else f"{count}{unit}"


def format_gb(memory_bytes: Number) -> str:
    """``10.50 GB`` for 10 500 000 000 bytes: always GB, always decimal."""
    return f"{_half_up(exact(memory_bytes).scaleb(-9), 2)} GB"


def format_memory(memory_bytes: Number) -> str:
    """``10.50 GB``, ``512.00 MB``, ``1.70 kB`` or ``12 B``: decimal, in the largest unit that gives at least 1."""
    value = exact(memory_bytes)
    for unit, power, smaller_places in (("GB", 9, 2), ("MB", 6, 2), ("kB", 3, 0)):
        if abs(_half_up(value.scaleb(3 - power), smaller_places)) >= 1000:  # never 1000.00 MB
            return f"{_half_up(value.scaleb(-power), 2)} {unit}"
    return f"{_half_up(value, 0)} B"


def parse_slurm_size(text: str) -> int:
    """Bytes of a size that Slurm printed: ``213284K``, ``1.00M``, ``218402816``; 1024-based.

    Raises:
        InputError: not of that form.
    """
    match = _SLURM_SIZE.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} is not a size as Slurm prints it (a number, then nothing or one of K M G T P E)")
    number, prefix = match.groups()
    multiplier: int = 1024 ** " KMGTPE".index(prefix or " ")
    if "." not in number:
        return int(number) * multiplier
    return int(_half_up(scaled(Decimal(number), multiplier), 0))


# --- percentages and CPUs -------------------------------------------------------------------------------------


def format_change(used: Number, specified: Number) -> str:
    """How far used is over or under what was specified: ``+31.3%`` (31.25 rounds half up), ``-20.0%``.

    Raises:
        InputError: specified is 0.
    """
    used_exact, specified_exact = exact(used), exact(specified)
    if specified_exact == 0:
        raise InputError("nothing can be compared with a request of 0; give a request over 0")
    with localcontext() as context:
        context.prec = 60
        change = _half_up((used_exact - specified_exact) * 100 / specified_exact, 1)
    return f"{change:+}%"


def format_cpu_percent(percent: Number) -> str:
    """``523.4%``: 100 is one core."""
    return f"{_half_up(exact(percent), 1)}%"


def format_cpu_count(cpus: int) -> str:
    """``400% (4 cores)``."""
    return f"{cpus * 100}% ({cpus} {'core' if cpus == 1 else 'cores'})"


# --- time -----------------------------------------------------------------------------------------------------


def parse_iso_duration(text: str) -> int:
    """Whole seconds, rounded up, of an ISO 8601 duration: ``PT4H``, ``P1DT2H``, ``PT0.5S``.

    Raises:
        InputError: not of that form; years and months, which have no fixed length; zero.
    """
    match = _ISO_DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise InputError(f"run time {text!r} is not understood; {_ISO_REMEDY}")
    parts = {name: part for name, part in match.groupdict().items() if part is not None}
    total = sum((Decimal(part.replace(",", ".")) * _ISO_SECONDS[name] for name, part in parts.items()), Decimal(0))
    if total <= 0 or total > LARGEST_INTEGER:
        raise InputError(f"run time {text!r} is out of range; {_ISO_REMEDY}")
    return _ceiling(total)


def _clock(seconds: int) -> tuple[int, int, int, int]:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return days, hour, minute, second


def _whole_seconds(seconds: Number) -> int:
    value = exact(seconds)
    if value < 0:
        raise InputError(f"a time of {seconds} s is not possible; it must be 0 or more")
    return _ceiling(value)


def format_iso_duration(seconds: Number) -> str:
    """``PT2H45M``, ``P1DT2H``: seconds (rounded up to whole ones) as an ISO 8601 duration."""
    days, hour, minute, second = _clock(_whole_seconds(seconds))
    date = f"{days}D" if days else ""
    time = "".join(f"{value}{unit}" for value, unit in ((hour, "H"), (minute, "M"), (second, "S")) if value)
    if not date and not time:
        return "PT0S"
    return f"P{date}T{time}" if time else f"P{date}"


def round_up_to_minute(seconds: Number) -> int:
    """Seconds, rounded up to whole minutes: 601 gives 660."""
    return -(-_whole_seconds(seconds) // 60) * 60


def parse_slurm_time(text: str) -> Decimal | None:
    """Seconds of a time as Slurm prints or accepts it; None for UNLIMITED, INFINITE and Partition_Limit.

    ``D-HH:MM:SS``, ``HH:MM:SS``, ``MM:SS.mmm``, ``D-HH``, ``D-HH:MM`` and plain minutes (sbatch(1), --time).

    Raises:
        InputError: not of that form.
    """
    if text.lower() in _SLURM_NO_LIMIT:
        return None
    match = _SLURM_TIME.fullmatch(text)
    # 2:3 ends in seconds, 1-2:3 in minutes, which have no fraction
    last_seconds = "second" if match is not None and match["days"] is None else "third"
    if match is None or (match["fraction"] and match[last_seconds] is None):
        raise InputError(f"time {text!r} is not understood; {_SLURM_TIME_REMEDY}")
    parts = [int(part) for part in match.group("first", "second", "third") if part is not None]
    if match["days"] is not None:
        weights: tuple[int, ...] = (3600, 60, 1)
    else:
        weights = {1: (60,), 2: (60, 1), 3: (3600, 60, 1)}[len(parts)]
    total = int(match["days"] or 0) * 86400 + sum(part * weight for part, weight in zip(parts, weights, strict=False))
    return total + Decimal(match["fraction"] or 0)


def parse_time_limit(text: str) -> Decimal | int | None:
    """Seconds of a time limit in Slurm's form or as ISO 8601 (``PT4H``); None: no limit, or the partition's.

    Raises:
        InputError: neither of the two forms.
    """
    return parse_iso_duration(text) if is_iso_duration(text) else parse_slurm_time(text)


def is_iso_duration(text: str) -> bool:
    """Whether a time limit is ISO 8601 (``PT4H``) and not Slurm's (``04:00:00``, ``Partition_Limit``)."""
    return re.match(r"P[T0-9]", text) is not None


def format_slurm_time(seconds: Number) -> str:
    """``HH:MM:SS`` or ``D-HH:MM:SS``, rounded up to whole seconds: what sbatch --time takes."""
    days, hour, minute, second = _clock(_whole_seconds(seconds))
    clock = f"{hour:02d}:{minute:02d}:{second:02d}"
    return f"{days}-{clock}" if days else clock


def slurm_time_limit(seconds: Number) -> str:
    """A run time as a time limit for Slurm, rounded up to the minute, because Slurm counts limits in minutes."""
    return format_slurm_time(round_up_to_minute(seconds))


def format_run_time(seconds: Number) -> str:
    """``2h 45m 0s``, ``12m 5s``, ``7s``; under a second ``0.005s``."""
    value = exact(seconds)
    if 0 < value < 1:
        return f"{_half_up(value, 3)}s"
    whole = int(_half_up(value, 0))
    hours, minutes, second = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h {minutes}m {second}s"
    return f"{minutes}m {second}s" if minutes else f"{second}s"


def largest(values: Iterable[_Amount | None]) -> _Amount | None:
    """The largest known value; None if there is none."""
    return max((value for value in values if value is not None), default=None)
