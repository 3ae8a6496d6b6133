"""How long a step waited for a CPU: each source, the figures kept of ended processes, and which source counts."""

from __future__ import annotations

import pytest

from torc_slurm.step import kernel
from torc_slurm.step.cpu_wait import CpuWait
from torc_slurm.step.readings import ProcessReading


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """The kernel's figures by pid; a missing pid cannot be read."""
    told: dict[int, float] = {}
    monkeypatch.setattr(kernel, "run_delay_seconds", told.get)
    return told


def process(pid: int, *, start: int = 1, clock_ns: int = 0, is_zombie: bool = False) -> ProcessReading:
    return ProcessReading(pid, start, 1, 0.0, 0.0, 0, 1, 0, 0, is_zombie, clock_ns)


def seconds(waited: CpuWait) -> object:
    assert waited.columns()["cpu_wait_source"] == "schedstat"
    return waited.columns()["cpu_wait_seconds"]


def test_nothing_that_tells_is_null(delays: dict[int, float]) -> None:
    waited = CpuWait(None)
    waited.look([process(7)])
    waited.task_ended(7, -1.0)
    assert waited.columns() == {"cpu_wait_seconds": None, "cpu_wait_source": None}
    delays[8] = 0.0
    waited.look([process(8)])
    assert seconds(waited) == 0.0


def test_what_has_gone_keeps_what_was_seen_of_it(delays: dict[int, float]) -> None:
    waited = CpuWait(None)
    delays |= {7: 1.0, 8: 2.0}
    waited.look([process(7), process(8)])
    delays[7] = 1.5
    waited.look([process(7)])
    waited.look([process(7, is_zombie=True)])
    assert seconds(waited) == 3.5
    delays[8] = 0.25  # another process with the same pid
    waited.look([process(7), process(8, start=9)])
    assert seconds(waited) == 3.75


def test_a_first_process_counts_once(delays: dict[int, float]) -> None:
    """At its end the kernel reports only its first thread: the earlier sum over all threads may be larger."""
    delays[7] = 3.0
    for at_exit, expected in ((4.0, 4.0), (2.0, 3.0), (-1.0, 3.0)):
        for gone_first in (False, True):
            waited = CpuWait(None)
            waited.task_began(7)
            waited.look([process(7)])
            if gone_first:
                waited.look([])
            waited.task_ended(7, at_exit)
            waited.look([])
            assert seconds(waited) == expected


def test_who_has_not_run_is_not_read(delays: dict[int, float]) -> None:
    waited = CpuWait(None)
    delays[7] = 1.0
    waited.look([process(7, clock_ns=5)])
    delays[7] = 2.0
    waited.look([process(7, clock_ns=5)])
    assert seconds(waited) == 1.0
    waited.look([process(7, clock_ns=6)])
    assert seconds(waited) == 2.0
