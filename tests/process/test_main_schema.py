"""The oldest main database, with data in it, is migrated when it is opened, and keeps its data."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from torc_slurm.database.main import main_database_path, open_main
from torc_slurm.database.main_schema import MAIN_SCHEMA
from torc_slurm.database.migrations import migrate, schema_version

RESULT = """
INSERT INTO results (job_id, run_id, attempt_id, slurm_job_id, step_id, status, measured_node_count,
recorded_task_count, peak_memory_bytes) VALUES (0, 1, 1, 7, '0', 'completed', 1, 1, 12345)
"""


def test_the_oldest_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    with closing(sqlite3.connect(main_database_path(str(tmp_path)), isolation_level=None)) as connection:
        migrate(connection, MAIN_SCHEMA[:1])
        connection.execute(RESULT)
    with open_main(str(tmp_path)) as database:
        assert schema_version(database.connection) == len(MAIN_SCHEMA)
        row = database.connection.execute("SELECT * FROM results").fetchone()
        assert (row["slurm_job_id"], row["status"], row["peak_memory_bytes"]) == (7, "completed", 12345)
        assert database.connection.execute("SELECT count(*) FROM workflows").fetchone()[0] == 0


def test_a_schema_made_step_by_step_is_the_one_made_at_once() -> None:
    def tables(*versions: int) -> list[tuple[str, ...]]:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            for version in versions:
                migrate(connection, MAIN_SCHEMA[:version])
            return list(connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name"))

    every = len(MAIN_SCHEMA)
    assert tables(every) == tables(*range(1, every + 1))
