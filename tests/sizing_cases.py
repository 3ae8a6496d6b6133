"""Workflows for the tests of right-sizing, written briefly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torc_slurm.sizing.facts import Attempt, Facts, Job, Request, Requirement

ASKED = Request(memory="8g", num_cpus=4, runtime="PT4H")


def attempt(request: Request = ASKED, **changed: Any) -> Attempt:  # noqa: ANN401 - fields of Attempt
    """A completed attempt that used half of everything; ``changed`` are fields of it."""
    values = {
        "run_id": 1,
        "attempt_id": 1,
        "status": "completed",
        "return_code": 0,
        "exec_time_seconds": 7200.0,
        "peak_memory_bytes": 4 * 10**9,
        "peak_memory_source": "cgroup_v2",
        "peak_cpu_percent": 200.0,
        "avg_cpu_percent": 180.0,
        "hung": False,
    }
    return Attempt(**{"request": request, **values, **changed})


def killed(request: Request = ASKED, **changed: Any) -> Attempt:  # noqa: ANN401 - fields of Attempt
    """An attempt that was killed for memory."""
    return attempt(request, **{"status": "oom", "return_code": 137, "return_signal": 9, "oom_kills": 1} | changed)


def ended(request: Request = ASKED, **changed: Any) -> Attempt:  # noqa: ANN401 - fields of Attempt
    """An attempt that was ended at its time limit."""
    return attempt(request, **{"status": "timeout", "return_code": 143, "return_signal": 15} | changed)


def job(job_id: int, *attempts: Attempt, name: str | None = None, requirement: int | None = 10) -> Job:
    return Job(job_id, name or f"job_{job_id}", requirement, attempts)


def facts(*jobs: Job, asked: Request = ASKED, others: Sequence[Requirement] = ()) -> Facts:
    """A workflow with requirement 10 (``asked``) and others."""
    return Facts(123, (Requirement(10, "train", asked), *others), jobs)
