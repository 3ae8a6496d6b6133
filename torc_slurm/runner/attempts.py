"""What the parts of the runner tell one another about one try at a job."""

from __future__ import annotations

from dataclasses import dataclass

from torc_slurm.plan import JobPlan


@dataclass(frozen=True)
class Attempt:
    """One try at a job, on these nodes; ``memory_mib`` is what its step asks for on each of them, None: nothing."""

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
    """How that process ended: ``status`` as a shell has it (128 + signal), ``stderr`` the end of srun's own words.

    ``ran`` tells whether any task was started; ``step_id`` is Slurm's number as far as srun told it; the times are
    Unix seconds.
    """

    status: int
    start_time: float
    end_time: float
    stderr: str = ""
    ran: bool = True
    step_id: str | None = None


@dataclass(frozen=True)
class Evidence:
    """What was found out about an end that its status does not explain.

    ``return_codes`` are those of all tasks, None where not all of them left an exit record; ``last_end`` is when the
    last of them ended.
    """

    return_codes: tuple[int, ...] | None = None
    oom_kills: int = 0
    last_end: float | None = None
    allocation_is_ending: bool = False


@dataclass(frozen=True)
class ToldToEnd:
    """The runner ended the attempt: since when (Unix seconds) an end is due to that, what that makes of it, why."""

    time: float
    state: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt; ``return_code`` is the job's own, None where it is not known."""

    state: str
    return_code: int | None
    reason: str | None = None
