"""The writer that the monitors below a fork server share: what it confirms is in the file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from node_files import batch

from torc_slurm.step import shared_writer

# In a process of its own: the shared writer is a fork of it.
SCRIPT = """
import os
import sys

from node_files import batch

from torc_slurm.database.node_file import release_lock, take_lock
from torc_slurm.step import shared_writer

first, second = sys.argv[1:]
shared_writer.start()
lock = take_lock(first, 0)
assert not shared_writer.write(first, batch()), "another process has locked the file"
release_lock(first, lock)
assert shared_writer.write(first, batch(exits=[]))
assert shared_writer.write(first, batch()), "the same once more"
assert shared_writer.write(second, batch())
assert not shared_writer.write(first, batch(notes=[(1.0, "x" * 100_000)])), "larger than a message"
assert not shared_writer.write("/proc/no/such/place.db", batch())
assert not shared_writer.write(first, batch(node=object())), "of a type that cannot be sent"
assert shared_writer.write(first, batch(job_id=2, invocation="\\udcff"))
"""


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - our own names


def test_what_it_confirms_is_written(tmp_path: Path) -> None:
    paths = [tmp_path / "1.db", tmp_path / "2.db"]
    places = os.pathsep.join(place for place in sys.path if place)
    words = [sys.executable, "-c", SCRIPT, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": places})
    assert (done.returncode, done.stderr) == (0, "")
    assert [(count(path, "steps"), count(path, "task_exits")) for path in paths] == [(2, 2), (1, 1)]


def test_without_a_fork_server_there_is_none(tmp_path: Path) -> None:
    assert not shared_writer.write(str(tmp_path / "1.db"), batch())
    assert not list(tmp_path.iterdir())
