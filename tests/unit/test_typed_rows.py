"""The types of rows match the schema: the same columns, and None only where NULL is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import pytest

from torc_slurm.database.main import open_to_write
from torc_slurm.records.workflows import RequirementRow, RunRow, UserDatumRow, WorkflowRow

_TYPES = {"INTEGER": int, "REAL": float, "TEXT": str}


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("workflows", WorkflowRow),
        ("runs", RunRow),
        ("resource_requirements", RequirementRow),
        ("user_data", UserDatumRow),
    ],
)
def test_a_rows_type_is_that_of_its_table(tmp_path: Path, table: str, row: type) -> None:
    with open_to_write(str(tmp_path)) as database:
        columns = database.connection.execute(f"PRAGMA table_info({table})").fetchall()
    types = {
        name: _TYPES[declared] if not_null or is_key else _TYPES[declared] | None
        for _, name, declared, not_null, _, is_key in columns
    }
    assert get_type_hints(row) == types
