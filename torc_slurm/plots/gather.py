"""Collects what is drawn: the records of node files, the result of each attempt, and its request."""

from __future__ import annotations

import contextlib
import functools
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from torc_slurm.common.errors import InputError, ParseError
from torc_slurm.common.identity import named_step
from torc_slurm.common.units import MIB
from torc_slurm.database.rows import Row, Value, number, number_or_none, whole, whole_or_none
from torc_slurm.database.series import SeriesFile, output_dir_of
from torc_slurm.files.output_names import plan_path
from torc_slurm.plots.model import Attempt, Capacity, Figures, Job, Part, Request, Run
from torc_slurm.records.tres import parse_resources
from torc_slurm.spec.plan import read_plan
from torc_slurm.usecases.attempts_of_files import AttemptRows, AttemptsOfFiles

_Key = tuple[int, int, int]  # job, run, attempt
_Kind = tuple[str, Value]
Requests = Mapping[tuple[int, int], Request]  # by run and job


class Gathering:
    """Gathers the run that node files belong to; several runs are attempts. The files are added one after another.

    Args:
        attempts: takes the same files; knows how each attempt ended.
    """

    def __init__(self, attempts: AttemptsOfFiles) -> None:
        self._attempts = attempts
        self._paths: list[str] = []
        self._kinds: dict[_Kind, str] = {}  # what the steps belong to, and the first file of each
        self._run_ids: set[int] = set()
        self._runs: list[Row] = []  # of the runner's journals
        self._parts: defaultdict[_Key, list[tuple[float, Part]]] = defaultdict(list)  # with the node's index
        self._names: dict[int, str] = {}
        self._own_steps: dict[int, str] = {}

    def add(self, file: SeriesFile) -> None:
        """Take a file; its records do not stay in memory, because there may be very many."""
        self._attempts.add(file)
        self._paths.append(file.path)
        self._runs += [row for row in file.records.runs if row["node_sizes"]]
        only_series = file.without_records()
        for record in file.records.steps:
            step = record.step
            key = _key_of(step)
            self._kinds.setdefault(_kind(step), file.path)
            self._run_ids.add(key[1])
            self._parts[key].append((number_or_none(step.get("node_index")) or 0, _part(only_series, step)))
            self._names[key[0]] = _name(step)
            self._own_steps[key[0]] = _step_id(step)

    def run(self) -> Run:
        """What was gathered.

        Raises:
            InputError: the files belong to different workflows or allocations, or are empty.
        """
        kind, belongs_to = self._kind()
        recorded = self._attempts.found()
        rows = {_key_of(row): row for row in recorded.attempts}
        requests = _requests(self._paths, belongs_to, self._run_ids) if kind == "workflow" else {}
        attempts: defaultdict[int, list[Attempt]] = defaultdict(list)
        for key, members in self._parts.items():
            parts = tuple(part for _, part in sorted(members, key=lambda member: (member[0], member[1].node)))
            attempts[key[0]].append(_attempt(key, parts, rows.get(key), requests.get((key[1], key[0]))))
        jobs = (
            Job(
                number,
                self._names[number],
                tuple(_in_order(tries)),
                self._own_steps[number],
                "command" if self._own_steps[number] else "attempt",
            )
            for number, tries in sorted(attempts.items())
        )
        return Run(
            title=_title((kind, belongs_to), self._run_ids),
            jobs=tuple(jobs),
            capacity=_capacity(recorded) if recorded.attempts else Capacity(),
            capacities=_capacities(self._runs),
            word="step" if kind == "slurm" else "job",
        )

    def _kind(self) -> _Kind:
        """What the files belong to.

        Raises:
            InputError: to different things, or they are empty.
        """
        if not self._kinds:
            raise InputError(f"{', '.join(self._paths)}: no step is recorded there yet; plot it later")
        if len(self._kinds) > 1:
            (one, path), (other, other_path) = list(self._kinds.items())[:2]
            raise InputError(
                f"{path} is of {_words(one)} and {other_path} of {_words(other)}; plot one of them at a time, each "
                "with its own -o DIR"
            )
        return next(iter(self._kinds))


def _kind(step: Row) -> _Kind:
    if step["workflow_id"] is not None:
        return "workflow", step["workflow_id"]
    if step["slurm_job_id"] is not None:
        return "slurm", step["slurm_job_id"]
    return "local", f"{step['node']}, run {step['run_id']}"


def _words(kind: _Kind) -> str:
    name, number = kind
    return {"workflow": f"workflow {number}", "slurm": f"Slurm job {number}"}.get(name, f"a record of {number}")


def _title(kind: _Kind, run_ids: Collection[int]) -> str:
    name, number = kind
    if name == "workflow":
        return f"workflow {number}, run{'s' if len(run_ids) > 1 else ''} {', '.join(map(str, sorted(run_ids)))}"
    return f"Slurm job {number}" if name == "slurm" else f"outside Slurm on {number}"


def _key_of(row: Row) -> _Key:
    return whole(row, "job_id"), whole(row, "run_id"), whole(row, "attempt_id")


def _name(step: Row) -> str:
    return str(step["job_name"] or f"job {named_step(whole(step, 'job_id'))}")


def _step_id(step: Row) -> str:
    """Slurm's name of a step of a user's own script; empty for a workflow's job, and outside Slurm."""
    return "" if step["workflow_id"] is not None or step["slurm_job_id"] is None else str(step["step_id"] or "")


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


def _attempt(key: _Key, parts: tuple[Part, ...], row: Row | None, planned: Request | None) -> Attempt:
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
        request=planned or accounted_request(known, len(parts)),
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


def _requests(paths: Sequence[str], workflow_id: Value, run_ids: Collection[int]) -> Requests:
    """The requests of the jobs with requirements, in the plans next to the files; none if the files were moved."""
    directory = output_dir_of(paths)
    if directory is None or workflow_id is None:
        return {}
    found: dict[tuple[int, int], Request] = {}
    shared = functools.cache(Request)  # by very many jobs
    for run_id in run_ids:
        try:
            plan = read_plan(plan_path(directory, int(workflow_id), run_id))
        except (OSError, ParseError):  # without the plan, the figures only lack request lines
            continue
        for job in plan.jobs:
            if job.has_requirements:
                found[run_id, job.job_id] = shared(job.num_cpus, job.memory_bytes, job.runtime_seconds)
    return found


def _capacities(runs: Sequence[Row]) -> dict[str, Capacity]:
    """What the runner had on each node, from its journal; of several runs, the last to begin."""
    found: dict[str, Capacity] = {}
    for row in sorted(runs, key=lambda row: number_or_none(row["claim_time"]) or 0.0):
        with contextlib.suppress(ValueError, TypeError):  # a damaged file: unknown
            for node, cpus, memory_mib in json.loads(str(row["node_sizes"])):
                found[str(node)] = Capacity(number_or_none(cpus), None if memory_mib is None else int(memory_mib) * MIB)
    return found


def _capacity(recorded: AttemptRows) -> Capacity:
    """Per node, of the one allocation in which everything ran: what Slurm allocated to its ``extern`` or ``batch``
    step, which get a whole node's share; else the request, which every accounting row repeats.
    """
    if len({row["slurm_job_id"] for row in _slurm_sides(recorded) if row["requested_tres"]}) != 1:
        return Capacity()
    row = max(_slurm_sides(recorded), key=_knows_the_node)
    given = parse_resources(str(row["allocated_tres" if _knows_the_node(row) else "requested_tres"]))
    count = given.nodes or 1
    return Capacity(
        None if given.cpus is None else given.cpus / count,
        None if given.memory_bytes is None else given.memory_bytes / count,
    )


def _knows_the_node(row: Row) -> bool:
    return bool(row["allocated_tres"]) and row["step_id"] in ("extern", "batch")


def _slurm_sides(recorded: AttemptRows) -> Iterator[Row]:
    yield from recorded.unmeasured
    for row in recorded.attempts:
        tres = {name: row[f"slurm_stats_{name}"] for name in ("requested_tres", "allocated_tres")}
        yield tres | {name: row[name] for name in ("slurm_job_id", "step_id")}
