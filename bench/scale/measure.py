"""Runs a command and returns its cost: CPU seconds with its children, and its peak memory."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_MIB = 1024**2


class Cost(NamedTuple):
    """What a command took."""

    cpu_seconds: float
    peak_mib: float
    wall_seconds: float


def cost_of(words: Sequence[str], cwd: str, environ: Mapping[str, str] | None = None, refusal: str = "") -> Cost:
    """Run it to its end; discard its output.

    Args:
        environ: its environment; None: this process's.
        refusal: it must fail, and say this.

    Raises:
        subprocess.CalledProcessError: it failed; or not, or with another message than ``refusal``.
    """
    # A process of its own starts it: the kernel lets a new program's peak begin with that of the one that started it.
    argv = [sys.executable, "-m", __spec__.name, *words]
    done = subprocess.run(argv, cwd=cwd, env=environ, capture_output=True, text=True, check=True)
    status, cpu_seconds, peak_kib, wall_seconds = json.loads(done.stdout)
    if bool(status) is not bool(refusal) or refusal not in done.stderr:
        raise subprocess.CalledProcessError(status, list(words), stderr=done.stderr)
    return Cost(cpu_seconds, peak_kib * 1024 / _MIB, wall_seconds)


def main() -> None:
    """Run the words of the command line; print what `cost_of` needs."""
    begin = time.monotonic()
    devnull = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[devnull])
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    print(json.dumps([code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, time.monotonic() - begin]))


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """The power of the size with which the cost grows: the slope of a line through the logarithms."""
    xs, ys = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return above / sum((x - mean_x) ** 2 for x in xs)


if __name__ == "__main__":
    main()
