"""Expands Slurm's short form of many nodes, ``rack[01-02]n[1,3-4]``, like ``scontrol show hostnames``."""

from __future__ import annotations

import re
from itertools import product

from torc_slurm.common.errors import ParseError

_NODE = re.compile(r"(?:[^\[\],\s]|\[[0-9,\-]+\])+")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_MOST_NODES = 1_000_000


def expand_node_list(text: str) -> tuple[str, ...]:
    """The names in a node list, in order; none for an empty one or ``(null)``.

    Raises:
        ParseError: not of that form.
    """
    if text in ("", "(null)"):
        return ()
    names: list[str] = []
    position = 0
    while True:
        match = _NODE.match(text, position)
        if match is None:
            raise ParseError(f"{text!r} is not a node list as Slurm writes them (n[1-3],m7)")
        names += _expand(match.group(), text)
        position = match.end()
        if position == len(text):
            return tuple(names)
        if text[position] != ",":
            raise ParseError(f"{text!r} is not a node list as Slurm writes them: error at {text[position:]!r}")
        position += 1


def _expand(part: str, whole: str) -> list[str]:
    pieces = re.split(r"\[([^\]]*)\]", part)  # text and ranges alternate
    choices = [_numbers(piece, whole) if index % 2 else [piece] for index, piece in enumerate(pieces)]
    return ["".join(chosen) for chosen in product(*choices)]


def _numbers(text: str, whole: str) -> list[str]:
    """``1,08-10`` as ``1 08 09 10``: a range keeps the width of its first number."""
    numbers: list[str] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if match is None or not 0 <= last - first < _MOST_NODES:
            raise ParseError(f"{whole!r} is not a node list as Slurm writes them: {part!r} is not a range")
        numbers += [str(number).zfill(len(match[1])) for number in range(first, last + 1)]
    return numbers
