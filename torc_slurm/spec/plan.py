"""The plan of a run: everything that the compute nodes need to know, as one JSON file that is written once.

``torc`` writes it where the user runs it; ``torc run --plan FILE`` reads it in the allocation and never opens the main
database. Standard library only. A plan has the jobs that are not completed; attempts count from 1 in each run.

It contains the values of ``env:``, so by default only its owner can read it (see `whole_files`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torc_slurm.common.errors import ParseError, TorcError
from torc_slurm.files.output_names import parse_run_file_name, plan_path, run_file_names
from torc_slurm.files.whole_files import create_exclusively, private_mode
from torc_slurm.spec.plan_settings import ORDINARY, action, job_settings, non_defaults
from torc_slurm.spec.workflow import Action, JobSettings

PLAN_FORMAT = 1


class PlanExistsError(TorcError):
    """The run has a plan already: another process took this ``run_id``."""


@dataclass(frozen=True)
class MonitorPlan:
    """How the steps are measured; with ``enabled`` false there is no monitor, only exit records."""

    enabled: bool
    granularity: str
    sample_interval_seconds: float
    flush_interval_seconds: float


@dataclass(frozen=True)
class ExecutionPlan:
    """How the jobs are run: ``srun_options`` come before those of each job."""

    limit_resources: bool = True
    enforce_runtime: bool = False
    srun_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobPlan:
    """One job of a run; CPUs, GPUs and memory are per node, like Slurm's ``--mem``.

    ``depends_on`` has ids of jobs of the same plan, without those completed in an earlier run. ``memory_bytes`` is the
    user's request, ``memory_mib`` the request to Slurm (with the monitor's allowance); both are None if the job
    requests no memory. Without requirements (``has_requirements`` false) a job has one CPU and a CPU's share of the
    memory. ``stage`` is the allocation that the job runs in, from 1, if a run has several.
    """

    job_id: int
    name: str
    command: str
    working_dir: str
    env: Mapping[str, str] = field(default_factory=dict)
    depends_on: tuple[int, ...] = ()
    num_cpus: int = 1
    num_gpus: int = 0
    num_nodes: int = 1
    ntasks_per_node: int = 1
    memory_bytes: int | None = None
    memory_mib: int | None = None
    runtime_seconds: int | None = None
    srun_options: tuple[str, ...] = ()
    has_requirements: bool = False
    stage: int = 1
    settings: JobSettings = ORDINARY
    counts_from_run: int = 1


@dataclass(frozen=True)
class UserDatum:
    """A value that jobs share, from the workflow file: JSON text with its number and its name."""

    user_data_id: int
    name: str
    data: str


@dataclass(frozen=True)
class Plan:
    """One run of a workflow; all paths are absolute.

    ``actions`` name jobs by their ids; ``most_jobs`` limits the jobs that run at the same time in each stage (None: no
    limit). ``required_paths`` are files that jobs read and no job of the workflow makes.

    ``working_dir`` is where ``torc`` was called, ``python`` the interpreter of this installation, ``torc_step`` the
    first words of a step's command line, before torc-step's own options.
    """

    workflow_id: int
    workflow_name: str
    run_id: int
    output_dir: str
    working_dir: str
    python: str
    torc_step: tuple[str, ...]
    resource_monitor: MonitorPlan
    execution: ExecutionPlan
    jobs: tuple[JobPlan, ...]
    actions: tuple[Action, ...] = ()
    user_data: tuple[UserDatum, ...] = ()
    required_paths: tuple[str, ...] = ()
    most_jobs: tuple[int | None, ...] = ()
    timeout_exit_code: int = 152
    oom_exit_code: int = 137

    @property
    def path(self) -> str:
        """The path of this plan's file."""
        return plan_path(self.output_dir, self.workflow_id, self.run_id)


def plan_run_ids(output_dir: str, workflow_id: int) -> list[int]:
    """The runs of a workflow that have a plan. A script that is submitted again makes one itself."""
    parsed = map(parse_run_file_name, run_file_names(output_dir))
    return sorted(each[1] for each in parsed if each is not None and (each[0], each[2]) == (workflow_id, "json"))


def next_plan(plan: Plan, completed: Collection[int], run_id: int | None = None) -> Plan:
    """The plan of the next run: the same, without completed jobs and dependencies on them.

    Args:
        completed: job ids.
        run_id: of the next run; None: the number after this plan's.
    """
    done = frozenset(completed)
    jobs = tuple(
        dataclasses.replace(job, depends_on=tuple(other for other in job.depends_on if other not in done))
        for job in plan.jobs
        if job.job_id not in done
    )
    left = frozenset(job.job_id for job in jobs)
    return dataclasses.replace(
        plan,
        run_id=plan.run_id + 1 if run_id is None else run_id,
        jobs=jobs,
        actions=actions_left(plan.actions, left),
    )


def without(plan: Plan, job_ids: Collection[int]) -> Plan:
    """The plan without these jobs, those that wait for them, and the actions that wait for one of them."""
    out, before = set(job_ids), -1
    while len(out) != before:
        before = len(out)
        out |= {job.job_id for job in plan.jobs if not out.isdisjoint(job.depends_on)}
    return dataclasses.replace(
        plan,
        jobs=tuple(job for job in plan.jobs if job.job_id not in out),
        actions=tuple(each for each in plan.actions if out.isdisjoint(each.jobs)),
    )


def actions_left(actions: Iterable[Action], jobs: Collection[int]) -> tuple[Action, ...]:
    """The actions whose event can occur in a later run of these jobs: not the start, nor the end of others."""
    return tuple(
        dataclasses.replace(each, jobs=tuple(job for job in each.jobs if job in jobs))
        for each in actions
        if each.trigger != "workflow_start" and (not each.jobs or any(job in jobs for job in each.jobs))
    )


def plan_to_json(plan: Plan) -> str:
    """The plan as JSON: ASCII only, one job per line."""
    head = {"format": PLAN_FORMAT} | {
        item.name: _plain(getattr(plan, item.name)) for item in dataclasses.fields(plan) if item.name != "jobs"
    }
    jobs = ",\n  ".join(json.dumps(non_defaults(job)) for job in plan.jobs)
    return json.dumps(head, indent=1).removesuffix("\n}") + f',\n "jobs": [\n  {jobs}\n ]\n}}\n'


def plan_from_json(text: str, source: str = "the plan") -> Plan:
    """The plan that `plan_to_json` wrote.

    Args:
        source: its name in an error.

    Raises:
        ParseError: not a plan, or one of another format.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ParseError(f"{source} is not JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != PLAN_FORMAT:
        raise ParseError(f"{source} is not a plan of format {PLAN_FORMAT}; make it again with this version of torc")
    try:
        return _plan(found)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        words = f"{source} is not a complete plan{_what_is_odd(found)}; make it again with this version of torc"
        raise ParseError(words) from error


def _what_is_odd(found: dict[str, Any]) -> str:
    """The first key that it lacks or should not have, in words; empty if the keys of the whole are right."""
    known = {item.name: item for item in dataclasses.fields(Plan)}
    lacking = [name for name, item in known.items() if name not in found and item.default is dataclasses.MISSING]
    unknown = [name for name in found if name not in (*known, "format")]
    return f": it has no {lacking[0]}" if lacking else f": it has an unknown key {unknown[0]}" if unknown else ""


def read_plan(path: str) -> Plan:
    """The plan in a file.

    Raises:
        ParseError: not a plan.
        OSError: the file cannot be read.
    """
    with open(path, encoding="ascii", errors="strict") as file:
        try:
            text = file.read()
        except UnicodeDecodeError as error:
            raise ParseError(f"{path} is not a plan: {error}") from error
    return plan_from_json(text, path)


def create_plan_file(plan: Plan) -> str:
    """Write the plan's file, whole or not at all, if it does not exist; return its path.

    If several processes try at once, on any host, exactly one succeeds.

    Raises:
        PlanExistsError: the run has a plan.
        OSError: it cannot be written.
    """
    if not create_exclusively(plan.path, plan_to_json(plan), private_mode()):
        raise PlanExistsError(f"run {plan.run_id} of workflow {plan.workflow_id} has a plan already")
    return plan.path


def _plain(value: object) -> object:
    """Dataclasses as objects, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _plan(found: dict[str, Any]) -> Plan:
    values = {name: value for name, value in found.items() if name != "format"}
    execution = values["execution"]
    return Plan(
        **values
        | {
            "torc_step": tuple(values["torc_step"]),
            "resource_monitor": MonitorPlan(**values["resource_monitor"]),
            "execution": ExecutionPlan(**execution | {"srun_options": tuple(execution["srun_options"])}),
            "jobs": tuple(map(_job, values["jobs"])),
            "actions": tuple(map(action, values.get("actions", ()))),
            "user_data": tuple(UserDatum(**each) for each in values.get("user_data", ())),
            "required_paths": tuple(values.get("required_paths", ())),
            "most_jobs": tuple(values.get("most_jobs", ())),
        }
    )


def _job(found: dict[str, Any]) -> JobPlan:
    settings = found.get("settings")
    return JobPlan(
        **found
        | {
            "depends_on": tuple(found.get("depends_on", ())),
            "srun_options": tuple(found.get("srun_options", ())),
            "settings": ORDINARY if not settings else job_settings(settings),
        }
    )
