"""The runner's journal keeps the latest rows, whatever happens to its writes."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from torc_slurm.common.errors import DatabaseError
from torc_slurm.runner import journal as runner_journal
from torc_slurm.runner.journal import Journal, Row
from torc_slurm.runner.loop import Loop


class NodeFile:
    """Replaces the node file; writes one after another, the first when it is released."""

    def __init__(self) -> None:
        self.let_first = threading.Event()
        self.first_has_begun = threading.Event()
        self.first_fails = False
        self.runs: dict[object, Row] = {}
        self.states: dict[object, Row] = {}
        self._count = 0

    def write(self, _path: str, runs: Sequence[Row], states: Sequence[Row], _wait: float) -> None:
        self._count += 1
        if self._count == 1:
            self.first_has_begun.set()
            assert self.let_first.wait(60)
            if self.first_fails:
                raise DatabaseError("the disk is full")
        self.runs |= {row["run_id"]: row for row in runs}
        self.states |= {row["job_id"]: row for row in states}


@pytest.mark.parametrize("first_fails", [False, True])
def test_the_last_rows_stand_also_when_a_write_was_under_way(
    monkeypatch: pytest.MonkeyPatch, first_fails: bool
) -> None:
    node_file = NodeFile()
    node_file.first_fails = first_fails
    monkeypatch.setattr(runner_journal, "write_journal", node_file.write)
    with Loop() as loop:
        journal = Journal("node.db", loop, note=lambda line: pytest.fail(line))
        journal.put_run({"run_id": 1, "end_time": None})
        journal.put_state({"job_id": 1, "attempt_id": 1, "state": "running"})
        journal.put_state({"job_id": 2, "attempt_id": 1, "state": "failed"})
        journal.hurry()
        assert node_file.first_has_begun.wait(60)
        journal.put_run({"run_id": 1, "end_time": 12.5})
        journal.put_state({"job_id": 1, "attempt_id": 1, "state": "completed"})
        closing = threading.Thread(target=journal.close)
        closing.start()
        node_file.let_first.set()
        closing.join(60)
    assert node_file.runs[1]["end_time"] == 12.5
    assert {job: row["state"] for job, row in node_file.states.items()} == {1: "completed", 2: "failed"}
