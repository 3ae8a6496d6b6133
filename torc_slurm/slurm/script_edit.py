"""Reads and edits the ``#SBATCH`` lines of a user's batch script: only values change, all other bytes stay; pure.

sbatch(1) reads ``#SBATCH`` lines up to the first line that is neither a comment nor blank. A line holds any number of
options; a value follows ``=`` or a space, or a short option directly; ``#`` begins a comment; if an option is given
twice, the last one counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torc_slurm.common.errors import InputError

_PREFIX = "#SBATCH"
_WORD = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'#\\]|(?<=\S)#)+""")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")  # sbatch's lines: str.splitlines knows more line ends
_HET_WORDS = frozenset({"hetjob", "packjob"})
# Short options of sbatch, and whether a value follows them.
_SHORT_NAMES = {
    "A": "account",
    "a": "array",
    "c": "cpus-per-task",
    "C": "constraint",
    "D": "chdir",
    "e": "error",
    "G": "gpus",
    "J": "job-name",
    "M": "clusters",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "p": "partition",
    "q": "qos",
    "t": "time",
    "w": "nodelist",
    "x": "exclude",
}
# A word after one of these is not its value.
_WITHOUT_VALUE = frozenset(
    (
        *("contiguous", "exclusive", "export", "get-user-env", "h", "H", "hold", "I", "ignore-pbs", "k", "nice"),
        *("kill-on-invalid-dep", "no-kill", "no-requeue", "O", "overcommit", "oversubscribe", "parsable", "Q", "quiet"),
        *("reboot", "requeue", "s", "spread-job", "test-only", "use-min-nodes", "v", "verbose", "W", "wait"),
    )
)


class Option(NamedTuple):
    """One option: its long name, its value without quotes, and the value's position in the text (None: no value)."""

    name: str
    value: str
    span: tuple[int, int] | None


class Script(NamedTuple):
    """A script's options in order; ``insert_at``: where to add a ``#SBATCH`` line."""

    text: str
    options: tuple[Option, ...]
    insert_at: int

    def value(self, name: str) -> str | None:
        """The value in force; None: not in the script."""
        return next((option.value for option in reversed(self.options) if option.name == name), None)


def read_script(text: str, source: str) -> Script:
    """The options of a script.

    Raises:
        InputError: it has no first line ``#!…``, which sbatch demands, or describes a heterogeneous job.
    """
    if not text.startswith("#!"):
        raise InputError(f"{source} is not a batch script: its first line does not begin with #!")
    options: list[Option] = []
    position = insert_at = 0
    for number, line in enumerate(_LINE.findall(text)):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            break
        if line.startswith(_PREFIX) and line[len(_PREFIX) : len(_PREFIX) + 1].isspace():
            options += _options(line, position, source)
            insert_at = position + len(line)
        elif number == 0:
            insert_at = len(line)
        position += len(line)
    return Script(text, tuple(options), insert_at)


def _options(line: str, start: int, source: str) -> list[Option]:
    found: list[Option] = []
    words = list(_words(line))
    index = 0
    while index < len(words):
        word, begin, end = words[index]
        index += 1
        if word in _HET_WORDS:
            raise InputError(f"{source} describes a heterogeneous job ({word}): edit its components by hand")
        name, value, offset = _split(word)
        if name is None:
            continue
        if value is None and name not in _WITHOUT_VALUE and index < len(words) and not words[index][0].startswith("-"):
            value_word, begin, end = words[index]
            value, offset = value_word, 0
            index += 1
        span = None if value is None else (start + begin + offset, start + end)
        found.append(Option(_SHORT_NAMES.get(name, name), _unquoted(value or ""), span))
    return found


def read_options(words: Sequence[str]) -> list[tuple[str, str]]:
    """The options of an sbatch command line up to its script: long name and value."""
    found: list[tuple[str, str]] = []
    index = 0
    while index < len(words) and words[index].startswith("-"):
        name, value, _ = _split(words[index])
        index += 1
        if name is not None and value is None and name not in _WITHOUT_VALUE and index < len(words):
            value = words[index]
            index += 1
        if name is not None:
            found.append((_SHORT_NAMES.get(name, name), value or ""))
    return found


def _words(line: str) -> list[tuple[str, int, int]]:
    """The words after ``#SBATCH`` up to a comment, with their positions in the line."""
    words = []
    position = len(_PREFIX)
    while position < len(line):
        if line[position].isspace():
            position += 1
            continue
        match = _WORD.match(line, position)
        if match is None:  # a comment, or a quote without its end
            break
        words.append((match.group(), match.start(), match.end()))
        position = match.end()
    return words


def _split(word: str) -> tuple[str | None, str | None, int]:
    """``--mem=4G`` as name, value and the value's position in the word; a word that is not an option has no name."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        return name, value if equals else None, len(name) + 3
    if word.startswith("-") and len(word) > 1:
        letter, value = word[1], word[2:]
        if value.startswith("="):
            return letter, value[1:], 3
        return letter, value or None, 2
    return None, None, 0


def _unquoted(value: str) -> str:
    return re.sub(r"""\\(.)|["']""", lambda match: match[1] or "", value)


def edited(script: Script, wanted: Mapping[str, str]) -> str:
    """The script with these values: every occurrence of an option changes, and a missing one is added as a line.

    Args:
        wanted: long option name to value.
    """
    edits: list[tuple[int, int, str]] = []
    added: list[str] = []
    for name, value in wanted.items():
        spans = [option.span for option in script.options if option.name == name and option.span is not None]
        edits += [(begin, end, value) for begin, end in spans]
        if not spans:
            added.append(f"{_PREFIX} --{name}={value}\n")
    text = script.text
    if added:
        before = text[: script.insert_at]
        newline = "" if before.endswith("\n") else "\n"
        edits.append((script.insert_at, script.insert_at, newline + "".join(added)))
    for begin, end, value in sorted(edits, reverse=True):
        text = text[:begin] + value + text[end:]
    return text


def names(options: Sequence[Option]) -> list[str]:
    """The long names of the options, without duplicates."""
    return list(dict.fromkeys(option.name for option in options))
