"""Parameters: one entry for many jobs. Ranges and lists, their combinations, and ``{i:03d}`` in texts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from torc_slurm.common.errors import InputError
from torc_slurm.spec.document import Plain

MOST_JOBS = 1_000_000
ZIP = "zip"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NUMBER = r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?"
_RANGE = re.compile(rf"({_NUMBER})\s*:\s*({_NUMBER})(?:\s*:\s*({_NUMBER}))?", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_ITEM = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)"|([^,'"]*))\s*(?:,|$)""")
_WIDEST = 1000
_LARGEST_FILE_BYTES = 64 * 1024**2
_RANGE_REMEDY = 'write a range "first:last" or "first:last:step", or a list [a, b, c]'


class Setting(NamedTuple):
    """One value of a parameter: its text, for ``{i}``, and the value that a format (``{i:03d}``) is applied to."""

    text: str
    value: str | int | float


Combination = Mapping[str, Setting]


class _Range(NamedTuple):
    """A range as written, and its number of values; they are not made yet."""

    first: Decimal
    step: Decimal
    values: int


def combinations_of(given: Mapping[str, object], mode: str) -> Iterator[Combination]:
    """Every combination of the parameters' values, counted before any is made; the last parameter changes fastest.

    Args:
        given: as written: ``"1:10"`` (with both ends), ``"0:100:10"``, a list of numbers and texts, a list in quotes
            (``"[0.1, 0.01]"``), ``"@file"`` with a value on each line, or one value.
        mode: ``product``: each with each; ``zip``: the first of each, the second of each, …

    Raises:
        InputError: a name cannot stand in braces, a range is wrong, or there is no value; too many combinations, or
            lists of different lengths to zip.
    """
    read = {name: _read(name, each) for name, each in given.items()}
    check_count({name: each.values if isinstance(each, _Range) else len(each) for name, each in read.items()}, mode)
    parameters = {name: list(_made(each)) for name, each in read.items()}
    rows = zip(*parameters.values(), strict=True) if mode == ZIP else itertools.product(*parameters.values())
    return (dict(zip(parameters, row, strict=True)) for row in rows)


def check_count(lengths: Mapping[str, int], mode: str) -> None:
    """Refuse too many combinations of so many values each.

    Raises:
        InputError: there are too many, or there are lists of different lengths to zip.
    """
    if mode == ZIP and len(set(lengths.values())) > 1:
        lengths_text = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise InputError(f"parameter_mode zip needs as many values in each parameter: {lengths_text}")
    total = 1
    for count in () if mode == ZIP else lengths.values():
        total *= count
    if total > MOST_JOBS:
        raise InputError(f"the parameters make {total} jobs of one; at most {MOST_JOBS} are possible")


class Template:
    """A text in which ``{name}`` and ``{name:format}`` of declared parameters are replaced.

    All other braces stay, and so does ``${name}``, which belongs to the shell. A text is split once for all
    combinations.
    """

    def __init__(self, text: str, pattern: re.Pattern[str]) -> None:
        """Split the text.

        Raises:
            InputError: a format would make it too wide.
        """
        self._fields: list[tuple[str, str, str | None]] = []
        form, end = "", 0
        for match in pattern.finditer(text):
            _check_width(match[0], match[2])
            self._fields.append((match[0], match[1], match[2]))
            form += text[end : match.start()].replace("%", "%%") + "%s"
            end = match.end()
        self._form = form + text[end:].replace("%", "%%")
        self.text = None if self._fields else text

    @property
    def names(self) -> set[str]:
        """The parameters in the text."""
        return {name for _, name, _ in self._fields}

    def fill(self, combination: Combination) -> str:
        """The text with the combination's values.

        Raises:
            InputError: a format does not fit its value.
        """
        if self.text is not None:
            return self.text
        return self._form % tuple(
            [
                _formatted(shown, combination[name], specification) if specification else combination[name].text
                for shown, name, specification in self._fields
            ]
        )


def braces_of(names: Sequence[str]) -> re.Pattern[str]:
    """The pattern of ``{name}`` and ``{name:format}`` for these names."""
    return re.compile(rf"(?<!\$)\{{({'|'.join(map(re.escape, names))})(?::([^{{}}]*))?\}}", re.ASCII)


def check_name(name: str, what: str = "parameter") -> None:
    """Refuse a name that cannot stand in braces.

    Raises:
        InputError: it is not a word.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError(f"{what} {name!r} must be a word of letters, digits and _, so that it can stand in braces")


def setting_of(text: str) -> Setting:
    """A value by its form: a whole number, a number, else a text."""
    if _INTEGER.fullmatch(text):
        return Setting(text, int(text))
    return Setting(text, float(text) if _REAL.fullmatch(text) else text)


def _check_width(shown: str, specification: str | None) -> None:
    numbers = re.findall(r"[0-9]+", specification) if specification else ()
    if any(len(number) > 6 or int(number) > _WIDEST for number in numbers):
        raise InputError(f"{shown} would be wider than {_WIDEST} characters")


def _formatted(shown: str, setting: Setting, specification: str) -> str:
    try:
        return format(setting.value, specification)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{shown} cannot format {setting.text!r}: {error}") from None


def _read(name: str, given: object) -> _Range | list[Setting]:
    check_name(name)
    if isinstance(given, str):
        return _read_text(name, given)
    if not isinstance(given, list) or not given:
        raise InputError(f"parameter {name!r} has no values; {_RANGE_REMEDY}")
    return [_item(name, each) for each in given]


def _made(found: _Range | list[Setting]) -> Iterator[Setting]:
    if isinstance(found, list):
        return iter(found)
    if not _has_fraction(found):
        first, step = int(found.first), int(found.step)
        return (Setting(str(value), value) for value in range(first, first + step * found.values, step))
    return (_of_decimal(found.first + index * found.step) for index in range(found.values))


def _item(name: str, given: object) -> Setting:
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        raise InputError(f"parameter {name!r} has a value that is neither a number nor a text: {given!r}")
    text = str(given)
    if isinstance(given, str) and not isinstance(given, Plain):  # in quotes: a text, whatever its form
        return Setting(text, text)
    return setting_of(text)


def _read_text(name: str, given: str) -> _Range | list[Setting]:
    text = given.strip()
    if text.startswith("{") and text.endswith("}"):  # "{1:10}" for "1:10"
        text = text[1:-1].strip()
    if text.startswith("[") and text.endswith("]"):
        return _quoted_list(name, text[1:-1])
    if text.startswith("@"):
        return _lines_of(name, text[1:].strip())
    if ":" in text or not text:
        return _range(name, text)
    return [setting_of(text)]


def _quoted_list(name: str, text: str) -> list[Setting]:
    """A list as a text: ``[0.1, 0.01]`` or ``['adam', 'sgd']``."""
    found: list[Setting] = []
    end = 0
    while end < len(text):
        match = _ITEM.match(text, end)
        if match is None:
            raise InputError(f"parameter {name!r}: {text[end:]!r} in the list cannot be read; write [a, b, 'c d']")
        single, double, bare = match.groups()
        quoted = single if single is not None else double
        value = bare.strip() if quoted is None else quoted
        if quoted is None and not value:
            raise InputError(f"parameter {name!r} has an empty value in its list; write [a, b, c]")
        found.append(setting_of(value) if quoted is None else Setting(value, value))
        end = match.end()
    if not found:
        raise InputError(f"parameter {name!r} has no values; {_RANGE_REMEDY}")
    return found


def _lines_of(name: str, path: str) -> list[Setting]:
    """One value per line of a file, without blank lines and lines that begin with #."""
    lines = [line.strip() for line in read_table(path, f"parameter {name!r}").splitlines()]
    found = [setting_of(line) for line in lines if line and not line.startswith("#")]
    if not found:
        raise InputError(f"parameter {name!r}: {path} holds no values")
    return found


def read_table(path: str, whose: str) -> str:
    """The text of a file of parameters; a relative path starts where torc was called.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            found = file.read(_LARGEST_FILE_BYTES + 1)
            if len(found) > _LARGEST_FILE_BYTES:
                raise InputError(f"{whose}: {path} has more than {_LARGEST_FILE_BYTES} bytes")
            return found.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{whose}: {path or 'a file without a name'} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{whose}: {path} is not UTF-8: {error.reason}") from error


def _range(name: str, text: str) -> _Range:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InputError(f"parameter {name!r}: {text!r} is not a range; {_RANGE_REMEDY}")
    first, last, step = (Decimal(part or 1) for part in match.groups())
    if step == 0 or (last - first) * step < 0:
        raise InputError(f"parameter {name!r}: nothing lies in the range {text!r}; {_RANGE_REMEDY}")
    count = int((last - first) / step) + 1
    if count > MOST_JOBS:
        raise InputError(f"parameter {name!r}: {text!r} has {count} values; at most {MOST_JOBS} are possible")
    return _Range(first, step, count)


def _has_fraction(found: _Range) -> bool:
    """Whether it is written with decimals, ``1.0:3.0``: then its values have them too."""
    return found.first.as_tuple().exponent != 0 or found.step.as_tuple().exponent != 0


def _of_decimal(number: Decimal) -> Setting:
    if number.as_tuple().exponent == 0:
        return Setting(str(int(number)), int(number))
    return Setting(f"{number:f}", float(number))
