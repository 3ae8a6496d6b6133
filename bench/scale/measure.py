"""Runs a command and returns its cost: CPU seconds with its children, and its peak memory."""

from __future__ import annotations

import math
import os
import subprocess
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
    before = os.times()
    process = subprocess.Popen(
        words, cwd=cwd, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    stderr = process.stderr.read() if process.stderr is not None else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if bool(process.returncode) is not bool(refusal) or refusal not in stderr:
        raise subprocess.CalledProcessError(process.returncode, list(words), stderr=stderr)
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / _MIB, os.times().elapsed - before.elapsed)


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """The power of the size with which the cost grows: the slope of a line through the logarithms."""
    xs, ys = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return above / sum((x - mean_x) ** 2 for x in xs)
