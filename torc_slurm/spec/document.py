"""Reads YAML into plain values that know their lines.

Scalars stay as they were written: the key, not the form (as in YAML 1.1), decides what ``yes``, ``04:00:00`` or
``1:10`` means. Only an empty plain scalar, ``~`` and ``null`` become None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import yaml

from torc_slurm.common.errors import InputError

Value = object  # str, Plain, None, Mapping or Items
Path = Sequence[str | int]

DEEPEST = 20
TOO_DEEP = f"nested more than {DEEPEST} levels deep"
# Text in quotes or a comment, whose brackets do not count; else a bracket.
_QUOTED_OR_BRACKET = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'|(?<!\S)\#.*|[][{}]""")
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_TAGS = frozenset(
    ["!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq"))]
)
_MERGE = "<<"
# libyaml if PyYAML was built with it: about twenty times faster
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Plain(str):
    """A scalar without quotes: text that may be meant as a number."""

    __slots__ = ()


class Mapping(dict[str, Value]):
    """A mapping with the line of each key, counted from 1."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}


class Items(list[Value]):
    """A list with the line of each item, counted from 1."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        self.lines: list[int] = []


class DocumentError(InputError):
    """The text cannot be read; ``line`` is counted from 1."""

    def __init__(self, line: int, problem: str) -> None:
        self.line = line
        self.problem = problem
        super().__init__(f"line {line}: {problem}")


def parse_yaml(text: str) -> Value:
    """The one document in a YAML text.

    Raises:
        DocumentError: not YAML, a key twice in one mapping, or a YAML feature that no workflow needs.
    """
    try:
        return _Reader(yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as error:
        # libyaml reads ahead: at its own limit, which depends on its version, it fails before any value is here.
        too_deep = line_too_deep(text)
        if too_deep is not None and too_deep <= _line_of(error):
            raise DocumentError(too_deep, TOO_DEEP) from error
        raise DocumentError(_line_of(error), _problem_of(error)) from error
    except yaml.reader.ReaderError as error:
        line = text.encode("utf-8", "surrogatepass")[: error.position].count(b"\n") + 1
        raise DocumentError(line, f"a character that YAML does not allow: {error.reason}") from error


def line_of(document: Value, path: Path) -> int | None:
    """The line of the key or item at the end of a path, or of its last part that exists; None: none exists."""
    line: int | None = None
    value = document
    for part in path:
        if isinstance(value, Mapping) and isinstance(part, str) and part in value:
            line, value = value.lines.get(part, line), value[part]
        elif isinstance(value, Items) and isinstance(part, int) and part < len(value):
            line, value = value.lines[part], value[part]
        else:
            break
    return line


def _line(event: yaml.Event) -> int:
    return 1 if event.start_mark is None else event.start_mark.line + 1


def _line_of(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return 1 if mark is None else mark.line + 1


def _problem_of(error: yaml.MarkedYAMLError) -> str:
    said = " ".join(str(part) for part in (error.context, error.problem) if part)
    tab = "; YAML is indented by spaces, never by tabs" if "cannot start any token" in said else ""
    return f"not YAML: {said}{tab}"


def line_too_deep(text: str) -> int | None:
    """The line of the bracket that exceeds the largest depth, in a text that was already refused; else None."""
    depth = 0
    for match in _QUOTED_OR_BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > DEEPEST:
            return text.count("\n", 0, match.start()) + 1
    return None


class _Reader:
    """Turns a parser's events into values, down to a fixed depth."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, Value] = {}

    def document(self) -> Value:
        """The one document of the stream.

        Raises:
            DocumentError: there is none, or a second one.
        """
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise DocumentError(1, "it is empty")
        value = self._value(next(self._events), 0)
        next(self._events)
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            raise DocumentError(_line(following), "a second document begins; write one workflow in a file")
        return value

    def _value(self, event: yaml.Event, depth: int) -> Value:
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        elif depth >= DEEPEST:
            raise DocumentError(_line(event), TOO_DEEP)
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(depth)
        else:
            value = self._items(depth)
        self._note(event, value)
        return value

    def _note(self, event: yaml.Event, value: Value) -> None:
        """Check the tag, and store the value under its anchor."""
        tag, anchor = getattr(event, "tag", None), getattr(event, "anchor", None)
        if tag is not None and tag not in _TAGS:
            raise DocumentError(_line(event), f"the tag {tag} means nothing here; leave it out")
        if anchor is not None:
            self._anchors[anchor] = value

    def _scalar(self, event: yaml.ScalarEvent) -> Value:
        text = event.value
        if event.style or event.tag is not None:  # quoted, a block, or tagged !!str
            return text
        return None if text in _NULLS else Plain(text)

    def _aliased(self, event: yaml.AliasEvent) -> Value:
        if event.anchor not in self._anchors:
            raise DocumentError(_line(event), f"*{event.anchor} refers to no complete value before it")
        return self._anchors[event.anchor]

    def _items(self, depth: int) -> Items:
        items = Items()
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.lines.append(_line(event))
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> Mapping:
        mapping = Mapping()
        merged: list[Mapping] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, line = self._key(event), _line(event)
            value = self._value(next(self._events), depth + 1)
            if key == _MERGE and isinstance(key, Plain):
                merged += _to_merge(value, line)
                continue
            if key in mapping:
                raise DocumentError(line, f"key {str(key)!r} is given twice (first on line {mapping.lines[key]})")
            mapping[key] = value
            mapping.lines[key] = line
        for other in merged:
            _merge(mapping, other)
        return mapping

    def _key(self, event: yaml.Event) -> str:
        if isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)):
            key = self._value(event, DEEPEST)
            if isinstance(key, str):
                return key
        raise DocumentError(_line(event), "a key must be a word: no list, no mapping, not empty")


def _to_merge(value: Value, line: int) -> list[Mapping]:
    found = list(value) if isinstance(value, Items) else [value]
    mappings = [each for each in found if isinstance(each, Mapping)]
    if len(mappings) < len(found):
        raise DocumentError(line, "<< takes a mapping, or a list of mappings, that was defined before (&name)")
    return mappings


def _merge(mapping: Mapping, other: Mapping) -> None:
    """Copy the keys that the mapping lacks, with their lines."""
    for key, value in other.items():
        if key not in mapping:
            mapping[key] = value
            mapping.lines[key] = other.lines[key]
