"""The user's own Slurm jobs for right-sizing: chosen by id, time and name, grouped, as facts and as corrections.

sacct and torc-step's records -> `JobUse` (efficiency) -> groups -> advice for each group (sizing.advice) or `Facts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torc_slurm.common.units import MIB, format_iso_duration
from torc_slurm.records.statuses import RUNNING
from torc_slurm.sizing.advice import Advice, advise, sbatch_lines
from torc_slurm.sizing.facts import Attempt, Facts, Job, Request, Requirement
from torc_slurm.sizing.job_groups import Group
from torc_slurm.sizing.job_use import STATUSES, JobUse


@dataclass(frozen=True)
class GroupCorrection:
    """A group, what to change in its request, and the ``#SBATCH`` lines for that."""

    group: Group
    advice: tuple[Advice, ...]
    sbatch_lines: tuple[str, ...]


def corrections_of(groups: Sequence[Group], *, downsize: bool = True) -> list[GroupCorrection]:
    """What to change for each group; without ``downsize`` only increases."""
    found = []
    for group in groups:
        advice = tuple(each for each in advise(group.jobs) if downsize or each.is_more)
        found.append(GroupCorrection(group, advice, tuple(sbatch_lines(advice, group.jobs))))
    return found


def facts_of_groups(groups: Sequence[Group]) -> Facts:
    """The groups as requirements that their jobs share; job ids are Slurm's."""
    requirements = []
    jobs = []
    for number, group in enumerate(groups, 1):
        requirements.append(Requirement(number, group.name, _request(group.jobs[-1])))
        jobs += [Job(job.slurm_job_id, job.name or job.job_id, number, (_attempt(job),)) for job in group.jobs]
    return Facts(None, tuple(requirements), tuple(jobs))


def _request(job: JobUse) -> Request:
    nodes = job.node_count or 1
    return Request(
        memory=f"{-(-job.requested_memory_bytes // MIB)}Mi" if job.requested_memory_bytes else None,
        num_cpus=max(1, (job.allocated_cpus or 1) // nodes),
        runtime=format_iso_duration(job.time_limit_seconds) if job.time_limit_seconds else None,
        num_nodes=nodes,
    )


def _attempt(job: JobUse) -> Attempt:
    average = None
    if job.cpu_seconds is not None and job.elapsed_seconds:
        average = job.cpu_seconds / job.elapsed_seconds / (job.node_count or 1) * 100
    return Attempt(
        run_id=1,
        attempt_id=1,
        status=STATUSES.get(job.state or "", RUNNING),
        request=_request(job),
        return_code=job.exit_code,
        return_signal=job.exit_signal,
        exec_time_seconds=job.elapsed_seconds,
        peak_memory_bytes=job.peak_memory_bytes,
        peak_memory_source=job.peak_memory_source,
        peak_cpu_percent=job.peak_cpu_percent,
        avg_cpu_percent=average,
        cpu_seconds=job.cpu_seconds,
        cpu_wait_seconds=job.cpu_wait_seconds,
        is_lower_bound=job.memory_is_sampled,
        all_nodes_cpu_seconds=job.cpu_seconds,
        numbers=job.numbers,
    )
