"""Which job waits for which: names and regular expressions resolved to indices, and cycles found; pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from torc_slurm.errors import InputError

_MOST_SHOWN = 10
_MOST_COMPARED = 10_000


class Names:
    """The names of all jobs, to be looked up by name or by regular expression."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._index: Mapping[str, int] = {name: index for index, name in enumerate(names)}
        self._found: dict[str, tuple[int, ...]] = {}

    def named(self, name: str) -> int:
        """The job of that name.

        Raises:
            InputError: there is none; names the nearest.
        """
        if name in self._index:
            return self._index[name]
        raise InputError(f"there is no job {name!r}{nearest(name, self._names)}")

    def matching(self, pattern: str) -> tuple[int, ...]:
        """The jobs whose whole name fits.

        Raises:
            InputError: not a regular expression, or no job fits.
        """
        if pattern not in self._found:
            try:
                fits = re.compile(pattern).fullmatch
            except re.error as error:
                raise InputError(f"{pattern!r} is not a regular expression: {error}") from None
            self._found[pattern] = tuple(index for index, name in enumerate(self._names) if fits(name))
        if not self._found[pattern]:
            raise InputError(f"no job's whole name fits the regular expression {pattern!r}")
        return self._found[pattern]


def nearest(word: str, known: Sequence[str]) -> str:
    """``; did you mean 'x'?`` for the known word that is nearest, or nothing."""
    close = nearest_of(word, known)
    return "" if close is None else f"; did you mean {close!r}?"


def nearest_of(word: str, known: Sequence[str]) -> str | None:
    """The known word that is nearest; None where none is near, or where looking would take long."""
    close = difflib.get_close_matches(word, known, n=1) if len(known) <= _MOST_COMPARED else []
    return close[0] if close else None


def find_cycle(depends_on: Sequence[Sequence[int]]) -> list[int] | None:
    """Indices of jobs that wait for one another in a circle, the first again at the end; None where all can run."""
    done = [False] * len(depends_on)
    for start in range(len(depends_on)):
        cycle = None if done[start] else _walk(start, depends_on, done)
        if cycle is not None:
            return cycle
    return None


def _walk(start: int, depends_on: Sequence[Sequence[int]], done: list[bool]) -> list[int] | None:
    """Depth first, without recursion: a chain can have as many jobs as the workflow."""
    path = [start]
    places = {start: 0}
    waiting = [iter(depends_on[start])]
    while path:
        following = next(waiting[-1], None)
        if following is None:
            waiting.pop()
            last = path.pop()
            del places[last]
            done[last] = True
        elif following in places:
            return [*path[places[following] :], following]
        elif not done[following]:
            places[following] = len(path)
            path.append(following)
            waiting.append(iter(depends_on[following]))
    return None


def describe_cycle(names: Sequence[str]) -> str:
    """``'a' waits for 'b' waits for 'a'``, cut in the middle where it is long."""
    shown = [repr(name) for name in names]
    if len(shown) > _MOST_SHOWN:
        half = _MOST_SHOWN // 2
        shown = [*shown[:half], f"… {len(names) - _MOST_SHOWN} more …", *shown[-half:]]
    return " waits for ".join(shown)
