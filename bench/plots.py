"""The cost of plots: time and memory for a thousand jobs of an hour, the pages' sizes, the time a browser needs.

    python -m bench.plots [--jobs 1000] [--samples 3600] [--all-job-pages] [--browser]

The real writer makes the node files, with series like those of jobs: steps, spikes, noise. The plotting runs in a
separate process, whose CPU seconds and largest resident memory come from the kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from torc_slurm.database.batch import Batch
from torc_slurm.database.node_file import write_batch
from torc_slurm.files.output_names import node_file_path

BEGIN = 1_750_000_000.0
_NODES = 2
_AT_ONCE = 50
_PAGE = 4096


def node_files(directory: str, jobs: int, samples: int, seed: int = 1) -> list[str]:
    """Node files of one run of a workflow with this many jobs, sampled each second; returns their paths."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    paths = [node_file_path(directory, f"node{number}", "1", 1) for number in range(_NODES)]
    for job in range(1, jobs + 1):
        write_batch(paths[job % _NODES], _batch(job, samples, chance))
    return paths


def _batch(job: int, samples: int, chance: random.Random) -> Batch:
    begin = BEGIN + job // _AT_ONCE * samples
    end = begin + samples
    series = _series(begin, samples, chance)
    peak = max(row[2] for row in series)
    batch = Batch(
        {
            "invocation": f"job {job}", "workflow_id": 1, "run_id": 1, "job_id": job, "attempt_id": 1,
            "job_name": f"simulate_{job:04d}", "slurm_job_id": 7, "step_id": str(job), "node": f"node{job % _NODES}",
            "node_index": 0, "node_count": 1, "local_task_count": 1, "task_count": 1, "granularity": "time_series",
            "sample_interval_seconds": 1.0, "begin_time": begin, "end_time": end, "last_flush_time": end,
        }
    )  # fmt: skip
    batch.samples = series
    batch.usage = {
        "elapsed_seconds": float(samples), "peak_memory_bytes": peak, "peak_memory_source": "cgroup_v2",
        "avg_memory_bytes": peak // 2, "avg_cpu_percent": 180.0, "peak_cpu_percent": 400.0,
    }  # fmt: skip
    exit_record: dict[str, object] = {
        "task": 0,
        "local_task": 0,
        "begin_time": begin,
        "end_time": end,
        "elapsed_seconds": float(samples),
    }
    batch.exits = [exit_record | {"return_code": int(chance.random() < 0.05)}]
    return batch


def _series(begin: float, samples: int, chance: random.Random) -> list[tuple[float, float, int, int]]:
    """Memory that grows in steps and falls, CPU that is noisy, a few spikes."""
    cores, pages, rows = chance.choice((1, 2, 4)), 20_000, []
    for second in range(samples):
        if chance.random() < 0.01:
            pages = max(1000, pages + chance.randrange(-40_000, 60_000))
        cpu = cores * 100 * (0.9 + 0.1 * chance.random()) if chance.random() > 0.02 else 5 * chance.random()
        rows.append((begin + second + chance.random() * 0.002, cpu, (pages + chance.randrange(200)) * _PAGE, cores + 1))
    return rows


def plot(paths: list[str], out: str, *options: str) -> tuple[list[dict[str, object]], str]:
    """Run ``torc plot-resources``; returns the pages and a line with its cost."""
    command = [sys.executable, "-m", "torc_slurm.cli.main", "plot-resources", *paths, "-o", out, "-f", "json", *options]
    with tempfile.TemporaryFile() as answer:
        begin = time.monotonic()
        child = subprocess.Popen(command, stdout=answer)
        _, status, usage = os.wait4(child.pid, 0)
        took = time.monotonic() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        answer.seek(0)
        if child.returncode:
            raise SystemExit(child.returncode)
        pages = json.load(answer)["items"]
    cpu = usage.ru_utime + usage.ru_stime
    return pages, f"{took:.1f} s ({cpu:.1f} s of CPU), at most {usage.ru_maxrss / 1000:.0f} MB resident"


def interactive(pages: list[str]) -> list[str]:
    """For each page, the time that a running headless Chromium takes from opening it until its first figure responds.

    Also the CPU seconds of the page's main thread, which do not depend on the machine's load.
    """
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from chromium import browser

    lines = []
    with browser() as driver:
        driver.get("data:text/html,<title>the browser has begun</title>")
        driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        for page in pages:
            driver.get("about:blank")
            begin = time.monotonic()
            driver.get(Path(page).absolute().as_uri())
            while not driver.execute_script("return !!document.querySelector('.plot[data-drawn]')"):
                time.sleep(0.02)
            driver.execute_script("return new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
            took = time.monotonic() - begin
            metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
            cpu = next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
            name, load = os.path.basename(page), os.getloadavg()[0]
            lines.append(f"{name}: answers {took:.2f} s after it was opened, {cpu:.2f} s of CPU (load {load:.1f})")
    return lines


def main() -> None:
    """Measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=3600)
    parser.add_argument("--all-job-pages", action="store_true", help="a page for every job, not only those over all")
    parser.add_argument("--browser", action="store_true", help="also open the pages in headless Chromium")
    parser.add_argument("--keep", metavar="DIR", help="where files stay; default: a directory that is removed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="torc-bench-plots-") as scratch:
        directory = given.keep or scratch
        paths = node_files(directory, given.jobs, given.samples)
        size = sum(map(os.path.getsize, paths)) / 1e6
        print(f"{given.jobs} jobs of {given.samples} samples: {size:.0f} MB of node files")
        pages, took = plot(paths, f"{directory}/pages", *(["--all-job-pages"] if given.all_job_pages else []))
        print(f"plotted in {took}: {len(pages)} pages")
        for page in pages:
            if page["kind"] != "job" or len(pages) < 10:
                print(f"  {os.path.basename(str(page['path']))}: {int(str(page['size_bytes'])) / 1e6:.2f} MB")
        if given.browser:
            print(*interactive([str(page["path"]) for page in pages if page["kind"] != "job"]), sep="\n")


if __name__ == "__main__":
    main()
