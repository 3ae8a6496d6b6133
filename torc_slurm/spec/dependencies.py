"""Which job waits for which: resolves names and regular expressions to indices, and finds cycles; pure."""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence

from torc_slurm.common.errors import InputError

_MOST_SHOWN = 10
_MOST_COMPARED = 10_000
_NEAR = 0.75
# How long one regular expression may search all names; (a+)+b on forty a's would never end.
REGEX_SECONDS = 5.0


class Names:
    """The names of all jobs (or of all files, …), for lookups by name or by regular expression."""

    def __init__(self, names: Sequence[str], what: str = "jobs") -> None:
        self._names = names
        self._what = what
        self._index: Mapping[str, int] = {name: index for index, name in enumerate(names)}
        self._found: dict[str, tuple[int, ...]] = {}

    def named(self, name: str) -> int:
        """The job of that name.

        Raises:
            InputError: there is none; the message suggests the nearest name.
        """
        if name in self._index:
            return self._index[name]
        where = "there is no job" if self._what == "jobs" else f"{self._what} has no"
        raise InputError(f"{where} {name!r}{nearest(name, self._names)}")

    def name(self, name: str) -> str:
        """The name itself, if it exists; as `named`."""
        return self._names[self.named(name)]

    def names_matching(self, pattern: str) -> list[str]:
        """Like `matching`, but returns the names."""
        return [self._names[index] for index in self.matching(pattern)]

    def matching(self, pattern: str) -> tuple[int, ...]:
        """The jobs whose whole name matches.

        Raises:
            InputError: not a regular expression, no match, or it takes too long.
        """
        if pattern not in self._found:
            self._found[pattern] = self._look(pattern)
        if not self._found[pattern]:
            none = "no job's" if self._what == "jobs" else f"{self._what}: no"
            raise InputError(f"{none} whole name fits the regular expression {pattern!r}")
        return self._found[pattern]

    def _look(self, pattern: str) -> tuple[int, ...]:
        import regex  # its search takes a time limit; the standard library's does not

        deadline = time.monotonic() + REGEX_SECONDS
        try:
            fits = regex.compile(pattern).fullmatch
            return tuple(
                index
                for index, name in enumerate(self._names)
                if fits(name, timeout=max(0.001, deadline - time.monotonic()))
            )
        except regex.error as error:
            raise InputError(f"{pattern!r} is not a regular expression: {error}") from None
        except TimeoutError:
            raise InputError(
                f"the regular expression {pattern!r} takes more than {REGEX_SECONDS:g} s; write it without a "
                "repetition inside a repetition"
            ) from None


def nearest(word: str, known: Sequence[str]) -> str:
    """``; did you mean 'x'?`` for the nearest known word, or nothing."""
    close = nearest_of(word, known)
    return "" if close is None else f"; did you mean {close!r}?"


def nearest_of(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant; None if none is near, or if the search would take long.

    Near is a word with a typing mistake, or one whose parts all occur in the other (``cpus`` for ``num_cpus``).
    """
    if len(known) > _MOST_COMPARED:
        return None
    close = difflib.get_close_matches(word, known, n=1, cutoff=_NEAR)
    if close:
        return close[0]
    parts = set(word.split("_"))
    held = [each for each in known if parts < set(each.split("_")) or set(each.split("_")) < parts]
    return held[0] if len(held) == 1 else None


def find_cycle(depends_on: Sequence[Sequence[int]]) -> list[int] | None:
    """Indices of jobs that wait for one another in a circle, the first again at the end; None if there is none."""
    done = [False] * len(depends_on)
    for start in range(len(depends_on)):
        cycle = _walk(start, depends_on, done) if depends_on[start] and not done[start] else None
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
    """``'a' waits for 'b' waits for 'a'``, cut in the middle if it is long."""
    shown = [repr(name) for name in names]
    if len(shown) > _MOST_SHOWN:
        half = _MOST_SHOWN // 2
        shown = [*shown[:half], f"… {len(names) - _MOST_SHOWN} more …", *shown[-half:]]
    return " waits for ".join(shown)
