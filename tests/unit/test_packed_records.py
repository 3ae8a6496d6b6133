"""What was read of a node file is the same after it went through a pipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_files import BEGIN, accounting_row, batch, exit_record, write, write_accounting

from torc_slurm.database.journal import JOB_STATE_COLUMNS, RUN_COLUMNS, write_journal
from torc_slurm.database.node_records import NodeRecords, StepRows, read_node_file
from torc_slurm.database.packed_records import pack, unpack

RUN = dict.fromkeys(RUN_COLUMNS) | {
    "workflow_id": 4, "run_id": 1, "host": "n1", "pid": 5, "launcher": "srun", "job_count": 2, "claim_time": BEGIN,
}  # fmt: skip
STATE = dict.fromkeys(JOB_STATE_COLUMNS) | {
    "workflow_id": 4, "run_id": 1, "job_id": 1, "attempt_id": 1, "state": "running", "launcher": "srun",
}  # fmt: skip


def test_records_are_the_same_after_packing(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        batch(exits=[exit_record(0), exit_record(1, 137)], notes=[(BEGIN, "lost"), (BEGIN + 1, "späť")], task_count=2),
        batch(exits=[], job_id=1, step_id="1", invocation="running", end_time=None, command=None),
        batch(job_id=2, step_id="2", invocation="third", usage={"peak_memory_bytes": 2**60}),
    )
    write_accounting(path, accounting_row())
    write_journal(path, [RUN], [STATE])
    records = read_node_file(path)
    assert [len(record.exits) for record in records.steps] == [2, 0, 1]
    assert len(records.slurm_stats) == len(records.runs) == len(records.job_states) == 1
    assert unpack(pack(records)) == records


def test_no_record_is_made_of_a_step_that_is_only_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        tmp_path, batch(exits=[exit_record(0)]), batch(exits=[exit_record(0, 1)], job_id=1, invocation="other")
    )
    monkeypatch.setattr(StepRows, "__iter__", lambda _steps: pytest.fail("a record was made"))
    assert len(unpack(pack(read_node_file(path))).steps) == 2


def test_an_empty_file_is_the_same_too() -> None:
    records = NodeRecords("path", "condition", (), ())
    assert unpack(pack(records)) == records


def test_a_part_of_a_message_is_refused() -> None:
    with pytest.raises((EOFError, ValueError, TypeError)):
        unpack(pack(NodeRecords("path", "condition", (), ()))[:-1])
