"""Which of Slurm's records belong to an allocation: requeued, recycled, array and heterogeneous jobs; pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torc_slurm.records.accounting import AccountingRecord, merge_records
from torc_slurm.slurm.states import record_has_ended

# A step's begin comes from its node's clock and may lie this far outside the job's record, which uses Slurm's clock.
CLOCK_TOLERANCE_SECONDS = 300.0


@dataclass(frozen=True)
class AllocationKey:
    """Identifies an allocation, as far as the node knew it.

    ``slurm_array`` is ``<array job>_<task>``: for sacct, the bare id of an array's first task means the whole array.
    ``run_id`` goes into the rows. A requeued or recycled job id has several records: ``user_name`` and
    ``earliest_begin_time`` (Unix time of the first step) select one, and ``restart_count`` if times do not.
    ``cluster`` None: the local one.
    """

    slurm_job_id: int
    slurm_array: str | None = None
    run_id: int = 1
    user_name: str | None = None
    earliest_begin_time: float | None = None
    restart_count: int | None = None
    cluster: str | None = None

    @property
    def job_argument(self) -> str:
        """The argument of ``sacct -j``. In its first seconds a job's record may not have its array and task."""
        own = str(self.slurm_job_id)
        if self.slurm_array is None:
            return own
        return self.slurm_array if self.slurm_array.partition("_")[0] == own else f"{self.slurm_array},{own}"


@dataclass(frozen=True)
class JobRecord:
    """One record of a job and its steps' records; for a heterogeneous job, of all its components."""

    job: AccountingRecord
    steps: list[AccountingRecord] = field(default_factory=list)

    @property
    def end_time(self) -> float | None:
        """When the job ended; None if it has not."""
        return self.job.end_time if is_final(self.job) else None

    @functools.cached_property
    def _by_step_id(self) -> dict[str, tuple[AccountingRecord, ...]]:
        found: dict[str, tuple[AccountingRecord, ...]] = {}
        for row in self.steps:
            if row.step_id is not None:
                found[row.step_id] = (*found.get(row.step_id, ()), row)
        return found

    @property
    def step_ids(self) -> list[str]:
        """Its steps, without duplicates, in sacct's order."""
        return list(self._by_step_id)

    def step(self, step_id: str) -> AccountingRecord | None:
        """The record of one step; if it ran in several components, their records combined."""
        found = self._by_step_id.get(step_id)
        return merge_components(found) if found else None

    def take(self, step_id: str) -> AccountingRecord | None:
        """Like `step`, but also removes it: with 100,000 steps, parsed and assessed records need not both be in
        memory.
        """
        by_step_id = self._by_step_id
        self.steps.clear()
        found = by_step_id.pop(step_id, None)
        return merge_components(found) if found else None


def is_final(row: AccountingRecord) -> bool:
    """Whether Slurm has written an end for this job or step."""
    return row.end_time is not None and row.state is not None and record_has_ended(row.state)


def is_inherited_end(row: AccountingRecord) -> bool:
    """Whether the end is not the step's own: Slurm shows a step whose end it does not know as CANCELLED, 0:0.

    Seen on 22.05 briefly after scancel (later: COMPLETED, FAILED or CANCELLED with a signal), and permanently after a
    node failed or slurmstepd died.
    """
    return row.state == "CANCELLED" and row.cancelled_by_uid is None and not row.exit_code and not row.exit_signal


def job_records(rows: Iterable[AccountingRecord], slurm_job_id: int) -> list[JobRecord]:
    """The records of one job id in sacct's order, each with its steps, which follow it.

    The other components of a heterogeneous job (``12+1`` next to ``12+0``) add their steps to the record of the first:
    the wrapper knows their steps by the first one's job id.
    """
    records: list[tuple[AccountingRecord, list[AccountingRecord]]] = []
    by_submit_time: dict[float | None, list[AccountingRecord]] = {}
    steps: list[AccountingRecord] | None = None
    steps_of: int | None = None
    for row in rows:
        if row.step_id is not None:
            if steps is not None and row.slurm_job_id == steps_of:  # a job's own record may have been refused
                steps.append(row)
            continue
        steps_of = row.slurm_job_id
        if row.slurm_job_id == slurm_job_id:
            steps = by_submit_time[row.submit_time] = []
            records.append((row, steps))
        else:
            steps = by_submit_time.get(row.submit_time) if _is_component(row, slurm_job_id) else None
    return [JobRecord(job, steps) for job, steps in records]


def _is_component(row: AccountingRecord, slurm_job_id: int) -> bool:
    leader, plus, _ = row.shown_job_id.partition("+")
    return bool(plus) and leader == str(slurm_job_id)


def select_record(records: Sequence[JobRecord], key: AllocationKey) -> JobRecord | None:
    """The record that the allocation's steps belong to; None if all are of another user or another time."""
    users = (None, key.user_name)
    own = [each for each in records if key.user_name is None or is_provisional(each.job) or each.job.user_name in users]
    if key.earliest_begin_time is not None:
        own = _nearest(own, key.earliest_begin_time)
    if key.restart_count is not None:
        own = [record for record in own if record.job.restart_count == key.restart_count] or own
    return own[-1] if own else None


def is_provisional(job: AccountingRecord) -> bool:
    """Whether a job's record exists only because its steps arrived: it lacks name, user, request, limit and array.

    slurmctld sends new jobs to slurmdbd every 5 s and steps at once: until then the job is named ``allocation`` and
    belongs to root (seen on 22.05).
    """
    return job.name == "allocation" and job.requested_tres is None


def _nearest(records: Sequence[JobRecord], moment: float) -> list[JobRecord]:
    """The records whose time contains the moment, or else those nearest to it within the tolerance."""
    distances = [_distance(record, moment) for record in records]
    least = min(distances, default=CLOCK_TOLERANCE_SECONDS + 1)
    if least > CLOCK_TOLERANCE_SECONDS:
        return []
    return [record for record, distance in zip(records, distances, strict=True) if distance == least]


def _distance(record: JobRecord, moment: float) -> float:
    """Seconds between a moment and the job's time; 0 inside it, infinite for a record that never started."""
    if record.job.start_time is None:
        return float("inf")
    end_time = float("inf") if record.end_time is None else record.end_time
    return max(record.job.start_time - moment, moment - end_time, 0.0)


def merge_components(rows: Sequence[AccountingRecord]) -> AccountingRecord:
    """One record for a step that ran in several components of a heterogeneous job: maxima, sums, the worst end."""
    if len(rows) == 1:
        return rows[0]
    return merge_records(rows, max(rows, key=lambda row: (not is_final(row), row.exit_signal or 0, row.exit_code or 0)))
