"""Files, datasets and user data that jobs read and make: the order that follows, and the paths in commands.

``${files.input.NAME}`` in a command is replaced by the file's path, and means that the job reads the file; the same for
``output``, ``datasets`` and ``user_data`` (replaced by the value's number). Pure.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torc_slurm.common.errors import InputError
from torc_slurm.spec.dependencies import Names, nearest
from torc_slurm.spec.document import Plain, Value
from torc_slurm.spec.drafts import JobDraft, NamedPath

FILES, DATASETS, USER_DATA = "files", "datasets", "user_data"
_SINGULAR = {FILES: "file", DATASETS: "dataset", USER_DATA: "user_data"}
_REFERENCE = re.compile(r"\$\{\s*([A-Za-z_][A-Za-z0-9_]*\.[^}]*?)\s*\}")
_DIRECTIONS = ("input", "output")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)


class Found(NamedTuple):
    """The result for all jobs: which jobs each waits for, what each makes, and which files must exist before."""

    depends_on: Sequence[Sequence[int]]
    output_paths: list[tuple[str, ...]]
    required_paths: tuple[str, ...]
    problems: list[tuple[int, str]]
    unwritten: list[str]


class Artifacts:
    """The names of one workflow's files, datasets and user data."""

    def __init__(self, named: Mapping[str, Sequence[NamedPath]]) -> None:
        self._paths = {kind: {each.name: each.value for each in found} for kind, found in named.items()}
        self._names = {kind: Names(list(found), kind) for kind, found in self._paths.items()}

    def resolve(self, jobs: Sequence[JobDraft]) -> Found:
        """Insert paths into the commands of all jobs, and find out which files jobs read and make."""
        problems: list[tuple[int, str]] = []
        used: list[tuple[dict[tuple[str, str], None], dict[tuple[str, str], None]]] = []
        nothing: tuple[dict[tuple[str, str], None], dict[tuple[str, str], None]] = {}, {}
        for job in jobs:
            if not job.lists and not job.env and "${" not in job.command:
                used.append(nothing)
                continue
            read: dict[tuple[str, str], None] = {}
            made: dict[tuple[str, str], None] = {}
            try:
                self._listed(job, read, made)
                job.command = self._put_in(job, job.command, read, made)
                if job.env:
                    job.env = {name: self._put_in(job, text, read, made) for name, text in job.env.items()}
            except InputError as error:
                problems.append((job.source, f"job {job.name!r}: {error}"))
            used.append((read, made))
        makers: dict[tuple[str, str], list[int]] = {}
        for index, (_, made) in enumerate(used):
            for key in made:
                makers.setdefault(key, []).append(index)
        depends_on = [
            [other for key in read for other in makers.get(key, ()) if other != index] if read else ()
            for index, (read, _) in enumerate(used)
        ]
        not_made = dict.fromkeys(key for read, _ in used for key in read if key not in makers)
        return Found(
            depends_on,
            [tuple(self._path(*key) for key in made if key[0] != USER_DATA) if made else () for _, made in used],
            tuple(self._path(*key) for key in not_made if key[0] != USER_DATA),
            problems,
            [name for kind, name in not_made if kind == USER_DATA and self._paths[kind][name] is None],
        )

    def _path(self, kind: str, name: str) -> str:
        return str(self._paths[kind][name])

    def _listed(self, job: JobDraft, read: dict[tuple[str, str], None], made: dict[tuple[str, str], None]) -> None:
        """The names in ``input_files``, ``output_file_regexes`` and so on."""
        for key, words in job.lists.items():
            direction, _, rest = key.partition("_")
            if direction not in _DIRECTIONS:
                continue
            is_regex = rest.endswith("_regexes")
            kind = next(kind for kind, word in _SINGULAR.items() if rest.startswith(word))
            found = read if direction == "input" else made
            for word in words:
                if is_regex:
                    found.update(((kind, name), None) for name in self._names[kind].names_matching(word))
                else:
                    found[kind, self._names[kind].name(word)] = None

    def _put_in(
        self, job: JobDraft, text: str, read: dict[tuple[str, str], None], made: dict[tuple[str, str], None]
    ) -> str:
        if "${" not in text:
            return text

        def replaced(match: re.Match[str]) -> str:
            kind, _, rest = match[1].partition(".")
            direction, _, name = rest.partition(".")
            if kind not in self._names:
                return _not_ours(text, match)
            if direction not in _DIRECTIONS or not name:
                raise InputError(f"{match[0]} must be ${{{kind}.input.NAME}} or ${{{kind}.output.NAME}}")
            key = kind, self._names[kind].name(name)
            (read if direction == "input" else made)[key] = None
            return f"${{{match[1]}}}" if kind == USER_DATA else _seen_from(job.working_dir, self._path(*key))

        return _REFERENCE.sub(replaced, text)


def _not_ours(text: str, match: re.Match[str]) -> str:
    """A reference that bash gets unchanged: allowed in single quotes; elsewhere bash stops with "bad substitution".

    Raises:
        InputError: it is not in single quotes.
    """
    if text.count("'", 0, match.start()) % 2:
        return match[0]
    kinds = [f"{kind}.{direction}" for kind in _SINGULAR for direction in _DIRECTIONS]
    meant = nearest(match[1].rpartition(".")[0], kinds)
    raise InputError(
        f"{match[0]} is not defined: torc knows ${{files.input.NAME}}, ${{files.output.NAME}} and the same of "
        f"datasets and user_data, and a variable of bash has no dot in its name{meant}"
    )


def _seen_from(working_dir: str | None, path: str) -> str:
    """The path for a job with its own working directory.

    Raises:
        InputError: only one of the two is relative, so the result would depend on where torc is called.
    """
    if working_dir is None or os.path.isabs(path) or path.startswith(("$", "~")):
        return path
    if os.path.isabs(working_dir) or working_dir.startswith(("$", "~")):
        raise InputError(f"its working_dir {working_dir} is absolute; give the file {path} an absolute path too")
    return os.path.relpath(path, working_dir)


def data_of(value: Value) -> str:
    """A document's value as JSON text: unquoted text that looks like a number, true or false becomes one."""
    return json.dumps(_typed(value), ensure_ascii=False)


def _typed(value: Value) -> object:
    if isinstance(value, Plain):
        if value in ("true", "false"):
            return value == "true"
        return json.loads(value) if len(value) < 300 and _NUMBER.fullmatch(value) else str(value)
    if isinstance(value, list):
        return [_typed(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _typed(each) for key, each in value.items()}
    return value


def names_of(found: Iterator[NamedPath | tuple[int, str]]) -> tuple[list[NamedPath], list[tuple[int, str]]]:
    """The names without duplicates, and the errors."""
    named: list[NamedPath] = []
    problems: list[tuple[int, str]] = []
    first: dict[str, int] = {}
    for each in found:
        if not isinstance(each, NamedPath):
            problems.append(each)
        elif each.name in first:
            problems.append((each.source, f"there are two named {each.name!r}; a name must contain every parameter"))
        else:
            first[each.name] = each.source
            named.append(each)
    return named, problems
