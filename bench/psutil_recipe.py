"""psutil's own recipe, like most home-made monitors: children(recursive=True), CPU and RSS, each second.

``python psutil_recipe.py LOG COMMAND [ARG...]`` runs COMMAND and writes a CSV line per sample. This is the best form of
the recipe: processes are kept between samples (``cpu_percent`` of a new object is 0), and the wait between samples
costs nothing and ends with the job (a pidfd; ``psutil.Popen.wait`` polls).
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time

import psutil

INTERVAL_SECONDS = 1.0


def sample(job: psutil.Process, known: dict[int, psutil.Process]) -> tuple[float, int]:
    """CPU % since the last sample and RSS in bytes, of the job and all its descendants."""
    percent, rss = 0.0, 0
    found = {process.pid: process for process in (job, *job.children(recursive=True))}
    for pid, process in found.items():
        if known.get(pid) != process:
            known[pid] = process
        try:
            with known[pid].oneshot():
                percent += known[pid].cpu_percent(interval=None)
                rss += known[pid].memory_info().rss
        except psutil.NoSuchProcess:
            pass  # it exited meanwhile
    return percent, rss


def main(log: str, command: list[str]) -> int:
    child = subprocess.Popen(command)
    ended = select.poll()
    ended.register(os.pidfd_open(child.pid), select.POLLIN)
    job, known, begin = psutil.Process(child.pid), dict[int, psutil.Process](), time.monotonic()
    with open(log, "w", encoding="ascii") as file:
        file.write("elapsed_seconds,cpu_percent,rss_bytes\n")
        while True:
            try:
                percent, rss = sample(job, known)
                file.write(f"{time.monotonic() - begin},{percent},{rss}\n")
            except psutil.NoSuchProcess:
                pass  # the job is exiting
            if ended.poll(INTERVAL_SECONDS * 1000):
                return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
