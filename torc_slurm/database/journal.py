"""The runner's journal in a node file: the run, and each attempt's state. Written in batches, read as plain rows.

Standard library only: the runner writes it on the batch host.
"""

from __future__ import annotations

from torc_slurm.common.text import storable
from torc_slurm.database.migrations import migrate
from torc_slurm.database.node_file import LOCK_WAIT_SECONDS, NodeFileWriter
from torc_slurm.database.node_schema import NODE_SCHEMA

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    JournalRow = Mapping[str, int | float | str | None]
else:
    from torc_slurm.database.bare_sqlite import sqlite3  # the wrapper's spool is brought over through this module

RUN_COLUMNS = (
    "workflow_id",
    "run_id",
    "slurm_job_id",
    "host",
    "pid",
    "user_name",
    "launcher",
    "nodes",
    "job_count",
    "claim_time",
    "end_time",
    "exit_status",
    "reason",
    "node_sizes",
)
JOB_STATE_COLUMNS = (
    "workflow_id",
    "run_id",
    "job_id",
    "attempt_id",
    "job_name",
    "state",
    "reason",
    "launcher",
    "slurm_job_id",
    "step_id",
    "step_name",
    "nodes",
    "pid",
    "start_time",
    "end_time",
    "return_code",
    "launcher_status",
    "launcher_stderr",
)


def _upsert(table: str, columns: tuple[str, ...]) -> str:
    values = ", ".join(f":{name}" for name in columns)
    return f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608 - constants


_PUT_RUN = _upsert("runs", RUN_COLUMNS)
_PUT_JOB_STATE = _upsert("job_states", JOB_STATE_COLUMNS)
SELECT_RUNS = f"SELECT {', '.join(RUN_COLUMNS)} FROM runs ORDER BY workflow_id, run_id"  # noqa: S608 - constants
SELECT_JOB_STATES = f"""
SELECT {", ".join(JOB_STATE_COLUMNS)} FROM job_states ORDER BY workflow_id, run_id, job_id, attempt_id
"""  # noqa: S608 - constants


def write_journal(
    path: str,
    runs: Sequence[JournalRow],
    job_states: Sequence[JournalRow],
    lock_wait_seconds: float = LOCK_WAIT_SECONDS,
) -> None:
    """Replace older rows by these (keys: `RUN_COLUMNS`, `JOB_STATE_COLUMNS`), all in one transaction.

    Raises:
        DatabaseError: the node file cannot be written; it is unchanged.
    """
    with NodeFileWriter(path, lock_wait_seconds) as connection:
        connection.executemany(_PUT_RUN, [{name: storable(value) for name, value in row.items()} for row in runs])
        connection.executemany(
            _PUT_JOB_STATE, [{name: storable(value) for name, value in row.items()} for row in job_states]
        )


def move_journal(source: str, target: str) -> None:
    """Copy the journal of one node file (a spool without a writer) into another.

    Raises:
        DatabaseError: the target cannot be written.
        SqliteError: the source cannot be read.
    """
    connection = sqlite3.connect(source, isolation_level=None)
    try:
        migrate(connection, NODE_SCHEMA)  # an older torc-slurm may have written it
        runs = [dict(zip(RUN_COLUMNS, row, strict=True)) for row in connection.execute(SELECT_RUNS)]
        states = [dict(zip(JOB_STATE_COLUMNS, row, strict=True)) for row in connection.execute(SELECT_JOB_STATES)]
    finally:
        connection.close()
    if runs or states:
        write_journal(target, runs, states)
