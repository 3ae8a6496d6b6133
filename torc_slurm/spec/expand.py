"""Inserts parameters and resolves every name in a workflow file: from the model to a checked workflow; pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from torc_slurm.common.errors import InputError
from torc_slurm.common.units import parse_iso_duration
from torc_slurm.spec.actions import Actions, read_actions
from torc_slurm.spec.artifacts import DATASETS, FILES, USER_DATA, Artifacts, Found, data_of, names_of
from torc_slurm.spec.dependencies import Names, describe_cycle, find_cycle, nearest
from torc_slurm.spec.document import Path as DocumentPath
from torc_slurm.spec.drafts import JobDraft, NamedPath, Shared, job_drafts, merged_jobs, path_drafts, user_data_drafts
from torc_slurm.spec.foreign import unused_lines
from torc_slurm.spec.model import ExecutionModel, FailureHandlerModel, JobModel, WorkflowModel
from torc_slurm.spec.plan_settings import ORDINARY
from torc_slurm.spec.undefined import undefined_braces, undefined_variables
from torc_slurm.spec.workflow import (
    Execution,
    Job,
    JobSettings,
    Monitor,
    Requirement,
    Rule,
    Scheduler,
    UserData,
    Workflow,
)

FEWEST_SAMPLES = 60
_LAUNCHER = re.compile(r"\s*(?:exec\s+)?(srun|mpirun|mpiexec)(?:\.\w+)?(?=\s|$)")

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """An error, and the path in the document of what to change."""

    path: DocumentPath
    message: str


class _Resolved(NamedTuple):
    """The result of resolving every name."""

    drafts: list[JobDraft]
    found: Found
    depends_on: list[tuple[int, ...]]
    actions: Actions
    user_data: list[NamedPath]


def check_workflow(model: WorkflowModel) -> tuple[Workflow | None, list[Problem]]:
    """The workflow in a file, with warnings that have no line; or None and all errors."""
    problems = [
        problem
        for key in ("resource_requirements", "slurm_schedulers", "failure_handlers")
        for problem in _twice(model, key)
    ]
    try:
        shared = Shared(model)
    except InputError as error:
        return None, [*problems, Problem(("parameters_file",), str(error))]
    drafts = list(_drafts(model, shared, problems))
    problems += [*_same_names(model, drafts), *_unknown_names(model, drafts)]
    named = _named(model, shared, problems)
    if problems:
        return None, problems
    resolved = _resolved(model, drafts, named, problems)
    return (None, problems) if problems else (_workflow(model, resolved), [])


def warnings_of(model: WorkflowModel, environ: Collection[str] | None = None) -> Iterator[Problem]:
    """What is allowed but probably not meant."""
    yield from (Problem((), line) for line in unused_lines(model))
    for index, job in enumerate(model.jobs):
        launcher = _LAUNCHER.match(job.command)
        if launcher is not None:
            yield Problem(
                ("jobs", index, "command"),
                f"the command of job {job.name!r} begins with {launcher[1]}, but torc already starts it with srun; let "
                "torc start the tasks: give ntasks_per_node (and num_nodes) in its resource requirements",
            )
        for name in job.parameters or ():
            if f"${{{name}}}" in job.command:
                yield Problem(
                    ("jobs", index, "command"), f"${{{name}}} is left to the shell; the parameter is written {{{name}}}"
                )
    named = [*undefined_braces(model), *(() if environ is None else undefined_variables(model, environ))]
    yield from (Problem(("jobs", index, "command"), message) for index, message in named)
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
                f"{requirement.name!r} gets only {seconds / interval:.0f} samples in its runtime {requirement.runtime} "
                f"with sample_interval_seconds {interval:g}; set sample_interval_seconds to {enough:.2g} for "
                f"{seconds / enough:.0f} samples",
            )


def _twice(model: WorkflowModel, key: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, each in enumerate(getattr(model, key)):
        if each.name in seen:
            yield Problem((key, index, "name"), f"{key} has the name {each.name!r} twice")
        seen.add(each.name)


def _drafts(model: WorkflowModel, shared: Shared, problems: list[Problem]) -> Iterator[JobDraft]:
    place = 0

    def each_job() -> Iterator[JobDraft]:
        nonlocal place
        for place, job in enumerate(model.jobs):
            try:
                yield from job_drafts(place, job, shared)
            except InputError as error:
                problems.append(Problem(("jobs", place), str(error)))

    try:
        yield from merged_jobs(each_job())
    except InputError as error:
        problems.append(Problem(("jobs", place), str(error)))


def _same_names(model: WorkflowModel, drafts: Sequence[JobDraft]) -> Iterator[Problem]:
    if len({draft.name for draft in drafts}) == len(drafts):
        return
    first: dict[str, int] = {}
    reported: set[int] = set()
    for draft in drafts:
        name, source = draft.name, draft.source
        if name in first and source not in reported:
            reported.add(source)
            has_parameters = model.jobs[source].model_fields_set & {"parameters", "use_parameters", "parameters_file"}
            remedy = "; its name must contain every parameter, in braces" if has_parameters else ""
            yield Problem(("jobs", source, "name"), f"there are two jobs named {name!r}{remedy}")
        first.setdefault(name, source)


def _unknown_names(model: WorkflowModel, drafts: Sequence[JobDraft]) -> Iterator[Problem]:
    """Requirements, schedulers and failure handlers that jobs name but that do not exist."""
    for key, attribute, listed in (
        ("resource_requirements", "requirement", model.resource_requirements),
        ("scheduler", "scheduler", model.slurm_schedulers),
        ("failure_handler", "failure_handler", model.failure_handlers),
    ):
        where = {"scheduler": "slurm_schedulers", "failure_handler": "failure_handlers"}.get(key, key)
        known = [each.name for each in listed]
        allowed = {None, *known}
        if allowed.issuperset(map(attrgetter(attribute), drafts)):
            continue
        named = {(draft.source, name) for draft in drafts if (name := getattr(draft, attribute)) not in allowed}
        for source, name in sorted(named, key=lambda each: each[0]):
            yield Problem(("jobs", source, key), f"{where} has no {name!r}{nearest(str(name), known)}")


def _named(model: WorkflowModel, shared: Shared, problems: list[Problem]) -> dict[str, list[NamedPath]]:
    found: dict[str, list[NamedPath]] = {}
    for kind, drafts in (
        (FILES, path_drafts(model.files, "file", shared)),
        (DATASETS, path_drafts(model.datasets, "dataset", shared)),
        (USER_DATA, user_data_drafts(model.user_data, shared)),
    ):
        found[kind], wrong = names_of(drafts)
        problems += [Problem((kind, source), message) for source, message in wrong]
    return found


def _resolved(
    model: WorkflowModel, drafts: list[JobDraft], named: dict[str, list[NamedPath]], problems: list[Problem]
) -> _Resolved:
    found = Artifacts(named).resolve(drafts)
    problems += [Problem(("jobs", source, "command"), message) for source, message in found.problems]
    names = Names([draft.name for draft in drafts])
    depends_on = [
        _dependencies_of(index, draft, names, found.depends_on[index], problems) for index, draft in enumerate(drafts)
    ]
    cycle = None if problems else find_cycle(depends_on)
    if cycle is not None:
        where: Path = ("jobs", drafts[cycle[0]].source)
        named_cycle = describe_cycle([drafts[index].name for index in cycle])
        problems.append(Problem(where, f"a cycle: {named_cycle}"))
    actions = read_actions(model, names, [draft.scheduler for draft in drafts], depends_on)
    problems += [Problem(("actions", index), message) for index, message in actions.problems]
    return _Resolved(drafts, found, depends_on, actions, named[USER_DATA])


def _dependencies_of(
    index: int, draft: JobDraft, names: Names, by_artifacts: Sequence[int], problems: list[Problem]
) -> tuple[int, ...]:
    """Each once, in order; a regular expression never matches the job itself."""
    if not draft.lists and not by_artifacts:
        return ()
    found: dict[int, None] = {}
    by_name = draft.lists.get("depends_on", ())
    for word in by_name:
        try:
            found[names.named(word)] = None
        except InputError as error:
            problems.append(Problem(("jobs", draft.source, "depends_on"), f"job {draft.name!r}: {error}"))
    for word in draft.lists.get("depends_on_regexes", ()):
        try:
            found.update(dict.fromkeys(names.matching(word)))
        except InputError as error:
            problems.append(Problem(("jobs", draft.source, "depends_on_regexes"), f"job {draft.name!r}: {error}"))
    if index in found and draft.name not in by_name:
        del found[index]
    found.update(dict.fromkeys(by_artifacts))
    return tuple(found)


def _workflow(model: WorkflowModel, resolved: _Resolved) -> Workflow:
    execution = model.execution_config
    rules = {handler.name: _rules(handler) for handler in model.failure_handlers}
    schedulers = (scheduler.model_dump(exclude={"serialize_allocations"}) for scheduler in model.slurm_schedulers)
    return Workflow(
        name=model.name,
        description=model.description,
        jobs=tuple(
            Job(
                draft.name,
                draft.command,
                draft.requirement,
                model.env | draft.env if model.env else draft.env,
                draft.working_dir,
                draft.srun_options,
                waits_for,
                _settings(model.jobs[draft.source], draft, execution, outputs, scheduler, rules),
                draft.parameters,
            )
            for draft, waits_for, outputs, scheduler in zip(
                resolved.drafts,
                resolved.depends_on,
                resolved.found.output_paths,
                resolved.actions.schedulers,
                strict=True,
            )
        ),
        monitor=_monitor(model),
        execution=_execution(execution),
        requirements=tuple(Requirement(**each.model_dump()) for each in model.resource_requirements),
        schedulers=tuple(
            Scheduler(**each | {"extra": tuple(each["extra"]), "setup": tuple(each["setup"])}) for each in schedulers
        ),
        slurm_defaults=model.slurm_defaults,
        user_data=tuple(UserData(each.name, data_of(each.value)) for each in resolved.user_data),
        actions=resolved.actions.commands,
        pools=resolved.actions.pools,
        required_paths=resolved.found.required_paths,
        timeout_exit_code=execution.timeout_exit_code,
        oom_exit_code=execution.oom_exit_code,
        warnings=tuple(
            f"user data {name!r} is read by a job, has no data, and no job writes it"
            for name in resolved.found.unwritten
        ),
    )


def _monitor(model: WorkflowModel) -> Monitor:
    monitor = model.resource_monitor
    of_jobs = monitor if monitor.jobs is None else monitor.jobs
    return Monitor(
        of_jobs.enabled,
        of_jobs.granularity,
        monitor.sample_interval_seconds,
        monitor.flush_interval_seconds,
        monitor.generate_plots,
    )


def _execution(execution: ExecutionModel) -> Execution:
    signal = execution.srun_termination_signal
    options = (() if signal is None else (f"--signal={signal}",), execution.srun_options)
    return Execution(
        execution.limit_resources, execution.enforce_runtime, tuple(word for each in options for word in each)
    )


def _rules(handler: FailureHandlerModel) -> tuple[Rule, ...]:
    """The rules in the order of evaluation: those for certain exit codes first."""
    found = [
        Rule(None if rule.match_all_exit_codes else tuple(rule.exit_codes), rule.recovery_script, rule.max_retries)
        for rule in handler.rules
    ]
    return tuple(sorted(found, key=lambda rule: rule.exit_codes is None))


def _settings(
    job: JobModel,
    draft: JobDraft,
    execution: ExecutionModel,
    output_paths: tuple[str, ...],
    scheduler: str | None,
    rules: dict[str, tuple[Rule, ...]],
) -> JobSettings:
    stdio = execution.stdio if job.stdio is None else job.stdio
    if not (
        output_paths
        or scheduler
        or draft.failure_handler
        or job.priority
        or stdio.model_fields_set
        or job.group is not None
    ) and (job.cancel_on_blocking_job_failure):
        return ORDINARY
    found = JobSettings(
        scheduler=scheduler,
        priority=job.priority,
        cancel_on_blocking_job_failure=job.cancel_on_blocking_job_failure,
        output_paths=output_paths,
        rules=() if draft.failure_handler is None else rules[draft.failure_handler],
        stdio=stdio.mode,
        delete_stdio_on_success=stdio.delete_on_success,
        group=job.group,
    )
    return ORDINARY if found == ORDINARY else found
