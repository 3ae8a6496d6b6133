"""Slurm's accounting record of one job or step, each field declared once; pure.

Parsing sacct, reading pyslurm, the columns of ``slurm_stats``, merging the components of a heterogeneous job and the
rule which of two records is better all follow from the declaration of `AccountingRecord`. To add a figure, add a field
here and a migration that adds its column (``database/node_schema.py``, ``database/main_schema.py``).

None means not measured or unknown, and is never 0. Sizes are bytes, times are seconds, moments are Unix time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, get_type_hints

# How Slurm measured a figure: if it did not, it prints 0 or nothing for the whole group.
POLLED, VIRTUAL, CPU, ENERGY = "polled", "virtual size", "CPU time", "energy"

# How to merge the records of one step in several components of a heterogeneous job; no rule: as in the worst record.
LARGEST, SUM, EARLIEST, LATEST, TASK_MEAN = "largest", "sum", "earliest", "latest", "mean over tasks"
COMMA, PLUS = "joined by commas", "joined by plus signs"

# When to request a column from sacct: always, for one allocation, or for a list of jobs.
ALWAYS, FOR_ALLOCATIONS, FOR_LISTS = "always", "for allocations", "for lists"


class Field(NamedTuple):
    """The source and the meaning of a field.

    ``sacct`` is sacct's column and ``reads`` how to parse its cell (`torc_slurm.slurm.cells`); ``fs/disk`` and the like
    name an item of a TRES column. ``pyslurm`` is the attribute of a step's statistics. ``goes_with`` names the figure
    whose record it is taken from when components are merged. ``column`` is its name in ``slurm_stats``; "": not stored.
    ``is_new``: not every sacct since 20.11 knows the column, and an unknown one makes it refuse the whole query.
    """

    sacct: str = ""
    reads: str = "text"
    pyslurm: str = ""
    measured: str = ""
    merge: str = ""
    goes_with: str = ""
    column: str | None = None
    asked: str = ALWAYS
    is_new: bool = False


NOT_KEPT = Field(column="")


class AccountingRecord(NamedTuple):
    """One record of Slurm's accounting: of a job (``step_id`` None) or of one of its steps.

    After parsing, ``status`` is `AS_PARSED`, every figure is what Slurm printed (0 included) and ``reason`` names the
    cells that could not be parsed. After assessment, ``status`` is one of `STATUSES`, ``reason`` why and what to do,
    and figures that Slurm did not measure are None.
    """

    slurm_job_id: Annotated[int, Field()]
    step_id: Annotated[str | None, Field()] = None
    run_id: Annotated[int, Field()] = 1
    name: Annotated[str | None, Field("JobName", column="step_name")] = None
    status: Annotated[str, Field()] = "as parsed"
    reason: Annotated[str | None, Field()] = None
    state: Annotated[str | None, Field("State", "state")] = None
    job_state: Annotated[str | None, Field()] = None
    job_start_time: Annotated[float | None, Field()] = None
    job_end_time: Annotated[float | None, Field()] = None
    cancelled_by_uid: Annotated[int | None, Field("State", "canceller")] = None
    exit_code: Annotated[int | None, Field("ExitCode", "exit code")] = None
    exit_signal: Annotated[int | None, Field("ExitCode", "exit signal")] = None
    start_time: Annotated[float | None, Field("Start", "moment", merge=EARLIEST)] = None
    end_time: Annotated[float | None, Field("End", "moment", merge=LATEST)] = None
    elapsed_seconds: Annotated[float | None, Field("ElapsedRaw", "count", merge=LARGEST)] = None
    max_rss_bytes: Annotated[int | None, Field("MaxRSS", "size", "max_resident_memory", POLLED, LARGEST)] = None
    max_rss_node: Annotated[
        str | None,
        Field(
            "MaxRSSNode", "text", "max_resident_memory_node", POLLED, goes_with="max_rss_bytes", asked=FOR_ALLOCATIONS
        ),
    ] = None
    max_rss_task: Annotated[
        int | None,
        Field(
            "MaxRSSTask", "count", "max_resident_memory_task", POLLED, goes_with="max_rss_bytes", asked=FOR_ALLOCATIONS
        ),
    ] = None
    max_vm_size_bytes: Annotated[
        int | None, Field("MaxVMSize", "size", "max_virtual_memory", VIRTUAL, LARGEST, asked=FOR_ALLOCATIONS)
    ] = None
    max_vm_size_node: Annotated[
        str | None,
        Field(
            "MaxVMSizeNode",
            "text",
            "max_virtual_memory_node",
            VIRTUAL,
            goes_with="max_vm_size_bytes",
            asked=FOR_ALLOCATIONS,
        ),
    ] = None
    max_vm_size_task: Annotated[
        int | None,
        Field(
            "MaxVMSizeTask",
            "count",
            "max_virtual_memory_task",
            VIRTUAL,
            goes_with="max_vm_size_bytes",
            asked=FOR_ALLOCATIONS,
        ),
    ] = None
    # MaxDiskRead itself is rounded to 0.01 MiB below 1 MiB
    max_disk_read_bytes: Annotated[int | None, Field("TRESUsageInMax", "fs/disk", "max_disk_read", POLLED, LARGEST)] = (
        None
    )
    max_disk_read_node: Annotated[
        str | None,
        Field(
            "MaxDiskReadNode",
            "text",
            "max_disk_read_node",
            POLLED,
            goes_with="max_disk_read_bytes",
            asked=FOR_ALLOCATIONS,
        ),
    ] = None
    max_disk_read_task: Annotated[
        int | None,
        Field(
            "MaxDiskReadTask",
            "count",
            "max_disk_read_task",
            POLLED,
            goes_with="max_disk_read_bytes",
            asked=FOR_ALLOCATIONS,
        ),
    ] = None
    max_disk_write_bytes: Annotated[
        int | None, Field("TRESUsageOutMax", "fs/disk", "max_disk_write", POLLED, LARGEST, asked=FOR_ALLOCATIONS)
    ] = None
    max_disk_write_node: Annotated[
        str | None,
        Field(
            "MaxDiskWriteNode",
            "text",
            "max_disk_write_node",
            POLLED,
            goes_with="max_disk_write_bytes",
            asked=FOR_ALLOCATIONS,
        ),
    ] = None
    max_disk_write_task: Annotated[
        int | None,
        Field(
            "MaxDiskWriteTask",
            "count",
            "max_disk_write_task",
            POLLED,
            goes_with="max_disk_write_bytes",
            asked=FOR_ALLOCATIONS,
        ),
    ] = None
    ave_cpu_seconds: Annotated[
        float | None, Field("AveCPU", "duration", "avg_cpu_time", POLLED, TASK_MEAN, asked=FOR_ALLOCATIONS)
    ] = None
    total_cpu_seconds: Annotated[float | None, Field("TotalCPU", "duration", "total_cpu_time", CPU, SUM)] = None
    user_cpu_seconds: Annotated[
        float | None, Field("UserCPU", "duration", "user_cpu_time", CPU, SUM, asked=FOR_ALLOCATIONS)
    ] = None
    system_cpu_seconds: Annotated[
        float | None, Field("SystemCPU", "duration", "system_cpu_time", CPU, SUM, asked=FOR_ALLOCATIONS)
    ] = None
    total_rss_bytes: Annotated[int | None, Field("TRESUsageInTot", "mem", "", POLLED, SUM)] = None
    total_disk_read_bytes: Annotated[int | None, Field("TRESUsageInTot", "fs/disk", "", POLLED, SUM)] = None
    total_disk_write_bytes: Annotated[
        int | None, Field("TRESUsageOutTot", "fs/disk", "", POLLED, SUM, asked=FOR_ALLOCATIONS)
    ] = None
    node_list: Annotated[str | None, Field("NodeList", merge=COMMA)] = None
    task_count: Annotated[int | None, Field("NTasks", "count", merge=SUM)] = None
    requested_memory: Annotated[str | None, Field("ReqMem", "requested memory", asked=FOR_ALLOCATIONS)] = None
    requested_tres: Annotated[str | None, Field("ReqTRES")] = None
    allocated_tres: Annotated[str | None, Field("AllocTRES", merge=PLUS)] = None
    time_limit_seconds: Annotated[float | None, Field("TimelimitRaw", "minutes")] = None
    consumed_energy_joules: Annotated[
        int | None, Field("ConsumedEnergyRaw", "count", "consumed_energy", ENERGY, SUM, asked=FOR_ALLOCATIONS)
    ] = None
    gpu_utilization_percent: Annotated[float | None, Field("TRESUsageInMax", "gres/gpuutil", "", POLLED, LARGEST)] = (
        None
    )
    gpu_memory_bytes: Annotated[int | None, Field("TRESUsageInMax", "gres/gpumem", "", POLLED, LARGEST)] = None
    slurm_version: Annotated[str | None, Field()] = None
    gather_type: Annotated[str | None, Field()] = None
    gather_params: Annotated[str | None, Field()] = None
    gather_frequency: Annotated[str | None, Field()] = None
    backend: Annotated[str | None, Field()] = None
    queried_at: Annotated[float | None, Field()] = None
    # elapsed_seconds does not count it
    suspended_seconds: Annotated[float | None, Field("Suspended", "duration", merge=LARGEST, is_new=True)] = None
    # What identifies a record, and what a list of jobs shows.
    het_component: Annotated[int | None, NOT_KEPT] = None
    shown_job_id: Annotated[str, Field("JobID", column="")] = ""
    user_name: Annotated[str | None, Field("User", column="")] = None
    submit_time: Annotated[float | None, Field("Submit", "moment", column="")] = None
    restart_count: Annotated[int | None, Field("Restarts", "count", column="", asked=FOR_ALLOCATIONS, is_new=True)] = (
        None
    )
    partition: Annotated[str | None, Field("Partition", column="", asked=FOR_LISTS, is_new=True)] = None
    pending_reason: Annotated[str | None, Field("Reason", column="", asked=FOR_LISTS, is_new=True)] = None
    submit_line: Annotated[str | None, Field("SubmitLine", column="", asked=FOR_LISTS, is_new=True)] = None
    total_gpu_percent: Annotated[float | None, Field("TRESUsageInTot", "gres/gpuutil", column="", merge=SUM)] = None
    total_gpu_memory_bytes: Annotated[int | None, Field("TRESUsageInTot", "gres/gpumem", column="", merge=SUM)] = None

    def as_row(self) -> dict[str, int | float | str | None]:
        """Column of ``slurm_stats`` to value."""
        return dict(zip(COLUMN_NAMES, self[: len(COLUMN_NAMES)], strict=True))


AS_PARSED = "as parsed"
FIELD_NAMES = AccountingRecord._fields
INDEX: dict[str, int] = {name: number for number, name in enumerate(FIELD_NAMES)}
_HINTS = get_type_hints(AccountingRecord, include_extras=True)
FIELDS: dict[str, Field] = {name: _HINTS[name].__metadata__[0] for name in FIELD_NAMES}

# The columns of ``slurm_stats`` in order: the stored fields come first.
COLUMN_NAMES: tuple[str, ...] = tuple(
    field.column or name for name, field in FIELDS.items() if field.column is None or field.column
)
TEXT_COLUMNS: frozenset[str] = frozenset(
    column
    for column, name in zip(COLUMN_NAMES, FIELD_NAMES, strict=False)
    if _HINTS[name].__origin__ in (str, str | None)
)


# --- assessed records: which is better ------------------------------------------------------------------------------

# From worst to best.
STATUSES: tuple[str, ...] = ("unavailable", "pending", "missing", "partial", "found")
FINAL_STATUSES: frozenset[str] = frozenset({"missing", "partial", "found"})
_RANK = {status: rank for rank, status in enumerate(STATUSES)}
_NOT_COMPARED = INDEX["queried_at"]


def is_better(new: AccountingRecord, old: AccountingRecord) -> bool:
    """Whether ``new`` should replace ``old``: by status, then by the number of known fields.

    A final record stays unless the new one has more fields; of two that are not final the later answer counts.
    """
    ranks = (_RANK.get(new.status, -1), _RANK.get(old.status, -1))
    if ranks[0] != ranks[1]:
        return ranks[0] > ranks[1]
    kept_new, kept_old = new[: len(COLUMN_NAMES)], old[: len(COLUMN_NAMES)]
    if new.status in FINAL_STATUSES:
        return kept_new.count(None) < kept_old.count(None)
    is_later = old.queried_at is None or (new.queried_at is not None and new.queried_at >= old.queried_at)
    return is_later and any(
        value != before
        for number, (value, before) in enumerate(zip(kept_new, kept_old, strict=True))
        if number != _NOT_COMPARED
    )


def from_row(row: Mapping[str, Any]) -> AccountingRecord:
    """The record of a row of ``slurm_stats``."""
    return AccountingRecord(*(row[name] for name in COLUMN_NAMES))


# --- figures that belong together ---------------------------------------------------------------------------------


def measured_by(*groups: str) -> tuple[int, ...]:
    """Positions of the fields of these groups: `POLLED`, `VIRTUAL`, `CPU` or `ENERGY`."""
    return tuple(INDEX[name] for name, field in FIELDS.items() if field.measured in groups)


def merge_records(records: Sequence[AccountingRecord], worst: AccountingRecord) -> AccountingRecord:
    """One record for a step that ran in several components of a heterogeneous job: maxima, sums, the worst end."""
    values: list[Any] = list(worst)
    for name, field in FIELDS.items():
        if field.merge:
            values[INDEX[name]] = _merged(name, field.merge, records)
        elif field.goes_with:
            largest = max(records, key=lambda record: getattr(record, field.goes_with) or 0)
            values[INDEX[name]] = getattr(largest, name)
    values[INDEX["reason"]] = "; ".join(dict.fromkeys(each.reason for each in records if each.reason)) or None
    return AccountingRecord._make(values)


def _merged(name: str, rule: str, records: Sequence[AccountingRecord]) -> object:
    values = [getattr(record, name) for record in records]
    known = [value for value in values if value is not None]
    if rule == SUM:  # an incomplete sum is unknown
        return sum(known) if len(known) == len(values) else None
    if rule == TASK_MEAN:
        return _mean_over_tasks(values, [record.task_count for record in records])
    if rule in (COMMA, PLUS):
        return ("," if rule == COMMA else " + ").join(filter(None, known)) or None
    if not known:
        return None
    return min(known) if rule == EARLIEST else max(known)


def _mean_over_tasks(means: Sequence[float | None], counts: Sequence[int | None]) -> float | None:
    weighted = [(mean, count) for mean, count in zip(means, counts, strict=True) if mean is not None and count]
    if len(weighted) < len(means):
        return None
    return sum(mean * count for mean, count in weighted) / sum(count for _, count in weighted)
