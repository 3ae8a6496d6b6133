"""``python -m bench.groups [JOBS [ROUNDS]]``: what many short jobs cost, grouped and not, here or in an allocation.

Outside Slurm: CPU of the whole ``torc run``, in milliseconds a job. In an allocation (``salloc``, ``sbatch``): jobs a
second, beside as many sruns of ``true``, bare and under torc-step: 8 at once, and as many as a node of the allocation
has CPUs, as ``torc run`` starts them. Further sruns wait for a CPU, and that costs CPU time. Every twentieth job fails.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

TORC = [sys.executable, "-m", "torc_slurm.cli.main"]
FAILS_EVERY = 20
MORE_THAN_FIT = 8


def main() -> None:
    """Prints a line for each way, as it is done; with rounds, the medians too."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for name, seconds, cpu_seconds in _ways(count):
            _print(name, count / seconds, cpu_seconds / count)
            found.setdefault(name, []).append((count / seconds, cpu_seconds / count))
    if rounds > 1:
        print(f"medians of {rounds} rounds", flush=True)
        for name, figures in found.items():
            _print(name, *(statistics.median(each) for each in zip(*figures, strict=True)))


def _ways(count: int) -> Iterator[tuple[str, float, float]]:
    """Each way's name, its seconds, and its seconds of CPU."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        if "SLURM_JOB_ID" in os.environ:
            step = [str(Path(sys.executable).with_name("torc-step")), f"--output-dir={place}/out"]
            cpus = int(os.environ["SLURM_JOB_CPUS_PER_NODE"].partition("(")[0].partition(",")[0])
            for at_once in dict.fromkeys((MORE_THAN_FIT, cpus)):
                yield f"srun true, {at_once}", *_measured(partial(_sruns, count, [], at_once))
                yield f"srun torc-step, {at_once}", *_measured(partial(_sruns, count, step, at_once))
    for name, group in (("one step a job", None), ("group: 50", 50), ("group: auto", "auto")):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
            yield name, *_measured(_prepared(Path(place), count, group))
            _check(Path(place), count)


def _measured(work: Callable[[], None]) -> tuple[float, float]:
    before, begin = _cpu_seconds(), time.monotonic()
    work()
    return time.monotonic() - begin, _cpu_seconds() - before


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _print(name: str, rate: float, cpu_seconds: float) -> None:
    print(f"{name:17} {rate:7.1f} jobs/s  {cpu_seconds * 1000:6.1f} ms of CPU a job here", flush=True)


def _sruns(count: int, step: list[str], at_once: int) -> None:
    options = ["--quiet", "-N1", "-n1", "-c1", "--exact", "--mem=50M", "--input=none"]
    words = ["srun", *options, *step, "bash", "-c", "true"]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda _number: subprocess.run(words, check=False, capture_output=True), range(count)))


def _prepared(place: Path, count: int, group: int | str | None) -> Callable[[], None]:
    jobs: list[dict[str, object]] = [
        {"name": f"j{number}", "command": f"exit {int(number % FAILS_EVERY == 0)}", "resource_requirements": "s"}
        for number in range(1, count + 1)
    ]
    if group is not None:
        jobs = [{**job, "group": group} for job in jobs]
    requirement = {"name": "s", "num_cpus": 1, "memory": "50m", "runtime": "PT1M"}
    document = {"name": "many", "resource_requirements": [requirement], "jobs": jobs}
    (place / "w.json").write_text(json.dumps(document))
    run = [*TORC, "--output-dir", str(place / "out"), "run", "w.json"]
    return lambda: _quietly(run, place)


def _quietly(words: list[str], place: Path) -> None:
    subprocess.run(words, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _check(place: Path, count: int) -> None:
    listed = [*TORC, "--output-dir", str(place / "out"), "-f", "json", "jobs", "list", "1"]
    found = json.loads(subprocess.run(listed, cwd=place, capture_output=True, check=True).stdout)["items"]
    states = sorted({(row["status"], sum(each["status"] == row["status"] for each in found)) for row in found})
    if states != [("completed", count - count // FAILS_EVERY), ("failed", count // FAILS_EVERY)]:
        sys.exit(f"not what was to be run: {states}")


if __name__ == "__main__":
    main()
