"""A checked workflow as plain data: parameters inserted, every name resolved, no cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Monitor:
    """How jobs are measured."""

    enabled: bool = True
    granularity: str = "summary"
    sample_interval_seconds: float = 10.0
    flush_interval_seconds: float = 60.0
    generate_plots: bool = False


@dataclass(frozen=True)
class Execution:
    """How jobs are run."""

    limit_resources: bool = True
    enforce_runtime: bool = False
    srun_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """When a failure handler runs a job again: for which exit codes, after which script, how often.

    ``exit_codes`` are the job's; None: all except 0.
    """

    exit_codes: tuple[int, ...] | None = None
    recovery_script: str | None = None
    max_retries: int = 3


@dataclass(frozen=True)
class Action:
    """Commands to run at an event: ``workflow_start``, ``workflow_complete``, ``jobs_ready``, ``jobs_complete``,
    ``worker_start`` or ``worker_complete``.

    ``jobs`` are indices: the event is that all of these are ready, or have ended.
    """

    trigger: str
    commands: tuple[str, ...]
    jobs: tuple[int, ...] = ()


@dataclass(frozen=True)
class UserData:
    """A JSON value that jobs share, with its name; ``data`` is JSON text."""

    name: str
    data: str = "null"


@dataclass(frozen=True)
class Pool:
    """How to request a scheduler's allocation: ``count`` times its nodes, and a limit on the jobs at a time."""

    scheduler: str
    count: int = 1
    max_parallel_jobs: int | None = None


@dataclass(frozen=True)
class Requirement:
    """A named request that jobs share, per node; ``memory`` and ``runtime`` are as written."""

    name: str
    num_cpus: int = 1
    num_gpus: int = 0
    num_nodes: int = 1
    ntasks_per_node: int = 1
    memory: str | None = None
    runtime: str | None = None


@dataclass(frozen=True)
class Scheduler:
    """Options for sbatch; None: not given. ``mem`` is in whole MiB, as sbatch takes it.

    ``collect_afterwards``: a separate small job collects the allocation after its end.
    """

    name: str
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    gres: str | None = None
    nodes: int = 1
    ntasks_per_node: int | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    tmp: str | None = None
    exclusive: bool | None = None
    walltime: str | None = None
    extra: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    collect_afterwards: bool = False


@dataclass(frozen=True)
class JobSettings:
    """Settings that few jobs have.

    ``output_paths`` must exist once the job has exited 0; they are relative to ``torc``'s own directory, like all paths
    of files. ``stdio`` is one of ``separate``, ``combined``, ``no_stdout``, ``no_stderr`` and ``none``.
    ``group`` is how many of the jobs run in one step at most, one after another; 0: as their run times allow.
    """

    scheduler: str | None = None
    priority: int = 0
    cancel_on_blocking_job_failure: bool = True
    output_paths: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    stdio: str = "separate"
    delete_stdio_on_success: bool = False
    group: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One job with its parameters inserted; ``depends_on`` are indices into the workflow's jobs.

    ``parameters`` are those that are numbers: memory and time may follow them.
    """

    name: str
    command: str
    requirement: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    srun_options: tuple[str, ...] = ()
    depends_on: tuple[int, ...] = ()
    settings: JobSettings = field(default_factory=JobSettings)
    parameters: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Workflow:
    """A whole workflow; ``warnings`` are for the user to read, each one line.

    ``required_paths`` are files that jobs read and none makes: they must be there before anything starts. The exit
    codes are what a failure handler knows a timeout and an OOM kill by.
    """

    name: str
    jobs: tuple[Job, ...]
    description: str | None = None
    monitor: Monitor = Monitor()
    execution: Execution = Execution()
    requirements: tuple[Requirement, ...] = ()
    schedulers: tuple[Scheduler, ...] = ()
    slurm_defaults: Mapping[str, str | bool] = field(default_factory=dict)
    user_data: tuple[UserData, ...] = ()
    actions: tuple[Action, ...] = ()
    pools: tuple[Pool, ...] = ()
    required_paths: tuple[str, ...] = ()
    timeout_exit_code: int = 152
    oom_exit_code: int = 137
    warnings: tuple[str, ...] = ()
