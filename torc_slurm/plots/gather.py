"""Collects what is drawn: the records of node files, the result of each attempt, and its request."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from torc_slurm.common.errors import InputError, ParseError
from torc_slurm.common.identity import named_step
from torc_slurm.common.units import MIB
from torc_slurm.database.node_records import StepRecord
from torc_slurm.database.rows import Row, Value, number, number_or_none, whole, whole_or_none
from torc_slurm.database.series import SeriesFile, output_dir_of
from torc_slurm.files.output_names import plan_path
from torc_slurm.plots.model import Attempt, Capacity, Figures, Job, Part, Request, Run
from torc_slurm.records.tres import parse_resources
from torc_slurm.spec.plan import JobPlan, read_plan
from torc_slurm.usecases.attempts_of_files import AttemptRows

_Key = tuple[int, int, int]  # job, run, attempt
Plans = Mapping[tuple[int, int], JobPlan]  # by run and job


def gather(files: Sequence[SeriesFile], recorded: AttemptRows) -> Run:
    """The run that these node files belong to.

    Args:
        files: node files of one workflow, one allocation or one record outside Slurm; several runs are attempts.
        outcomes: from `torc_slurm.usecases.attempts_of_files.attempts_of`.

    Raises:
        InputError: they belong to different workflows or allocations, or are empty.
    """
    workflow_id, slurm_job_id = _what_they_are_of(files)
    parts = _parts(files)
    rows = {_key_of(row): row for row in recorded.attempts}
    plans = _plans(files, workflow_id)
    attempts: defaultdict[int, list[Attempt]] = defaultdict(list)
    for key, members in parts.items():
        attempts[key[0]].append(_attempt(key, members, rows.get(key), plans.get((key[1], key[0]))))
    names = {key[0]: _name(record) for _, record in _records(files) for key in [_key_of(record.step)]}
    own_steps = {key[0]: _step_id(record) for _, record in _records(files) for key in [_key_of(record.step)]}
    jobs = (
        Job(
            number,
            names[number],
            tuple(_in_order(tries)),
            own_steps[number],
            "command" if own_steps[number] else "attempt",
        )
        for number, tries in sorted(attempts.items())
    )
    return Run(
        title=_title(files, workflow_id, slurm_job_id),
        jobs=tuple(jobs),
        capacity=_capacity(recorded) if recorded.attempts else Capacity(),
        capacities=_capacities(files),
        word="job" if slurm_job_id is None else "step",
    )


def _records(files: Sequence[SeriesFile]) -> list[tuple[SeriesFile, StepRecord]]:
    return [(file, record) for file in files for record in file.records.steps]


def _what_they_are_of(files: Sequence[SeriesFile]) -> tuple[int | None, int | None]:
    """(workflow id, Slurm job id of an allocation without a workflow); both None outside both.

    Raises:
        InputError: the files are empty, or belong to different ones.
    """
    kinds: dict[tuple[str, Value], str] = {}
    for file, record in _records(files):
        kinds.setdefault(_kind(record.step), file.path)
    if not kinds:
        raise InputError(f"{', '.join(file.path for file in files)}: no step is recorded there yet; plot it later")
    if len(kinds) > 1:
        (one, path), (other, other_path) = list(kinds.items())[:2]
        raise InputError(
            f"{path} is of {_words(one)} and {other_path} of {_words(other)}; plot one of them at a time, each with "
            "its own -o DIR"
        )
    step = _records(files)[0][1].step
    workflow_id, slurm_job_id = whole_or_none(step["workflow_id"]), whole_or_none(step["slurm_job_id"])
    return workflow_id, slurm_job_id if workflow_id is None else None


def _kind(step: Row) -> tuple[str, Value]:
    if step["workflow_id"] is not None:
        return "workflow", step["workflow_id"]
    if step["slurm_job_id"] is not None:
        return "slurm", step["slurm_job_id"]
    return "local", f"{step['node']}, run {step['run_id']}"


def _words(kind: tuple[str, Value]) -> str:
    name, number = kind
    return {"workflow": f"workflow {number}", "slurm": f"Slurm job {number}"}.get(name, f"a record of {number}")


def _title(files: Sequence[SeriesFile], workflow_id: int | None, slurm_job_id: int | None) -> str:
    if workflow_id is not None:
        runs = sorted({whole(record.step, "run_id") for _, record in _records(files)})
        return f"workflow {workflow_id}, run{'s' if len(runs) > 1 else ''} {', '.join(map(str, runs))}"
    if slurm_job_id is not None:
        return f"Slurm job {slurm_job_id}"
    return f"outside Slurm on {_kind(_records(files)[0][1].step)[1]}"


def _key_of(row: Row) -> _Key:
    return whole(row, "job_id"), whole(row, "run_id"), whole(row, "attempt_id")


def _name(record: StepRecord) -> str:
    return str(record.step["job_name"] or f"job {named_step(whole(record.step, 'job_id'))}")


def _step_id(record: StepRecord) -> str:
    """Slurm's name of a step of a user's own script; empty for a workflow's job, and outside Slurm."""
    step = record.step
    return "" if step["workflow_id"] is not None or step["slurm_job_id"] is None else str(step["step_id"] or "")


def _parts(files: Sequence[SeriesFile]) -> dict[_Key, list[tuple[Part, StepRecord]]]:
    found: defaultdict[_Key, list[tuple[Part, StepRecord]]] = defaultdict(list)
    for file in files:
        only_series = file.without_records()
        for record in file.records.steps:
            found[_key_of(record.step)].append((_part(only_series, record.step), record))
    for members in found.values():
        members.sort(key=lambda member: (number_or_none(member[1].step.get("node_index")) or 0, member[0].node))
    return found


def _part(file: SeriesFile, step: Row) -> Part:
    begin, end = number(step, "begin_time"), number_or_none(step["end_time"])
    intervals = [
        number_or_none(step.get(name)) for name in ("sample_interval_seconds", "monitor_final_interval_seconds")
    ]
    return Part(
        node=str(step["node"]),
        job_id=whole(step, "job_id"),
        begin_time=begin,
        end_time=max(begin, number(step, "last_flush_time") if end is None else end),
        has_ended=end is not None,
        figures=_figures(step),
        sample_interval_seconds=max((each for each in intervals if each), default=None),
        file=file,
    )


def _figures(step: Row) -> Figures:
    source = step.get("peak_memory_source")
    return Figures(
        avg_cpu_percent=number_or_none(step.get("avg_cpu_percent")),
        peak_cpu_percent=number_or_none(step.get("peak_cpu_percent")),
        peak_memory_bytes=number_or_none(step.get("peak_memory_bytes")),
        peak_memory_source=None if source is None else str(source),
        avg_memory_bytes=number_or_none(step.get("avg_memory_bytes")),
        memory_limit_bytes=number_or_none(step.get("memory_limit_bytes")),
    )


def _attempt(key: _Key, members: Sequence[tuple[Part, StepRecord]], row: Row | None, plan: JobPlan | None) -> Attempt:
    parts = tuple(part for part, _ in members)
    last_seen = max(part.end_time for part in parts)
    known: Row = row or {}
    status = known.get("status")
    return Attempt(
        run_id=key[1],
        attempt_id=key[2],
        status=None if status is None else str(status),
        evidence=None if status is None else str(known.get("status_evidence") or ""),
        return_code=whole_or_none(known.get("return_code")),
        signal=whole_or_none(known.get("return_signal")),
        begin_time=min(part.begin_time for part in parts),
        end_time=number_or_none(known.get("end_time")) or last_seen,
        parts=parts,
        request=Request(plan.num_cpus, plan.memory_bytes, plan.runtime_seconds)
        if plan is not None and plan.has_requirements
        else accounted_request(known, len(parts)),
    )


def _in_order(attempts: list[Attempt]) -> list[Attempt]:
    return sorted(attempts, key=lambda attempt: (attempt.begin_time, attempt.run_id, attempt.attempt_id))


def accounted_request(row: Row, nodes: int) -> Request:
    """What Slurm allocated to the step, by its accounting: an ad hoc step has no other request."""
    text = row.get("slurm_stats_allocated_tres")
    given = parse_resources(None if text is None else str(text))
    if row.get("workflow_id") is not None:  # a job without requirements requested nothing
        return Request()
    count = given.nodes or nodes
    memory = None if given.memory_bytes is None else given.memory_bytes // count
    return Request(None if given.cpus is None else given.cpus / count, memory or None)


def _plans(files: Sequence[SeriesFile], workflow_id: int | None) -> Plans:
    """The jobs of the plans next to the node files; none if the files were moved."""
    directory = output_dir_of([file.path for file in files])
    if workflow_id is None or directory is None:
        return {}
    found: dict[tuple[int, int], JobPlan] = {}
    for run_id in {whole(record.step, "run_id") for _, record in _records(files)}:
        try:
            plan = read_plan(plan_path(directory, workflow_id, run_id))
        except (OSError, ParseError):  # without the plan, the figures only lack request lines
            continue
        found |= {(run_id, job.job_id): job for job in plan.jobs}
    return found


def _capacities(files: Sequence[SeriesFile]) -> dict[str, Capacity]:
    """What the runner had on each node, from its journal; of several runs, the last to begin."""
    rows = [row for file in files for row in file.records.runs if row["node_sizes"]]
    found: dict[str, Capacity] = {}
    for row in sorted(rows, key=lambda row: number_or_none(row["claim_time"]) or 0.0):
        with contextlib.suppress(ValueError, TypeError):  # a damaged file: unknown
            for node, cpus, memory_mib in json.loads(str(row["node_sizes"])):
                found[str(node)] = Capacity(number_or_none(cpus), None if memory_mib is None else int(memory_mib) * MIB)
    return found


def _capacity(recorded: AttemptRows) -> Capacity:
    """Per node, of the one allocation in which everything ran: what Slurm allocated to its ``extern`` or ``batch``
    step, which get a whole node's share; else the request, which every accounting row repeats.
    """
    rows = [*recorded.unmeasured, *map(_slurm_side, recorded.attempts)]
    if len({row["slurm_job_id"] for row in rows if row["requested_tres"]}) != 1:
        return Capacity()
    row = max(rows, key=_knows_the_node)
    given = parse_resources(str(row["allocated_tres" if _knows_the_node(row) else "requested_tres"]))
    count = given.nodes or 1
    return Capacity(
        None if given.cpus is None else given.cpus / count,
        None if given.memory_bytes is None else given.memory_bytes / count,
    )


def _knows_the_node(row: Row) -> bool:
    return bool(row["allocated_tres"]) and row["step_id"] in ("extern", "batch")


def _slurm_side(row: Row) -> dict[str, Value]:
    names = ("requested_tres", "allocated_tres")
    return {name: row[f"slurm_stats_{name}"] for name in names} | {
        name: row[name] for name in ("slurm_job_id", "step_id")
    }
