"""What one step's record is worth: its status, the reason in plain words, and which figures Slurm measured; pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torc_slurm.slurm.configuration import SlurmFacts
from torc_slurm.slurm.records import JobRecord, is_final, is_inherited_end, is_provisional
from torc_slurm.slurm.sacct import SacctRow
from torc_slurm.slurm.states import described
from torc_slurm.units import format_run_time

# After this long, what has not come is taken not to come: slurmdbd restarted had sent its queue after 11 s.
SETTLE_SECONDS = 300.0
# A job of which Slurm has no record at all may have been purged; before that it may be late.
FORGOTTEN_SECONDS = 7 * 86400.0

ASK_AGAIN = "ask again with `torc slurm stats` or `torc slurm collect`"
_LOWER_BOUND = "killed for memory: Slurm's MaxRSS is a lower bound, what it had seen before the kill"

_POLLED = (
    "max_rss_bytes",
    "max_rss_node",
    "max_rss_task",
    "max_vm_size_bytes",
    "max_vm_size_node",
    "max_vm_size_task",
    "max_disk_read_bytes",
    "max_disk_read_node",
    "max_disk_read_task",
    "max_disk_write_bytes",
    "max_disk_write_node",
    "max_disk_write_task",
    "ave_cpu_seconds",
    "total_rss_bytes",
    "total_disk_read_bytes",
    "total_disk_write_bytes",
    "gpu_utilization_percent",
    "gpu_memory_bytes",
)
_VIRTUAL = ("max_vm_size_bytes", "max_vm_size_node", "max_vm_size_task")
_CPU = ("total_cpu_seconds", "user_cpu_seconds", "system_cpu_seconds")


@dataclass(frozen=True)
class Judgement:
    """``status`` and ``reason`` of a row, and the record with None for every figure that was not measured."""

    status: str
    reason: str | None
    row: SacctRow | None = None


def judge_step(record: JobRecord, step_id: str, facts: SlurmFacts, now: float) -> Judgement:
    """What the job's record has for one step that was asked for.

    Args:
        now: Unix time of the query.
    """
    row = record.step(step_id)
    if row is None:
        return _absent(record, step_id, now)
    if not is_final(row):
        return _unfinished(record, row, now)
    if is_inherited_end(row):
        return _without_own_end(record, row, now)
    judged = _ended(row, facts)
    if is_provisional(record.job) and not _long_ended(record, now):
        return Judgement(
            "pending", f"the job's own record is not complete yet (it takes up to 5 s); {ASK_AGAIN}", judged.row
        )
    return judged


def judge_no_record(slurm_job_id: int, has_other_records: bool, begin_time: float | None, now: float) -> Judgement:
    """What to say of a step whose job has no record that fits."""
    if has_other_records:
        what = f"Slurm's records of job {slurm_job_id} are of another user or another time (job ids are used again)"
    else:
        what = f"Slurm's accounting has no record of job {slurm_job_id}"
    if begin_time is not None and now - begin_time > FORGOTTEN_SECONDS:
        return Judgement("missing", f"{what}; it never came or was purged")
    return Judgement("pending", f"{what}, or not yet; {ASK_AGAIN}")


def _long_ended(record: JobRecord, now: float) -> bool:
    return record.end_time is not None and now - record.end_time > SETTLE_SECONDS


def _absent(record: JobRecord, step_id: str, now: float) -> Judgement:
    if not _long_ended(record, now):
        return Judgement("pending", f"Slurm has no record of step {step_id} yet; {ASK_AGAIN}")
    return Judgement(
        "missing",
        f"the job ended more than {format_run_time(SETTLE_SECONDS)} ago and no record of step {step_id} came: Slurm "
        "drops step records first when its queue to slurmdbd overflows",
    )


def _unfinished(record: JobRecord, row: SacctRow, now: float) -> Judgement:
    row = _without(row, (*_POLLED, *_CPU, "exit_code", "exit_signal", "end_time", "consumed_energy_joules"))
    if _long_ended(record, now):
        ended = dataclasses.replace(row, end_time=record.end_time)
        return Judgement("partial", "Slurm never noted this step's own end: the end is its job's", ended)
    return Judgement(
        "pending",
        f"Slurm shows the step as {described(row.state or 'unknown')} still; {ASK_AGAIN} once it has ended",
        row,
    )


def _without_own_end(record: JobRecord, row: SacctRow, now: float) -> Judgement:
    row = _without(row, (*_POLLED, *_CPU, "exit_code", "exit_signal", "consumed_energy_joules"))
    if _long_ended(record, now):
        return Judgement(
            "partial", "Slurm never got this step's own end: its state and end are the job's, figures never came", row
        )
    return Judgement("pending", f"the job was ended and this step's own end is not recorded yet; {ASK_AGAIN}", row)


def _ended(row: SacctRow, facts: SlurmFacts) -> Judgement:
    out_of_memory = row.state == "OUT_OF_MEMORY"
    measured = _measured(row, facts)
    if measured.max_rss_bytes is None:
        return Judgement("partial", _why_nothing_was_polled(row, facts), measured)
    return Judgement("found", _LOWER_BOUND if out_of_memory else None, measured)


def _measured(row: SacctRow, facts: SlurmFacts) -> SacctRow:
    """The record without the zeros that Slurm prints for what it did not measure."""
    if not row.max_rss_bytes:
        row = _without(row, _POLLED)
    if not row.max_vm_size_bytes:
        row = _without(row, _VIRTUAL)
    if not row.total_cpu_seconds or not facts.gathers:
        row = _without(row, _CPU)
    if not row.consumed_energy_joules:
        row = _without(row, ("consumed_energy_joules",))
    return row


def _why_nothing_was_polled(row: SacctRow, facts: SlurmFacts) -> str:
    if not facts.gathers:
        return f"this cluster measures no steps (JobAcctGatherType is {facts.gather_type})"
    if row.state == "OUT_OF_MEMORY":
        return "killed for memory before Slurm had polled it: the wrapper's own figures have its peak"
    interval = facts.gather_interval_seconds
    if interval and row.elapsed_seconds is not None and row.elapsed_seconds <= interval:
        every = format_run_time(interval)
        return f"ended before Slurm polled it (it polls every {every}): the wrapper's own figures stand"
    return "ended without a figure from Slurm's polling: the wrapper's own figures stand"


def _without(row: SacctRow, names: tuple[str, ...]) -> SacctRow:
    nothing: dict[str, Any] = dict.fromkeys(names)
    return dataclasses.replace(row, **nothing)
