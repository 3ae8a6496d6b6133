"""Inserts the workflow's ``variables`` into every text of a document before its keys are read; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torc_slurm.common.errors import InputError
from torc_slurm.spec.dependencies import nearest_of
from torc_slurm.spec.document import Items, Mapping, Plain, Value
from torc_slurm.spec.parameters import check_name

_BRACES = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)(?::([^{}]*))?\}", re.ASCII)
_LISTS_WITH_PARAMETERS = ("jobs", "files", "datasets", "user_data")
_NAMES_ONLY = frozenset(("use_parameters", "variables"))


class VariableError(InputError):
    """A variable that cannot be used; ``path`` is its place in the document."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        self.path = path
        super().__init__(message)


def with_variables(document: Value) -> Value:
    """The document with its top ``variables`` inserted for ``{name}``, in every text except names of parameters.

    Raises:
        VariableError: they are not a mapping of words to texts, clash with a parameter, or are mistyped where used.
    """
    given = document.get("variables") if isinstance(document, dict) else None
    if not isinstance(document, dict) or given is None:
        return document
    if not isinstance(given, dict):
        raise VariableError(("variables",), "variables must be a mapping (key: value)")
    parameters = set(_parameter_names(document))
    variables = {name: _checked(name, value, parameters) for name, value in given.items()}
    return _filled(document, variables, parameters, ()) if variables else document


def _checked(name: str, value: Value, parameters: set[str]) -> str:
    path = ("variables", name)
    try:
        check_name(name, "variable")
    except InputError as error:
        raise VariableError(path, str(error)) from None
    if name in parameters:
        raise VariableError(path, f"{name!r} is a variable and a parameter; rename one of them")
    if not isinstance(value, str):
        raise VariableError(path, f"variable {name!r} must be a text")
    inside = _BRACES.search(value)
    if inside is not None:
        raise VariableError(
            path,
            f"the value of variable {name!r} contains {inside[0]}: a variable cannot contain another one; write "
            f"{{{name}}} and {inside[0]} side by side where you use them",
        )
    return value


def _parameter_names(document: dict[str, Value]) -> Iterator[str]:
    objects = [document]
    for key in _LISTS_WITH_PARAMETERS:
        listed = document.get(key)
        objects += [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    for each in objects:
        given = each.get("parameters")
        yield from given if isinstance(given, dict) else ()


def _filled(value: Value, variables: dict[str, str], parameters: set[str], path: tuple[str | int, ...]) -> Value:
    if isinstance(value, str):
        return _fill(value, variables, parameters, path)
    if isinstance(value, list):
        items = Items()
        items.extend(_filled(each, variables, parameters, (*path, index)) for index, each in enumerate(value))
        items.lines = value.lines if isinstance(value, Items) else []
        return items
    if isinstance(value, dict):
        mapping = Mapping()
        for key, each in value.items():
            mapping[key] = each if key in _NAMES_ONLY else _filled(each, variables, parameters, (*path, key))
        mapping.lines = value.lines if isinstance(value, Mapping) else {}
        return mapping
    return value


def _fill(text: str, variables: dict[str, str], parameters: set[str], path: tuple[str | int, ...]) -> str:
    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        if name in variables:
            return variables[name]
        near = None if name in parameters else nearest_of(name, list(variables))
        if near is not None:
            raise VariableError(path, f"{match[0]} is not a variable or parameter; did you mean {{{near}}}?")
        return match[0]

    filled = _BRACES.sub(replaced, text)
    return Plain(filled) if isinstance(text, Plain) else filled
