"""What the steps used: Slurm's accounting and the wrapper's figures. Rows in, a report out; prints nothing.

An item of the report is one attempt (or, on request, one step that nobody measured) with the keys `ITEM_COLUMNS`. None
means not measured. Memory and CPU are those of the largest node; sizes in bytes, times in seconds.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from torc_slurm.common.identity import named_step
from torc_slurm.database.selection import LAST_FLUSH_COLUMN, MONITOR_CPU_COLUMN, SLURM_PREFIX, attempt_values
from torc_slurm.records.accounting import COLUMN_NAMES
from torc_slurm.records.figures import IDENTITY_COLUMNS, RESULT_COLUMNS
from torc_slurm.records.statuses import OOM
from torc_slurm.reports.causes import reads_first_process
from torc_slurm.reports.differences import Difference, differences
from torc_slurm.reports.efficiency import EFFICIENCY_COLUMNS, efficiency
from torc_slurm.reports.step_names import step_label

Value = int | float | str | None
Row = Mapping[str, Value]
Item = dict[str, Value]

_REFERENCE = (
    "max_rss_bytes",
    "max_vm_size_bytes",
    "max_disk_read_bytes",
    "max_disk_write_bytes",
    "ave_cpu_seconds",
    "node_list",
)
# Renamed, because the wrapper's figures of the same name have no prefix.
_RENAMED = {"start_time": "slurm_start_time", "end_time": "slurm_end_time", "task_count": "slurm_task_count"}
_SLURM = ("state", "exit_code", "exit_signal", "elapsed_seconds", "status", "reason")
_SLURM_REST = tuple(name for name in COLUMN_NAMES if name not in (*IDENTITY_COLUMNS, *_REFERENCE, *_SLURM))
# The item's `status` is the accounting row's; the job's is `job_status`.
_RESULT = {"job_status": "status", "job_status_evidence": "status_evidence"} | {
    name: name
    for name in (*RESULT_COLUMNS, LAST_FLUSH_COLUMN, MONITOR_CPU_COLUMN)
    if name not in (*IDENTITY_COLUMNS, "status", "status_evidence")
}

ITEM_COLUMNS: tuple[str, ...] = (
    *IDENTITY_COLUMNS,
    *_REFERENCE,
    *_SLURM,
    *_RESULT,
    *(_RENAMED.get(name, name) for name in _SLURM_REST),
    *EFFICIENCY_COLUMNS,
)
# The source of each column: the accounting row (True) or the attempt's row, and its name there.
_SLURM_SOURCES = {_RENAMED.get(name, name): (True, name) for name in (*_REFERENCE, *_SLURM, *_SLURM_REST)}
_SOURCES = (
    _SLURM_SOURCES
    | {name: (False, name) for name in IDENTITY_COLUMNS}
    | {name: (False, column) for name, column in _RESULT.items()}
)
_STORED_COLUMNS = tuple(name for name in ITEM_COLUMNS if name in _SOURCES)
_MOST_PLACES = 4
_NULLABLE_FIGURES = _REFERENCE[:5]
_GAP_ITEMS = (
    *(name for name in IDENTITY_COLUMNS if name != "job_name"),
    *("job_status", "end_time_source", "measured_node_count", "node_count", "peak_memory_bytes"),
    *("state", "status", "reason"),
    *_NULLABLE_FIGURES,
)
# What `gaps_of` reads of a row of `select_attempts`.
GAP_COLUMNS = (
    "id",
    *(f"{SLURM_PREFIX if is_slurms else ''}{name}" for is_slurms, name in (_SOURCES[name] for name in _GAP_ITEMS)),
)
NO_ROW = "none"  # instead of a status, if there is no accounting row
OUTSIDE_SLURM = "recorded outside Slurm"
NOT_ASKED = "accounting was not asked (--no-accounting)"


@dataclass(frozen=True)
class NullReason:
    """Why figures of Slurm are NULL: which figures, in how many rows, with which accounting status."""

    status: str
    reason: str
    figures: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class StatsReport:
    """A report of steps; ``items`` in the order of jobs and attempts.

    ``unmeasured`` counts the srun steps of these allocations that are not among them (without batch and extern, which
    cannot run under torc-step); ``disk_of_torc_step`` counts items whose disk figures from Slurm are torc-step's own.
    """

    items: tuple[Item, ...]
    unmeasured: int
    null_reasons: tuple[NullReason, ...]
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    disk_of_torc_step: int = 0


def stats_report(
    attempts: Iterable[Row],
    unmeasured: Sequence[Row],
    notes: Sequence[Row],
    *,
    all_steps: bool,
) -> StatsReport:
    """Build the report. Reads each attempt once.

    Args:
        attempts: rows of `select_attempts`.
        unmeasured: rows of `select_unmeasured`, included with ``all_steps``.
        notes: rows of `select_notes`.
    """
    kept: list[Item] = []
    gaps = _GapCollector(notes)
    disk_of_torc_step = 0

    def labelled() -> Iterator[tuple[str, Item]]:
        nonlocal disk_of_torc_step
        rows = chain(
            ((row["id"], _attempt_item(row)) for row in attempts),
            ((None, _unmeasured_item(row)) for row in (unmeasured if all_steps else ())),
        )
        for number, item in rows:
            label = step_label(item)
            kept.append(item)
            gaps.add(number, label, item)
            disk_of_torc_step += has_disk_of_torc_step(item)
            yield label, item

    different = differences(labelled())
    null_reasons, warnings = gaps.found()
    return StatsReport(
        items=tuple(kept),
        unmeasured=0 if all_steps else sum(str(row["step_id"]).isdigit() for row in unmeasured),
        null_reasons=null_reasons,
        differences=different,
        warnings=warnings,
        disk_of_torc_step=disk_of_torc_step,
    )


class Gaps(NamedTuple):
    """Of a `StatsReport`, what was not measured and why, and the warnings."""

    null_reasons: tuple[NullReason, ...]
    warnings: tuple[str, ...]


def gaps_of(attempts: Iterable[tuple[Value, ...]], notes: Sequence[Row]) -> Gaps:
    """The gaps of very many attempts. Reads each once, and keeps nothing of those without a gap.

    Args:
        attempts: the values of `GAP_COLUMNS` of rows of `select_attempts`.
        notes: rows of `select_notes`.
    """
    gaps = _GapCollector(notes)
    for number, *values in attempts:
        item: Item = dict(zip(_GAP_ITEMS, values, strict=True))
        _complete(item)
        gaps.add(number, step_label(item), item)
    return gaps.found()


class _GapCollector:
    """Collects the gaps of items, of which it keeps only the labels of those with a note."""

    def __init__(self, notes: Sequence[Row]) -> None:
        self._notes = notes
        self._noted = {note["result"] for note in notes}
        self._labels: dict[Value, str] = {}
        self._warnings: list[str] = []
        self._reasons = _NullReasons()

    def add(self, number: Value, label: str, item: Item) -> None:
        """``number`` is its ``results.id``; None for a step that nobody measured."""
        if number in self._noted:
            self._labels[number] = label
        self._warnings.extend(_warnings(label, item))
        self._reasons.add(item)

    def found(self) -> Gaps:
        return Gaps(self._reasons.found(), (*self._warnings, *_note_warnings(self._labels, self._notes)))


def has_disk_of_torc_step(item: Row) -> bool:
    """Whether Slurm's disk figures are torc-step's own, because this Slurm did not see the program's."""
    return item["attempt_id"] is not None and item["max_disk_read_bytes"] is not None and reads_first_process(item)


def streamed_items(
    connection: sqlite3.Connection, ids: Sequence[int], unmeasured: Iterable[Row] = ()
) -> Iterator[Item]:
    """The items of a report, read lazily: for these ``results.id``, then for steps that nobody measured."""
    sources = [_SOURCES[name] for name in _STORED_COLUMNS]
    for values in attempt_values(connection, ids, sources):
        item: Item = dict(zip(_STORED_COLUMNS, values, strict=True))
        _complete(item)
        item |= efficiency(item)
        yield item
    yield from map(_unmeasured_item, unmeasured)


def _complete(item: Item) -> None:
    """Show ``batch`` instead of Slurm's number of the batch step, and say why Slurm has no figures."""
    if isinstance(item["job_id"], int):
        item["job_id"] = named_step(item["job_id"])
    if item["slurm_job_id"] is None:
        item["reason"] = OUTSIDE_SLURM
    elif item["status"] is None:
        item["reason"] = NOT_ASKED


class _NullReasons:
    """Which of Slurm's figures are NULL and why, grouped by reason."""

    def __init__(self) -> None:
        self._rows: Counter[tuple[str, str]] = Counter()
        self._figures: dict[tuple[str, str], dict[str, None]] = {}

    def add(self, item: Item) -> None:
        missing = [name for name in _NULLABLE_FIGURES if item[name] is None]
        if missing:
            key = (str(item["status"] or NO_ROW), str(item["reason"] or "Slurm gave no figure"))
            self._rows[key] += 1
            self._figures.setdefault(key, {}).update(dict.fromkeys(missing))

    def found(self) -> tuple[NullReason, ...]:
        """The most frequent first."""
        return tuple(NullReason(*key, tuple(self._figures[key]), count) for key, count in self._rows.most_common())


def _attempt_item(row: Row) -> Item:
    item = _slurm_side(row, SLURM_PREFIX)
    item |= {name: row[name] for name in IDENTITY_COLUMNS}
    item |= {name: row[column] for name, column in _RESULT.items()}
    _complete(item)
    item |= efficiency(item)
    return {name: item[name] for name in ITEM_COLUMNS}


def _unmeasured_item(row: Row) -> Item:
    item = dict.fromkeys(ITEM_COLUMNS) | _slurm_side(row, "")
    item |= {name: row[name] for name in ("run_id", "slurm_job_id", "step_id")}
    item["job_name"] = row["step_name"]
    if isinstance(item["reason"], str):
        item["reason"] = item["reason"].partition(": the wrapper's")[0]  # there was none
    item |= efficiency(item)
    return {name: item[name] for name in ITEM_COLUMNS}


def _slurm_side(row: Row, prefix: str) -> Item:
    names = (*_REFERENCE, *_SLURM, *_SLURM_REST)
    return {_RENAMED.get(name, name): row[prefix + name] for name in names}


def _without_end(label: str) -> str:
    return f"the end of {label} was not recorded (was it killed?)"


def _warnings(label: str, item: Item) -> Iterator[str]:
    if item["job_status"] == OOM or item["state"] == "OUT_OF_MEMORY":
        bound = "; its peak is a lower bound of what it needs" if item["peak_memory_bytes"] is not None else ""
        yield f"{label} ran out of memory{bound}"
    if item["end_time_source"] == "last flush":
        yield f"{_without_end(label)}; its figures and its end are those of its last record"
    if item["end_time_source"] == "accounting":
        yield f"{_without_end(label)}; its figures are those of its last record, its end is Slurm's"
    reported, nodes = item["measured_node_count"], item["node_count"]
    if isinstance(reported, int) and isinstance(nodes, int) and reported < nodes:
        yield (
            f"{label} ran on {item['node_count']} nodes, {item['measured_node_count']} of them reported: "
            f"its figures are lower bounds"
        )


def _note_warnings(labels: Mapping[Value, str], notes: Iterable[Row]) -> Iterator[str]:
    """The nodes' notes; equal notes of several steps once. ``labels``: by ``results.id``."""
    steps: dict[str, list[str]] = {}
    for note in notes:
        if note["result"] in labels:
            steps.setdefault(str(note["note"]), []).append(f"{labels[note['result']]} on {note['node']}")
    for text, places in steps.items():
        more = f" and {len(places) - _MOST_PLACES} more" if len(places) > _MOST_PLACES else ""
        yield f"{', '.join(places[:_MOST_PLACES])}{more}: {text}"
