"""Items that all have the same keys: the keys once, and the values of each item. A mapping of each takes more time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Value = int | float | str | None


@dataclass(frozen=True)
class SameKeys(Iterable[Mapping[str, Value]]):
    """Read it once: as the tuples of ``values``, or by iteration as mappings."""

    keys: Sequence[str]
    values: Iterable[tuple[Value, ...]]

    def __iter__(self) -> Iterator[dict[str, Value]]:
        """The mapping of each item."""
        return (dict(zip(self.keys, each, strict=True)) for each in self.values)
