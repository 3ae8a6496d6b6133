"""A plain reading for comparison with collect: every step's row of every node file into one table of one database."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

_READ = "SELECT s.*, u.* FROM steps s LEFT JOIN step_usage u ON u.step = s.id"
_EXITS = "SELECT * FROM task_exits"


def main(output_dir: str) -> None:
    """Read all, insert all; nothing is checked and nothing merged."""
    with closing(sqlite3.connect(Path(output_dir) / "plain.db", isolation_level=None)) as target:
        target.execute("BEGIN")
        for path in sorted(Path(output_dir, "resource_utilization").glob("*.db")):
            with closing(sqlite3.connect(path)) as source:
                for table, query in (("steps", _READ), ("exits", _EXITS)):
                    rows = source.execute(query).fetchall()
                    if rows:
                        columns = ", ".join(f"c{number}" for number in range(len(rows[0])))
                        target.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
                        marks = ", ".join("?" * len(rows[0]))
                        target.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - constants
        target.execute("COMMIT")


if __name__ == "__main__":
    main(sys.argv[1])
