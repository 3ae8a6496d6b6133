"""Limits that a control group sets: CPU time in parts, and memory that the monitor does not fit into."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_groups import ControlGroup, control_group
from measured import job_of_a_workflow, program, run, the_record

pytestmark = pytest.mark.root

QUOTA, PERIOD = 30_000, 100_000  # microseconds
MB = 1 << 20


@pytest.fixture
def cpu() -> Iterator[ControlGroup]:
    with control_group("cpu") as group:
        yield group


@pytest.fixture
def memory() -> Iterator[ControlGroup]:
    with control_group("memory") as group:
        yield group


def set_memory(group: ControlGroup, most: int) -> None:
    group.limit(**{"memory__max" if group.version == 2 else "memory__limit_in_bytes": str(most)})


def test_no_interval_has_more_than_the_quota(cpu: ControlGroup, tmp_path: Path) -> None:
    """Two processes may run on all CPUs, and are given three tenths of one."""
    if cpu.version == 2:
        cpu.limit(cpu__max=f"{QUOTA} {PERIOD}")
    else:
        cpu.limit(cpu__cfs_period_us=str(PERIOD), cpu__cfs_quota_us=str(QUOTA))
    burn = " ".join(program("burn", 0.25))
    options = ("--sample-interval-seconds=0.1", "--granularity=time_series")
    done = run(tmp_path, ["sh", "-c", f"{burn} & {burn} & wait; exit 7"], *options, prepare=cpu.enter)
    assert done.returncode == 7
    record = the_record(tmp_path)
    most = QUOTA / PERIOD * 100 + 0.001
    assert record.figures["cpu_seconds"] >= 0.5
    assert record.figures["avg_cpu_percent"] <= record.figures["peak_cpu_percent"] <= most
    assert record.samples
    assert max(row["cpu_percent"] for row in record.samples) <= most


@pytest.mark.parametrize("megabytes", [4, 8, 12, 16, 20, 30])
def test_a_monitor_that_does_not_fit(megabytes: int, memory: ControlGroup, tmp_path: Path) -> None:
    """The job fits alone, and it ends as alone."""
    set_memory(memory, megabytes * MB)
    bare = ["sh", "-c", "echo ran; exit 7"]
    done = run(tmp_path, bare, *job_of_a_workflow(1), prepare=memory.enter)
    assert (done.returncode, done.stdout) == (7, b"ran\n"), done.stderr


@pytest.mark.parametrize("held", [10, 18])
def test_a_job_that_leaves_no_room_for_its_monitor(held: int, memory: ControlGroup, tmp_path: Path) -> None:
    set_memory(memory, 30 * MB)
    code = f"import time; x = bytearray({held * MB}); time.sleep(0.5); print('ran', flush=True); raise SystemExit(7)"
    done = run(tmp_path, [sys.executable, "-IS", "-c", code], *job_of_a_workflow(1), prepare=memory.enter)
    assert (done.returncode, done.stdout) == (7, b"ran\n"), done.stderr
