"""Every key of a workflow file, its type and its bounds, checked with pydantic.

The names are those of the Rust torc where it has them. `torc_slurm.spec.expand` checks what concerns several objects
(references, cycles). Keys typed `Unused` are accepted and have no effect (see `torc_slurm.spec.foreign`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from torc_slurm.common.units import parse_iso_duration, parse_memory
from torc_slurm.spec.values import (
    AnyText,
    Count,
    CountFromZero,
    Environment,
    Names,
    Numbers,
    Options,
    Seconds,
    Text,
    Truth,
    Whole,
    command,
    defaults,
    exact,
    group_size,
    lines,
    slurm_memory,
    text_,
    understood,
    wall_time_seconds,
)

Unused = Any
Parameters = dict[str, Any]
ParameterMode = Annotated[Literal["product", "zip"], BeforeValidator(exact)]
_GRANULARITIES = {"Summary": "summary", "TimeSeries": "time_series"}
_SIGNALS = frozenset(("TERM", "SIGTERM", "15"))


def _granularity(value: Any) -> Any:  # noqa: ANN401 - any value of a document
    return _GRANULARITIES.get(str(value), str(value)) if isinstance(value, str) else value


def _sigterm(value: str) -> str:
    if value.upper() not in _SIGNALS:
        raise ValueError(
            "cannot be chosen: torc ends jobs with SIGTERM; trap TERM in the command, and leave the key out"
        )
    return value


Granularity = Annotated[Literal["summary", "time_series"], BeforeValidator(_granularity)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:  # noqa: ANN401 - any value of a document
        """A key without a value counts as absent."""
        if isinstance(value, dict) and None in value.values():
            return {name: each for name, each in value.items() if each is not None}
        return value


class _Parametrized(_Model):
    """An item that parameters can multiply."""

    name: Text
    parameters: Parameters | None = None
    parameter_mode: ParameterMode = "product"
    use_parameters: Names | None = None
    parameters_file: Text | None = None
    use_parameters_file: Truth = False


class JobMonitorModel(_Model):
    """``resource_monitor.jobs``: the same as its upper ``enabled`` and ``granularity``."""

    enabled: Truth = True
    granularity: Granularity = "summary"


class MonitorModel(_Model):
    """``resource_monitor``."""

    enabled: Truth = True
    granularity: Granularity = "summary"
    sample_interval_seconds: Seconds = 10.0
    flush_interval_seconds: Seconds = 60.0
    generate_plots: Truth = False
    jobs: JobMonitorModel | None = None
    compute_node: Unused = None

    @model_validator(mode="after")
    def _check_given_once(self) -> MonitorModel:
        if self.jobs is not None and self.model_fields_set & {"enabled", "granularity"}:
            raise ValueError("enabled and granularity must be either in resource_monitor or in its jobs, not in both")
        return self


class StdioModel(_Model):
    """``stdio`` of a job, or of ``execution_config``: where a job's output goes."""

    mode: Annotated[Literal["separate", "combined", "no_stdout", "no_stderr", "none"], BeforeValidator(exact)] = (
        "separate"
    )
    delete_on_success: Truth = False


class ExecutionModel(_Model):
    """``execution_config``."""

    limit_resources: Truth = True
    enforce_runtime: Truth = False
    srun_options: Options = ()
    srun_termination_signal: Text | None = None
    timeout_exit_code: Annotated[Whole, Field(ge=1, le=255)] = 152
    oom_exit_code: Annotated[Whole, Field(ge=1, le=255)] = 137
    stdio: StdioModel = StdioModel()
    termination_signal: Annotated[Text, AfterValidator(_sigterm)] = "SIGTERM"
    mode: Unused = None
    sigterm_lead_seconds: Unused = None
    sigkill_headroom_seconds: Unused = None
    staggered_start: Unused = None
    enable_cpu_bind: Unused = None
    srun_mpi: Unused = None
    slurm_worker_mpi_mode: Unused = None
    downstream_buffer_multiplier: Unused = None


class RequirementModel(_Model):
    """One of ``resource_requirements``; CPUs, GPUs and memory are per node."""

    name: Text
    num_cpus: Count = 1
    num_gpus: CountFromZero = 0
    num_nodes: Count = 1
    ntasks_per_node: Count = 1
    memory: Annotated[str, AfterValidator(understood(parse_memory))] | None = None
    runtime: Annotated[str, AfterValidator(understood(parse_iso_duration))] | None = None

    @model_validator(mode="after")
    def _cpus_divide(self) -> RequirementModel:
        if self.num_cpus % self.ntasks_per_node:
            raise ValueError(f"num_cpus {self.num_cpus} cannot be divided among ntasks_per_node {self.ntasks_per_node}")
        return self


class SchedulerModel(_Model):
    """One of ``slurm_schedulers``: options for sbatch."""

    name: Text = "default"
    account: Text | None = None
    partition: Text | None = None
    qos: Text | None = None
    constraint: Text | None = None
    reservation: Text | None = None
    gres: Text | None = None
    nodes: Count = 1
    ntasks_per_node: Count | None = None
    cpus_per_task: Count | None = None
    mem: Annotated[str, AfterValidator(slurm_memory)] | None = None
    tmp: Text | None = None
    exclusive: Truth | None = None
    walltime: Annotated[str, AfterValidator(understood(wall_time_seconds))] | None = None
    extra: Options = ()
    setup: Annotated[list[AnyText], BeforeValidator(lines)] = Field(default_factory=list)
    collect_afterwards: Truth = False
    serialize_allocations: Unused = None


class FileModel(_Parametrized):
    """One of ``files``: a path that jobs read or make."""

    path: Text
    identifier: Unused = None
    st_mtime: Unused = None


class DatasetModel(_Parametrized):
    """One of ``datasets``: a directory to which several jobs may add."""

    path: Text
    hash_mode: Unused = None
    description: Unused = None


class UserDataModel(_Parametrized):
    """One of ``user_data``: a JSON value that jobs share."""

    data: Any = None
    is_ephemeral: Unused = None


class RuleModel(_Model):
    """One rule of a failure handler."""

    exit_codes: Numbers = ()
    match_all_exit_codes: Truth = False
    recovery_script: Text | None = None
    max_retries: CountFromZero = 3

    @model_validator(mode="after")
    def _matches_something(self) -> RuleModel:
        if not self.exit_codes and not self.match_all_exit_codes:
            raise ValueError("matches nothing; give exit_codes, or match_all_exit_codes: true")
        return self


class FailureHandlerModel(_Model):
    """One of ``failure_handlers``: when a failed job is run again."""

    name: Text
    rules: Annotated[list[RuleModel], Field(min_length=1)]


class ActionModel(_Model):
    """One of ``actions``: what to do when a run starts, jobs are ready or done, or everything is over."""

    trigger_type: Annotated[
        Literal[
            "on_workflow_start",
            "on_workflow_complete",
            "on_jobs_ready",
            "on_jobs_complete",
            "on_worker_start",
            "on_worker_complete",
        ],
        BeforeValidator(exact),
    ]
    action_type: Annotated[Literal["run_commands", "schedule_nodes"], BeforeValidator(exact)]
    jobs: Names = ()
    job_name_regexes: Names = ()
    commands: Names = ()
    scheduler: Text | None = None
    scheduler_type: Annotated[Literal["slurm"], BeforeValidator(exact)] = "slurm"
    num_allocations: Count = 1
    max_parallel_jobs: Count | None = None
    start_one_worker_per_node: Unused = None
    persistent: Unused = None


class JobModel(_Parametrized):
    """One of ``jobs``, before parameters are inserted."""

    command: Annotated[str, AfterValidator(text_), AfterValidator(command)]
    invocation_script: AnyText | None = None
    resource_requirements: Text | None = None
    depends_on: Names = ()
    depends_on_regexes: Names = ()
    cancel_on_blocking_job_failure: Truth = True
    failure_handler: Text | None = None
    scheduler: Text | None = None
    priority: Annotated[Whole, Field(ge=-1_000_000, le=1_000_000)] = 0
    env: Environment = Field(default_factory=dict)
    working_dir: Text | None = None
    srun_options: Options = ()
    stdio: StdioModel | None = None
    group: Annotated[int, BeforeValidator(group_size)] | None = None
    input_files: Names = ()
    input_file_regexes: Names = ()
    output_files: Names = ()
    output_file_regexes: Names = ()
    input_datasets: Names = ()
    output_datasets: Names = ()
    input_user_data: Names = ()
    input_user_data_regexes: Names = ()
    output_user_data: Names = ()
    output_user_data_regexes: Names = ()
    supports_termination: Unused = None


class WorkflowModel(_Model):
    """A workflow file."""

    name: Text
    description: AnyText | None = None
    parameters: Parameters | None = None
    parameters_file: Text | None = None
    variables: Any = None  # inserted into the other texts before this is read
    env: Environment = Field(default_factory=dict)
    resource_monitor: MonitorModel = MonitorModel()
    execution_config: ExecutionModel = ExecutionModel()
    resource_requirements: list[RequirementModel] = Field(default_factory=list)
    slurm_schedulers: list[SchedulerModel] = Field(default_factory=list)
    slurm_defaults: Annotated[dict[str, Any], AfterValidator(defaults)] = Field(default_factory=dict)
    files: list[FileModel] = Field(default_factory=list)
    datasets: list[DatasetModel] = Field(default_factory=list)
    user_data: list[UserDataModel] = Field(default_factory=list)
    failure_handlers: list[FailureHandlerModel] = Field(default_factory=list)
    actions: list[ActionModel] = Field(default_factory=list)
    jobs: Annotated[list[JobModel], Field(min_length=1)]
    user: Unused = None
    project: Unused = None
    metadata: Unused = None
    access_groups: Unused = None
    use_pending_failed: Unused = None
    enable_ro_crate: Unused = None
    jobs_sort_method: Unused = None
    compute_node_expiration_buffer_seconds: Unused = None
    compute_node_wait_for_new_jobs_seconds: Unused = None
    compute_node_ignore_workflow_completion: Unused = None
    compute_node_wait_for_healthy_database_minutes: Unused = None
