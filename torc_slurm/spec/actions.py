"""``actions``: commands at an event of the run, and the scheduler of jobs' allocations; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torc_slurm.common.errors import InputError
from torc_slurm.spec.dependencies import Names, nearest
from torc_slurm.spec.model import ActionModel, WorkflowModel
from torc_slurm.spec.workflow import Action, Pool

_ABOUT_JOBS = frozenset(("on_jobs_ready", "on_jobs_complete"))
COMMANDS, NODES = "run_commands", "schedule_nodes"


class Actions(NamedTuple):
    """The content of the actions: commands, allocations, and the scheduler of each job (None: none named)."""

    commands: tuple[Action, ...]
    pools: tuple[Pool, ...]
    schedulers: list[str | None]
    problems: list[tuple[int, str]]


def read_actions(
    model: WorkflowModel, names: Names, schedulers: Sequence[str | None], depends_on: Sequence[tuple[int, ...]]
) -> Actions:
    """Resolve the actions of a file.

    Args:
        schedulers: the scheduler in each job's own entry.
    """
    commands: list[Action] = []
    pools: dict[str, Pool] = {}
    chosen = list(schedulers)
    problems: list[tuple[int, str]] = []
    for index, action in enumerate(model.actions):
        try:
            jobs = _jobs(action, names)
            _check(action, [each.name for each in model.slurm_schedulers])
        except InputError as error:
            problems.append((index, str(error)))
            continue
        if action.action_type == COMMANDS:
            commands.append(Action(action.trigger_type.removeprefix("on_"), tuple(action.commands), jobs))
            continue
        pool = Pool(action.scheduler or "", action.num_allocations, action.max_parallel_jobs)
        if pool.scheduler not in pools or pools[pool.scheduler].count < pool.count:
            pools[pool.scheduler] = pool
        meant = jobs if action.trigger_type == "on_jobs_ready" else _after(jobs, depends_on)
        for job in meant:
            chosen[job] = chosen[job] or pool.scheduler
    return Actions(tuple(commands), tuple(pools.values()), chosen, problems)


def _jobs(action: ActionModel, names: Names) -> tuple[int, ...]:
    """The jobs of an action.

    Raises:
        InputError: it names none, or one that does not exist.
    """
    about_jobs = action.trigger_type in _ABOUT_JOBS
    if about_jobs != bool(action.jobs or action.job_name_regexes):
        wants = "needs jobs or job_name_regexes" if about_jobs else "has no jobs; leave them out"
        raise InputError(f"trigger_type {action.trigger_type} {wants}")
    found = dict.fromkeys(names.named(name) for name in action.jobs)
    for pattern in action.job_name_regexes:
        found.update(dict.fromkeys(names.matching(pattern)))
    return tuple(found)


def _check(action: ActionModel, schedulers: Sequence[str]) -> None:
    if action.action_type == COMMANDS:
        if not action.commands:
            raise InputError("action_type run_commands needs commands")
        if action.scheduler is not None:
            raise InputError("action_type run_commands has no scheduler: its commands run where torc runs the jobs")
        return
    if action.commands:
        raise InputError("action_type schedule_nodes has no commands; write a second action with run_commands")
    if action.scheduler is None:
        raise InputError("action_type schedule_nodes needs a scheduler, one of slurm_schedulers")
    if action.scheduler not in schedulers:
        raise InputError(f"slurm_schedulers has no {action.scheduler!r}{nearest(action.scheduler, schedulers)}")
    if action.trigger_type == "on_workflow_complete":
        raise InputError("schedule_nodes at on_workflow_complete has nothing left to run; leave the action out")


def _after(jobs: Sequence[int], depends_on: Sequence[tuple[int, ...]]) -> list[int]:
    """The jobs that wait for these, directly or through others."""
    if not jobs:
        return []
    dependents: dict[int, list[int]] = {}
    for index, others in enumerate(depends_on):
        for other in others:
            dependents.setdefault(other, []).append(index)
    found: dict[int, None] = {}
    todo = list(jobs)
    for job in todo:
        for dependent in dependents.get(job, ()):
            if dependent not in found:
                found[dependent] = None
                todo.append(dependent)
    return list(found)
