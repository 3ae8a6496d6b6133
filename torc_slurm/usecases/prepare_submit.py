"""Prepares a submission before anything is written: the next run's plan, and a script for each allocation."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torc_slurm import __version__
from torc_slurm.common.errors import CommandError, InputError, MisfitError, ParseError, TorcError
from torc_slurm.database.main import MainDatabase
from torc_slurm.database.runs import GENERATED
from torc_slurm.database.workflows import schedulers, workflow_of_file
from torc_slurm.files.output_names import allocation_output_name, plan_path, script_path
from torc_slurm.records.workflows import WorkflowRow
from torc_slurm.slurm import submission
from torc_slurm.slurm.environment import value_of
from torc_slurm.slurm.sbatch_options import (
    Overrides,
    choose_scheduler,
    collector_options,
    directive,
    limit_seconds,
    output_pattern,
    overridden,
    sbatch_options,
)
from torc_slurm.spec.plan import Plan, without
from torc_slurm.spec.plan_settings import pools_of
from torc_slurm.spec.workflow import Scheduler, Workflow
from torc_slurm.usecases import changed_spec
from torc_slurm.usecases.batch_script import ScriptValues, render_script
from torc_slurm.usecases.changed_spec import spec_changes, take_over
from torc_slurm.usecases.fit import misfits, too_few_nodes, too_long
from torc_slurm.usecases.inputs import check_inputs
from torc_slurm.usecases.installation import torc_command
from torc_slurm.usecases.next_run import Source, find_or_create, plan_next_run
from torc_slurm.usecases.run_states import RunState, next_run_id
from torc_slurm.usecases.stages import PlannedStage, staged


@dataclass(frozen=True)
class Request:
    """What to run and how; ``workflow`` is a checked file of a new workflow, or the id of an existing one.

    ``working_dir`` and ``spec_file`` are absolute; a new workflow records them and ``user_name``.
    ``update``: copy edits of the workflow file into the existing workflow; ``rerun_changed``: also of completed jobs.
    ``leave_out``: jobs that do not run.
    """

    workflow: Workflow | int | None
    working_dir: str
    environ: Mapping[str, str]
    spec_file: str | None = None
    user_name: str | None = None
    scheduler: str | None = None
    overrides: Overrides = field(default_factory=Overrides)
    template: str | None = None
    sbatch_arguments: tuple[str, ...] = ()
    update: bool = False
    rerun_changed: bool = False
    leave_out: frozenset[int] = frozenset()

    @property
    def source(self) -> Source:
        return Source(self.workflow, self.working_dir, self.spec_file, self.user_name)


@dataclass(frozen=True)
class Allocation:
    """One stage of a run as it is given to sbatch: the script, its path, and the run's number.

    ``collector``: the sbatch options of the job that collects the run afterwards; None: not requested.
    """

    run_id: int
    scheduler: str
    script: str
    script_path: str
    collector: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Prepared:
    """A run before anything is written; ``generated`` are earlier runs whose scripts have not begun."""

    plan: Plan
    allocations: tuple[Allocation, ...]
    created: bool
    warnings: tuple[str, ...]
    generated: tuple[RunState, ...] = ()

    @property
    def script(self) -> str:
        """The script of the first allocation."""
        return self.allocations[0].script


def prepare(database: MainDatabase, request: Request) -> Prepared:
    connection, output_dir = database.connection, database.output_dir
    row, states, created = find_or_create(database, _source(connection, request))
    changes = None if created else spec_changes(connection, row)
    if changes is not None and request.update:
        next_run = next_run_id(connection, output_dir, row["workflow_id"])
        take_over(connection, row, changes, rerun_from=next_run if request.rerun_changed else None)
    plan = without(plan_next_run(connection, output_dir, row), request.leave_out)
    warnings = (
        [] if changes is None else changed_spec.words(changes, updated=request.update, rerun=request.rerun_changed)
    )
    if not plan.jobs:
        done = f"every job of workflow {plan.workflow_id} is completed; there is nothing left to run"
        raise TorcError("; ".join([done, *warnings]))
    plan, stages = _stages(connection, row, plan, request)
    warnings += check_inputs(plan)
    allocations, too_large = [], []
    known = _known_nodes(_cluster(row, request))
    for stage in stages:
        scheduler, defaults = _scheduler(connection, row, request, stage.scheduler)
        partition = scheduler.partition or _text(defaults.get("partition")) or request.environ.get("SBATCH_PARTITION")
        nodes = submission.nodes_of(known, partition or None)
        too_large += misfits(stage.jobs, scheduler, nodes)
        warnings += too_few_nodes(scheduler, nodes)
        warnings += too_long(stage.jobs, _limit(scheduler, defaults, request), nodes)
        allocations.append(_allocation(plan, stage, len(stages), scheduler, defaults, nodes, request))
    if too_large:
        raise MisfitError(too_large)
    return Prepared(
        plan=plan,
        allocations=tuple(allocations),
        created=created,
        warnings=tuple(dict.fromkeys(warnings)),
        generated=tuple(state for state in states if state.status == GENERATED),
    )


def _source(connection: sqlite3.Connection, request: Request) -> Source:
    """What is to be run: with ``update`` a file means the workflow that was created from it.

    Raises:
        InputError: there is none.
    """
    if not request.update or not isinstance(request.workflow, Workflow):
        return request.source
    found = None if request.spec_file is None else workflow_of_file(connection, request.spec_file)
    if found is None:
        raise InputError(f"no workflow here was created from {request.spec_file}; leave out --update to create one")
    return replace(request.source, workflow=found)


def _stages(
    connection: sqlite3.Connection, workflow: WorkflowRow, plan: Plan, request: Request
) -> tuple[Plan, list[PlannedStage]]:
    """The allocations for the plan's jobs: one, if the command line chooses a scheduler for all."""
    known = schedulers(connection, plan.workflow_id)
    pools = pools_of(json.loads(workflow["settings"]))
    if request.scheduler is not None:
        plan = replace(plan, most_jobs=(pool.max_parallel_jobs,) if (pool := pools.get(request.scheduler)) else ())
        return plan, [PlannedStage(1, request.scheduler, plan.jobs)]
    return staged(plan, pools, next(iter(pools), known[0].name if known else None))


def _scheduler(
    connection: sqlite3.Connection, workflow: WorkflowRow, request: Request, name: str | None
) -> tuple[Scheduler, dict[str, str | bool]]:
    """The scheduler, with changes by actions and the command line, and the workflow's other sbatch options."""
    chosen = choose_scheduler(schedulers(connection, workflow["workflow_id"]), name)
    pool = pools_of(json.loads(workflow["settings"])).get(chosen.name)
    if pool is not None:
        chosen = replace(chosen, nodes=chosen.nodes * pool.count)
    return overridden(chosen, request.overrides), json.loads(workflow["slurm_defaults"])


def _allocation(
    plan: Plan,
    stage: PlannedStage,
    stage_count: int,
    scheduler: Scheduler,
    defaults: Mapping[str, str | bool],
    nodes: Sequence[submission.Nodes],
    request: Request,
) -> Allocation:
    name = (plan.output_dir, plan.workflow_id, plan.run_id, stage.number if stage_count > 1 else None)
    return Allocation(
        run_id=plan.run_id + stage.number - 1,
        scheduler=scheduler.name,
        script=_script(replace(plan, jobs=stage.jobs), plan_path(*name), scheduler, defaults, nodes, request),
        script_path=script_path(*name),
        collector=tuple(collector_options(scheduler, defaults, output=_output(plan)))
        if scheduler.collect_afterwards
        else None,
    )


def _output(plan: Plan) -> str:
    return output_pattern(plan.output_dir, allocation_output_name(plan.workflow_id))


def _script(
    plan: Plan,
    plan_file: str,
    scheduler: Scheduler,
    defaults: Mapping[str, str | bool],
    nodes: Sequence[submission.Nodes],
    request: Request,
) -> str:
    limit = _limit(scheduler, defaults, request)
    options = sbatch_options(
        scheduler,
        defaults,
        job_name=plan.workflow_name,
        output=_output(plan),
        limit=submission.time_limit_of(nodes) if limit is None else limit,
    )
    values = ScriptValues(
        version=__version__,
        workflow_id=plan.workflow_id,
        workflow_name=plan.workflow_name,
        run_id=plan.run_id,
        job_count=len(plan.jobs),
        directives=[directive(option) for option in options],
        setup="\n".join(scheduler.setup),
        torc=torc_command(plan.python),
        plan=plan_file,
        output_dir=plan.output_dir,
    )
    return render_script(request.template, values, request.environ)


def _limit(scheduler: Scheduler, defaults: Mapping[str, str | bool], request: Request) -> int | None:
    """The time limit of an allocation in seconds; None: not given."""
    given = scheduler.walltime or _text(defaults.get("time")) or request.environ.get("SBATCH_TIMELIMIT")
    return limit_seconds(given or None)


def _text(value: str | bool | None) -> str | None:
    return value if isinstance(value, str) else None


def _cluster(workflow: WorkflowRow, request: Request) -> str | None:
    """The cluster that sbatch will submit to, if it is given one. With ``a,b`` Slurm chooses."""
    defaults = json.loads(workflow["slurm_defaults"])
    given = value_of("clusters", request.sbatch_arguments) or _text(defaults.get("clusters"))
    return given or request.environ.get("SBATCH_CLUSTERS") or request.environ.get("SLURM_CLUSTERS") or None


def _known_nodes(cluster: str | None) -> list[submission.Nodes]:
    """What the nodes have. Nothing if Slurm does not answer: then the runner fails jobs that do not fit."""
    if cluster is not None and ("," in cluster or cluster == "all"):
        return []
    try:
        return submission.partition_nodes(cluster)
    except (CommandError, ParseError):
        return []
