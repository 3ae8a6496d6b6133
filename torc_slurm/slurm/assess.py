"""Assesses one step's record: its status, the reason in plain words, and which figures Slurm measured; pure."""

from __future__ import annotations

from typing import NamedTuple

from torc_slurm.common.units import format_run_time
from torc_slurm.records.accounting import CPU, ENERGY, INDEX, POLLED, VIRTUAL, AccountingRecord, measured_by
from torc_slurm.slurm.configuration import SlurmFacts
from torc_slurm.slurm.job_records import JobRecord, is_final, is_inherited_end, is_provisional
from torc_slurm.slurm.states import described

# After this time, missing records will not come: a restarted slurmdbd had sent its queue after 11 s.
LATE_SECONDS = 300.0
# After this time, a job without any record may have been purged; before, the record may be late.
FORGOTTEN_SECONDS = 7 * 86400.0

ASK_AGAIN = "ask again with `torc stats` or `torc slurm collect`"
_LOWER_BOUND = "killed for memory: Slurm's MaxRSS is a lower bound, its last poll before the kill"

_POLLED, _VIRTUAL, _CPU, _ENERGY = map(measured_by, (POLLED, VIRTUAL, CPU, ENERGY))
# After an OOM kill or an early end, polled figures are missing, the virtual size included.
_ALL_POLLED = (*_POLLED, *_VIRTUAL)
_EXIT = (INDEX["exit_code"], INDEX["exit_signal"])


class Assessment(NamedTuple):
    """The result for one step: ``status`` and ``reason``, the record, and the positions of fields that Slurm did not
    measure. ``end_time`` replaces the record's end if that is not the step's.
    """

    status: str
    reason: str | None
    row: AccountingRecord | None = None
    not_measured: tuple[int, ...] = ()
    end_time: float | None = None


def assess_step(
    record: JobRecord, step_id: str, row: AccountingRecord | None, facts: SlurmFacts, now: float
) -> Assessment:
    """Assess one requested step by its job's record.

    Args:
        row: the step's own record; None: there is none.
        now: Unix time of the query.
    """
    if row is None:
        return _absent(record, step_id, now)
    if not is_final(row):
        return _unfinished(record, row, now)
    if is_inherited_end(row):
        return _without_own_end(record, row, now)
    assessed = _ended(row, facts)
    if is_provisional(record.job) and not _long_ended(record, now):
        reason = f"the job's own record is not complete yet (it takes up to 5 s); {ASK_AGAIN}"
        return assessed._replace(status="pending", reason=reason)
    return assessed


def assess_no_record(slurm_job_id: int, has_other_records: bool, begin_time: float | None, now: float) -> Assessment:
    """The assessment of a step whose job has no matching record."""
    if has_other_records:
        what = f"Slurm's records of job {slurm_job_id} belong to another user or time (Slurm reuses job ids)"
    else:
        what = f"Slurm's accounting has no record of job {slurm_job_id}"
    if begin_time is not None and now - begin_time > FORGOTTEN_SECONDS:
        return Assessment("missing", f"{what}; it never came or was purged")
    late = "; perhaps its own record has not arrived yet" if has_other_records else " yet"
    return Assessment("pending", f"{what}{late}: {ASK_AGAIN}")


def _long_ended(record: JobRecord, now: float) -> bool:
    return record.end_time is not None and now - record.end_time > LATE_SECONDS


def _absent(record: JobRecord, step_id: str, now: float) -> Assessment:
    if not _long_ended(record, now):
        return Assessment("pending", f"Slurm has no record of step {step_id} yet; {ASK_AGAIN}")
    return Assessment(
        "missing",
        f"the job ended more than {format_run_time(LATE_SECONDS)} ago and no record of step {step_id} came: Slurm "
        "drops step records first when its queue to slurmdbd overflows",
    )


def _unfinished(record: JobRecord, row: AccountingRecord, now: float) -> Assessment:
    blank = (*_ALL_POLLED, *_CPU, *_ENERGY, *_EXIT, INDEX["end_time"])
    if _long_ended(record, now):
        reason = "Slurm did not record this step's end: the end shown is the job's"
        return Assessment("partial", reason, row, blank, record.end_time)
    if row.state is None:
        return Assessment("pending", f"Slurm's record of the step has no state; {ASK_AGAIN}", row, blank)
    return Assessment(
        "pending", f"Slurm still shows the step as {described(row.state)}; {ASK_AGAIN} once it has ended", row, blank
    )


def _without_own_end(record: JobRecord, row: AccountingRecord, now: float) -> Assessment:
    blank = (*_ALL_POLLED, *_CPU, *_ENERGY, *_EXIT)
    if _long_ended(record, now):
        reason = "Slurm did not record this step's end: state and end are the job's, there are no figures"
        return Assessment("partial", reason, row, blank)
    reason = f"the job was ended and Slurm has not recorded this step's end yet; {ASK_AGAIN}"
    return Assessment("pending", reason, row, blank)


def _ended(row: AccountingRecord, facts: SlurmFacts) -> Assessment:
    blank = positions_not_measured(row, facts)
    if not row.max_rss_bytes:
        return Assessment("partial", _why_nothing_was_polled(row, facts), row, blank)
    return Assessment("found", _LOWER_BOUND if row.state == "OUT_OF_MEMORY" else None, row, blank)


def positions_not_measured(row: AccountingRecord, facts: SlurmFacts) -> tuple[int, ...]:
    """Positions of the fields in which Slurm prints 0 although it did not measure them."""
    blank: tuple[int, ...] = ()
    if not row.max_rss_bytes:
        blank += _ALL_POLLED
    elif not row.max_vm_size_bytes:
        blank += _VIRTUAL
    if not row.total_cpu_seconds or not facts.gathers:
        blank += _CPU
    if not row.consumed_energy_joules:
        blank += _ENERGY
    return blank


def _why_nothing_was_polled(row: AccountingRecord, facts: SlurmFacts) -> str:
    if not facts.gathers:
        return f"this cluster measures no steps (JobAcctGatherType is {facts.gather_type})"
    if row.state == "OUT_OF_MEMORY":
        return "killed for memory before Slurm polled it: the wrapper's peak applies"
    interval = facts.gather_interval_seconds
    if interval and row.elapsed_seconds is not None and row.elapsed_seconds <= interval:
        every = format_run_time(interval)
        return f"ended before Slurm polled it (it polls every {every}): the wrapper's figures apply"
    return "ended without a figure from Slurm: the wrapper's figures apply"
