"""The data of one attempt at a job that the parts of the runner exchange."""

from __future__ import annotations

from dataclasses import dataclass

from torc_slurm.spec.plan import JobPlan


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job, on these nodes; ``memory_mib`` is its step's request on each of them, None: no request."""

    job: JobPlan
    attempt_id: int
    nodes: tuple[str, ...]
    memory_mib: int | None = None


@dataclass(frozen=True)
class Started:
    """An attempt whose process was started: srun's, or torc-step's own outside Slurm."""

    pid: int
    step_name: str | None = None


@dataclass(frozen=True)
class Ended:
    """How that process ended: ``status`` as a shell has it (128 + signal), ``stderr`` the last of srun's messages."""

    status: int
    start_time: float
    end_time: float
    stderr: str = ""
    ran: bool = True
    step_id: str | None = None
    is_gone: bool = True  # nothing that it started still runs, as far as Slurm says


@dataclass(frozen=True)
class Evidence:
    """Facts about an end that its status does not explain.

    ``return_codes`` are those of all tasks, None if some left no exit record; ``last_end`` is when the last of them
    ended.
    """

    return_codes: tuple[int, ...] | None = None
    oom_kills: int = 0
    last_end: float | None = None
    allocation_is_ending: bool = False


@dataclass(frozen=True)
class EndRequest:
    """The runner ended the attempt: from ``time`` (Unix seconds) on, an end gets this state and reason."""

    time: float
    state: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """The result of an attempt; ``return_code`` is the job's own, None if unknown."""

    state: str
    return_code: int | None
    reason: str | None = None
