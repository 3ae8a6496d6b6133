"""The cost of monitoring while a job runs: CPU time of the tool's own processes per second of run, and that of a flush.

The job is a tree of 17 or 257 processes. A quarter of them wake once a second and use 1 ms of CPU time, the others
sleep ("all active": every one of them wakes). The node also has 0, 1,000 or 5,000 other sleeping processes. The
measurement starts 2 s (peers: 1 s) after the tree is complete, when torc-step's denser first samples are over, and
takes 10 to 60 s (see FULL and QUICK). torc-step writes its record every 60 s, in a process that it forks: the cost of
one such flush is measured by requesting it (with a SIGTERM to the monitor), and a sixtieth of it is added. If torc-step
sampled less often than the peers, the row says so.

In a full run the tools run alone, one after another. In a quick one they run side by side, and the others' processes
count among the "other processes".
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from bench import processes
from bench.context import Context, Run, start, tell
from bench.environments import for_jobs
from bench.figures import median
from bench.rows import Row, cost_row
from bench.tools import TORC_STEP, Tool, final_interval_seconds

FLUSH_INTERVAL_SECONDS = 60
_SETTLE_SECONDS, _PEERS_SETTLE_SECONDS = 2.0, 1.0
_COMPLETE_SECONDS = 60.0
_FLUSH_TAKES_SECONDS, _FLUSH_GAP_SECONDS = 0.3, 1.1  # it flushes once a second at most
_WRITER_LOOK_SECONDS = 0.0003
_LIMITS = {17: 0.5e-3, 257: 4e-3}


class Scene(NamedTuple):
    """A tree of ``processes``, ``active`` of them doing a little; seconds of measuring, 0 for peers: not run."""

    processes: int
    active: int
    others: int
    ours_seconds: int
    peers_seconds: int

    @property
    def words(self) -> str:
        kind = ", all active" if self.active == self.processes - 1 else ""
        return f"steady cost, {self.processes} processes{kind}, {self.others:,} others"


class Flush(NamedTuple):
    """CPU seconds of one flush: of the monitor itself, and of the process that writes, if there is one."""

    sampler_seconds: float
    writer_seconds: float


class Cost(NamedTuple):
    """CPU seconds per second of run; for torc-step also those of one flush, and its final sampling rate."""

    per_second: float
    flush_seconds: float = 0.0
    interval_seconds: float = 1.0


class Watched(NamedTuple):
    """A tool around a tree that is complete: the tool's own processes."""

    run: Run
    root: int
    monitors: list[int]

    def used_seconds(self) -> float:
        """CPU time so far. A peer's reaped children count (con-duct's ``ps``); torc-step's, the writers of flushes, are
        measured in microseconds instead of ticks, and added by their share.
        """
        if self.run.tool.name == TORC_STEP:
            return sum(processes.own_cpu_seconds(pid) for pid in self.monitors)
        return processes.used_seconds(self.monitors)


FULL = (
    Scene(17, 4, 0, 20, 10),
    Scene(257, 64, 0, 20, 10),
    Scene(17, 4, 1000, 60, 12),
    Scene(257, 64, 1000, 60, 12),
    Scene(17, 16, 1000, 10, 0),
    Scene(257, 256, 1000, 10, 0),
    Scene(17, 4, 5000, 20, 10),
    Scene(257, 64, 5000, 20, 10),
)
QUICK = (
    Scene(17, 4, 1000, 10, 10),
    Scene(257, 64, 1000, 5, 5),
    Scene(17, 4, 5000, 4, 0),
)


def measure(context: Context) -> list[Row]:
    """A row per scene, and one per size of tree for the flush."""
    rows: list[Row] = []
    flushes: dict[int, list[float]] = {}
    for scene in QUICK if context.quick else FULL:
        tell(scene.words)
        costs = _costs(context, scene)
        rows.append(_row(scene, costs))
        flushes.setdefault(scene.processes, []).append(costs[TORC_STEP].flush_seconds)
    return rows + [
        Row("steady", f"one flush, {size} processes (CPU)", "ms", {TORC_STEP: median(found)})
        for size, found in flushes.items()
    ]


def _row(scene: Scene, costs: dict[str, Cost]) -> Row:
    """The goal applies to trees that mostly sleep."""
    figures = {name: cost.per_second for name, cost in costs.items()}
    interval = costs[TORC_STEP].interval_seconds
    what = scene.words if interval <= 1 else f"{scene.words} (backed off to every {interval:.2g} s)"
    if scene.active == scene.processes - 1:
        return cost_row("steady", what, "ms/s", figures)
    limit = _LIMITS[scene.processes]
    return cost_row("steady", what, "ms/s", figures, limit)._replace(goal=f"≤ {limit * 1e3:g} ms/s")


def _costs(context: Context, scene: Scene) -> dict[str, Cost]:
    tools = context.tools if scene.peers_seconds else context.tools[:1]
    groups = [tools] if context.quick else [[tool] for tool in tools]
    others = scene.others - scene.processes * (len(groups[0]) - 1)
    costs: dict[str, Cost] = {}
    with _forest(context, max(0, others)):
        for group in groups:
            seconds = scene.ours_seconds if group[0].name == TORC_STEP else scene.peers_seconds
            costs.update(_measure(context, scene, group, seconds))
    return costs


@contextmanager
def _forest(context: Context, count: int) -> Iterator[None]:
    """``count`` sleeping processes outside of any job."""
    if not count:
        yield
        return
    directory = context.fresh()
    root = processes.start(context.workload("tree", count, 0, directory), directory, for_jobs())
    processes.wait_for_file(f"{directory}/ready", _COMPLETE_SECONDS)
    try:
        yield
    finally:
        processes.end_tree(root.pid)
        root.wait()


def _measure(context: Context, scene: Scene, tools: Sequence[Tool], seconds: int) -> dict[str, Cost]:
    """Measure all of ``tools`` at the same time."""
    watched = [_watch(context, tool, scene) for tool in tools]
    time.sleep(_SETTLE_SECONDS if tools[0].name == TORC_STEP else _PEERS_SETTLE_SECONDS)
    before = [(time.monotonic(), each.used_seconds()) for each in watched]
    time.sleep(seconds)
    after = [(time.monotonic(), each.used_seconds()) for each in watched]
    costs = {
        each.run.tool.name: Cost((used - used_before) / (end - begin))
        for each, (begin, used_before), (end, used) in zip(watched, before, after, strict=True)
    }
    ours = [each for each in watched if each.run.tool.name == TORC_STEP]
    flushes = [_flush(each, context.quick) for each in ours]
    for each in watched:
        processes.end_tree(each.root)
        each.run.process.wait(_COMPLETE_SECONDS)
    for each, flush in zip(ours, flushes, strict=True):
        cost = _with_flushes(costs[TORC_STEP], seconds, flush)
        costs[TORC_STEP] = cost._replace(interval_seconds=final_interval_seconds(each.run.directory))
    return costs


def _with_flushes(cost: Cost, window_seconds: int, flush: Flush) -> Cost:
    """Add a flush's share: the writer's, and the monitor's own if the time was too short to include it."""
    own = 0.0 if window_seconds >= FLUSH_INTERVAL_SECONDS else flush.sampler_seconds
    return Cost(cost.per_second + (own + flush.writer_seconds) / FLUSH_INTERVAL_SECONDS, sum(flush))


def _watch(context: Context, tool: Tool, scene: Scene) -> Watched:
    directory = context.fresh()
    run = start(tool, context.workload("tree", scene.processes, scene.active, directory), directory)
    root = int(processes.wait_for_file(f"{directory}/ready", _COMPLETE_SECONDS))
    tree = {root} | processes.descendants_of(root)
    monitors = ({run.process.pid} | processes.descendants_of(run.process.pid)) - tree
    return Watched(run, root, sorted(monitors))


def _flush(watched: Watched, quick: bool) -> Flush:
    """One flush of torc-step's monitor; the median of several."""
    helpers = [pid for pid in watched.monitors if pid != watched.run.process.pid]
    sampler = max(helpers, key=processes.own_cpu_seconds)
    found = [_one_flush(sampler) for _ in range(1 if quick else 3)]
    return Flush(*(median(figures) or 0.0 for figures in zip(*found, strict=True)))


def _one_flush(sampler: int) -> Flush:
    """Request a flush just after a sample, and measure the monitor's child, the writer, until it has exited."""
    _after_a_sample(sampler)
    begin, before = time.monotonic(), processes.own_cpu_seconds(sampler)
    os.kill(sampler, signal.SIGTERM)
    writers: dict[int, float] = {}
    while (time.monotonic() - begin < _FLUSH_TAKES_SECONDS) or processes.children_of(sampler):
        for pid in processes.children_of(sampler):
            writers[pid] = max(writers.get(pid, 0.0), processes.own_cpu_seconds(pid))
        time.sleep(_WRITER_LOOK_SECONDS)
    used = processes.own_cpu_seconds(sampler) - before
    time.sleep(max(0.0, begin + _FLUSH_GAP_SECONDS - time.monotonic()))
    return Flush(used, sum(writers.values()))


def _after_a_sample(sampler: int) -> None:
    """Return just after a sample: the next one is then a second away."""
    before = processes.own_cpu_seconds(sampler)
    deadline = time.monotonic() + 2
    while processes.own_cpu_seconds(sampler) == before and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.03)
