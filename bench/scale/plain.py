"""Plain readings for comparison: what sqlite3 alone takes for the same rows. Nothing is checked and nothing merged.

``collect``: every step's row of every node file into one table of one database. ``join``: every attempt with Slurm's
row from the main database, as JSON. ``series``: every sample of every node file, as JSON.
``split``: sacct's answer into its cells. ``load``: a workflow file with json or yaml.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

ANSWER = "answer.txt"  # in the directory of the commands that answer for Slurm
DELIMITER = "\x1fscale\x1f"  # torc takes the delimiter from the first line, whatever it asked for

_READ = "SELECT s.*, u.* FROM steps s LEFT JOIN step_usage u ON u.step = s.id"
_EXITS = "SELECT * FROM task_exits"
_SAMPLES = "SELECT timestamp, cpu_percent, memory_bytes, num_processes FROM job_resource_samples ORDER BY timestamp"
_JOIN = """
SELECT r.*, s.* FROM results r
LEFT JOIN slurm_stats s ON s.slurm_job_id = r.slurm_job_id AND s.run_id = r.run_id AND s.step_id = r.step_id
"""


def collect(output_dir: str) -> None:
    """Read all, insert all."""
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


def join(output_dir: str) -> None:
    """Read all, write all."""
    with closing(sqlite3.connect(Path(output_dir) / "torc.db")) as connection:
        for row in connection.execute(_JOIN):
            print(json.dumps(row))


def series(output_dir: str) -> None:
    """Read all, write all."""
    for path in sorted(Path(output_dir, "resource_utilization").glob("*.db")):
        with closing(sqlite3.connect(path)) as connection:
            print(json.dumps(connection.execute(_SAMPLES).fetchall()))


def split(directory: str) -> None:
    """Read the answer line by line, split each."""
    with open(Path(directory) / ANSWER, encoding="utf-8", newline="\n") as file:
        for line in file:
            line.split(DELIMITER)


def load(spec: str) -> None:
    """Read a workflow file with the parser of its form."""
    text = Path(spec).read_text()
    if spec.endswith(".json"):
        json.loads(text)
        return
    import yaml

    yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


if __name__ == "__main__":
    {"collect": collect, "join": join, "series": series, "split": split, "load": load}[sys.argv[1]](sys.argv[2])
