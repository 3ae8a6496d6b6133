"""How long a job waits for its own start, and how long a job that does nothing takes in total. Wall time, medians.

The start: from just before the tool is spawned until COMMAND, ``date +%s%N``, reads the clock; ``date`` alone shows how
much of that is COMMAND's own. In total: ``true`` under the tool, from the spawn until its end; torc-step's record is
then in the node file, which is checked. Rounds are interleaved: each runs everything once. Compared with a bare
``python -c pass`` in total, with the interpreter of torc-step.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from bench.context import Context, tell
from bench.environments import for_jobs
from bench.figures import median
from bench.processes import spawn
from bench.rows import Row, versus_row
from bench.tools import NAMES, TORC_STEP, node_files

_ROUNDS, _QUICK_ROUNDS = 25, 7
_PYTHON, _DATE, _SAME_FILE = "bare Python", "date alone", "same node file"
_ENDED = "SELECT count(*) FROM steps JOIN step_usage ON step = steps.id WHERE end_time IS NOT NULL"
_DATE_COMMAND, _TRUE = ["/bin/date", "+%s%N"], ["/bin/true"]


def measure(context: Context) -> list[Row]:
    tell("start of the command, and true as a whole")
    starts: dict[str, list[float]] = {}
    wholes: dict[str, list[float]] = {}
    same = context.fresh()
    for number in range(_QUICK_ROUNDS if context.quick else _ROUNDS):
        for name, seconds in _start_round(context):
            starts.setdefault(name, []).append(seconds)
        for name, seconds in _whole_round(context, same, number):
            wholes.setdefault(name, []).append(seconds)
    return _rows(starts, wholes)


def _rows(starts: dict[str, list[float]], wholes: dict[str, list[float]]) -> list[Row]:
    python = median(wholes[_PYTHON]) or 0.0
    start = {name: median(starts[name]) for name in NAMES}
    whole = {name: median(wholes[name]) for name in NAMES}
    return [
        versus_row("start", "time until COMMAND starts", "ms", start, python, 1.5),
        Row("start", "the same without any tool", "ms", {}, base=median(starts[_DATE]), base_name="COMMAND alone"),
        versus_row("start", "true as a whole, a new node file", "ms", whole, python, 3.0),
        versus_row(
            "start", "true as a whole, one more in a file", "ms", {TORC_STEP: median(wholes[_SAME_FILE])}, python, 3.0
        ),
    ]


def _start_round(context: Context) -> Iterator[tuple[str, float]]:
    yield _DATE, _until_command(_DATE_COMMAND, context.fresh())
    for tool in context.tools:
        directory = context.fresh()
        yield tool.name, _until_command(tool.around(_DATE_COMMAND, directory), directory)


def _whole_round(context: Context, same: str, number: int) -> Iterator[tuple[str, float]]:
    yield _PYTHON, _whole([context.environments.python, "-c", "pass"], context.fresh())
    for tool in context.tools:
        directory = context.fresh()
        yield tool.name, _whole(tool.around(_TRUE, directory), directory)
        if tool.name == TORC_STEP:
            _check_record(directory, 1)
    job = ["--workflow-id", "1", "--run-id", "1", "--attempt-id", "1", "--job-id", str(number + 1)]
    torc_step, *words = context.tools[0].around(_TRUE, same)
    yield _SAME_FILE, _whole([torc_step, *job, *words], same)
    _check_record(same, number + 1)


def _until_command(argv: list[str], directory: str) -> float:
    """Seconds from the spawn until the command wrote the time."""
    begin = time.time_ns()
    os.waitpid(spawn(argv, directory, for_jobs()), 0)
    text = Path(directory, "output").read_text(encoding="utf-8", errors="replace")
    written = re.search(r"\b\d{19}\b", text)
    if written is None:
        raise ValueError(f"{argv[0]} did not run its command; it said: {text.strip()}")
    return (int(written.group()) - begin) * 1e-9


def _whole(argv: list[str], directory: str) -> float:
    begin = time.monotonic()
    os.waitpid(spawn(argv, directory, for_jobs()), 0)
    return time.monotonic() - begin


def _check_record(directory: str, steps: int) -> None:
    """Check that the node file has the ends of this many steps: else the timing is of something else."""
    (path,) = node_files(directory)
    with sqlite3.connect(path) as connection:
        (found,) = connection.execute(_ENDED).fetchone()
    if found != steps:
        raise ValueError(f"{path} has {found} ended steps, where torc-step had written {steps}")
