"""Eight steps at once on one node, all with one node file, each sleeping 5 s (quick: 2 s) with a sample per second.

Samples lost: gaps of a whole interval or more in each step's series, from the step's begin to its end. Delay: from the
end of the command until torc-step has exited with its record written, for the slowest of the eight, and for one step
alone. Peers write one file per job, so there is nothing to compare.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path

from bench.context import Context, tell
from bench.environments import for_jobs
from bench.figures import lost_samples, median
from bench.processes import spawn
from bench.rows import Row, cost_row
from bench.tools import TORC_STEP, node_files

_STEPS, _SECONDS, _QUICK_SECONDS, _INTERVAL_SECONDS = 8, 5.3, 2.3, 1.0
_SPANS = "SELECT job_id, begin_time, end_time FROM steps WHERE end_time IS NOT NULL"
_TIMES = "SELECT timestamp FROM job_resource_samples WHERE job_id = ? ORDER BY id"


def measure(context: Context) -> list[Row]:
    tell(f"{_STEPS} steps at once")
    alone = max(_delays(context, 1)[0])
    delays, lost = _delays(context, _STEPS)
    return [
        Row("together", f"{_STEPS} steps at once: samples lost", "", {TORC_STEP: lost}, goal="0", met=lost == 0),
        _delay_row("slowest end after COMMAND's", max(delays), alone),
        _delay_row("median end after COMMAND's", median(delays), alone),
    ]


def _delay_row(what: str, delay: float | None, alone: float) -> Row:
    row = cost_row("together", f"{_STEPS} steps at once: {what}", "ms", {TORC_STEP: delay})
    return row._replace(base=alone, base_name="one step alone")


def _delays(context: Context, count: int) -> tuple[list[float], int]:
    """Run ``count`` steps at once: the delay of each after its command's end, and the number of missing samples."""
    place = context.fresh()
    running = {_start(context, place, number + 1): number + 1 for number in range(count)}
    delays = []
    while running:
        pid, _ = os.wait()
        ended = time.time()
        if pid in running:
            truth = Path(place, str(running.pop(pid)), "truth.json").read_text(encoding="ascii")
            delays.append(ended - float(json.loads(truth)["end_time"]))
    return delays, _lost(place, count, _seconds(context))


def _start(context: Context, place: str, job: int) -> int:
    """One step of workflow 1, started like torc does; returns its pid."""
    directory = f"{place}/{job}"
    os.mkdir(directory)
    torc_step, *words = context.tools[0].around(context.workload("sleep", _seconds(context), directory), place)
    identity = ["--workflow-id", "1", "--run-id", "1", "--attempt-id", "1", "--job-id", str(job)]
    return spawn([torc_step, *identity, "--granularity", "time_series", *words], directory, for_jobs())


def _seconds(context: Context) -> float:
    return _QUICK_SECONDS if context.quick else _SECONDS


def _lost(place: str, count: int, seconds: float) -> int:
    """Missing samples of all steps; a step without an end in the node file has lost all of them."""
    (path,) = node_files(place)
    with sqlite3.connect(path) as connection:
        steps = connection.execute(_SPANS).fetchall()
        lost = (count - len(steps)) * int(seconds / _INTERVAL_SECONDS)
        for job, begin, end in steps:
            times = [row[0] for row in connection.execute(_TIMES, (job,))]
            lost += lost_samples(times, begin, end, _INTERVAL_SECONDS)
    return lost
