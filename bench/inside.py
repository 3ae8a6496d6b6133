"""Internal costs, measured through the program's own functions: one sample of a process tree, and collect.

A sample is one ``read`` of torc-step's process reader, in CPU time of this thread, of a tree in which a quarter of the
processes ran since the sample a second before; the median counts. "thorough" reads everything again, like every
thirtieth sample and the first one of a step. torc-step uses the psutil reader if the kernel has no child lists.
Collect: ``collect_node_files`` brings 300 steps from four node files into a new main database, and then again with
nothing new; wall time, median.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from glob import glob

from bench import processes
from bench.context import Context, tell
from bench.environments import for_jobs
from bench.figures import median
from bench.rows import Row
from bench.tools import TORC_STEP, node_files
from torc_slurm.database.batch import Batch
from torc_slurm.database.main import main_database_path, open_main
from torc_slurm.database.node_file import read_batches, write_batch
from torc_slurm.step.process_tree import ProcfsTree
from torc_slurm.step.psutil_tree import PsutilTree
from torc_slurm.step.readings import TreeReader
from torc_slurm.usecases.collect import collect_node_files

_SIZES = ((17, 4), (257, 64))
_COLLECT_STEPS, _COLLECT_FILES = 300, 4


def measure_looks(context: Context) -> list[Row]:
    rows = []
    for size, active in _SIZES:
        tell(f"one look at {size} processes")
        directory = context.fresh()
        root = processes.start(context.workload("tree", size, active, directory), directory, for_jobs())
        processes.wait_for_file(f"{directory}/ready", 60)
        rows += _looks(size, 1 if context.quick else 5)
        processes.end_tree(root.pid)
        root.wait()
    return rows


def _looks(size: int, count: int) -> list[Row]:
    procfs, psutil = ProcfsTree(), PsutilTree()
    _look(procfs, True, size)
    _look(psutil, True, size)
    usual, thorough, fallback = list[float](), list[float](), list[float]()
    for _ in range(count):
        time.sleep(1)
        usual.append(_look(procfs, False, size))
        fallback.append(_look(psutil, False, size))
        time.sleep(1)
        thorough.append(_look(procfs, True, size))
    named = (("", usual), (", thorough", thorough), (", psutil reader", fallback))
    return [Row("sample", f"one look, {size} processes{how} (CPU)", "ms", {TORC_STEP: median(f)}) for how, f in named]


def _look(reader: TreeReader, thorough: bool, size: int) -> float:
    """CPU seconds of one sample of all children of this bench, which are the tree."""
    before = time.thread_time()
    tree = reader.read({os.getpid(): frozenset()}, thorough)
    used = time.thread_time() - before
    if tree.num_processes != size:
        raise ValueError(f"the {reader.name} reader saw {tree.num_processes} processes of {size}")
    return used


def measure_collect(context: Context) -> list[Row]:
    tell(f"collect of {_COLLECT_STEPS} steps")
    place = context.fresh()
    processes.start(context.tools[0].around(["/bin/sleep", "1.2"], place), place, for_jobs()).wait()
    (batch,) = read_batches(node_files(place)[0])
    output_dir = context.fresh()
    _write_steps(output_dir, batch)
    first, again = [], []
    for _ in range(3 if context.quick else 7):
        for path in glob(f"{main_database_path(output_dir)}*"):
            os.unlink(path)
        first.append(_seconds(lambda: _collect(output_dir, "collected")))
        again.append(_seconds(lambda: _collect(output_dir, "unchanged")))
    what = f"collect of {_COLLECT_STEPS} steps in {_COLLECT_FILES} node files"
    return [
        Row("collect", what, "ms", {TORC_STEP: median(first)}),
        Row("collect", f"{what}, nothing new", "ms", {TORC_STEP: median(again)}),
    ]


def _write_steps(output_dir: str, batch: Batch) -> None:
    """A measured step's record, like those of many jobs of workflow 1 on several nodes."""
    for job in range(1, _COLLECT_STEPS + 1):
        node = f"n{job % _COLLECT_FILES}"
        identity = {"workflow_id": 1, "run_id": 1, "job_id": job, "attempt_id": 1, "node": node}
        batch.step = {**batch.step, **identity, "invocation": f"{node}.{job}", "job_name": f"job_{job}"}
        write_batch(f"{output_dir}/resource_utilization/resource_metrics_{node}_1_1.db", batch)


def _collect(output_dir: str, expected: str) -> None:
    with open_main(output_dir) as database:
        outcomes = collect_node_files(database)
    found = [outcome.outcome for outcome in outcomes]
    if found != [expected] * _COLLECT_FILES:
        raise ValueError(f"collect of {output_dir} gave {found}: {[outcome.problem for outcome in outcomes]}")


def _seconds(action: Callable[[], None]) -> float:
    begin = time.monotonic()
    action()
    return time.monotonic() - begin
