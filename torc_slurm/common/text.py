"""The only place that makes foreign text (job names, file names, notes) safe to show, on a terminal or a page."""

from __future__ import annotations

_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, most: int | None = None) -> str:
    """The text on one line, with characters that control a terminal as escapes, cut to ``most`` characters.

    ``str.isprintable`` is false for control characters, line separators, marks that change the direction of writing,
    and lone surrogates, so all of these are escaped.
    """
    kept = text if most is None or len(text) <= most else text[: most - 1] + "…"
    if kept.isprintable():
        return kept
    return "".join(character if character.isprintable() else _escape(character) for character in kept)


def storable(value: object) -> object:
    """A text that SQLite and JSON accept, in UTF-8: other bytes become \\xNN. Any other value stays as it is."""
    if not isinstance(value, str) or value.isascii():
        return value
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that does not come from a byte
        return value.encode("utf-8", "backslashreplace").decode("utf-8")


def shortened(text: str, most: int) -> str:
    """The text in at most ``most`` characters. The middle is cut out, because similar names differ at the end."""
    if len(text) <= most:
        return text
    if most < 3:
        return text[:most]
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def _escape(character: str) -> str:
    code = ord(character)
    short = _SHORT_ESCAPES.get(character)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
