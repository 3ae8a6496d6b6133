"""Reads a workflow file in KDL into the same plain values as YAML and JSON.

In KDL each job is its own node ``job "name" { … }``, and what is a list elsewhere is a node written several times: the
tables here say which. ckdl parses the text but gives no lines, so a second pass over braces and line ends finds them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import ckdl

from torc_slurm.spec.document import DEEPEST, TOO_DEEP, DocumentError, Items, Mapping, Plain, Value

# Nodes at the top, each one object of a list; their first argument is its name.
_OBJECTS = {
    "job": "jobs",
    "file": "files",
    "dataset": "datasets",
    "user_data": "user_data",
    "resource_requirements": "resource_requirements",
    "slurm_scheduler": "slurm_schedulers",
    "failure_handler": "failure_handlers",
    "action": "actions",
}
_OBJECT_KEYS = frozenset(_OBJECTS.values())
# Nodes inside those, each of which adds its arguments to a list.
_LISTS = {
    "depends_on_job": "depends_on",
    "depends_on": "depends_on",
    "depends_on_regex": "depends_on_regexes",
    "input_file": "input_files",
    "output_file": "output_files",
    "input_file_regex": "input_file_regexes",
    "output_file_regex": "output_file_regexes",
    "input_dataset": "input_datasets",
    "output_dataset": "output_datasets",
    "input_user_data": "input_user_data",
    "output_user_data": "output_user_data",
    "input_user_data_regex": "input_user_data_regexes",
    "output_user_data_regex": "output_user_data_regexes",
    "use_parameters": "use_parameters",
    "use_parameter": "use_parameters",
    "job_name_regex": "job_name_regexes",
    "exit_code": "exit_codes",
    "exit_codes": "exit_codes",
    "access_group": "access_groups",
}
_ENDS_OF_LISTS = ("_regexes", "_files", "_datasets", "_groups", "_options")
_MAPPINGS = frozenset(("parameters", "variables", "env", "slurm_defaults"))  # users choose their keys


_TOKEN = re.compile(
    r"""(?P<comment>/\*)|//[^\n]*|(?P<text>r?(?P<hashes>\#+)".*?"(?P=hashes)|(?<![\w-])r"[^"]*"|"{3}(?:[^\\]|\\.)*?"{3}|"""
    r"""(?!""\")"(?:[^"\\]|\\.)*")|(?P<left_out>/-)|(?P<goes_on>\\[^\S\n]*(?://[^\n]*)?\n)|(?P<mark>[{};\n])|"""
    r"""[^\S\n]+|(?P<word>[^\s{};"\\/]+|[/\\])|(?P<open>")""",
    re.DOTALL,
)
_OPEN_TEXT = 'a text begins here and its " is not closed'
_COMMENT_MARK = re.compile(r"/\*|\*/")


@dataclass
class _Place:
    """The position of a node: the line on which it begins, its part of the text, and the positions of its children."""

    line: int
    start: int
    end: int
    children: list[_Place] = field(default_factory=list)


def parse_kdl(text: str) -> Value:
    """The document in a KDL text.

    Raises:
        DocumentError: not KDL, nested too deeply, or a key twice.
    """
    places = _Scanner(text)
    places.scan()
    try:
        document = ckdl.parse(text)
    except ckdl.ParseError as error:
        line, problem = places.unfinished or (_line_of_error(text, places.top), str(error))
        raise DocumentError(line, f"not KDL: {problem}") from None
    if not document.nodes:
        raise DocumentError(1, "it is empty")
    return _object(document.nodes, places.top, 1, parent="")


def _object(nodes: list[ckdl.Node], places: list[_Place], line: int, *, parent: str) -> Mapping:
    """A node's children, or the whole text, as one object; ``line`` is for children with unknown positions."""
    found = Mapping()
    is_known = len(places) == len(nodes)
    for index, node in enumerate(nodes):
        place = places[index] if is_known else _Place(line, 0, 0)
        key = _key_of(node.name, parent)
        if (key in _OBJECT_KEYS and not parent) or (key == "rules" and parent == "failure_handlers"):
            _add(found, key, [_named(node, place)], place.line)
        elif _is_list(node.name, key, parent):
            _add(found, key, [_scalar(each) for each in node.args], place.line)
        elif key in found:
            raise DocumentError(place.line, f"key {key!r} is given twice (first on line {found.lines[key]})")
        else:
            found[key], found.lines[key] = _value(node, place, key), place.line
    return found


def _key_of(name: str, parent: str) -> str:
    if parent in _MAPPINGS:
        return name
    if not parent:
        return _OBJECTS.get(name, name)
    if parent == "actions":
        return {"command": "commands", "job": "jobs"}.get(name, _LISTS.get(name, name))
    if parent == "failure_handlers":
        return {"rule": "rules"}.get(name, name)
    return _LISTS.get(name, name)


def _is_list(name: str, key: str, parent: str) -> bool:
    if parent in _MAPPINGS:
        return False
    if parent == "actions" and key in ("commands", "jobs"):
        return True
    return name in _LISTS or (bool(parent) and key.endswith(_ENDS_OF_LISTS))


def _named(node: ckdl.Node, place: _Place) -> Mapping:
    """``job "name" key=value { … }``."""
    kind = {"rule": "rules"}.get(node.name, _OBJECTS.get(node.name, node.name))
    found = _object(node.children, place.children, place.line, parent=kind)
    for key, value in node.properties.items():
        _put(found, key, _scalar(value), place.line)
    if len(node.args) > 1:
        raise DocumentError(place.line, f"{node.name} takes one name; {node.args[1]!r} is one too many")
    if node.args and kind not in ("actions", "rules"):
        _put(found, "name", _scalar(node.args[0]), place.line)
    return found


def _value(node: ckdl.Node, place: _Place, key: str) -> Value:
    if node.children or node.properties or (key in _MAPPINGS and not node.args):
        found = _object(node.children, place.children, place.line, parent=key)
        for name, value in node.properties.items():
            _put(found, name, _scalar(value), place.line)
        return found
    if not node.args:
        return None
    if len(node.args) > 1:
        items = Items()
        items.extend(_scalar(each) for each in node.args)
        items.lines.extend(place.line for _ in node.args)
        return items
    return _scalar(node.args[0])


def _add(found: Mapping, key: str, values: list[Value], line: int) -> None:
    items = found.setdefault(key, Items())
    found.lines.setdefault(key, line)
    assert isinstance(items, Items)
    items.extend(values)
    items.lines.extend(line for _ in values)


def _put(found: Mapping, key: str, value: Value, line: int) -> None:
    if key in found:
        raise DocumentError(line, f"key {key!r} is given twice (first on line {found.lines[key]})")
    found[key], found.lines[key] = value, line


def _scalar(value: object) -> Value:
    """Numbers and booleans as text that the key interprets; a quoted text stays text."""
    if isinstance(value, ckdl.Value):
        value = value.value
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return Plain("true" if value else "false")
    return Plain(str(value))


# --- lines ---------------------------------------------------------------------------------------------------------


class _Scanner:
    """Goes over a text once and finds its nodes, by braces and line ends outside of texts and comments."""

    def __init__(self, text: str) -> None:
        self.top: list[_Place] = []
        self.unfinished: tuple[int, str] | None = None  # what begins on which line and does not end
        self._text = text
        self._lists = [self.top]
        self._owners: list[_Place] = []
        self._node: _Place | None = None
        self._is_left_out = False

    def scan(self) -> None:
        """Find all nodes.

        Raises:
            DocumentError: nested too deeply.
        """
        line, at = 1, 0
        while at < len(self._text) and self.unfinished is None:
            match = _TOKEN.match(self._text, at)
            assert match is not None
            end = _end_of_comment(self._text, match.end()) if match["comment"] else match.end()
            if end < 0 or match["open"]:
                self.unfinished = line, "a comment begins here and does not end" if end < 0 else _OPEN_TEXT
                return
            self._take(match, line)
            line += self._text.count("\n", at, end)
            at = end
        if self._owners and self.unfinished is None:
            self.unfinished = self._owners[-1].line, "the { of this node is not closed"

    def _take(self, match: re.Match[str], line: int) -> None:
        if match["left_out"]:
            self._is_left_out = True
        elif match["text"] or match["word"]:
            if self._node is None:
                self._node = _Place(line, match.start(), len(self._text))
                if not self._is_left_out:
                    self._lists[-1].append(self._node)
            self._is_left_out = False
        elif match["mark"] == "{":
            self._begin(_Place(line, match.start(), len(self._text)))
        elif match["mark"]:
            self._end(match, line)

    def _begin(self, alone: _Place) -> None:
        owner = self._node or alone
        self._lists.append([] if self._is_left_out else owner.children)
        self._owners.append(owner)
        if len(self._owners) > DEEPEST:
            raise DocumentError(alone.line, TOO_DEEP)
        self._node, self._is_left_out = None, False

    def _end(self, match: re.Match[str], line: int) -> None:
        if self._node is not None:
            self._node.end = match.start()
        self._node = None
        if match["mark"] == "}":
            if not self._owners:
                self.unfinished = line, "} closes nothing"
                return
            self._lists.pop()
            self._node = self._owners.pop()


def _end_of_comment(text: str, at: int) -> int:
    """The end of a comment that begins here, with comments inside it; -1: it has no end."""
    depth = 1
    for match in _COMMENT_MARK.finditer(text, at):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    return -1


def _line_of_error(text: str, places: list[_Place]) -> int:
    """The line of the first node, and in it of the first child, that cannot be parsed alone."""
    line = 1
    while places:
        wrong = next((place for place in places if not _can_be_read(text[place.start : place.end])), None)
        if wrong is None:
            return line
        line, places = wrong.line, wrong.children
    return line


def _can_be_read(text: str) -> bool:
    try:
        ckdl.parse(text)
    except ckdl.ParseError:
        return False
    return True
