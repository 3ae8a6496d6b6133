"""Jobs that failed or exceeded their requests: ``--include-failed`` adds these objects to the check's JSON; pure.

The keys are those of the Rust torc, whose tools read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from torc_slurm.common.units import exact, format_change
from torc_slurm.sizing.evidence import Resource, asked, show_used
from torc_slurm.sizing.facts import Attempt, AttemptEnd, Job

_SIGKILL_CODE, _TIMEOUT_CODE = 137, 152


def violating_jobs(chosen: Iterable[tuple[Job, Attempt]], violated: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    """An object for each job that failed, was killed, or used more than its request.

    Args:
        violated: ``(job_id, resource)`` of every violation.
    """
    found: dict[int, set[str]] = {}
    for job_id, resource in violated:
        found.setdefault(job_id, set()).add(resource)
    return [
        _object(job, attempt, found.get(job.job_id, set()))
        for job, attempt in chosen
        if job.job_id in found or attempt.end is not AttemptEnd.completed
    ]


def _object(job: Job, attempt: Attempt, resources: set[str]) -> dict[str, Any]:
    request, seconds = attempt.request, attempt.exec_time_seconds
    is_oom, is_timeout = attempt.end is AttemptEnd.out_of_memory, attempt.end is AttemptEnd.out_of_time
    document: dict[str, Any] = {
        "job_id": job.job_id,
        "job_name": job.name,
        "return_code": attempt.return_code,
        "exec_time_minutes": None if seconds is None else round(float(seconds) / 60, 4),
        "configured_memory": request.memory,
        "configured_runtime": request.runtime,
        "configured_cpus": request.num_cpus,
        "memory_violation": is_oom or Resource.memory.value in resources,
        "likely_oom": is_oom,
        "likely_timeout": is_timeout,
        "likely_cpu_violation": Resource.cpu.value in resources,
        "likely_runtime_violation": Resource.runtime.value in resources,
    }
    if attempt.peak_memory_bytes is not None:
        peak = Decimal(attempt.peak_memory_bytes)
        document |= {
            "peak_memory_bytes": attempt.peak_memory_bytes,
            "peak_memory_formatted": show_used(peak, Resource.memory),
        }
        allowed = asked(request, Resource.memory)
        if allowed is not None and peak > allowed:
            document["memory_over_utilization"] = format_change(peak, allowed)
    if is_oom:
        document["oom_reason"] = "sigkill_137" if attempt.return_code == _SIGKILL_CODE else "memory_exceeded"
    if is_timeout:
        document["timeout_reason"] = "sigxcpu_152" if attempt.return_code == _TIMEOUT_CODE else "runtime_exceeded"
    runtime = asked(request, Resource.runtime)
    if seconds is not None and runtime:
        document["runtime_utilization"] = f"{exact(seconds) * 100 / runtime:.1f}%"
    if attempt.peak_cpu_percent is not None:
        document["peak_cpu_percent"] = float(attempt.peak_cpu_percent)
    return document
