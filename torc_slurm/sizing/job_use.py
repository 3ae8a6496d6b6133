"""What one Slurm job requested and used, for advice and tables; pure data.

Sizes in bytes, times in seconds. None means unknown, and is never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from torc_slurm.records import statuses
from torc_slurm.records.statuses import verdict
from torc_slurm.sizing.waiting import wait_factor

# How torc shows each status.
COMPLETED, FAILED, OUT_OF_MEMORY, TIMEOUT, CANCELLED = map(
    verdict, (statuses.COMPLETED, statuses.FAILED, statuses.OOM, statuses.TIMEOUT, statuses.CANCELLED)
)
ENDED_FROM_OUTSIDE = frozenset(map(verdict, statuses.ENDED_FROM_OUTSIDE))
# The status in torc's database of each of these.
STATUSES = {verdict(status): status for status in statuses.ENDS}

SLURM_MAXRSS = "slurm_maxrss"
SLURM_TASK_SUM = "slurm_task_sum"
SLURM_SOURCES = frozenset({SLURM_MAXRSS, SLURM_TASK_SUM})


@dataclass(frozen=True)
class StepUse:
    """One step of a job, with Slurm's figures, or torc-step's if the step ran under it (``is_measured``)."""

    step_id: str
    name: str | None = None
    state: str | None = None
    slurm_state: str | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    start_time: float | None = None
    end_time: float | None = None
    elapsed_seconds: float | None = None
    cpu_seconds: float | None = None
    cpus: int | None = None
    task_count: int | None = None
    nodes: tuple[str, ...] = ()
    peak_memory_bytes: int | None = None
    peak_memory_source: str | None = None
    peak_cpu_percent: float | None = None
    gpu_utilization_percent: float | None = None
    gpu_memory_bytes: int | None = None
    is_measured: bool = False


@dataclass(frozen=True)
class JobUse:
    """One job. ``state`` is torc's status, ``slurm_state`` Slurm's state.

    Memory is per node, like ``--mem``. ``memory_is_upper_bound``: the peak may include page cache, or peaks of tasks at
    different times. ``memory_is_sampled``: Slurm only polls, and may have missed the peak. ``cpu_wait_seconds``: how
    long threads were ready and had no CPU, as torc-step saw it. ``numbers``: notes and the array index.
    """

    slurm_job_id: int
    job_id: str
    array_job_id: int | None = None
    name: str | None = None
    user_name: str | None = None
    partition: str | None = None
    state: str | None = None
    slurm_state: str | None = None
    reason: str | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    submit_time: float | None = None
    start_time: float | None = None
    end_time: float | None = None
    elapsed_seconds: float | None = None
    suspended_seconds: float | None = None
    time_limit_seconds: float | None = None
    cpu_seconds: float | None = None
    allocated_cpus: int | None = None
    node_count: int | None = None
    nodes: str | None = None
    task_count: int | None = None
    peak_cpu_percent: float | None = None
    cpu_wait_seconds: float | None = None
    peak_memory_bytes: int | None = None
    peak_memory_source: str | None = None
    memory_is_upper_bound: bool = False
    memory_is_sampled: bool = False
    poll_interval_seconds: float | None = None
    requested_memory_bytes: int | None = None
    submit_line: str | None = None
    gpu_count: int | None = None
    gpu_utilization_percent: float | None = None
    gpu_memory_bytes: int | None = None
    steps: tuple[StepUse, ...] = field(default=())
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def age_order(self) -> tuple[float, int]:
        """Sorts jobs from oldest to latest; those with an unknown submit time come first."""
        return -math.inf if self.submit_time is None else self.submit_time, self.slurm_job_id

    @property
    def has_ended(self) -> bool:
        return self.state in STATUSES

    @property
    def is_measured(self) -> bool:
        """Whether the memory figure is torc-step's and not Slurm's."""
        return self.peak_memory_source is not None and self.peak_memory_source not in SLURM_SOURCES

    @property
    def cpu_efficiency_percent(self) -> float | None:
        """CPU time used, in percent of the CPU time allocated."""
        if self.cpu_seconds is None or not self.elapsed_seconds or not self.allocated_cpus:
            return None
        return self.cpu_seconds / (self.elapsed_seconds * self.allocated_cpus) * 100

    @property
    def wait_factor(self) -> Decimal:
        """How many times more CPU it would have used without waiting."""
        return wait_factor(self.cpu_wait_seconds, self.cpu_seconds)

    @property
    def memory_efficiency_percent(self) -> float | None:
        """Peak memory in percent of the request."""
        return _percent(self.peak_memory_bytes, self.requested_memory_bytes)

    @property
    def time_efficiency_percent(self) -> float | None:
        """Run time in percent of the time limit; None for a job that has not started."""
        return None if self.start_time is None else _percent(self.elapsed_seconds, self.time_limit_seconds)


def _percent(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole * 100
