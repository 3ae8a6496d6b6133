"""The monitor and its writers' reports: one that comes between two samples, and one together with a wrapper's
message.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest
from measured import the_record

from torc_slurm.common.identity import identify
from torc_slurm.step import link
from torc_slurm.step.monitor import Monitor
from torc_slurm.step.options import parse


def high_pipe(make: Callable[[], tuple[int, int]] = os.pipe) -> tuple[int, int]:
    """A pipe whose descriptors are far above those that the process gets otherwise."""
    reader, writer = make()
    moved = (fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 500), fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, 500))
    os.close(reader)
    os.close(writer)
    return moved


def test_a_writer_that_ends_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen on a loaded node: the next writer's pipe had another number, and the closed one ended the monitor."""
    environ = {"SLURM_JOB_ID": "4242", "SLURM_STEP_ID": "0", "SLURMD_NODENAME": "n1"}
    identity = identify(environ, {"output_dir": str(tmp_path)})
    ours, wrappers = link.pair()
    wake, waker = os.pipe()
    monitor = Monitor(parse(["--", "true"], {}), identity, ours, wake, None)
    begin = link.Begin()
    for name in link.Begin.FIELDS:
        setattr(begin, name, 0)
    begin.wrapper_pid, begin.parent_pid = os.getpid(), os.getppid()
    link.send(wrappers, link.encode(begin))
    try:
        monitor._wait()
        with monkeypatch.context() as patch:
            patch.setattr(os, "pipe", high_pipe)
            monitor._flush()
        flusher = monitor._flusher
        assert flusher is not None
        assert flusher.report_descriptor is not None
        closed = flusher.report_descriptor
        ended = select.poll()
        ended.register(closed, 0)  # its end alone: it reports before that
        ended.poll()
        monitor._flush()
        assert flusher.report_descriptor != closed
        while flusher.report_descriptor is not None:
            monitor._wait()
    finally:
        for descriptor in (wake, waker):
            os.close(descriptor)
        ours.close()
        wrappers.close()
    assert the_record(tmp_path).step["step_id"] == "0"
