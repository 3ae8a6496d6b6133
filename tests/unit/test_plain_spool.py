"""A record that was kept without SQLite reaches the node file unchanged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from node_files import batch, exit_record

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.node_records import read_node_file
from torc_slurm.database.plain_spool import read_plain_spool, write_plain_spool
from torc_slurm.database.spool import bring_over
from torc_slurm.files import node_local


@pytest.fixture
def name() -> str:
    return f"plain.{os.getpid()}"


def test_it_is_brought_over(tmp_path: Path, name: str) -> None:
    target = str(tmp_path / "resource_utilization" / "resource_metrics_n1_1_1.db")
    first, second = batch(exits=[]), batch(exits=[exit_record(return_code=7)])
    second.notes = [(1.0, "caf\udce9 \N{SNOWMAN}".encode("utf-8", "replace").decode())]
    write_plain_spool(target, name, [first])
    path = write_plain_spool(target, name, [second])
    assert read_plain_spool(path)[0] == target
    assert bring_over(str(tmp_path)) == [target]
    assert not Path(path).exists()
    (record,) = read_node_file(target).steps
    assert [row["return_code"] for row in record.exits] == [7]
    assert len(record.notes) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"target": 1}', '{"target": "x", "batches": [1]}'])
def test_a_damaged_one_stays_and_is_named(tmp_path: Path, text: str, name: str) -> None:
    place = node_local.subdirectory("spool")
    assert place is not None
    path = Path(place, f"{name}.json")
    path.write_text(text)
    try:
        with pytest.raises(DatabaseError, match="is damaged"):
            read_plain_spool(str(path))
        assert bring_over(str(tmp_path)) == []
        assert path.exists()
    finally:
        path.unlink()
