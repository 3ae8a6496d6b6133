"""Groups of the user's own jobs as rows, sentences and JSON; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torc_slurm.common.units import format_memory, format_run_time
from torc_slurm.sizing.advice import CPUS, MEMORY, TIME, Advice, waiting
from torc_slurm.sizing.job_groups import THIN, Group, Spread, spread, two_clusters
from torc_slurm.sizing.job_use import JobUse

NOT_MEASURED = "-"


def memory_of(group: Group) -> Spread | None:
    """The spread of the peak memory, in bytes, of the informative jobs."""
    return spread(job.peak_memory_bytes for job in group.ended)


def cores_of(group: Group) -> Spread | None:
    """The spread of the number of busy CPUs, on average."""
    return spread(map(_cores, group.ended))


def time_of(group: Group) -> Spread | None:
    """The spread of the run time, in seconds."""
    return spread(job.elapsed_seconds for job in group.ended)


def _cores(job: JobUse) -> float | None:
    return job.cpu_seconds / job.elapsed_seconds if job.cpu_seconds is not None and job.elapsed_seconds else None


def group_row(group: Group) -> tuple[str, ...]:
    """Name, number of jobs, median, p95 and maximum of memory, most busy CPUs, longest run time."""
    memory, cores, time = memory_of(group), cores_of(group), time_of(group)
    return (
        group.name,
        str(len(group.jobs)),
        *(3 * (NOT_MEASURED,) if memory is None else map(format_memory, (memory.median, memory.p95, memory.maximum))),
        NOT_MEASURED if cores is None else f"{cores.maximum:.1f}",
        NOT_MEASURED if time is None else format_run_time(time.maximum),
    )


def group_notes(group: Group, advice: Sequence[Advice], *, explain: bool) -> Iterator[str]:
    """Notes on a group: little evidence, two clusters; with ``explain`` the reason of each suggestion."""
    if advice and len(group.ended) < THIN:
        count = len(group.ended)
        yield f"{group.name}: only {count} job{'' if count == 1 else 's'}, so take the suggestion with care"
    for verb, values, write in (
        ("used", [job.peak_memory_bytes for job in group.ended], format_memory),
        ("ran", [job.elapsed_seconds for job in group.ended], format_run_time),
    ):
        parts = two_clusters(values)
        if parts is not None:
            low, high = parts
            yield (
                f"{group.name}: {len(low)} jobs {verb} up to {write(low[-1])}, and {len(high)} {verb} {write(high[0])} "
                "or more; give these two kinds separate requests"
            )
    if explain:
        yield from (f"{group.name}: {each.reason} Confidence: {each.confidence}." for each in advice)
        most = max(group.ended, key=lambda job: job.wait_factor, default=None)
        words = None if most is None else waiting(most)
        if most is not None and words is not None:
            yield f"{group.name}: job {most.job_id}: {words}"


def correction_items(found: Sequence[tuple[Group, Sequence[Advice]]]) -> Iterator[dict[str, Any]]:
    """One item for each suggestion of each group."""
    for group, advice in found:
        for each in advice:
            yield {"group": group.name, "job_count": len(group.jobs), **each.item()}


def corrections_document(found: Sequence[tuple[Group, Sequence[Advice]]], *, no_downsize: bool) -> dict[str, Any]:
    """JSON in the form of ``correct-resources``, with a group instead of a requirement."""
    every = [each for _, advice in found for each in advice]
    document: dict[str, Any] = {
        "status": "success",
        "workflow_id": None,
        "no_downsize": no_downsize,
        "jobs_analyzed": sum(len(group.ended) for group, _ in found),
        "resource_requirements_updated": 0,
    }
    for resource, word in ((MEMORY, "memory"), (TIME, "runtime"), (CPUS, "cpu")):
        of_kind = [each for each in every if each.resource == resource]
        document[f"{word}_corrections"] = sum(each.is_more for each in of_kind)
        document[f"downsize_{word}_corrections"] = sum(not each.is_more for each in of_kind)
    document["adjustments"] = [
        _adjustment(number, group, advice) for number, (group, advice) in enumerate(found, 1) if advice
    ]
    document["groups"] = [_group(number, group) for number, (group, _) in enumerate(found, 1)]
    return document


def _adjustment(number: int, group: Group, advice: Sequence[Advice]) -> dict[str, Any]:
    memory = memory_of(group)
    values: dict[str, Any] = {
        "group": number,
        "direction": "upscale" if any(each.is_more for each in advice) else "downscale",
        "job_ids": [job.slurm_job_id for job in group.jobs],
        "job_names": [job.name for job in group.jobs],
        "max_peak_memory_bytes": None if memory is None else int(memory.maximum),
    }
    changed = {each.resource for each in advice}
    values |= {
        "memory_adjusted": MEMORY in changed,
        "runtime_adjusted": TIME in changed,
        "cpu_adjusted": CPUS in changed,
    }
    for resource, word in ((MEMORY, "memory"), (TIME, "runtime"), (CPUS, "cpus")):
        for each in advice:
            if each.resource == resource:
                values |= {f"original_{word}": each.current, f"new_{word}": each.suggested}
    return values


def _group(number: int, group: Group) -> dict[str, Any]:
    spreads = {"peak_memory_bytes": memory_of(group), "busy_cpus": cores_of(group), "elapsed_seconds": time_of(group)}
    return {
        "group": number,
        "name": group.name,
        "job_count": len(group.jobs),
        **{name: None if found is None else found._asdict() for name, found in spreads.items()},
    }
