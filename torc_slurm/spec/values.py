"""The types of values in a workflow file: how to parse each from text, and its bounds.

Scalars are text (see `torc_slurm.spec.document`), so each type parses its own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from torc_slurm.common.errors import InputError
from torc_slurm.common.units import parse_time_limit, slurm_memory_mib

LONGEST_COMMAND_BYTES = 131_071  # the kernel's MAX_ARG_STRLEN without the closing NUL: one word of a command line

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_OPTION = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
_WHOLE_MEBIBYTES = re.compile(r"[0-9]{1,12}", re.ASCII)
MOST_IN_GROUP = 10_000
# Options that torc itself sets, that make several allocations, or after which sbatch does not return at once.
_REFUSED_OPTIONS = frozenset(("array", "wrap", "parsable", "test-only", "wait", "help", "version", "usage"))


def _whole(value: Any) -> Any:  # noqa: ANN401 - any value of a document
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be a whole number")


def group_size(value: Any) -> int:  # noqa: ANN401 - whatever the document holds
    """How many jobs share a step; 0 stands for ``auto``."""
    if value == "auto":
        return 0
    try:
        size = _whole(value)
    except ValueError:
        size = 0
    if not 1 <= size <= MOST_IN_GROUP:
        raise ValueError(f"must be auto, or a whole number from 1 to {MOST_IN_GROUP}")
    return int(size)


def _number(value: Any) -> Any:  # noqa: ANN401 - any value of a document
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError("must be a number") from None


def _truth(value: Any) -> Any:  # noqa: ANN401 - any value of a document
    found = value if isinstance(value, bool) else _TRUTHS.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be true or false")
    return found


def text_(value: str) -> str:
    if not value or value.isspace():
        raise ValueError("must not be empty")
    return _no_nul(value)


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("contains a NUL character, which no program accepts")
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("contains half of a character (a lone surrogate)") from None
    return value


def command(value: str) -> str:
    size = len(value) if value.isascii() else len(value.encode())
    if size > LONGEST_COMMAND_BYTES:
        raise ValueError(f"has {size} bytes; the kernel accepts {LONGEST_COMMAND_BYTES}: put it into a script")
    return value


def understood(check: Callable[[str], object]) -> Callable[[str], str]:
    """A validator that refuses what ``check`` refuses, and keeps the text as written.

    Its message lacks the text itself: the caller adds it, with its key.
    """

    def validate(value: str) -> str:
        try:
            check(value)
        except InputError as error:
            subject, found, problem = str(error).partition(f"{value!r} ")
            raise ValueError(problem if found else subject) from None
        return value

    return validate


def wall_time_seconds(value: str) -> object:
    """Seconds of a time limit; ISO 8601 is accepted too, because run times in the same file use it.

    Raises:
        InputError: not a time limit.
    """
    seconds = parse_time_limit(value)
    if seconds == 0:
        raise InputError(f"walltime {value!r} must be more than 0")
    return seconds


def slurm_memory(value: str) -> str:
    """sbatch's ``--mem`` in whole MiB: a bare number is MiB, 0 all of the node's; units as in a requirement."""
    if _WHOLE_MEBIBYTES.fullmatch(value):
        return value
    understood(slurm_memory_mib)(value)
    return f"{slurm_memory_mib(value)}M"


def _words(value: Any) -> Any:  # noqa: ANN401 - any value of a document
    """Words in a list, or a line that is split as a shell splits it."""
    if not isinstance(value, str):
        return one_or_more(value)
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"cannot be split into words: {error}") from None


def _options(values: tuple[str, ...]) -> tuple[str, ...]:
    wrong = next((value for value in values if not value.startswith("-")), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is not an option; write --name=value, each as one word")
    return values


def one_or_more(value: Any) -> Any:  # noqa: ANN401 - any value of a document
    """A list as a tuple, so that all jobs that lack a list share one empty tuple; one text as a list of one."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def exact(value: Any) -> Any:  # noqa: ANN401 - any value of a document
    """The text itself: pydantic before 2.10 does not find a `Plain` among the values of a Literal."""
    return str(value) if isinstance(value, str) else value


def lines(value: Any) -> Any:  # noqa: ANN401 - any value of a document
    return value.splitlines() if isinstance(value, str) else value


def environment(value: dict[str, str]) -> dict[str, str]:
    wrong = next((name for name in value if _VARIABLE.fullmatch(name) is None), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} cannot be the name of an environment variable")
    return value


def defaults(value: dict[str, Any]) -> dict[str, Any]:
    """Option names without leading dashes, ``_`` for ``-`` allowed; values are texts, or true for a bare option."""
    options = {name.lstrip("-").replace("_", "-"): each for name, each in value.items()}
    for name, each in options.items():
        if name in _REFUSED_OPTIONS or _OPTION.fullmatch(name) is None:
            raise ValueError(f"--{name} cannot be given here")
        if not isinstance(each, str):
            raise ValueError(f"{name} must have a value; write true for an option without one")
    return {name: _TRUTHS.get(str(each).lower(), each) for name, each in options.items()}


Count = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=1_000_000)]
CountFromZero = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=1_000_000)]
Truth = Annotated[bool, BeforeValidator(_truth)]
Seconds = Annotated[float, BeforeValidator(_number), Field(ge=0.1, le=86400, allow_inf_nan=False)]
Text = Annotated[str, AfterValidator(text_)]
AnyText = Annotated[str, AfterValidator(_no_nul)]
Options = Annotated[tuple[Text, ...], BeforeValidator(_words), AfterValidator(_options)]
Names = Annotated[tuple[Text, ...], BeforeValidator(one_or_more)]
Whole = Annotated[int, BeforeValidator(_whole)]
Numbers = Annotated[tuple[Annotated[Whole, Field(ge=0, le=255)], ...], BeforeValidator(one_or_more)]
Environment = Annotated[dict[str, AnyText], AfterValidator(environment)]
