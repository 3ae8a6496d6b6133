"""Parameters: one job written down, many jobs meant. Ranges and lists, their combinations, and ``{i:03d}`` in texts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from torc_slurm.errors import InputError
from torc_slurm.spec.document import Plain

MOST_JOBS = 1_000_000
ZIP = "zip"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NUMBER = r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(?::({_NUMBER}))?", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_WIDEST = 1000
_RANGE_REMEDY = 'write a range "first:last" or "first:last:step", or a list [a, b, c]'


class Setting(NamedTuple):
    """One value of a parameter: its text, for ``{i}``, and the value that a format (``{i:03d}``) is applied to."""

    text: str
    value: str | int | float


Combination = Mapping[str, Setting]


def settings_of(name: str, given: object) -> list[Setting]:
    """The values of one parameter.

    Args:
        given: ``"1:10"`` (both ends belong to it), ``"0:100:10"``, or a list of numbers and texts.

    Raises:
        InputError: the name cannot stand in braces, the range is not one, or there is no value.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError(f"parameter {name!r} must be a word of letters, digits and _, so that it can stand in braces")
    if isinstance(given, str):
        return _range(name, given)
    if not isinstance(given, list) or not given:
        raise InputError(f"parameter {name!r} has no values; {_RANGE_REMEDY}")
    return [_setting(name, each) for each in given]


def combinations(parameters: Mapping[str, Sequence[Setting]], mode: str) -> Iterator[Combination]:
    """Every combination of the parameters' values; the last parameter changes fastest.

    Args:
        mode: ``product``: each with each; ``zip``: the first of each, the second of each, …

    Raises:
        InputError: too many, or lists of different lengths to zip.
    """
    lengths = {name: len(values) for name, values in parameters.items()}
    if mode == ZIP and len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise InputError(f"parameter_mode zip needs as many values in each parameter: {said}")
    total = 1
    for count in () if mode == ZIP else lengths.values():
        total *= count
    if total > MOST_JOBS:
        raise InputError(f"the parameters make {total} jobs of one; at most {MOST_JOBS} are possible")
    rows = zip(*parameters.values(), strict=True) if mode == ZIP else itertools.product(*parameters.values())
    return (dict(zip(parameters, row, strict=True)) for row in rows)


def substitution(names: Sequence[str]) -> Callable[[str, Combination], str]:
    """A function that puts values in place of ``{name}`` and ``{name:format}`` in a text.

    All other braces stay as they are, so does ``${name}``, which is the shell's. Making it once for a job's parameters
    spares compiling the pattern for every combination.
    """
    pattern = re.compile(rf"(?<!\$)\{{({'|'.join(map(re.escape, names))})(?::([^{{}}]*))?\}}", re.ASCII)

    def substitute(text: str, combination: Combination) -> str:
        return pattern.sub(lambda match: _formatted(match[0], combination[match[1]], match[2]), text)

    return substitute


def shell_variables(text: str, names: Sequence[str]) -> list[str]:
    """The parameters that a text names as ``${name}``: most likely by mistake."""
    return [name for name in names if f"${{{name}}}" in text]


def _formatted(shown: str, setting: Setting, specification: str | None) -> str:
    if not specification:
        return setting.text
    if any(int(number) > _WIDEST for number in re.findall(r"[0-9]+", specification)):
        raise InputError(f"{shown} would be wider than {_WIDEST} characters")
    try:
        return format(setting.value, specification)
    except ValueError as error:
        raise InputError(f"{shown} cannot format {setting.text!r}: {error}") from None


def _setting(name: str, given: object) -> Setting:
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        raise InputError(f"parameter {name!r} has a value that is neither a number nor a text: {given!r}")
    text = str(given)
    if isinstance(given, str) and not isinstance(given, Plain):  # in quotes: a text, whatever it looks like
        return Setting(text, text)
    if _INTEGER.fullmatch(text):
        return Setting(text, int(text))
    return Setting(text, float(text) if _REAL.fullmatch(text) else text)


def _range(name: str, text: str) -> list[Setting]:
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"parameter {name!r}: {text!r} is not a range; {_RANGE_REMEDY}")
    first, last, step = (Decimal(part or 1) for part in match.groups())
    if step == 0 or (last - first) * step < 0:
        raise InputError(f"parameter {name!r}: nothing lies in the range {text!r}; {_RANGE_REMEDY}")
    count = int((last - first) / step) + 1
    if count > MOST_JOBS:
        raise InputError(f"parameter {name!r}: {text!r} has {count} values; at most {MOST_JOBS} are possible")
    return [_of_decimal(first + index * step) for index in range(count)]


def _of_decimal(number: Decimal) -> Setting:
    if number.as_tuple().exponent == 0:
        return Setting(str(int(number)), int(number))
    return Setting(f"{number:f}", float(number))
