"""Changes values of requirements in the text of a workflow file, and no other character.

The text is parsed only for the positions of values, and these are replaced in the text. So comments, order, quotes and
layout stay, in YAML and in JSON. The result is parsed again: it must be the same workflow except for the changes.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import yaml

from torc_slurm.common.errors import InputError
from torc_slurm.spec.load import Form, parse_workflow
from torc_slurm.spec.workflow import Requirement, Workflow

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_REQUIREMENTS = "resource_requirements"
_ALIAS = re.compile(r"\*[^\s,\[\]{}]+")
# Parts of JSON or JSON5 that YAML would refuse: texts, comments, white space.
_NOT_YAML = re.compile(
    r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|//[^\n]*|/\*.*?\*/|[\t\x7f-\x9f\u2028\u2029\ufeff]""", re.DOTALL
)


class Change(NamedTuple):
    """A key of a requirement: its new value, and the values that it may have now."""

    requirement: str
    key: str
    new: str | int
    known: Collection[str | int]


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


def edit_requirements(text: str, source: str, changes: Sequence[Change], form: Form = "yaml") -> str:
    """The text with the changes; the same text if nothing changes.

    Args:
        source: its name in errors.

    Raises:
        SpecError: the text is not a workflow.
        InputError: the file has another value than expected, or one that cannot be changed in one place.
    """
    before = parse_workflow(text, source, form)
    wanted = _wanted(before, changes, source)
    if not wanted:
        return text
    if form == "kdl":
        raise InputError(f"{source} is KDL, which is not edited; change it by hand: {_todo(wanted)}")
    edits = _edits(text, wanted, source, is_json=form != "yaml")
    edited = text
    for edit in sorted(edits, reverse=True):
        edited = edited[: edit.start] + edit.text + edited[edit.end :]
    _check(before, edited, wanted, source, form)
    return edited


def unified_diff(before: str, after: str, path: str) -> str:
    """The difference like ``diff -u``; empty if there is none."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    lines = difflib.unified_diff(old, new, f"{path} (before)", f"{path} (after)")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _wanted(workflow: Workflow, changes: Sequence[Change], source: str) -> dict[str, dict[str, str | int]]:
    """The changes by requirement and key, without those that the file has already."""
    requirements = {each.name: each for each in workflow.requirements}
    wanted: dict[str, dict[str, str | int]] = {}
    for change in changes:
        if change.requirement not in requirements:
            raise InputError(
                f"{source} has no resource requirement {change.requirement!r}; is it still that workflow's file?"
            )
        found = getattr(requirements[change.requirement], change.key)
        if found == change.new:
            continue
        if found not in change.known:
            raise InputError(
                f"{source} has {change.key} {found} in {change.requirement!r}, but the workflow requested "
                f"{', '.join(map(str, change.known))}; it was edited since: change it by hand to {change.new}"
            )
        wanted.setdefault(change.requirement, {})[change.key] = change.new
    return wanted


def _edits(text: str, wanted: Mapping[str, Mapping[str, str | int]], source: str, *, is_json: bool) -> list[_Edit]:
    readable = _NOT_YAML.sub(_as_long, text) if is_json else text
    root = yaml.compose(readable, Loader=_LOADER)
    edits = []
    for name, values in wanted.items():
        node = _requirement_node(root, name)
        if node is None:
            raise InputError(
                f"{source} describes {name!r} in a way that cannot be edited (an alias?); change it by hand"
            )
        edits += [_edit(text, node, key, new, is_json=is_json) for key, new in values.items()]
    return edits


def _as_long(match: re.Match[str]) -> str:
    """As many characters, but valid YAML: texts stay texts, comments become blanks."""
    found = match[0]
    if found[0] in "\"'":
        inner = re.sub(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}", "xxxxxx", found)
        return re.sub(r"[\t\x7f-\x9f\u2028\u2029\ufeff]", " ", inner)
    return re.sub(r"[^\n]", " ", found)


def _requirement_node(root: yaml.Node | None, name: str) -> yaml.MappingNode | None:
    listed = _value_of(root, _REQUIREMENTS)
    for node in listed.value if isinstance(listed, yaml.SequenceNode) else ():
        called = _value_of(node, "name")
        if isinstance(called, yaml.ScalarNode) and called.value == name:
            return node  # type: ignore[no-any-return]  # only a mapping has a name
    return None


def _value_of(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _edit(text: str, node: yaml.MappingNode, key: str, new: str | int, *, is_json: bool) -> _Edit:
    for name, value in node.value:
        if name.value == key:
            return _replacement(text, name, value, new, is_json=is_json)
    return _insertion(node, key, new, is_json=is_json)


def _replacement(text: str, name: yaml.Node, value: yaml.Node, new: str | int, *, is_json: bool) -> _Edit:
    """Replace the value; for an alias, the value where it is defined."""
    if value.start_mark.index < name.end_mark.index:  # an anchor always stands before its aliases
        alias = _ALIAS.search(text, name.end_mark.index)
        if alias is not None:
            return _Edit(alias.start(), alias.end(), _quoted(new, "", is_json=is_json))
    start, end = value.start_mark.index, value.end_mark.index
    written = text[start:end]
    quote = written[:1] if written[:1] in ("'", '"') else ""
    return _Edit(start, end, _quoted(new, quote, is_json=is_json))


def _insertion(node: yaml.MappingNode, key: str, new: str | int, *, is_json: bool) -> _Edit:
    """Insert a missing key: after the first one, on its own line if the others have theirs."""
    place = node.value[min(1, len(node.value) - 1)][0].start_mark
    written = f'"{key}"' if is_json else key
    pair = f"{written}: {_quoted(new, '', is_json=is_json)}"
    if node.flow_style:
        return _Edit(place.index, place.index, f"{pair}, ")
    return _Edit(place.index, place.index, f"{pair}\n{' ' * place.column}")


def _quoted(value: str | int, quote: str, *, is_json: bool) -> str:
    if is_json and isinstance(value, str):
        quote = '"'
    return f"{quote}{value}{quote}"


def _check(
    before: Workflow, edited: str, wanted: Mapping[str, Mapping[str, str | int]], source: str, form: Form
) -> None:
    """Parse the result: it must have the wanted changes and no others."""
    expected = tuple(_changed(each, wanted.get(each.name, {})) for each in before.requirements)
    try:
        after = parse_workflow(edited, source, form)
    except InputError:
        after = None
    if after is None or _content(after) != _content(dataclasses.replace(before, requirements=expected)):
        raise InputError(
            f"{source} cannot be edited in one place without changing more (is a value shared by an anchor?); "
            f"change it by hand: {_todo(wanted)}"
        )


def _todo(wanted: Mapping[str, Mapping[str, str | int]]) -> str:
    return "; ".join(f"{name}: {key} {new}" for name, values in wanted.items() for key, new in values.items())


def _content(workflow: Workflow) -> Workflow:
    """The workflow without warnings, which contain line numbers."""
    return dataclasses.replace(workflow, warnings=())


def _changed(requirement: Requirement, values: Mapping[str, str | int]) -> Requirement:
    return dataclasses.replace(requirement, **values)  # type: ignore[arg-type]  # each key has its own type
