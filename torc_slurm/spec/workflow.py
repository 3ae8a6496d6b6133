"""A checked workflow as plain data: parameters put in, every name resolved, no cycle."""

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
class Requirement:
    """A named request that jobs share, per node; ``memory`` and ``runtime`` as they were written."""

    name: str
    num_cpus: int = 1
    num_gpus: int = 0
    num_nodes: int = 1
    ntasks_per_node: int = 1
    memory: str | None = None
    runtime: str | None = None


@dataclass(frozen=True)
class Scheduler:
    """What sbatch is asked for; None: nothing said. ``mem`` is whole MiB as sbatch takes it.

    ``collect_afterwards``: a small job of its own collects the allocation once it has ended.
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
    exclusive: bool | None = None
    walltime: str | None = None
    extra: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    collect_afterwards: bool = False


@dataclass(frozen=True)
class Job:
    """One job, its parameters put in; ``depends_on`` are indices into the workflow's jobs."""

    name: str
    command: str
    requirement: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    srun_options: tuple[str, ...] = ()
    depends_on: tuple[int, ...] = ()


@dataclass(frozen=True)
class Workflow:
    """A whole workflow; ``warnings`` are for the user to read, each one line."""

    name: str
    jobs: tuple[Job, ...]
    description: str | None = None
    monitor: Monitor = Monitor()
    execution: Execution = Execution()
    requirements: tuple[Requirement, ...] = ()
    schedulers: tuple[Scheduler, ...] = ()
    slurm_defaults: Mapping[str, str | bool] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
