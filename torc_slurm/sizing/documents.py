"""The JSON documents of right-sizing, with the keys, order and values of the Rust torc."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from torc_slurm.sizing.corrections import Adjustment, Corrections
from torc_slurm.sizing.decision import DOWN, UP, Decision
from torc_slurm.sizing.evidence import Resource
from torc_slurm.sizing.facts import Figure
from torc_slurm.sizing.recovery import Unfinished
from torc_slurm.sizing.savings import Saving
from torc_slurm.sizing.trends import NO_TRENDS, Trends
from torc_slurm.sizing.utilization import Use, Utilization

Document = dict[str, Any]

VIOLATION_KEYS = ("job_id", "job_name", "resource_type", "specified", "peak_used", "over_utilization")

SAVING_AMOUNTS = ("asked", "used", "wasted", "lost", "asked_after", "reserved", "reserved_after")


def utilization_document(report: Utilization, trends: Trends | None = None) -> Document:
    """The answer of ``check-resource-utilization``; with ``trends`` also the trends."""
    document: Document = {
        "workflow_id": report.workflow_id,
        "run_id": report.run_id,
        "total_results": report.total_results,
        "over_utilization_count": report.violations,
        "violations": [violation(use) for use in report.uses],
    }
    if report.violating_jobs is not None:
        document["resource_violations_count"] = len(report.violating_jobs)
        document["resource_violations"] = list(report.violating_jobs)
    if trends is not None:
        document["trends"] = [each.document() for each in trends.found]
    return document


def violation(use: Use) -> Document:
    """One item of its ``violations``."""
    return {key: getattr(use, key) for key in VIOLATION_KEYS}


def corrections_document(
    corrections: Corrections, *, dry_run: bool, explain: bool = False, trends: Trends = NO_TRENDS
) -> Document:
    """The answer of ``correct-resources``. ``explain`` adds the reason of every decision, and the trends."""
    options, affected = corrections.options, corrections.jobs_affected
    document: Document = {
        "status": "success",
        "workflow_id": corrections.workflow_id,
        "dry_run": dry_run,
        "no_downsize": not options.downsize,
        "memory_multiplier": float(options.memory_multiplier),
        "cpu_multiplier": float(options.cpu_multiplier),
        "runtime_multiplier": float(options.runtime_multiplier),
        "resource_requirements_updated": corrections.requirements_updated,
        "jobs_analyzed": corrections.jobs_analyzed,
        "memory_corrections": affected(Resource.memory, UP),
        "runtime_corrections": affected(Resource.runtime, UP),
        "cpu_corrections": affected(Resource.cpu, UP),
        "downsize_memory_corrections": affected(Resource.memory, DOWN),
        "downsize_runtime_corrections": affected(Resource.runtime, DOWN),
        "downsize_cpu_corrections": affected(Resource.cpu, DOWN),
        "adjustments": [adjustment_document(each) for each in corrections.adjustments],
    }
    if explain:
        document["explanations"] = [explanation(each) for each in corrections.decisions]
        document["trends"] = [each.document() for each in trends.found]
    return document


def adjustment_document(adjustment: Adjustment) -> Document:
    """One adjustment. It has the keys only of resources that change."""
    document: Document = {
        "resource_requirements_id": adjustment.requirement.resource_requirements_id,
        "direction": adjustment.direction,
        "job_ids": [job.job_id for job in adjustment.jobs],
        "job_names": [job.name for job in adjustment.jobs],
    }
    memory, runtime, cpu = (adjustment.of(each) for each in (Resource.memory, Resource.runtime, Resource.cpu))
    if memory is not None:
        document |= _changed("memory", "memory", memory) | {"max_peak_memory_bytes": _whole(memory.max_measured)}
    if runtime is not None:
        document |= _changed("runtime", "runtime", runtime)
    if cpu is not None:
        peak = None if cpu.max_measured is None else float(cpu.max_measured)
        document |= _changed("cpu", "cpus", cpu) | {"max_peak_cpu_percent": peak}
    return document


def explanation(decision: Decision) -> Document:
    """A decision with its reason, also if nothing changes."""
    return {
        "resource_requirements_id": decision.requirement.resource_requirements_id,
        "name": decision.requirement.name,
        "resource_type": decision.resource.value,
        "direction": decision.direction,
        "original": decision.original,
        "new": decision.new,
        "reason": decision.reason,
    }


def _changed(word: str, figure: str, decision: Decision) -> Document:
    return {f"{word}_adjusted": True, f"original_{figure}": decision.original, f"new_{figure}": decision.new}


def _whole(value: Figure | None) -> int | None:
    return None if value is None else int(value)


def savings_document(workflow_id: int | None, run_id: int | None, rows: Sequence[Saving]) -> Document:
    """The answer of ``savings``: one item per requirement, and the workflow's ``total``."""
    items = [saving_item(each) for each in rows]
    return {"workflow_id": workflow_id, "run_id": run_id, "items": items[:-1], "total": items[-1]}


def saving_item(saving: Saving) -> Document:
    """One row: hours with three decimals; None if nothing was measured."""
    requirement = saving.requirement
    document: Document = {
        "resource_requirements_id": None if requirement is None else requirement.resource_requirements_id,
        "name": None if requirement is None else requirement.name,
        "jobs": saving.jobs,
        "attempts": saving.attempts,
        "unmeasured_attempts": saving.unmeasured_attempts,
    }
    for unit in ("core_hours", "gb_hours"):
        for name in SAVING_AMOUNTS:
            document[f"{name}_{unit}"] = _hours(getattr(getattr(saving, name), unit))
    return document


def unfinished_document(unfinished: Unfinished) -> Document:
    """A job that is not completed, and whether another run would help."""
    return {
        "job_id": unfinished.job.job_id,
        "job_name": unfinished.job.name,
        "cause": unfinished.cause.value,
        "is_helped": unfinished.is_helped,
        "reason": unfinished.reason,
    }


def _hours(value: Decimal | None) -> float | None:
    return None if value is None else float(value.quantize(Decimal("0.001"), ROUND_HALF_UP))
