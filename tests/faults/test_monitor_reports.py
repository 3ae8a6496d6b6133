"""The monitor and its writers' reports: one that comes between two samples, and one together with a wrapper's
message.
"""

from __future__ import annotations

import os
import select
from pathlib import Path

from measured import the_record

from torc_slurm.identity import identify
from torc_slurm.step import link
from torc_slurm.step.monitor import Monitor
from torc_slurm.step.options import parse


def test_a_writer_that_ends_between_two_looks(tmp_path: Path) -> None:
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
    lowest = os.open(os.devnull, os.O_RDONLY)
    link.send(wrappers, link.encode(begin))
    try:
        monitor._wait()
        monitor._flush()
        flusher = monitor._flusher
        assert flusher is not None
        assert flusher.report_descriptor is not None
        closed = flusher.report_descriptor
        select.select([closed], [], [])
        os.close(lowest)  # the next pipe gets a lower number
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
