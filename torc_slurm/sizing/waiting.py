"""Waiting for CPUs: a job on a busy node used less than it would have used on a free one."""

from __future__ import annotations

from decimal import Decimal

from torc_slurm.common.units import Number, exact, format_run_time

# Every job waits for less than this share of its CPU time.
_LEAST_SHARE = Decimal("0.05")
# Free CPUs would have saved a job at most the time that it waited.
_LEAST_SECONDS = 1


def wait_factor(wait_seconds: Number | None, cpu_seconds: Number | None) -> Decimal:
    """How many times more CPU a job would have used without waiting; 1 if it hardly waited, or if that is unknown."""
    if wait_seconds is None or wait_seconds < _LEAST_SECONDS or not cpu_seconds:
        return Decimal(1)
    share = exact(wait_seconds) / exact(cpu_seconds)
    return 1 + share if share >= _LEAST_SHARE else Decimal(1)


def wait_words(wait_seconds: Number | None, cpu_seconds: Number | None) -> str:
    """``waited 1m 11s for a CPU and used 29s of CPU time``."""
    waited, used = format_run_time(wait_seconds or 0), format_run_time(cpu_seconds or 0)
    return f"waited {waited} for a CPU and used {used} of CPU time"
