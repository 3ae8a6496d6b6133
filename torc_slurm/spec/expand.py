"""Puts parameters into jobs and resolves every name in a workflow file: from the model to a checked workflow; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torc_slurm.errors import InputError
from torc_slurm.spec.dependencies import Names, describe_cycle, find_cycle, nearest
from torc_slurm.spec.model import LONGEST_COMMAND_BYTES, JobModel, WorkflowModel
from torc_slurm.spec.parameters import MOST_JOBS, combinations, settings_of, shell_variables, substitution
from torc_slurm.spec.workflow import Execution, Job, Monitor, Requirement, Scheduler, Workflow
from torc_slurm.units import parse_iso_duration

FEWEST_SAMPLES = 60
_LAUNCHER = re.compile(r"\s*(?:exec\s+)?(srun|mpirun|mpiexec)(?:\.\w+)?(?=\s|$)")

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """What is wrong, and the path in the document of what is to be changed."""

    path: Path
    message: str


class _Draft(NamedTuple):
    """A job with its parameters put in, its dependencies still names; ``source`` is its index in the file."""

    source: int
    job: Job
    depends_on: Sequence[str]
    depends_on_regexes: Sequence[str]


def check_workflow(model: WorkflowModel) -> tuple[Workflow | None, list[Problem]]:
    """The workflow that a file means, and nothing wrong with it; or None and all that is wrong."""
    problems = [*_twice(model, "resource_requirements"), *_twice(model, "slurm_schedulers")]
    drafts = list(_drafts(model, problems))
    problems += [*_same_names(model, drafts), *_unknown_requirements(model, drafts)]
    if problems:
        return None, problems
    depends_on = _dependencies(drafts, problems)
    names = [draft.job.name for draft in drafts]
    cycle = None if problems else find_cycle(depends_on)
    if cycle is not None:
        where: Path = ("jobs", drafts[cycle[0]].source)
        problems.append(Problem(where, f"a cycle: {describe_cycle([names[index] for index in cycle])}"))
    return (None, problems) if problems else (_workflow(model, drafts, depends_on), [])


def warnings_of(model: WorkflowModel) -> Iterator[Problem]:
    """What is allowed and most likely not meant."""
    for index, job in enumerate(model.jobs):
        launcher = _LAUNCHER.match(job.command)
        if launcher is not None:
            yield Problem(
                ("jobs", index, "command"),
                f"job {job.name!r} begins with {launcher[1]}, inside the srun that starts it; let torc start the "
                "tasks: give ntasks_per_node (and num_nodes) in its resource requirements",
            )
        for name in shell_variables(job.command, list(job.parameters or ())):
            yield Problem(
                ("jobs", index, "command"), f"${{{name}}} is left to the shell; the parameter is written {{{name}}}"
            )
    yield from _few_samples(model)


def _few_samples(model: WorkflowModel) -> Iterator[Problem]:
    interval = model.resource_monitor.sample_interval_seconds
    used = {job.resource_requirements for job in model.jobs} if model.resource_monitor.enabled else set()
    for index, requirement in enumerate(model.resource_requirements):
        if requirement.runtime is None or requirement.name not in used:
            continue
        seconds = parse_iso_duration(requirement.runtime)
        if seconds / interval < FEWEST_SAMPLES:
            enough = max(0.1, seconds / FEWEST_SAMPLES)
            yield Problem(
                ("resource_requirements", index, "runtime"),
                f"{requirement.name!r} has {seconds / interval:.0f} samples in its run time {requirement.runtime} with "
                f"sample_interval_seconds {interval:g}; {enough:.2g} makes {seconds / enough:.0f}",
            )


def _twice(model: WorkflowModel, key: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, each in enumerate(getattr(model, key)):
        if each.name in seen:
            yield Problem((key, index, "name"), f"{key} has the name {each.name!r} twice")
        seen.add(each.name)


def _drafts(model: WorkflowModel, problems: list[Problem]) -> Iterator[_Draft]:
    count = 0
    for index, job in enumerate(model.jobs):
        try:
            for draft in _expanded(index, job):
                yield draft
                count += 1
                if count > MOST_JOBS:
                    raise InputError(f"the workflow has more than {MOST_JOBS} jobs")
        except InputError as error:
            problems.append(Problem(("jobs", index), str(error)))


def _expanded(index: int, job: JobModel) -> Iterator[_Draft]:
    if job.parameters is None:
        yield _draft(index, job, lambda text: text)
        return
    if not job.parameters:
        raise InputError(f"job {job.name!r} has parameters without a name")
    settings = {name: settings_of(name, given) for name, given in job.parameters.items()}
    substitute = substitution(list(settings))
    for combination in combinations(settings, job.parameter_mode):
        yield _draft(index, job, lambda text, chosen=combination: substitute(text, chosen))  # type: ignore[misc]


def _draft(index: int, job: JobModel, fill: Callable[[str], str]) -> _Draft:
    command = fill(job.command)
    if len(command.encode()) > LONGEST_COMMAND_BYTES:
        raise InputError(f"the command of {job.name!r} becomes longer than the {LONGEST_COMMAND_BYTES} bytes allowed")
    return _Draft(
        index,
        Job(
            name=fill(job.name),
            command=command,
            requirement=None if job.resource_requirements is None else fill(job.resource_requirements),
            env={name: fill(value) for name, value in job.env.items()},
            working_dir=None if job.working_dir is None else fill(job.working_dir),
            srun_options=tuple(map(fill, job.srun_options)),
        ),
        tuple(map(fill, job.depends_on)),
        tuple(map(fill, job.depends_on_regexes)),
    )


def _same_names(model: WorkflowModel, drafts: Sequence[_Draft]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    told: set[int] = set()
    for draft in drafts:
        name, source = draft.job.name, draft.source
        if name in first and source not in told:
            told.add(source)
            remedy = "; its name must hold every parameter, in braces" if model.jobs[source].parameters else ""
            yield Problem(("jobs", source, "name"), f"there are two jobs named {name!r}{remedy}")
        first.setdefault(name, source)


def _unknown_requirements(model: WorkflowModel, drafts: Sequence[_Draft]) -> Iterator[Problem]:
    known = [requirement.name for requirement in model.resource_requirements]
    allowed = {None, *known}
    unknown = {(draft.source, draft.job.requirement) for draft in drafts if draft.job.requirement not in allowed}
    for source, name in sorted(unknown, key=lambda each: each[0]):
        path: Path = ("jobs", source, "resource_requirements")
        yield Problem(path, f"resource_requirements has no {name!r}{nearest(str(name), known)}")


def _dependencies(drafts: Sequence[_Draft], problems: list[Problem]) -> list[tuple[int, ...]]:
    names = Names([draft.job.name for draft in drafts])
    return [_dependencies_of(index, draft, names, problems) for index, draft in enumerate(drafts)]


def _dependencies_of(index: int, draft: _Draft, names: Names, problems: list[Problem]) -> tuple[int, ...]:
    """Each once, in order; a regular expression never means the job itself."""
    found: dict[int, None] = {}
    for key, words, look_up in (
        ("depends_on", draft.depends_on, lambda word: (names.named(word),)),
        ("depends_on_regexes", draft.depends_on_regexes, names.matching),
    ):
        for word in words:
            try:
                found.update(dict.fromkeys(look_up(word)))
            except InputError as error:
                problems.append(Problem(("jobs", draft.source, key), f"job {draft.job.name!r}: {error}"))
    if index in found and draft.job.name not in draft.depends_on:
        del found[index]
    return tuple(found)


def _workflow(model: WorkflowModel, drafts: Sequence[_Draft], depends_on: Sequence[tuple[int, ...]]) -> Workflow:
    execution = model.execution_config
    schedulers = (scheduler.model_dump() for scheduler in model.slurm_schedulers)
    return Workflow(
        name=model.name,
        description=model.description,
        jobs=tuple(
            Job(
                draft.job.name,
                draft.job.command,
                draft.job.requirement,
                draft.job.env,
                draft.job.working_dir,
                draft.job.srun_options,
                waits_for,
            )
            for draft, waits_for in zip(drafts, depends_on, strict=True)
        ),
        monitor=Monitor(**model.resource_monitor.model_dump()),
        execution=Execution(**execution.model_dump() | {"srun_options": tuple(execution.srun_options)}),
        requirements=tuple(Requirement(**each.model_dump()) for each in model.resource_requirements),
        schedulers=tuple(
            Scheduler(**each | {"extra": tuple(each["extra"]), "setup": tuple(each["setup"])}) for each in schedulers
        ),
        slurm_defaults=model.slurm_defaults,
    )
