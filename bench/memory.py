"""The memory of the tool's own processes while they watch a ``sleep``, after torc-step's first flush.

PSS: a page that several processes map counts in parts, so PSS is lower the more Pythons run on the node (this bench is
one). "As if alone" counts every file's pages in full, once over the tool's processes. RSS counts them once per process.
con-duct's ``ps``, which runs from time to time, is not included. Compared with a bare Python that sleeps. The tools run
one after another.
"""

from __future__ import annotations

import signal
import time

from bench import processes
from bench.context import Context, start, tell
from bench.environments import for_jobs
from bench.processes import Memory
from bench.rows import Row, cost_row

_SETTLE_SECONDS, _QUICK_SETTLE_SECONDS = 3.0, 1.2
_LIMIT_BYTES = 10e6


def measure(context: Context) -> list[Row]:
    tell("memory of the tools themselves")
    found = {tool.name: _of_tool(context, number) for number, tool in enumerate(context.tools)}
    python = _of_bare_python(context)

    def row(what: str, field: str, limit: float | None = None) -> Row:
        amounts = {name: float(getattr(memory, field)) for name, memory in found.items()}
        row = cost_row("memory", f"its own memory, {what}", "MB", amounts, limit, getattr(python, field))
        return row if limit is None else row._replace(goal=f"≤ {limit / 1e6:g} MB")

    return [row("PSS", "pss", _LIMIT_BYTES), row("as if alone", "alone"), row("RSS", "rss")]


def _of_tool(context: Context, number: int) -> Memory:
    run = start(context.tools[number], ["/bin/sleep", "20"], context.fresh())
    time.sleep(_QUICK_SETTLE_SECONDS if context.quick else _SETTLE_SECONDS)
    found = {run.process.pid} | processes.descendants_of(run.process.pid)
    jobs = {pid for pid in found if processes.program_of(pid) == "sleep"}
    memory = processes.memory_of(found - jobs)
    for job in jobs:
        processes.send(job, signal.SIGTERM)
    run.process.wait(30)
    return memory


def _of_bare_python(context: Context) -> Memory:
    argv = [context.environments.python, "-c", "import time; time.sleep(20)"]
    process = processes.start(argv, context.fresh(), for_jobs())
    time.sleep(0.5)
    memory = processes.memory_of([process.pid])
    process.kill()
    process.wait()
    return memory
