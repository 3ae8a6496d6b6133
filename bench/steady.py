"""What watching costs while a job runs: CPU time of the tool's own processes per second of run, and that of a flush.

The job is a tree of 17 or 257 processes. A quarter of them wake once a second and use 1 ms of CPU time, the others
sleep ("all active" says where every one of them wakes). Besides it the node has 0, 1,000 or 5,000 sleeping processes
more than it had. Measured from 2 s (peers: 1 s) after the tree is complete, when torc-step's denser first samples are
over, for 10 to 60 s (see FULL and QUICK). torc-step writes its record every 60 s: a window of 60 s has one such flush
in it, to a shorter one the flush's share is added. A flush is what the sampler uses from a SIGTERM, which asks for one,
until it sleeps again.

In a full run the tools follow one another, alone. In a quick one they run side by side, each one's processes counted
among the others' "other processes".
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
from bench.tools import TORC_STEP, Tool

FLUSH_INTERVAL_SECONDS = 60
_SETTLE_SECONDS, _PEERS_SETTLE_SECONDS = 2.0, 1.0
_COMPLETE_SECONDS = 60.0
_FLUSH_TAKES_SECONDS, _FLUSH_GAP_SECONDS = 0.3, 1.1  # it flushes once a second at most
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


class Cost(NamedTuple):
    """CPU seconds per second of run; ``flush_seconds``: of one flush, None for peers."""

    per_second: float
    flush_seconds: float | None


class Watched(NamedTuple):
    """A tool around a tree that is complete: the tool's own processes."""

    run: Run
    root: int
    monitors: list[int]


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
        figures = {name: cost.per_second for name, cost in costs.items()}
        rows.append(_row(scene, figures))
        flushes.setdefault(scene.processes, []).append(costs[TORC_STEP].flush_seconds or 0.0)
    return rows + [
        Row("steady", f"one flush, {size} processes (CPU)", "ms", {TORC_STEP: median(found)})
        for size, found in flushes.items()
    ]


def _row(scene: Scene, figures: dict[str, float]) -> Row:
    """The goal is for trees that mostly sleep."""
    if scene.active == scene.processes - 1:
        return cost_row("steady", scene.words, "ms/s", figures)
    limit = _LIMITS[scene.processes]
    return cost_row("steady", scene.words, "ms/s", figures, limit)._replace(goal=f"≤ {limit * 1e3:g} ms/s")


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
    """``count`` sleeping processes that are nobody's job."""
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
    """Watch with all of ``tools`` at the same time."""
    watched = [_watch(context, tool, scene) for tool in tools]
    time.sleep(_SETTLE_SECONDS if tools[0].name == TORC_STEP else _PEERS_SETTLE_SECONDS)
    before = [(time.monotonic(), processes.used_seconds(each.monitors)) for each in watched]
    time.sleep(seconds)
    after = [(time.monotonic(), processes.used_seconds(each.monitors)) for each in watched]
    costs = {}
    for each, (begin, used_before), (end, used) in zip(watched, before, after, strict=True):
        flush = _flush_seconds(each, 1 if context.quick else 3) if each.run.tool.name == TORC_STEP else None
        share = flush / FLUSH_INTERVAL_SECONDS if flush and seconds < FLUSH_INTERVAL_SECONDS else 0.0
        costs[each.run.tool.name] = Cost((used - used_before) / (end - begin) + share, flush)
    for each in watched:
        processes.end_tree(each.root)
        each.run.process.wait(_COMPLETE_SECONDS)
    return costs


def _watch(context: Context, tool: Tool, scene: Scene) -> Watched:
    directory = context.fresh()
    run = start(tool, context.workload("tree", scene.processes, scene.active, directory), directory)
    root = int(processes.wait_for_file(f"{directory}/ready", _COMPLETE_SECONDS))
    tree = {root} | processes.descendants_of(root)
    monitors = ({run.process.pid} | processes.descendants_of(run.process.pid)) - tree
    return Watched(run, root, sorted(monitors))


def _flush_seconds(watched: Watched, rounds: int) -> float:
    """CPU seconds of one flush of torc-step's sampler, in the median."""
    sampler = next(pid for pid in watched.monitors if pid != watched.run.process.pid)
    found = []
    for _ in range(rounds):
        _after_a_sample(sampler)
        before = processes.own_cpu_seconds(sampler)
        os.kill(sampler, signal.SIGTERM)
        time.sleep(_FLUSH_TAKES_SECONDS)
        found.append(processes.own_cpu_seconds(sampler) - before)
        time.sleep(_FLUSH_GAP_SECONDS - _FLUSH_TAKES_SECONDS)
    return median(found) or 0.0


def _after_a_sample(sampler: int) -> None:
    """Return when it has just taken one: the next is then a second away."""
    before = processes.own_cpu_seconds(sampler)
    deadline = time.monotonic() + 2
    while processes.own_cpu_seconds(sampler) == before and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.03)
