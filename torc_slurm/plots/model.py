"""The data that is drawn: a run, its jobs, their attempts, and each attempt's part on one node.

Times are Unix seconds, sizes bytes, CPU percent of one core. None means not measured or unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import nlargest

from torc_slurm.database.series import SeriesFile
from torc_slurm.records.statuses import COMPLETED, END_WORDS, RUNNING, signal_name

MOST_ALONE = 400  # jobs with lines and bars of their own

Number = int | float
Column = Sequence[Number | None]


@dataclass(frozen=True)
class Series:
    """Times in order, with columns. For each p in ``breaks`` there is a gap between positions p and p + 1."""

    times: Sequence[float]
    columns: tuple[Column, ...]
    breaks: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a step used on one node, from the node's own summary."""

    avg_cpu_percent: Number | None = None
    peak_cpu_percent: Number | None = None
    peak_memory_bytes: Number | None = None
    peak_memory_source: str | None = None
    avg_memory_bytes: Number | None = None
    memory_limit_bytes: Number | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """An attempt on one node. ``end_time`` is its last known time; ``has_ended``: whether that is its end."""

    node: str
    job_id: int
    begin_time: float
    end_time: float
    has_ended: bool
    figures: Figures
    sample_interval_seconds: float | None
    file: SeriesFile = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """What a job may use on each node, from the plan of its run, else from Slurm's accounting."""

    cpus: Number | None = None
    memory_bytes: int | None = None
    runtime_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a job; ``status`` None if unknown (a file of the Rust torc)."""

    run_id: int
    attempt_id: int
    status: str | None
    evidence: str | None
    return_code: int | None
    signal: int | None
    begin_time: float
    end_time: float
    parts: tuple[Part, ...]
    request: Request

    @property
    def how_it_was_ended(self) -> str | None:
        """See the function `how_it_was_ended`."""
        return how_it_was_ended(self.status, self.signal)


def how_it_was_ended(status: str | None, signal: int | None) -> str | None:
    """What ended the attempt, in words, if not its own command; None if it ended by itself."""
    if status in END_WORDS:
        return END_WORDS[status]
    if signal and status != COMPLETED:
        return f"killed: {signal_name(signal)}"
    return None


@dataclass(frozen=True, slots=True)
class Job:
    """A job (for an ad hoc step: the step) with its attempts in order of time."""

    job_id: int
    name: str
    attempts: tuple[Attempt, ...]
    step_id: str = ""  # of a step of a user's script: 0, 1, batch
    word: str = "attempt"  # the name of its attempts: "command" if one step ran several commands

    @property
    def number(self) -> str:
        """The number that people know: Slurm's step, never Slurm's internal number of a batch step."""
        return self.step_id or str(self.job_id)

    @property
    def has_failed(self) -> bool:
        """Whether its last attempt ended but did not complete."""
        return self.last.status not in (None, COMPLETED, RUNNING)

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]

    def label(self, attempt: Attempt) -> str:
        """The part of an attempt's name that distinguishes it: ``attempt 2``, ``run 2``, or both."""
        runs = [each.run_id for each in self.attempts]
        if len(set(runs)) == 1:
            return f"{self.word} {attempt.attempt_id}"
        tries = f", {self.word} {attempt.attempt_id}" if runs.count(attempt.run_id) > 1 else ""
        return f"run {attempt.run_id}{tries}"

    @property
    def parts(self) -> tuple[Part, ...]:
        if len(self.attempts) == 1:
            return self.attempts[0].parts
        return tuple(part for attempt in self.attempts for part in attempt.parts)

    def largest(self, figure: str) -> Number | None:
        """The largest of a figure of `Figures` over all attempts and nodes."""
        return max((value for part in self.parts if (value := getattr(part.figures, figure)) is not None), default=None)


@dataclass(frozen=True)
class Capacity:
    """What may be used on a node; None: unknown."""

    cpus: Number | None = None
    memory_bytes: Number | None = None


@dataclass(frozen=True)
class Run:
    """The content of a set of pages; ``capacity`` is that of every node that is not in ``capacities``."""

    title: str
    jobs: tuple[Job, ...]
    capacity: Capacity
    capacities: Mapping[str, Capacity] = field(default_factory=dict)
    word: str = "job"  # the name of its jobs: those of a user's script are steps

    def capacity_of(self, node: str) -> Capacity:
        """What the run had on a node."""
        return self.capacities.get(node, self.capacity)

    @cached_property
    def run_ids(self) -> list[int]:
        return sorted({attempt.run_id for job in self.jobs for attempt in job.attempts})

    def of_run(self, run_id: int) -> Run:
        """The part of this that belongs to one run."""
        if self.run_ids == [run_id]:
            return self
        jobs = (
            replace(job, attempts=tuple(attempt for attempt in job.attempts if attempt.run_id == run_id))
            for job in self.jobs
        )
        return replace(self, jobs=tuple(job for job in jobs if job.attempts))

    @cached_property
    def spans(self) -> list[tuple[float, float]]:
        """(begin, end) of each period in which a run was active; between them nobody had the nodes."""
        begins: dict[int, float] = {}
        ends: dict[int, float] = {}
        for job in self.jobs:
            for each in job.attempts:
                begins[each.run_id] = min(begins.get(each.run_id, each.begin_time), each.begin_time)
                ends[each.run_id] = max(ends.get(each.run_id, each.end_time), each.end_time)
        runs = sorted((begins[run_id], ends[run_id]) for run_id in begins)
        found: list[tuple[float, float]] = []
        for begin, end in runs:
            if found and begin <= found[-1][1]:
                found[-1] = found[-1][0], max(end, found[-1][1])
            else:
                found.append((begin, end))
        return found

    @cached_property
    def nodes(self) -> list[str]:
        """The names of the nodes that it ran on."""
        return sorted({part.node for job in self.jobs for part in job.parts})

    @cached_property
    def notable(self) -> frozenset[int]:
        """The jobs to show individually: all; or, of many, those that failed, used the most, or ran longest."""
        jobs = self.jobs
        if len(jobs) <= MOST_ALONE:
            return frozenset(job.job_id for job in jobs)
        share = MOST_ALONE // 4
        failed = sorted((job for job in jobs if job.has_failed), key=lambda job: (job.name, job.job_id))
        found = {job.job_id for job in failed[:share]}
        for figure in ("peak_memory_bytes", "avg_cpu_percent"):
            found |= {job.job_id for job in nlargest(share, jobs, key=lambda job: job.largest(figure) or 0)}
        found |= {job.job_id for job in nlargest(share, jobs, key=lambda job: job.last.end_time - job.last.begin_time)}
        return frozenset(found)

    @cached_property
    def begin_time(self) -> float:
        return min(attempt.begin_time for job in self.jobs for attempt in job.attempts)

    @cached_property
    def end_time(self) -> float:
        return max(attempt.end_time for job in self.jobs for attempt in job.attempts)
