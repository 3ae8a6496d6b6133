"""Rows of the workflow tables, with the type of each column: None only if the schema allows NULL."""

from __future__ import annotations

from typing import TypedDict


class WorkflowRow(TypedDict):
    """A row of ``workflows``."""

    workflow_id: int
    name: str
    description: str | None
    user_name: str | None
    spec_file: str | None
    working_dir: str
    created_at: float
    monitor_enabled: int
    granularity: str
    sample_interval_seconds: float
    flush_interval_seconds: float
    generate_plots: int
    limit_resources: int
    enforce_runtime: int
    srun_options: str
    slurm_defaults: str
    settings: str


class ListedWorkflowRow(WorkflowRow):
    """A row of ``workflows`` with its number of jobs and its latest run (None: there was none)."""

    job_count: int
    run_id: int | None
    run_status: str | None
    slurm_job_id: int | None


class RunRow(TypedDict):
    """A row of ``runs``."""

    workflow_id: int
    run_id: int
    status: str
    created_at: float
    scheduler: str | None
    script: str | None
    slurm_job_id: int | None
    note: str | None
    host: str | None
    pid: int | None
    launcher: str | None
    nodes: str | None
    claim_time: float | None
    end_time: float | None
    exit_status: int | None
    reason: str | None
    cluster: str | None


class JobRow(TypedDict):
    """A row of ``jobs`` with its requirement (None: it has none)."""

    job_id: int
    workflow_id: int
    name: str
    command: str
    working_dir: str
    env: str
    srun_options: str
    resource_requirements_id: int | None
    status: str
    settings: str
    counts_from_run_id: int
    resource_requirements: str | None
    num_cpus: int | None
    num_gpus: int | None
    num_nodes: int | None
    ntasks_per_node: int | None
    memory: str | None
    runtime: str | None


class RequirementRow(TypedDict):
    """A row of ``resource_requirements``."""

    resource_requirements_id: int
    workflow_id: int
    name: str
    num_cpus: int
    num_gpus: int
    num_nodes: int
    ntasks_per_node: int
    memory: str | None
    runtime: str | None


class UserDatumRow(TypedDict):
    """A row of ``user_data``."""

    user_data_id: int
    workflow_id: int
    name: str
    data: str
