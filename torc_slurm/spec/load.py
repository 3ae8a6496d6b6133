"""Reads a workflow file: text, model, checked workflow; every error with file and line."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from torc_slurm.common.errors import InputError, SpecError
from torc_slurm.common.garbage import no_search_for_cycles
from torc_slurm.spec.dependencies import nearest, nearest_of
from torc_slurm.spec.document import DocumentError, Path, Value, line_of, parse_yaml
from torc_slurm.spec.expand import Problem, check_workflow, warnings_of
from torc_slurm.spec.foreign import refused
from torc_slurm.spec.model import WorkflowModel
from torc_slurm.spec.variables import VariableError, with_variables
from torc_slurm.spec.workflow import Workflow

LARGEST_FILE_BYTES = 256 * 1024**2

Form = Literal["yaml", "json", "json5", "kdl"]
_FORMS: dict[str, Form] = {".json": "json", ".json5": "json5", ".jsonc": "json5", ".kdl": "kdl"}
_MUST_BE = {
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
}


def form_of(path: str) -> Form:
    """The form of a file, by its name: ``.json``, ``.json5``, ``.kdl``, else YAML."""
    return _FORMS.get(os.path.splitext(path)[1].lower(), "yaml")


@no_search_for_cycles()
def load_workflow(path: str, environ: Collection[str] | None = None) -> Workflow:
    """The workflow in a YAML, JSON, JSON5 or KDL file (see `form_of`).

    Raises:
        SpecError: the file has errors; each with its line.
        InputError: the file cannot be read.
    """
    return parse_workflow(_read(path), path, form_of(path), environ)


def parse_workflow(text: str, source: str, form: Form = "yaml", environ: Collection[str] | None = None) -> Workflow:
    """The workflow in a text.

    Args:
        source: its name in problems and warnings: the file's name.
        environ: the names of variables that jobs will inherit; None: `${NAME}` is not checked.

    Raises:
        SpecError: the text has errors; each with its line.
    """
    try:
        return _checked(text, source, form, environ)
    except DocumentError as error:
        raise SpecError([f"{source}:{error.line}: {error.problem}"]) from error


def _checked(text: str, source: str, form: Form, environ: Collection[str] | None) -> Workflow:
    document, line = _document(text, form)
    try:
        model = WorkflowModel.model_validate(with_variables(document))
    except VariableError as error:
        raise SpecError(_located(source, line, [Problem(error.path, str(error))])) from None
    except ValidationError as error:
        raise SpecError(_located(source, line, _problems(error.errors(include_url=False)))) from None
    del document  # of JSON nothing else refers to it
    workflow, problems = check_workflow(model)
    if workflow is None:
        raise SpecError(_located(source, line, problems))
    warnings = (
        *_located(source, line, warnings_of(model, environ)),
        *(f"{source}: {each}" for each in workflow.warnings),
    )
    return dataclasses.replace(workflow, warnings=warnings)


def _document(text: str, form: Form) -> tuple[Value, Callable[[Path], int | None]]:
    """The document, and a function that finds the line of a path in it."""
    if form == "yaml":
        document = parse_yaml(text)
    elif form == "kdl":
        from torc_slurm.spec.kdl_document import parse_kdl

        document = parse_kdl(text)
    else:
        from torc_slurm.spec.json_document import json_line_of, parse_json, parse_json5

        return parse_json(text) if form == "json" else parse_json5(text), lambda path: json_line_of(text, path)
    return document, lambda path: line_of(document, path)


def _read(path: str) -> str:
    try:
        if os.path.getsize(path) > LARGEST_FILE_BYTES:
            raise InputError(f"{path} has more than {LARGEST_FILE_BYTES} bytes; is it a workflow file?")
        with open(path, "rb") as file:
            return file.read().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SpecError([f"{path}:{line}: not UTF-8: {error.reason}; save the file as UTF-8"]) from error


def _located(source: str, line: Callable[[Path], int | None], problems: Iterable[Problem]) -> list[str]:
    """``file:line: message`` for each, in the order of lines."""
    found = [(line(problem.path) or 1, problem.message) for problem in problems]
    return [f"{source}:{line}: {message}" for line, message in dict.fromkeys(sorted(found, key=lambda each: each[0]))]


def _problems(errors: Sequence[Any]) -> Iterator[Problem]:
    """One for each error, without those that a mistyped key explains: it is not reported as missing too."""
    unknown = [error["loc"] for error in errors if error["type"] == "extra_forbidden"]
    mistyped = {(*path[:-1], nearest_of(str(path[-1]), list(_model_at(path[:-1]).model_fields))) for path in unknown}
    return (_problem(error) for error in errors if error["type"] != "missing" or error["loc"] not in mistyped)


def _problem(error: Any) -> Problem:  # noqa: ANN401 - pydantic's ErrorDetails, whose parts have no narrower type
    path = tuple(error["loc"])
    where, last = _shown(path[:-1]), path[-1] if path else ""
    kind = error["type"]
    if kind == "extra_forbidden":
        instead = refused(_place(path), str(last))
        if instead is not None:
            return Problem(path, f"{last}{where} is not known here: {instead}")
        known = list(_model_at(path[:-1]).model_fields)
        instead = nearest(str(last), known) or _elsewhere(str(last)) or f"; known are {', '.join(known)}"
        return Problem(path, f"unknown key {str(last)!r}{where}{instead}")
    if kind == "missing":
        return Problem(path, f"{str(last)!r} is missing{where}")
    return Problem(path, f"{_key(path)}{_value(error['input'])} {_reason(error)}{_shown(_above(path))}")


def _elsewhere(key: str) -> str:
    """``; it is a key of 'x'`` if one other part of the file has this key; otherwise nothing."""
    if key in WorkflowModel.model_fields:
        return "; it is a top-level key"
    models = {part: _model_in(field.annotation) for part, field in WorkflowModel.model_fields.items()}
    found = [part for part, model in models.items() if model is not None and key in model.model_fields]
    return f"; it is a key of {found[0]!r}" if len(found) == 1 else ""


def _reason(error: Any) -> str:  # noqa: ANN401 - as above
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind == "too_short":
        return "must have at least one"
    if kind in ("greater_than_equal", "less_than_equal"):
        side = "at least" if kind == "greater_than_equal" else "at most"
        return f"must be {side} {context.get('ge', context.get('le')):g}"
    return _MUST_BE.get(kind) or str(error["msg"])


def _above(path: Sequence[str | int]) -> Sequence[str | int]:
    """The path of the named key, without list indices below it."""
    named = [place for place, part in enumerate(path) if isinstance(part, str)]
    return path[: named[-1]] if named else ()


def _key(path: Sequence[str | int]) -> str:
    names = [part for part in path if isinstance(part, str)]
    return names[-1] if names else "the file"


def _value(value: object) -> str:
    if not isinstance(value, (str, int, float)):
        return ""
    text = str(value)
    return f" {text if len(text) <= 40 else text[:39] + '…'!r}"


def _shown(path: Sequence[str | int]) -> str:
    """`` in jobs[3]`` (counted from 1); nothing at the top."""
    if not path:
        return ""
    return " in " + "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _place(path: Sequence[str | int]) -> str:
    """The named key that contains the last one: ``jobs`` for ``jobs[3].label``."""
    named = [part for part in path[:-1] if isinstance(part, str)]
    return named[-1] if named else ""


def _model_at(path: Sequence[str | int]) -> type[BaseModel]:
    """The model of the object at a path, from the annotations of the models above it."""
    model: type[BaseModel] = WorkflowModel
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each)) is not None), None)
