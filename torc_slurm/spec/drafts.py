"""Jobs, files and user data with parameters inserted and references still as names. Pure, but reads tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torc_slurm.common.errors import InputError
from torc_slurm.spec.dependencies import nearest
from torc_slurm.spec.document import Value
from torc_slurm.spec.model import DatasetModel, FileModel, JobModel, UserDataModel, WorkflowModel
from torc_slurm.spec.parameters import MOST_JOBS, Combination, Template, braces_of, combinations_of
from torc_slurm.spec.tables import rows_of
from torc_slurm.spec.values import LONGEST_COMMAND_BYTES

# A job's lists of names and of regular expressions, in the order of evaluation.
LISTS = (
    "depends_on",
    "depends_on_regexes",
    "input_files",
    "input_file_regexes",
    "output_files",
    "output_file_regexes",
    "input_datasets",
    "output_datasets",
    "input_user_data",
    "input_user_data_regexes",
    "output_user_data",
    "output_user_data_regexes",
)
_PLACEHOLDER = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)(?::[^{}]*)?\}", re.ASCII)
_LISTS = frozenset(LISTS)
_NOTHING: tuple[str, ...] = ()

Parametrized = JobModel | FileModel | DatasetModel | UserDataModel


@dataclass(slots=True)
class JobDraft:
    """A job whose references are names; ``source`` is its index in the file, ``lists`` has its entries of `LISTS`."""

    source: int
    name: str
    command: str
    requirement: str | None
    working_dir: str | None
    scheduler: str | None
    failure_handler: str | None
    env: dict[str, str]
    srun_options: tuple[str, ...]
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    parameters: dict[str, int | float] = field(default_factory=dict)  # the numbers in its name and command

    def is_the_same_but_for_lists(self, other: JobDraft) -> bool:
        """Whether both are one job, written with parameters only to name others in its lists."""
        return (
            self.source == other.source
            and self.command == other.command
            and self.requirement == other.requirement
            and self.working_dir == other.working_dir
            and self.scheduler == other.scheduler
            and self.failure_handler == other.failure_handler
            and self.env == other.env
            and self.srun_options == other.srun_options
        )

    def take_lists_of(self, other: JobDraft) -> None:
        """Add the other's names."""
        for key, names in other.lists.items():
            self.lists[key] = (*self.lists.get(key, ()), *names)


class NamedPath(NamedTuple):
    """A file, dataset or user data (``value`` is then its data) with its name; ``source`` as in `JobDraft`."""

    source: int
    name: str
    value: Value


class Shared:
    """The workflow's own parameters, or its table, which jobs and files may use."""

    def __init__(self, model: WorkflowModel) -> None:
        """Read the workflow's table.

        Raises:
            InputError: it has both, or the table cannot be read.
        """
        if model.parameters is not None and model.parameters_file is not None:
            raise InputError("parameters and parameters_file are both at the top level; give only one")
        self._parameters = model.parameters or {}
        self._table = None if model.parameters_file is None else rows_of(model.parameters_file)
        self._of_jobs: dict[str, object] = {}
        for job in model.jobs:
            for name, given in (job.parameters or {}).items():
                self._of_jobs.setdefault(name, given)

    def combinations(self, item: Parametrized, what: str) -> tuple[set[str], Iterator[Combination]] | None:
        """The names of an item's parameters and their combinations; None if it has none.

        Raises:
            InputError: they are given in two ways, or are wrong.
        """
        if item.parameters_file is not None or item.use_parameters_file:
            rows = self._rows(item, what)
            return set(rows[0]), iter(rows)
        given: dict[str, object] = {}
        for name in item.use_parameters or ():
            if name not in self._parameters:
                known = list(self._parameters)
                raise InputError(
                    f"{what} uses parameter {name!r}, which the top level does not declare{nearest(name, known)}"
                )
            given[name] = self._parameters[name]
        given |= item.parameters or {}
        if item.parameters is not None and not given:
            raise InputError(f"{what} has parameters without a name")
        if item.parameters is None and item.use_parameters is None and not isinstance(item, JobModel):
            given = self._meant_by_braces(item.name)
        return (set(given), combinations_of(given, item.parameter_mode)) if given else None

    def _rows(self, item: Parametrized, what: str) -> list[Combination]:
        inline: tuple[str, ...] = ("parameters", "use_parameters", "parameter_mode")
        mixed = [key for key in inline if key in item.model_fields_set]
        if item.parameters_file is not None and item.use_parameters_file:
            mixed.append("use_parameters_file")
        if mixed:
            raise InputError(f"{what} has a parameters_file and {mixed[0]}; give one or the other")
        if item.parameters_file is not None:
            return rows_of(item.parameters_file)
        if self._table is None:
            raise InputError(f"{what} has use_parameters_file, but the top level has no parameters_file")
        return self._table

    def _meant_by_braces(self, name: str) -> dict[str, object]:
        """The parameters of a file ``raw_{i}`` that declares none: those that jobs, or the workflow, give ``i``."""
        known = self._parameters | self._of_jobs
        return {each: known[each] for each in _PLACEHOLDER.findall(name) if each in known}


def job_drafts(source: int, job: JobModel, shared: Shared) -> Iterator[JobDraft]:
    """The jobs that one job in the file describes.

    Raises:
        InputError: its parameters are wrong, or a command becomes too long.
    """
    found = shared.combinations(job, f"job {job.name!r}")
    listed = _LISTS & job.model_fields_set
    lists = {key: tuple(names) for key in LISTS if key in listed and (names := getattr(job, key))} if listed else {}
    whole = _joined(job.invocation_script, job.command)
    if found is None:
        yield JobDraft(
            source,
            job.name,
            _fits(whole, job.name),
            job.resource_requirements,
            job.working_dir,
            job.scheduler,
            job.failure_handler,
            job.env,
            tuple(job.srun_options),
            lists,
        )
        return
    names, combinations = found
    pattern = braces_of(sorted(names))
    of_name, of_command = Template(job.name, pattern), Template(whole, pattern)
    requirement, working_dir, scheduler, failure_handler = (
        None if text is None else Template(text, pattern)
        for text in (job.resource_requirements, job.working_dir, job.scheduler, job.failure_handler)
    )
    of_env = {name: Template(text, pattern) for name, text in job.env.items()}
    of_options = [Template(text, pattern) for text in job.srun_options]
    of_lists = {key: [Template(text, pattern) for text in texts] for key, texts in lists.items()}
    used = of_name.names | of_command.names
    for chosen in combinations:
        name = of_name.fill(chosen)
        yield JobDraft(
            source,
            name,
            _fits(of_command.fill(chosen), name),
            None if requirement is None else requirement.fill(chosen),
            None if working_dir is None else working_dir.fill(chosen),
            None if scheduler is None else scheduler.fill(chosen),
            None if failure_handler is None else failure_handler.fill(chosen),
            {name: each.fill(chosen) for name, each in of_env.items()} if of_env else {},
            tuple(each.fill(chosen) for each in of_options) if of_options else _NOTHING,
            {key: tuple(each.fill(chosen) for each in texts) for key, texts in of_lists.items()} if of_lists else {},
            {key: each.value for key, each in chosen.items() if key in used and not isinstance(each.value, str)},
        )


def _joined(script: str | None, command: str) -> str:
    """The script before the command: words such as ``bash env.sh``, or whole lines of preparation."""
    if not script or not script.strip():
        return command
    return (
        f"{script.rstrip()}\n{command}" if "\n" in script.strip() or script.startswith("#!") else f"{script} {command}"
    )


def _fits(command: str, name: str) -> str:
    if len(command) * 4 > LONGEST_COMMAND_BYTES and len(command.encode()) > LONGEST_COMMAND_BYTES:
        raise InputError(f"the command of {name!r} becomes longer than the {LONGEST_COMMAND_BYTES} bytes allowed")
    return command


def merged_jobs(drafts: Iterator[JobDraft]) -> Iterator[JobDraft]:
    """Merge jobs that differ only in what they name: ``aggregate`` with parameters waits for all of them.

    Raises:
        InputError: there are too many.
    """
    known: dict[str, JobDraft] = {}
    count = 0
    for draft in drafts:
        first = known.setdefault(draft.name, draft)
        if first is not draft and first.is_the_same_but_for_lists(draft):
            first.take_lists_of(draft)
            continue
        count += 1
        if count > MOST_JOBS:
            raise InputError(f"the workflow has more than {MOST_JOBS} jobs")
        yield draft


def path_drafts(
    items: Sequence[FileModel | DatasetModel], what: str, shared: Shared
) -> Iterator[NamedPath | tuple[int, str]]:
    """The files (or datasets) that the entries describe; ``(index, message)`` for each wrong entry."""
    for source, item in enumerate(items):
        try:
            found = shared.combinations(item, f"{what} {item.name!r}")
            if found is None:
                yield NamedPath(source, item.name, item.path)
                continue
            pattern = braces_of(sorted(found[0]))
            name, path = Template(item.name, pattern), Template(item.path, pattern)
            for chosen in found[1]:
                yield NamedPath(source, name.fill(chosen), path.fill(chosen))
        except InputError as error:
            yield source, str(error)


def user_data_drafts(items: Sequence[UserDataModel], shared: Shared) -> Iterator[NamedPath | tuple[int, str]]:
    """The user data that the entries describe, with parameters inserted into every text; like `path_drafts`."""
    for source, item in enumerate(items):
        try:
            found = shared.combinations(item, f"user data {item.name!r}")
            if found is None:
                yield NamedPath(source, item.name, item.data)
                continue
            pattern = braces_of(sorted(found[0]))
            for chosen in found[1]:
                name = Template(item.name, pattern).fill(chosen)
                yield NamedPath(source, name, _filled(item.data, pattern, chosen))
        except InputError as error:
            yield source, str(error)


def _filled(value: Value, pattern: re.Pattern[str], chosen: Combination) -> Value:
    if isinstance(value, str):
        return type(value)(Template(value, pattern).fill(chosen))
    if isinstance(value, list):
        return [_filled(each, pattern, chosen) for each in value]
    if isinstance(value, Mapping):
        return {key: _filled(each, pattern, chosen) for key, each in value.items()}
    return value
