"""Places the steps of a run on its nodes: their use in every short interval, and lanes for a Gantt chart; pure.

An interval's CPU is the mean over it, so that the total stays correct; its memory is the highest value in it. A step
without a series is drawn with its averages over the time that it ran.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from torc_slurm.plots.measured import Measured
from torc_slurm.plots.model import Attempt, Job, Number, Part, Series

STRETCHES = 400


@dataclass(frozen=True)
class Grid:
    """A period in intervals of equal length; Unix seconds."""

    begin_time: float
    stretch_seconds: float
    count: int = STRETCHES

    @classmethod
    def over(cls, begin_time: float, end_time: float) -> Grid:
        """The period in `STRETCHES` intervals."""
        return cls(begin_time, max(end_time - begin_time, 1e-3) / STRETCHES)

    def place(self, time: float) -> int:
        """The interval that contains a time; for a time outside, the nearest one."""
        return min(self.count - 1, max(0, int((time - self.begin_time) / self.stretch_seconds)))

    def times(self) -> list[float]:
        """The middle of each interval."""
        return [self.begin_time + (place + 0.5) * self.stretch_seconds for place in range(self.count)]


@dataclass(frozen=True)
class Use:
    """What one attempt used on a node in each interval."""

    cpu_percent: list[float]
    memory_bytes: list[float]


@dataclass
class NodeLoad:
    """Everything that ran on one node; ``uses`` has the largest steps, ``others`` the sum of the rest."""

    node: str
    grid: Grid
    uses: dict[str, Use] = field(default_factory=dict)
    others: Use = field(init=False)
    other_count: int = 0
    requested_cpu: list[float] = field(init=False)
    requested_memory: list[float] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing runs yet."""
        self.others = Use(self._nothing(), self._nothing())
        self.requested_cpu, self.requested_memory = self._nothing(), self._nothing()

    def _nothing(self) -> list[float]:
        return [0.0] * self.grid.count

    def put(self, label: str, use: Use, *, alone: bool) -> None:
        """Add a step's use; ``alone``: draw it individually."""
        if alone and label not in self.uses:
            self.uses[label] = use
            return
        self.other_count += 0 if alone else 1
        target = self.uses[label] if alone else self.others
        _add(target.cpu_percent, use.cpu_percent)
        _add(target.memory_bytes, use.memory_bytes)

    def ask(self, attempt: Attempt, part: Part) -> None:
        """Add what the step was allocated while it ran: in each interval the mean over it.

        So steps one after another within an interval never add up to more than the node has.
        """
        cpus, memory = attempt.request.cpus, attempt.request.memory_bytes
        for target, amount in (
            (self.requested_cpu, None if cpus is None else cpus * 100),
            (self.requested_memory, memory),
        ):
            if amount is not None:
                _spread(target, self.grid, part.begin_time, part.end_time, amount)


def _add(target: list[float], more: Sequence[float]) -> None:
    target[:] = map(sum, zip(target, more, strict=True))


def use_of(measured: Measured, grid: Grid) -> Use:
    """What a step used on a node, per interval."""
    part, series = measured.part, measured.series
    if not len(series):
        cpu = _flat(grid, part.begin_time, part.end_time, part.figures.avg_cpu_percent)
        return Use(cpu, _top_flat(grid, part, part.figures.avg_memory_bytes or part.figures.peak_memory_bytes))
    return Use(_means(grid, series, part), _highest(grid, measured.memory, part))


def _flat(grid: Grid, begin: float, end: float, value: Number | None) -> list[float]:
    """A value over a period, weighted by the share of each interval that it covers."""
    found = [0.0] * grid.count
    if value is not None:
        _spread(found, grid, begin, end, value)
    return found


def _spread(found: list[float], grid: Grid, begin: float, end: float, value: float) -> None:
    first, last = grid.place(begin), grid.place(end)
    if first == last:
        found[first] += value * (end - begin) / grid.stretch_seconds
        return
    edge = grid.begin_time + (first + 1) * grid.stretch_seconds
    found[first] += value * (edge - begin) / grid.stretch_seconds
    for place in range(first + 1, last):
        found[place] += value
    found[last] += value * (end - (grid.begin_time + last * grid.stretch_seconds)) / grid.stretch_seconds


def _means(grid: Grid, series: Series, part: Part) -> list[float]:
    """CPU: each sample covers the time since the one before it."""
    found = [0.0] * grid.count
    before, place = part.begin_time, grid.place(part.begin_time)
    length = grid.stretch_seconds
    for time, value, next_place in zip(series.times, series.columns[0], map(grid.place, series.times), strict=True):
        if value and time > before:
            if place == next_place:
                found[place] += value * (time - before) / length
            else:
                _spread(found, grid, before, time, value)
        before, place = time, next_place
    return found


def _highest(grid: Grid, memory: Series, part: Part) -> list[float]:
    """Memory: the highest value in the interval; between two samples, the last one."""
    found = [0.0] * grid.count
    last_place, last_value = grid.place(part.begin_time), 0.0
    for time, value in zip(memory.times, memory.columns[0], strict=True):
        if value is None:
            continue
        place = grid.place(time)
        for between in range(last_place + 1, place):
            found[between] = last_value
        last_place, last_value = place, float(value)
        found[place] = max(found[place], last_value)
    for between in range(last_place + 1, grid.place(part.end_time) + 1):
        found[between] = last_value
    return found


def _top_flat(grid: Grid, part: Part, value: Number | None) -> list[float]:
    found = [0.0] * grid.count
    if value is not None:
        for place in range(grid.place(part.begin_time), grid.place(part.end_time) + 1):
            found[place] = float(value)
    return found


@dataclass(frozen=True)
class Placed:
    """An attempt on a node, and its lane there, counted from the node's first."""

    job: Job
    attempt: Attempt
    part: Part
    lane: int


def lanes(jobs: Iterable[Job]) -> dict[str, list[Placed]]:
    """For each node its attempts in the smallest number of lanes without overlaps."""
    by_node: dict[str, list[tuple[Job, Attempt, Part]]] = {}
    for job in jobs:
        for attempt in job.attempts:
            for part in attempt.parts:
                by_node.setdefault(part.node, []).append((job, attempt, part))
    return {node: _in_lanes(by_node[node]) for node in sorted(by_node)}


def _in_lanes(members: list[tuple[Job, Attempt, Part]]) -> list[Placed]:
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    placed: list[Placed] = []
    for job, attempt, part in sorted(members, key=lambda member: (member[2].begin_time, member[0].job_id)):
        while busy and busy[0][0] <= part.begin_time:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (part.end_time, lane))
        placed.append(Placed(job, attempt, part, lane))
    return placed


def first_lanes(placed: dict[str, list[Placed]]) -> dict[str, int]:
    """The number of each node's first lane, with the nodes one below another and a free lane between."""
    heights = [max(each.lane for each in members) + 2 for members in placed.values()]
    return dict(zip(placed, accumulate([0, *heights]), strict=False))
