"""Slurm's accounting of the steps of one allocation, in one query, and what each of its figures is worth.

Accounting may be late, cut short or absent: that never raises. Every step that was asked for comes back as one row
whose ``status`` is ``found``, ``partial``, ``pending``, ``missing`` or ``unavailable`` and whose ``reason`` says
why and what to do. None means not measured and is never 0: a 0 that Slurm prints for what it did not poll is None.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torc_slurm.errors import CommandError, CommandNotFound, CommandTimeout, InputError, ParseError, TorcError
from torc_slurm.slurm import pyslurm_backend, sacct
from torc_slurm.slurm.commands import LOGIN_TIMEOUT_SECONDS, sacct_timeout_seconds
from torc_slurm.slurm.configuration import SlurmFacts, slurm_facts
from torc_slurm.slurm.judgement import ASK_AGAIN, Judgement, judge_no_record, judge_step
from torc_slurm.slurm.records import AllocationKey, JobRecord, job_records, select_record
from torc_slurm.slurm.sacct import SacctRow
from torc_slurm.slurm.states import status_of_end

__all__ = [
    "AccountingRow",
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
class AccountingRow:
    """What Slurm's accounting has for one step; the fields are the columns of ``slurm_stats``, in their order."""

    slurm_job_id: int
    step_id: str
    run_id: int
    step_name: str | None = None
    status: str = "unavailable"
    reason: str | None = None
    state: str | None = None
    job_state: str | None = None
    job_start_time: float | None = None
    job_end_time: float | None = None
    cancelled_by_uid: int | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    start_time: float | None = None
    end_time: float | None = None
    elapsed_seconds: float | None = None
    max_rss_bytes: int | None = None
    max_rss_node: str | None = None
    max_rss_task: int | None = None
    max_vm_size_bytes: int | None = None
    max_vm_size_node: str | None = None
    max_vm_size_task: int | None = None
    max_disk_read_bytes: int | None = None
    max_disk_read_node: str | None = None
    max_disk_read_task: int | None = None
    max_disk_write_bytes: int | None = None
    max_disk_write_node: str | None = None
    max_disk_write_task: int | None = None
    ave_cpu_seconds: float | None = None
    total_cpu_seconds: float | None = None
    user_cpu_seconds: float | None = None
    system_cpu_seconds: float | None = None
    total_rss_bytes: int | None = None
    total_disk_read_bytes: int | None = None
    total_disk_write_bytes: int | None = None
    node_list: str | None = None
    task_count: int | None = None
    requested_memory: str | None = None
    requested_tres: str | None = None
    allocated_tres: str | None = None
    time_limit_seconds: float | None = None
    consumed_energy_joules: int | None = None
    gpu_utilization_percent: float | None = None
    gpu_memory_bytes: int | None = None
    slurm_version: str | None = None
    gather_type: str | None = None
    gather_params: str | None = None
    gather_frequency: str | None = None
    backend: str | None = None
    queried_at: float | None = None

    def as_mapping(self) -> dict[str, int | float | str | None]:
        """Column name to value, as the upsert's named parameters want it."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class AllocationAccounting:
    """All that one query brought: a row for each step asked for, and rows of the steps that nobody asked for.

    ``note``: why the backend is not the one that was wished for; None where it is.
    """

    rows: tuple[AccountingRow, ...]
    other_rows: tuple[AccountingRow, ...] = ()
    note: str | None = None


def chosen_backend(given: str | None, environ: Mapping[str, str]) -> str:
    """The backend that was given, else ``TORC_ACCOUNTING_BACKEND``, else ``sacct``.

    Raises:
        InputError: there is none of that name.
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
) -> list[AccountingRow]:
    """One row per step asked for, in their order, from one query; accounting trouble is a row's status, no error.

    Args:
        step_ids: Slurm's step numbers as text, or ``batch``, ``extern``, ``interactive``.
        timeout_seconds: None: 60 s, or TORC_SACCT_TIMEOUT_SECONDS.
        backend: ``sacct``, ``pyslurm`` or ``auto``; None: as `chosen_backend` says.

    Raises:
        InputError: no such backend, or TORC_SACCT_TIMEOUT_SECONDS is no number.
    """
    return list(fetch_allocation(allocation, step_ids, timeout_seconds=timeout_seconds, backend=backend).rows)


def fetch_allocation(
    allocation: AllocationKey,
    step_ids: Sequence[str],
    *,
    timeout_seconds: float | None = None,
    backend: str | None = None,
) -> AllocationAccounting:
    """As `fetch_accounting`, with the allocation's other steps (not wrapped, ``batch``, ``extern``) beside."""
    return fetch_runs([(allocation, step_ids)], timeout_seconds=timeout_seconds, backend=backend)[0]


def fetch_runs(
    questions: Sequence[tuple[AllocationKey, Sequence[str]]],
    *,
    timeout_seconds: float | None = None,
    backend: str | None = None,
) -> list[AllocationAccounting]:
    """As `fetch_allocation` for several runs in one and the same allocation, all from one query."""
    backend = chosen_backend(backend, os.environ)
    limit = sacct_timeout_seconds(LOGIN_TIMEOUT_SECONDS) if timeout_seconds is None else timeout_seconds
    facts = slurm_facts()
    try:
        found, used, note = _records(questions[0][0], backend, limit)
    except (CommandError, ParseError) as error:
        return [_all_unavailable(allocation, step_ids, facts, backend, error) for allocation, step_ids in questions]
    now = time.time()
    answers = [
        rows_from_records(found, allocation, step_ids, facts=facts, backend=used, now=now)
        for allocation, step_ids in questions
    ]
    return [dataclasses.replace(answer, note=note) for answer in answers]


def _records(allocation: AllocationKey, backend: str, limit: float) -> tuple[list[SacctRow], str, str | None]:
    """Slurm's records, the backend that had them, and a line on why it is not the one that was wished for."""
    note = None
    if backend == "auto" and not pyslurm_backend.is_installed():
        note = "pyslurm is not installed: sacct was asked"
    elif backend != "sacct":
        try:
            return pyslurm_backend.query(allocation.slurm_job_id, timeout_seconds=limit), "pyslurm", None
        except (CommandError, ParseError) as error:
            if backend == "pyslurm":
                raise
            note = f"{error}: sacct was asked instead"
    return sacct.parse(sacct.query(allocation.job_argument, timeout_seconds=limit)), "sacct", note


def rows_from_records(
    found: Sequence[SacctRow],
    allocation: AllocationKey,
    step_ids: Sequence[str],
    *,
    facts: SlurmFacts,
    backend: str,
    now: float,
) -> AllocationAccounting:
    """The rows that Slurm's records make at Unix time ``now``; pure, and the same for both backends."""
    records = job_records(found, allocation.slurm_job_id)
    record = select_record(records, allocation)
    context = _Context(allocation, facts, backend, now, record)
    if record is None:
        nothing = judge_no_record(allocation.slurm_job_id, bool(records), allocation.earliest_begin_time, now)
        return AllocationAccounting(tuple(context.row(step_id, nothing) for step_id in step_ids))
    asked = frozenset(step_ids)
    others = [step_id for step_id in record.step_ids if step_id not in asked]
    return AllocationAccounting(
        rows=tuple(context.row(step_id, judge_step(record, step_id, facts, now)) for step_id in step_ids),
        other_rows=tuple(context.row(step_id, judge_step(record, step_id, facts, now)) for step_id in others),
    )


def _all_unavailable(
    allocation: AllocationKey, step_ids: Sequence[str], facts: SlurmFacts, backend: str, error: TorcError
) -> AllocationAccounting:
    context = _Context(allocation, facts, "sacct" if backend == "auto" else backend, time.time(), None)
    nothing = Judgement("unavailable", f"{error}; {_remedy(error)}")
    return AllocationAccounting(tuple(context.row(step_id, nothing) for step_id in step_ids))


def _remedy(error: TorcError) -> str:
    if isinstance(error, CommandNotFound | CommandTimeout):
        return f"then {ASK_AGAIN}"
    if isinstance(error, ParseError):
        return "please report this, with the version of Slurm"
    return f"where accounting answers, {ASK_AGAIN}"


@dataclass(frozen=True)
class _Context:
    """What all rows of one query have in common."""

    allocation: AllocationKey
    facts: SlurmFacts
    backend: str
    now: float
    record: JobRecord | None

    def row(self, step_id: str, judgement: Judgement) -> AccountingRow:
        """The table's row for one step."""
        return AccountingRow(
            slurm_job_id=self.allocation.slurm_job_id,
            step_id=step_id,
            run_id=self.allocation.run_id,
            status=judgement.status,
            reason=judgement.reason,
            backend=self.backend,
            queried_at=self.now,
            **self.facts._asdict(),
            **_job_values(self.record, judgement),
            **_step_values(judgement.row),
        )


def _job_values(record: JobRecord | None, judgement: Judgement) -> dict[str, Any]:
    if record is None:
        return {}
    job = record.job
    values = {
        "job_start_time": job.start_time,
        "requested_memory": job.requested_memory,
        "requested_tres": job.requested_tres,
        "time_limit_seconds": job.time_limit_seconds,
    }
    if _job_end_concerns(record, judgement):
        values |= {"job_state": job.state, "job_end_time": record.end_time}
    return values


def _job_end_concerns(record: JobRecord, judgement: Judgement) -> bool:
    """Whether the job's end says something of the step.

    It does not where the step ended by itself before: then its row is the same whether it was read while the job ran
    or after it.
    """
    step = judgement.row
    if step is None or judgement.status == "pending" or not (step.step_id or "").isdigit():
        return True
    if record.end_time is None or step.end_time is None or status_of_end(record.job.state) is None:
        return False
    return step.end_time >= record.end_time


# Fields that a step's record and the table have in common, by their names.
_STEP_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(SacctRow)
    if field.name in {column.name for column in dataclasses.fields(AccountingRow)}
    and field.name not in {"slurm_job_id", "step_id", "requested_memory", "requested_tres", "time_limit_seconds"}
)


def _step_values(row: SacctRow | None) -> dict[str, Any]:
    if row is None:
        return {}
    return {"step_name": row.name} | {name: getattr(row, name) for name in _STEP_FIELDS}
