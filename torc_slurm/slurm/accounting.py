"""Slurm's accounting of the steps of one allocation, from one query, and how reliable each figure is.

Accounting may be late, incomplete or absent: that never raises an error. Every requested step becomes one row, whose
``status`` is ``found``, ``partial``, ``pending``, ``missing`` or ``unavailable`` and whose ``reason`` says why and
what to do. None means not measured and is never 0: a 0 that Slurm prints for a figure it did not poll becomes None.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torc_slurm.common.errors import CommandError, CommandNotFound, CommandTimeout, InputError, ParseError, TorcError
from torc_slurm.records.accounting import INDEX, AccountingRecord
from torc_slurm.slurm import pyslurm_backend, sacct
from torc_slurm.slurm.assess import ASK_AGAIN, Assessment, assess_no_record, assess_step
from torc_slurm.slurm.clusters import cluster_arguments
from torc_slurm.slurm.commands import LOGIN_TIMEOUT_SECONDS, sacct_timeout_seconds
from torc_slurm.slurm.configuration import SlurmFacts, slurm_facts
from torc_slurm.slurm.job_records import AllocationKey, JobRecord, job_records, select_record
from torc_slurm.slurm.states import status_of_end

__all__ = [
    "AllocationAccounting",
    "AllocationKey",
    "chosen_backend",
    "fetch_accounting",
    "fetch_allocation",
    "rows_from_records",
]

BACKENDS = ("auto", "sacct", "pyslurm")
BACKEND_VARIABLE = "TORC_ACCOUNTING_BACKEND"


@dataclass(frozen=True)
class AllocationAccounting:
    """The result of one query: a row for each requested step, and rows of other steps.

    ``note``: why another backend was used than the requested one, and which records could not be read.
    """

    rows: tuple[AccountingRecord, ...]
    other_rows: tuple[AccountingRecord, ...] = ()
    note: str | None = None


def chosen_backend(given: str | None, environ: Mapping[str, str]) -> str:
    """The given backend, else ``TORC_ACCOUNTING_BACKEND``, else ``sacct``.

    Raises:
        InputError: there is no such backend.
    """
    source = "accounting backend " if given else f"{BACKEND_VARIABLE}="
    chosen = given or environ.get(BACKEND_VARIABLE) or "sacct"
    if chosen not in BACKENDS:
        raise InputError(f"{source}{chosen!r} is unknown; use one of {', '.join(BACKENDS)}")
    return chosen


def fetch_accounting(
    allocation: AllocationKey,
    step_ids: Sequence[str],
    *,
    timeout_seconds: float | None = None,
    backend: str | None = None,
) -> list[AccountingRecord]:
    """One row per requested step, in order, from one query. An accounting failure becomes a row's status, not an error.

    Args:
        step_ids: Slurm's step numbers as text, or ``batch``, ``extern``, ``interactive``.
        timeout_seconds: None: 60 s, or TORC_SACCT_TIMEOUT_SECONDS.
        backend: ``sacct``, ``pyslurm`` or ``auto``; None: see `chosen_backend`.

    Raises:
        InputError: no such backend, or TORC_SACCT_TIMEOUT_SECONDS is not a number.
    """
    return list(fetch_allocation(allocation, step_ids, timeout_seconds=timeout_seconds, backend=backend).rows)


def fetch_allocation(
    allocation: AllocationKey,
    step_ids: Sequence[str],
    *,
    timeout_seconds: float | None = None,
    backend: str | None = None,
) -> AllocationAccounting:
    """Like `fetch_accounting`, plus the allocation's other steps (not wrapped, ``batch``, ``extern``)."""
    return fetch_runs([(allocation, step_ids)], timeout_seconds=timeout_seconds, backend=backend)[0]


def fetch_runs(
    questions: Sequence[tuple[AllocationKey, Sequence[str]]],
    *,
    timeout_seconds: float | None = None,
    backend: str | None = None,
) -> list[AllocationAccounting]:
    """Like `fetch_allocation` for several runs in the same allocation, all from one query."""
    backend = chosen_backend(backend, os.environ)
    limit = sacct_timeout_seconds(LOGIN_TIMEOUT_SECONDS) if timeout_seconds is None else timeout_seconds
    facts = slurm_facts(*(name for name in [questions[0][0].cluster] if cluster_arguments(name)))
    try:
        answer = _records(questions[0][0], backend, limit)
    except (CommandError, ParseError) as error:
        return [_all_unavailable(allocation, step_ids, facts, backend, error) for allocation, step_ids in questions]
    now = time.time()
    return [
        _rows(answer, allocation, step_ids, facts, now, is_last=number == len(questions))
        for number, (allocation, step_ids) in enumerate(questions, 1)
    ]


class _Answer(NamedTuple):
    """Slurm's records, the backend that had them, a note on it, and why the end of the answer is missing."""

    records: list[JobRecord]
    backend: str
    note: str | None = None
    cut_off: str | None = None


def _records(allocation: AllocationKey, backend: str, limit: float) -> _Answer:
    note = None
    other = cluster_arguments(allocation.cluster)
    if other:
        backend = "sacct"  # pyslurm asks only the local cluster
    if backend == "auto" and not pyslurm_backend.is_installed():
        note = "pyslurm is not installed: torc used sacct"
    elif backend != "sacct":
        try:
            rows = pyslurm_backend.query(allocation.slurm_job_id, timeout_seconds=limit)
            return _Answer(job_records(rows, allocation.slurm_job_id), "pyslurm")
        except (CommandError, ParseError) as error:
            if backend == "pyslurm":
                raise
            note = f"{error}: torc used sacct instead"
    problems: list[str] = []
    cut_off: list[str] = []
    pieces = sacct.query(["-j", allocation.job_argument, *other], timeout_seconds=limit)
    records = job_records(_until_cut_off(sacct.parse_stream(pieces, problems.append), cut_off), allocation.slurm_job_id)
    return _Answer(records, "sacct", "; ".join(filter(None, [note, *problems])) or None, *cut_off)


def _until_cut_off(records: Iterator[AccountingRecord], cut_off: list[str]) -> Iterator[AccountingRecord]:
    """The records before the point where the answer was cut off; ``cut_off`` receives the reason."""
    number = 0
    try:
        for number, record in enumerate(records, 1):  # noqa: B007 - counted for the error message
            yield record
    except ParseError as error:
        if not number:
            raise
        cut_off.append(str(error))


def rows_from_records(
    found: Iterable[AccountingRecord],
    allocation: AllocationKey,
    step_ids: Sequence[str],
    *,
    facts: SlurmFacts,
    backend: str,
    now: float,
    cut_off: str | None = None,
) -> AllocationAccounting:
    """Make rows from Slurm's records at Unix time ``now``; pure, and the same for both backends.

    ``cut_off``: why the end of Slurm's answer is missing. A step that is not in it is then unavailable, not missing.
    """
    answer = _Answer(job_records(found, allocation.slurm_job_id), backend, None, cut_off)
    return _rows(answer, allocation, step_ids, facts, now, is_last=True)


def _rows(
    answer: _Answer, allocation: AllocationKey, step_ids: Sequence[str], facts: SlurmFacts, now: float, *, is_last: bool
) -> AllocationAccounting:
    record = select_record(answer.records, allocation)
    context = _Context(allocation, facts, answer.backend, now, record)
    if record is None:
        nothing = assess_no_record(allocation.slurm_job_id, bool(answer.records), allocation.earliest_begin_time, now)
        return AllocationAccounting(tuple(context.row(step_id, nothing) for step_id in step_ids), note=answer.note)
    others = record.step_ids

    def assessed(step_id: str, *, is_needed_again: bool) -> AccountingRecord:
        row = record.step(step_id) if is_needed_again else record.take(step_id)
        if row is None and answer.cut_off is not None:
            return context.row(step_id, Assessment("unavailable", f"{answer.cut_off}; {ASK_AGAIN}"))
        return context.row(step_id, assess_step(record, step_id, row, facts, now))

    asked = {step_id: assessed(step_id, is_needed_again=not is_last) for step_id in dict.fromkeys(step_ids)}
    return AllocationAccounting(
        rows=tuple(asked[step_id] for step_id in step_ids),
        other_rows=tuple(assessed(each, is_needed_again=not is_last) for each in others if each not in asked),
        note=answer.note,
    )


def _all_unavailable(
    allocation: AllocationKey, step_ids: Sequence[str], facts: SlurmFacts, backend: str, error: TorcError
) -> AllocationAccounting:
    context = _Context(allocation, facts, "sacct" if backend == "auto" else backend, time.time(), None)
    nothing = Assessment("unavailable", f"{error}; {_remedy(error)}")
    return AllocationAccounting(tuple(context.row(step_id, nothing) for step_id in step_ids))


def _remedy(error: TorcError) -> str:
    if isinstance(error, CommandNotFound | CommandTimeout):
        return f"then {ASK_AGAIN}"
    if isinstance(error, ParseError):
        return "please report this, with the version of Slurm"
    return f"once accounting answers, {ASK_AGAIN}"


class _Context:
    """What all rows of one query share."""

    def __init__(
        self, allocation: AllocationKey, facts: SlurmFacts, backend: str, now: float, record: JobRecord | None
    ) -> None:
        common: dict[str, Any] = {
            "slurm_job_id": allocation.slurm_job_id,
            "run_id": allocation.run_id,
            "backend": backend,
            "queried_at": now,
            "slurm_version": facts.slurm_version,
            "gather_type": facts.gather_type,
            "gather_params": facts.gather_params,
            "gather_frequency": facts.gather_frequency,
        }
        if record is not None:
            common |= {
                "job_start_time": record.job.start_time,
                "requested_memory": record.job.requested_memory,
                "requested_tres": record.job.requested_tres,
                "time_limit_seconds": record.job.time_limit_seconds,
            }
        self._common = [(INDEX[name], value) for name, value in common.items()]
        self._record = record

    def row(self, step_id: str, assessment: Assessment) -> AccountingRecord:
        """The row of one step after assessing it."""
        step, job = assessment.row, None if self._record is None else self._record.job
        values: list[Any] = list(_NOTHING if step is None else step)
        for position in assessment.not_measured:
            values[position] = None
        for position, value in self._common:
            values[position] = value
        if assessment.end_time is not None:
            values[_END_TIME] = assessment.end_time
        if self._record is not None and _job_end_concerns(self._record, assessment):
            values[_JOB_STATE], values[_JOB_END_TIME] = self._record.job.state, self._record.end_time
        reasons = (assessment.reason, None if step is None else step.reason, None if job is None else job.reason)
        values[_STEP_ID], values[_STATUS] = step_id, assessment.status
        values[_REASON] = "; ".join(dict.fromkeys(filter(None, reasons))) or None
        return AccountingRecord._make(values)


_NOTHING = AccountingRecord(0)
_STEP_ID, _STATUS, _REASON, _END_TIME, _JOB_STATE, _JOB_END_TIME = (
    INDEX[name] for name in ("step_id", "status", "reason", "end_time", "job_state", "job_end_time")
)


def _job_end_concerns(record: JobRecord, assessment: Assessment) -> bool:
    """Whether the job's end says anything about the step.

    It does not if the step ended by itself before: then its row is the same whether it was read during the job or
    later.
    """
    step = assessment.row
    if step is None or assessment.status == "pending" or not (step.step_id or "").isdigit():
        return True
    end_time = step.end_time if assessment.end_time is None else assessment.end_time
    if record.end_time is None or end_time is None or status_of_end(record.job.state) is None:
        return False
    return end_time >= record.end_time
