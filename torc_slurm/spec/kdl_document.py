"""Reads a workflow file in KDL into the same plain values as YAML and JSON give.

In KDL each job is a node ``job "name" { … }`` of its own, and what is a list elsewhere is a node written several times:
the tables here say which. ckdl reads the text; it does not tell lines, so these come from reading it piece by piece.
"""

from __future__ import annotations

from typing import NamedTuple

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
# Nodes inside those, each adding its arguments to a list.
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
_MAPPINGS = frozenset(("parameters", "variables", "env", "slurm_defaults"))  # their keys are the user's own


class _Lines(NamedTuple):
    """The line on which a node begins, and those of its children, None where they are not known."""

    line: int
    children: list[_Lines] | None


def parse_kdl(text: str) -> Value:
    """The document in a KDL text.

    Raises:
        DocumentError: not KDL, nested too deeply, or a key twice.
    """
    lines = text.splitlines()
    try:
        document = ckdl.parse(text)
    except ckdl.ParseError as error:
        raise DocumentError(_line_of_error(lines), f"not KDL: {error}") from None
    if not document.nodes:
        raise DocumentError(1, "there is nothing in it")
    return _object(document.nodes, _lines_of(lines, 1, len(document.nodes)), 1, parent="", depth=0)


def _object(nodes: list[ckdl.Node], lines: list[_Lines] | None, line: int, *, parent: str, depth: int) -> Mapping:
    """A node's children, or the whole text, as one object."""
    if depth > DEEPEST:
        raise DocumentError(line, TOO_DEEP)
    found = Mapping()
    for index, node in enumerate(nodes):
        place = lines[index] if lines is not None else _Lines(line, None)
        key = _key_of(node.name, parent)
        if (key in _OBJECT_KEYS and not parent) or (key == "rules" and parent == "failure_handlers"):
            _add(found, key, [_named(node, place, depth)], place.line)
        elif _is_list(node.name, key, parent):
            _add(found, key, [_scalar(each) for each in node.args], place.line)
        elif key in found:
            raise DocumentError(place.line, f"key {key!r} is given twice (first on line {found.lines[key]})")
        else:
            found[key], found.lines[key] = _value(node, place, key, depth), place.line
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


def _named(node: ckdl.Node, place: _Lines, depth: int) -> Mapping:
    """``job "name" key=value { … }``."""
    kind = {"rule": "rules"}.get(node.name, _OBJECTS.get(node.name, node.name))
    found = _object(node.children, place.children, place.line, parent=kind, depth=depth + 1)
    for key, value in node.properties.items():
        _put(found, key, _scalar(value), place.line)
    if len(node.args) > 1:
        raise DocumentError(place.line, f"{node.name} takes one name; {node.args[1]!r} is one too many")
    if node.args and kind not in ("actions", "rules"):
        _put(found, "name", _scalar(node.args[0]), place.line)
    return found


def _value(node: ckdl.Node, place: _Lines, key: str, depth: int) -> Value:
    if node.children or node.properties or (key in _MAPPINGS and not node.args):
        found = _object(node.children, place.children, place.line, parent=key, depth=depth + 1)
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
    """Numbers and truths as texts that the key gives a meaning; a quoted text stays one."""
    if isinstance(value, ckdl.Value):
        value = value.value
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return Plain("true" if value else "false")
    return Plain(str(value))


# --- lines ---------------------------------------------------------------------------------------------------------


def _lines_of(lines: list[str], first: int, expected: int) -> list[_Lines] | None:
    """Where the nodes of these lines begin: each piece that can be read by itself holds one node, or a few.

    None where that does not give as many nodes as there are: then they all stand where their parent does.
    """
    found: list[_Lines] = []
    start = 0
    while start < len(lines):
        end, nodes = _piece(lines, start)
        if nodes is None:
            return None
        for node in nodes:
            inner = lines[start + 1 : end - 1] if len(nodes) == 1 else []
            children = _lines_of(inner, first + start + 1, len(node.children)) if node.children else None
            found.append(_Lines(first + start, children))
        start = end
    return found if len(found) == expected else None


def _piece(lines: list[str], start: int) -> tuple[int, list[ckdl.Node] | None]:
    """The end of the shortest piece from a line on that can be read, and its nodes; None: none can."""
    for end in range(start + 1, len(lines) + 1):
        if lines[end - 1].rstrip().endswith("\\"):  # goes on in the next line
            continue
        try:
            return end, ckdl.parse("\n".join(lines[start:end])).nodes
        except ckdl.ParseError:
            continue
    return len(lines), None


def _line_of_error(lines: list[str]) -> int:
    """Where the first piece begins that cannot be read."""
    start = 0
    while start < len(lines):
        end, nodes = _piece(lines, start)
        if nodes is None:
            break
        start = end
    return min(start, max(0, len(lines) - 1)) + 1
