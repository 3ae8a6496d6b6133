"""Whether the figures are right: workloads that are hard to sample, each tool's report compared with the kernel's
figures.

Every tool runs the same workload, and its report is compared with the truth of that very run (see workloads.py). If a
case is repeated, the rounds are interleaved, and figure, truth and error are medians. con-duct reports no CPU time: its
mean CPU % times its wall clock replaces it; psrecord's and the recipe's CPU % are added up over time. Tools run side by
side, as many as there are cores: all figures here are CPU time and memory, not wall time.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from bench.cgroups import memory_cgroup
from bench.context import Context, Outcome, finish, start, tell
from bench.figures import median, relative_error
from bench.rows import Row, error_row
from bench.tools import Tool

CPU, MEMORY = "cpu_seconds", "peak_memory_bytes"
_UNITS = {CPU: "s", MEMORY: "MB"}


class Question(NamedTuple):
    """``words``: the workload and its numbers, for each round; ``limits``: the allowed errors of torc-step's
    figures.
    """

    case: str
    what: str
    rounds: tuple[tuple[str | float, ...], ...]
    limits: dict[str, float]
    in_cgroup: bool = False


def questions(quick: bool) -> tuple[Question, ...]:
    cpu, burnt = (1, 1) if quick else (8, 6.4)
    begins = (1.4,) if quick else (1.2, 1.4, 1.6)  # a sampler of 1 s may or may not see a spike: three tries
    spikes = tuple(("spike", 400, begin, 0.06) for begin in begins)
    shorts = (("short", 100, 0.2),) * (1 if quick else 3)
    return (
        Question("children", f"{cpu} s of 20 ms children: CPU", (("children", cpu, 0.02),), {CPU: 0.01}),
        Question("spike", "400 MB for 60 ms: peak memory", spikes, {MEMORY: 0.02}),
        Question("daemon", f"daemon, 150 MB, {burnt:g} s CPU", (("daemon", 150, burnt),), {CPU: 0.02, MEMORY: 0.02}),
        Question("shared", "200 MB shared by 9: peak memory", (("shared", 200, 9, 3),), {MEMORY: 0.1}, True),
        Question("short", "a job of 0.2 s, 100 MB", shorts, {CPU: 0.02, MEMORY: 0.02}),
    )


def measure(context: Context, case: str) -> list[Row]:
    """The rows of one question, one per figure."""
    question = next(question for question in questions(context.quick) if question.case == case)
    tell(question.what)
    outcomes: dict[str, list[Outcome]] = {tool.name: [] for tool in context.tools}
    for words in question.rounds:
        for tools in _groups(context.tools, context.at_once()):
            for name, outcome in _ask(context, words, question.in_cgroup, tools):
                outcomes[name].append(outcome)
    return [_row(question, figure, outcomes) for figure in question.limits]


def _groups(tools: Sequence[Tool], size: int) -> Iterator[Sequence[Tool]]:
    for begin in range(0, len(tools), size):
        yield tools[begin : begin + size]


def _ask(
    context: Context, words: Sequence[str | float], in_cgroup: bool, tools: Sequence[Tool]
) -> list[tuple[str, Outcome]]:
    with ExitStack() as stack:
        runs = []
        for tool in tools:
            directory = context.fresh()
            command = context.workload(*words, directory)
            if in_cgroup:
                name = f"torc-bench-{os.getpid()}-{os.path.basename(directory)}"
                command = _inside(stack.enter_context(memory_cgroup(name)), command)
            runs.append(start(tool, command, directory))
        return [(run.tool.name, finish(run)) for run in runs]


def _inside(cgroup: str | None, command: list[str]) -> list[str]:
    """The command, started as the cgroup's first process, with the cgroup as an argument."""
    if cgroup is None:
        return command
    enter = f"echo $$ > {shlex.quote(cgroup)}/cgroup.procs && exec {shlex.join([*command, cgroup])}"
    return ["/bin/sh", "-c", enter]


def _row(question: Question, figure: str, outcomes: dict[str, list[Outcome]]) -> Row:
    reported: dict[str, float | None] = {}
    errors: dict[str, float | None] = {}
    truths: list[float] = []
    for name, found in outcomes.items():
        pairs = [(getattr(outcome.reported, figure), float(outcome.truth[figure])) for outcome in found]
        reported[name] = median([value for value, _ in pairs if value is not None])
        wrong = [relative_error(value, truth) for value, truth in pairs]
        errors[name] = median([error for error in wrong if error is not None])
        truths += [truth for _, truth in pairs]
    what = (
        question.what if len(question.limits) == 1 else f"{question.what}: {'CPU' if figure == CPU else 'peak memory'}"
    )
    source = _source(next(iter(outcomes.values()))[0], figure)
    return error_row(
        question.case, what, _UNITS[figure], reported, errors, median(truths), source, question.limits[figure]
    )


def _source(outcome: Outcome, figure: str) -> str:
    """``getrusage``, from ``CPU: getrusage; memory: VmHWM``."""
    parts = str(outcome.truth["source"]).split("; ")
    wanted = "CPU: " if figure == CPU else "memory: "
    return next((part.removeprefix(wanted) for part in parts if part.startswith(wanted)), parts[0])
