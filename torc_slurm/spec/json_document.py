"""Reads JSON and JSON5 into plain values. The line of a value is found only on demand.

Numbers, true and false stay as they were written, as in YAML (see `torc_slurm.spec.document`): the key decides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

from torc_slurm.spec.document import (
    DEEPEST,
    TOO_DEEP,
    DocumentError,
    Items,
    Mapping,
    Path,
    Plain,
    Value,
    line_of,
    line_too_deep,
)

_TOKEN = re.compile(
    r"""[^\S\n]+|//[^\n]*|(?P<break>\n)|(?P<comment>/\*.*?\*/)|"""
    r"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<mark>[{}\[\]:,])|(?P<word>[^\s{}\[\]:,"'/]+|/)""",
    re.DOTALL,
)
_TRUE, _FALSE = Plain("true"), Plain("false")


class _KeyTwice(Exception):
    """A key occurs twice in one object; the line is found afterwards."""


def parse_json(text: str) -> Value:
    """The document in a JSON text.

    Raises:
        DocumentError: not JSON, nested too deeply, or a key twice in one object.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=Plain, parse_float=Plain, parse_constant=_no_constant(text)
        )
    except json.JSONDecodeError as error:
        hint = "; a file with comments or trailing commas is JSON5: name it so" if _is_json5(text) else ""
        raise DocumentError(error.lineno, f"not JSON: {error.msg} (column {error.colno}){hint}") from error
    except RecursionError:
        raise DocumentError(line_too_deep(text) or 1, TOO_DEEP) from None
    except _KeyTwice:
        value = None
    if value is None or not isinstance(value, dict):
        return _places(text) if value is None else _of_list(value)
    return value


def parse_json5(text: str) -> Value:
    """The document in a JSON5 text.

    Raises:
        DocumentError: not JSON5, nested too deeply, or a key twice in one object.
    """
    try:
        return parse_json(text)  # most files are JSON with another name, and this is a thousand times faster
    except DocumentError as error:
        if not error.problem.startswith("not JSON"):
            raise
    import json5  # costs 30 ms: only if needed

    try:
        value = json5.loads(
            text, object_pairs_hook=_object, parse_int=_as_written, parse_float=Plain, parse_constant=Plain
        )
    except ValueError as error:
        said = re.match(r"<string>:(\d+) (.*?)(?: at column (\d+))?$", str(error), re.DOTALL)
        line, problem = (int(said[1]), said[2]) if said else (1, str(error))
        column = f" (column {said[3]})" if said and said[3] else ""
        raise DocumentError(line, f"not JSON5: {problem}{column}") from None
    except RecursionError:
        raise DocumentError(line_too_deep(text) or 1, TOO_DEEP) from None
    except _KeyTwice:
        return _places(text)
    return value if isinstance(value, dict) else _of_list(value)


def json_line_of(text: str, path: Path) -> int | None:
    """The line, counted from 1, of the key or item at the end of a path in a text that `parse_json5` reads."""
    return line_of(_places(text), path)


def _is_json5(text: str) -> bool:
    """Whether the text is JSON5; called only if it is not JSON."""
    if len(text) > 100_000 or not text.strip():
        return False
    import json5

    try:
        json5.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(text: str) -> Callable[[str], Value]:
    def refuse(name: str) -> Value:
        line = text[: max(0, text.find(name))].count("\n") + 1
        raise DocumentError(line, f"{name} is not a JSON number")

    return refuse


def _as_written(text: str, base: int = 10) -> Plain:
    return Plain(text if base == 10 else str(int(text, base)))


def _object(given: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    pairs = given if isinstance(given, list) else list(given)
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _KeyTwice
    for key, value in pairs:
        if value is True or value is False:
            found[key] = _TRUE if value else _FALSE
        elif type(value) is list:
            found[key] = _of_list(value)
    return found


def _of_list(value: Value) -> Value:
    if value is True or value is False:
        return _TRUE if value else _FALSE
    return [_of_list(each) for each in value] if type(value) is list else value


# --- where values stand ------------------------------------------------------------------------------------------


class _Tokens:
    def __init__(self, text: str) -> None:
        self._found = _TOKEN.finditer(text)
        self.line = 1
        self.kind, self.text, self.at = "", "", 1
        self.advance()

    def advance(self) -> None:
        """Go to the next token that is not white space or a comment; an empty kind at the end."""
        for match in self._found:
            kind = match.lastgroup
            if kind == "break":
                self.line += 1
            elif kind in ("string", "mark", "word"):
                self.kind, self.text, self.at = kind, match[0], self.line
                self.line += match[0].count("\n")
                return
            elif kind == "comment":
                self.line += match[0].count("\n")
        self.kind, self.text, self.at = "", "", self.line


def _places(text: str) -> Value:
    """The document with the line of each key and item, without its scalars.

    Raises:
        DocumentError: nested too deeply, or a key twice in one object.
    """
    return _value(_Tokens(text), 0)


def _value(tokens: _Tokens, depth: int) -> Value:
    if depth > DEEPEST and tokens.text in ("{", "["):
        raise DocumentError(tokens.at, TOO_DEEP)
    if tokens.text == "{" and tokens.kind == "mark":
        return _mapping(tokens, depth)
    if tokens.text == "[" and tokens.kind == "mark":
        return _items(tokens, depth)
    tokens.advance()
    return None


def _mapping(tokens: _Tokens, depth: int) -> Mapping:
    mapping = Mapping()
    tokens.advance()
    while tokens.kind and tokens.text != "}":
        key, line = _key(tokens.text, tokens.kind), tokens.at
        tokens.advance()
        if tokens.text == ":":
            tokens.advance()
        if key in mapping:
            raise DocumentError(line, f"key {key!r} is given twice (first on line {mapping.lines[key]})")
        mapping[key], mapping.lines[key] = _value(tokens, depth + 1), line
        if tokens.text == ",":
            tokens.advance()
    tokens.advance()
    return mapping


def _items(tokens: _Tokens, depth: int) -> Items:
    items = Items()
    tokens.advance()
    while tokens.kind and tokens.text != "]":
        items.lines.append(tokens.at)
        items.append(_value(tokens, depth + 1))
        if tokens.text == ",":
            tokens.advance()
    tokens.advance()
    return items


def _key(text: str, kind: str) -> str:
    if kind != "string":
        return text
    try:
        return str(json.loads(text)) if text[0] == '"' else text[1:-1].replace("\\'", "'")
    except ValueError:
        return text[1:-1]
