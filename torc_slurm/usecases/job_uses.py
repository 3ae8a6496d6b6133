"""Combines what each Slurm job requested and used: Slurm's records of the job and its steps, and torc-step's figures
for steps that ran under it; pure.

Figures are per step, and steps that run at the same time add up: the job's peak memory is the largest sum, on one
node, of the peaks of steps that overlap. It is exact for steps one after another, and an upper bound otherwise.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torc_slurm.common.errors import ParseError
from torc_slurm.common.units import largest
from torc_slurm.database.own_records import OwnRecord
from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.records.statuses import verdict
from torc_slurm.records.step_names import BATCH, step_name
from torc_slurm.records.tres import parse_resources
from torc_slurm.sizing.job_use import (
    CANCELLED,
    COMPLETED,
    ENDED_FROM_OUTSIDE,
    FAILED,
    OUT_OF_MEMORY,
    SLURM_MAXRSS,
    SLURM_TASK_SUM,
    TIMEOUT,
    JobUse,
    StepUse,
)
from torc_slurm.sizing.trends import ARRAY_INDEX, numbers_in
from torc_slurm.slurm.max_rss import MaxRssMeaning
from torc_slurm.slurm.node_list import expand_node_list
from torc_slurm.slurm.states import has_ended, status_of_end

_EXTERN = "extern"
# Slurm's figure for a whole batch step may exceed torc-step's for its commands by this: the shell's own memory.
_LITTLE_MORE = 1.25
# With more places than this, the largest step is used for the job.
_MOST_PLACES = 200_000


def _verdict_of(state: str | None) -> str | None:
    """torc's status for Slurm's state. A state that is not final, or unknown to torc, stays as it is."""
    if state is None or not has_ended(state):
        return state
    status = status_of_end(state)
    return state if status is None else verdict(status)


def job_uses(
    rows: Iterable[AccountingRecord], own: Mapping[int, Sequence[OwnRecord]], meaning: MaxRssMeaning
) -> Iterator[JobUse]:
    """One `JobUse` per job in sacct's order, as records arrive; a job's record comes before its steps' records.

    Args:
        own: torc-step's records by Slurm job id; of a heterogeneous job by its first component's, and by node.
    """
    job: AccountingRecord | None = None
    steps: list[AccountingRecord] = []
    for row in rows:
        if row.step_id is not None:
            steps.append(row)
            continue
        if job is not None:
            yield job_use(job, steps, own.get(leader_of(job), ()), meaning)
        job, steps = row, []
    if job is not None:
        yield job_use(job, steps, own.get(leader_of(job), ()), meaning)


def leader_of(job: AccountingRecord) -> int:
    """The job id that its tasks see: in a heterogeneous job (``12+1``) the first component's."""
    leader, plus, _ = job.shown_job_id.partition("+")
    return int(leader) if plus and leader.isdecimal() else job.slurm_job_id


def job_use(
    job: AccountingRecord, rows: Sequence[AccountingRecord], own: Sequence[OwnRecord], meaning: MaxRssMeaning
) -> JobUse:
    """One job from its record, its steps' records and torc-step's, of which some may be of other components' nodes."""
    if any(record.node is not None for record in own):
        nodes = _nodes(job.node_list)
        own = [record for record in own if record.node in nodes]
    records: dict[str, list[OwnRecord]] = defaultdict(list)
    for record in own:
        records[record.step_id].append(record)
    steps = tuple(_step(row, job, records.get(str(row.step_id), ())) for row in rows)
    allocated, requested = parse_resources(job.allocated_tres), parse_resources(job.requested_tres)
    node_count = allocated.nodes or requested.nodes
    memory_total = allocated.memory_bytes or requested.memory_bytes
    peak, source = _peak_memory([step for step in steps if step.step_id != _EXTERN])
    return JobUse(
        slurm_job_id=job.slurm_job_id,
        job_id=job.shown_job_id or str(job.slurm_job_id),
        array_job_id=_array_job_id(job.shown_job_id),
        name=job.name,
        user_name=job.user_name,
        partition=job.partition,
        reason=None if job.pending_reason == "None" else job.pending_reason,
        state=_job_verdict(job, steps),
        slurm_state=job.state,
        exit_code=job.exit_code,
        exit_signal=job.exit_signal,
        submit_time=job.submit_time,
        start_time=job.start_time,
        end_time=job.end_time,
        elapsed_seconds=job.elapsed_seconds,
        suspended_seconds=job.suspended_seconds or None,
        time_limit_seconds=job.time_limit_seconds,
        cpu_seconds=_cpu_seconds(job, steps),
        allocated_cpus=allocated.cpus or None,
        node_count=node_count,
        nodes=job.node_list,
        task_count=max((step.task_count for step in steps if step.task_count and step.step_id.isdigit()), default=None),
        peak_cpu_percent=_peak_cpu(steps),
        cpu_wait_seconds=_sum(record.cpu_wait_seconds for record in own),
        peak_memory_bytes=peak,
        peak_memory_source=source,
        memory_is_upper_bound=source == SLURM_TASK_SUM or (source == SLURM_MAXRSS and meaning.has_page_cache),
        memory_is_sampled=source in (SLURM_MAXRSS, SLURM_TASK_SUM) and meaning.is_polled,
        poll_interval_seconds=meaning.poll_interval_seconds,
        requested_memory_bytes=memory_total // (node_count or 1) if memory_total else None,
        submit_line=job.submit_line,
        gpu_count=allocated.gpus,
        gpu_utilization_percent=largest(step.gpu_utilization_percent for step in steps),
        gpu_memory_bytes=largest(step.gpu_memory_bytes for step in steps),
        steps=steps,
        numbers=_numbers(own, job.shown_job_id),
    )


def _numbers(own: Sequence[OwnRecord], shown: str | None) -> dict[str, float]:
    """Its array index, and the notes of its steps that have only one value."""
    index = (shown or "").partition("_")[2]
    found: dict[str, float] = {ARRAY_INDEX: float(index)} if index.isdecimal() else {}
    noted: dict[str, set[float]] = defaultdict(set)
    for record in own:
        for key, value in numbers_in(record.user_notes).items():
            noted[key].add(value)
    return found | {key: values.pop() for key, values in noted.items() if len(values) == 1}


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _array_job_id(shown: str) -> int | None:
    array, underscore, _ = shown.partition("_")
    return int(array) if underscore and array.isdigit() else None


# --- one step -----------------------------------------------------------------------------------------------------


def _step(row: AccountingRecord, job: AccountingRecord, records: Sequence[OwnRecord]) -> StepUse:
    allocated = parse_resources(row.allocated_tres)
    use = StepUse(
        step_id=str(row.step_id),
        name=row.name,
        state=_slurm_verdict(row, job),
        slurm_state=row.state,
        exit_code=row.exit_code,
        exit_signal=row.exit_signal,
        start_time=row.start_time,
        end_time=row.end_time,
        elapsed_seconds=row.elapsed_seconds,
        cpu_seconds=row.total_cpu_seconds,
        cpus=allocated.cpus,
        task_count=row.task_count,
        nodes=_nodes(row.node_list),
        **_gpu_use(row, allocated.gpus or parse_resources(job.allocated_tres).gpus),
    )
    peak, source = _slurm_peak(row, len(use.nodes) or 1)
    use = dataclasses.replace(use, peak_memory_bytes=peak, peak_memory_source=source)
    return _with_own(use, records) if records else use


def _gpu_use(row: AccountingRecord, gpu_count: int | None) -> dict[str, Any]:
    """The step's share of its GPUs and its GPU memory, both summed over tasks; nothing where Slurm wrote only zeros.

    Slurm adds up the percentages of a task's GPUs. It writes zeros for a GPU that it cannot measure, too.
    """
    percent = largest((row.gpu_utilization_percent, row.total_gpu_percent))
    memory = largest((row.gpu_memory_bytes, row.total_gpu_memory_bytes))
    if not percent and not memory:
        return {}
    share = None if percent is None else min(100.0, percent / (gpu_count or 1))
    return {"gpu_utilization_percent": share, "gpu_memory_bytes": memory or None}


def _slurm_verdict(row: AccountingRecord, job: AccountingRecord) -> str | None:
    """How the step ended: like its job, if that ended it. Slurm also says CANCELLED for a death by any signal."""
    of_job = _verdict_of(job.state)
    verdict = _verdict_of(row.state)
    if verdict != CANCELLED:
        return verdict
    ended_with_job = row.end_time is not None and job.end_time is not None and row.end_time >= job.end_time
    if of_job in ENDED_FROM_OUTSIDE | {TIMEOUT} and ended_with_job:
        return of_job
    return verdict if row.cancelled_by_uid is not None or not row.exit_signal else FAILED


def _slurm_peak(row: AccountingRecord, node_count: int) -> tuple[int | None, str | None]:
    """Slurm's MaxRSS; with several tasks the sum of their peaks, spread evenly over the nodes, if that is larger."""
    if not row.max_rss_bytes:
        return None, None
    if (row.task_count or 1) > 1 and row.total_rss_bytes:
        per_node = -(-row.total_rss_bytes // node_count)
        if per_node > row.max_rss_bytes:
            return per_node, SLURM_TASK_SUM
    return row.max_rss_bytes, SLURM_MAXRSS


def _with_own(use: StepUse, records: Sequence[OwnRecord]) -> StepUse:
    """The step with torc-step's figures instead of Slurm's, if torc-step has them."""
    values: dict[str, Any] = {}
    peak, source = _sweep(_places(records, use.nodes))
    # a batch script, or a task without torc-step, may have used more than torc-step saw
    is_part = use.step_id == BATCH or any(record.is_partial for record in records)
    seen_by_slurm = use.peak_memory_bytes or 0 if is_part else 0
    if peak is not None and seen_by_slurm <= _LITTLE_MORE * peak:
        peak = max(peak, seen_by_slurm)
        values |= {"peak_memory_bytes": int(peak), "peak_memory_source": source, "is_measured": True}
    cpu = [record.cpu_seconds for record in records if record.cpu_seconds is not None]
    if cpu:
        values["cpu_seconds"] = sum(cpu) if use.cpu_seconds is None else max(sum(cpu), use.cpu_seconds)
    peaks = [record.peak_cpu_percent for record in records if record.peak_cpu_percent is not None]
    if len(peaks) == len(records):
        values["peak_cpu_percent"] = max(peaks)
    values["state"] = _step_verdict(use, records)
    if len(records) == 1 and records[0].return_code is not None:
        values |= {"exit_code": records[0].return_code, "exit_signal": records[0].return_signal}
    values["name"] = _own_name(use, records)
    return dataclasses.replace(use, **values)


def _own_name(use: StepUse, records: Sequence[OwnRecord]) -> str | None:
    """The step's name as in `torc stats`; for several commands without a common name, their number."""
    names = {
        step_name(record.step_id, record.name, use.name, record.command, is_a_job=record.is_a_job) for record in records
    }
    if len(names) == 1:
        return names.pop()
    return use.name if use.name not in (None, "torc-step", BATCH) else f"{len(records)} commands"


def _step_verdict(use: StepUse, records: Sequence[OwnRecord]) -> str | None:
    if use.step_id == BATCH or use.state in ENDED_FROM_OUTSIDE | {TIMEOUT}:
        return use.state
    verdicts = [verdict(record.status) for record in records]
    return next((verdict for verdict in verdicts if verdict != COMPLETED), verdicts[0])


# --- the job of its steps -----------------------------------------------------------------------------------------


def _job_verdict(job: AccountingRecord, steps: Sequence[StepUse]) -> str | None:
    """torc's status for Slurm's state of the job; OUT_OF_MEMORY for FAILED if a step was killed for memory."""
    verdict = _verdict_of(job.state)
    if verdict == FAILED and any(step.state == OUT_OF_MEMORY for step in steps):
        return OUT_OF_MEMORY
    return verdict


def _cpu_seconds(job: AccountingRecord, steps: Sequence[StepUse]) -> float | None:
    """The larger of the job's own total and its steps' sum: Slurm misses children of killed steps."""
    known = sum(step.cpu_seconds for step in steps if step.cpu_seconds is not None)
    return (known if job.total_cpu_seconds is None else max(known, job.total_cpu_seconds)) or None


def _peak_cpu(steps: Sequence[StepUse]) -> float | None:
    """Known only if torc-step measured all that used CPU: the sum of steps that ran at the same time."""
    total = unknown = 0.0
    places = []
    for step in steps:
        if step.step_id == _EXTERN or step.cpu_seconds is None or step.cpu_seconds <= 0.05:
            continue
        total += step.cpu_seconds
        if step.peak_cpu_percent is None:
            unknown += step.cpu_seconds
        else:
            places.append(_Place(step.start_time, step.end_time, ("",), step.peak_cpu_percent, None))
    return None if not places or unknown > 0.05 * total else _sweep(places)[0]


def _peak_memory(steps: Sequence[StepUse]) -> tuple[int | None, str | None]:
    places = [
        _Place(step.start_time, step.end_time, step.nodes or ("",), step.peak_memory_bytes, step.peak_memory_source)
        for step in steps
        if step.peak_memory_bytes
    ]
    peak, source = _sweep(places)
    return None if peak is None else int(peak), source


class _Place(NamedTuple):
    """What was used on each of these nodes between two times."""

    start_time: float | None
    end_time: float | None
    nodes: tuple[str, ...]
    amount: float
    source: str | None


def _places(records: Sequence[OwnRecord], nodes: tuple[str, ...]) -> list[_Place]:
    everywhere = nodes or ("",)
    return [
        _Place(
            record.start_time,
            record.end_time,
            everywhere if record.node is None else (record.node,),
            record.peak_memory_bytes,
            record.peak_memory_source,
        )
        for record in records
        if record.peak_memory_bytes
    ]


def _sweep(places: Sequence[_Place]) -> tuple[float | None, str | None]:
    """The largest sum on one node at one time, and the source of the largest part of it.

    Slurm's times are whole seconds: a step that ends in the second in which another begins does not overlap it. An
    unknown time counts as the whole time.
    """
    if not places:
        return None, None
    largest = max(places, key=lambda place: place.amount)
    if len(places) == 1 or sum(len(place.nodes) for place in places) > _MOST_PLACES:
        return largest.amount, largest.source
    peak = 0.0
    by_node: dict[str, list[_Place]] = defaultdict(list)
    for place in places:
        for node in place.nodes:
            by_node[node].append(place)
    for members in by_node.values():
        events = []
        for place in members:
            begin = float("-inf") if place.start_time is None else place.start_time
            end = float("inf") if place.end_time is None else place.end_time
            events += [(begin, 1, place.amount), (max(begin, end), 0, -place.amount)]
            if end <= begin:  # shorter than a second: counted alone
                peak = max(peak, place.amount)
        level = 0.0
        for _, _, change in sorted(events, key=lambda event: event[:2]):
            level += change
            peak = max(peak, level)
    return peak, largest.source


def _nodes(text: str | None) -> tuple[str, ...]:
    try:
        return expand_node_list(text or "")
    except ParseError:
        return ()
