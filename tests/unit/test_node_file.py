"""The node file's writer: how a later, an older, a repeated or a lone batch changes the file."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from node_files import BEGIN, batch, dump, exit_record, path_of

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.batch import Batch
from torc_slurm.database.node_file import NodeFileWriter, read_batches, release_lock, take_lock, write_batch
from torc_slurm.database.node_schema import NODE_SCHEMA
from torc_slurm.database.spool import bring_over, write_to_spool
from torc_slurm.files import node_local

REFERENCE_TABLES = {
    "job_resource_samples": [
        ("id", "INTEGER"),
        ("job_id", "INTEGER"),
        ("timestamp", "REAL"),
        ("cpu_percent", "REAL"),
        ("memory_bytes", "INTEGER"),
        ("num_processes", "INTEGER"),
    ],
    "job_metadata": [("job_id", "INTEGER"), ("job_name", "TEXT")],
}


def usage(**figures: object) -> dict[str, object]:
    return {"sample_count": 3, "elapsed_seconds": 5.0, "peak_memory_bytes": 100, "peak_memory_source": "pss"} | figures


def with_samples(flush: Batch, *times: float) -> Batch:
    flush.samples = [(BEGIN + when, 50.0, 1000, 1) for when in times]
    flush.io_samples = [(BEGIN + when, 1, 2, 3, 4, 1, 0) for when in times]
    flush.memory_samples = [(BEGIN + when, 900, "pss") for when in times]
    return flush


def rows(path: str, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return path_of(tmp_path, batch().step)


def test_the_references_two_tables_have_exactly_its_columns(path: str) -> None:
    write_batch(path, batch())
    for table, columns in REFERENCE_TABLES.items():
        assert [row[1:3] for row in rows(path, f"PRAGMA table_info({table})")] == columns


def test_the_last_flush_counts(path: str) -> None:
    write_batch(path, batch(usage=usage(peak_memory_bytes=1), exits=[], end_time=None, last_flush_time=BEGIN + 1))
    write_batch(path, batch(usage=usage(peak_memory_bytes=2), last_flush_time=BEGIN + 5))
    assert rows(path, "SELECT peak_memory_bytes FROM step_usage") == [(2,)]
    assert rows(path, "SELECT end_time, last_flush_time FROM steps") == [(BEGIN + 5, BEGIN + 5)]
    assert len(rows(path, "SELECT * FROM task_exits")) == 1


def test_an_older_flush_that_comes_late_changes_no_figure(path: str) -> None:
    write_batch(path, batch(usage=usage(peak_memory_bytes=2)))
    before = dump(path)
    write_batch(path, batch(usage=usage(peak_memory_bytes=1), exits=[], end_time=None, last_flush_time=BEGIN + 1))
    assert dump(path) == before


def test_exits_of_a_steps_tasks_come_together(path: str) -> None:
    write_batch(path, batch(exits=[exit_record(0)], task_count=3))
    write_batch(path, batch(exits=[exit_record(2, 9)], task_count=3))
    write_batch(path, batch(exits=[exit_record(1), exit_record(2, 9)], task_count=3))
    assert rows(path, "SELECT task, return_code FROM task_exits ORDER BY task") == [(0, 0), (1, 0), (2, 9)]


def test_a_second_wrapper_in_one_ad_hoc_step_is_the_next_attempt(path: str) -> None:
    write_batch(path, batch(invocation="first"))
    write_batch(path, batch(invocation="second"))
    write_batch(path, batch(invocation="first"))
    assert rows(path, "SELECT invocation, attempt_id FROM steps ORDER BY id") == [("first", 1), ("second", 2)]


def test_a_jobs_attempt_keeps_its_number(path: str) -> None:
    write_batch(path, batch(workflow_id=1, attempt_id=4))
    assert rows(path, "SELECT attempt_id FROM steps") == [(4,)]


def test_wait4_figures_raise_those_of_a_dead_monitor(path: str) -> None:
    write_batch(path, batch(usage=usage(cpu_seconds=1.0, peak_memory_bytes=100, peak_cpu_percent=40.0), exits=[]))
    last = batch(last_flush_time=BEGIN + 9)
    last.usage = None
    last.usage_at_exit = {
        "elapsed_seconds": 10.0,
        "cpu_seconds": 8.0,
        "cpu_source": "wait4",
        "avg_cpu_percent": 80.0,
        "peak_memory_bytes": 70,
        "peak_memory_source": "wait4",
        "memory_floor_bytes": 70,
        "memory_floor_source": "wait4",
    }
    write_batch(path, last)
    query = (
        "SELECT cpu_seconds, avg_cpu_percent, peak_cpu_percent, peak_memory_bytes, peak_memory_source FROM step_usage"
    )
    assert rows(path, query) == [(8.0, 80.0, 80.0, 100, "pss")]


@pytest.mark.parametrize("column", ["job_name", "command", "working_dir", "user_name", "node", "step_id"])
def test_text_that_is_not_utf_8_loses_nothing(path: str, column: str) -> None:
    flush = batch(notes=[(BEGIN, "caf\udce9")])
    flush.step[column] = "na\udcffme"
    write_batch(path, flush)
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        assert connection.execute("SELECT * FROM steps").fetchone()[column] == "na\\xffme"
        assert [tuple(row) for row in connection.execute("SELECT note FROM step_notes")] == [("caf\\xe9",)]
        assert len(connection.execute("SELECT * FROM task_exits").fetchall()) == 1


def test_text_that_tries_to_be_sql(path: str) -> None:
    name = "'); DROP TABLE steps; --\n\"\0é"
    write_batch(path, batch(job_name=name, command=name))
    assert rows(path, "SELECT job_name, command FROM steps") == [(name, name)]
    assert rows(path, "SELECT job_name FROM job_metadata") == [(name,)]


@pytest.mark.parametrize("name", ["a b", "100%", "what?", "#1", "new\nline", "grün", "%20", "a&nolock=0", "'"])
def test_directories_of_every_name(name: str, tmp_path: Path) -> None:
    path = path_of(tmp_path / name, batch().step)
    write_batch(path, batch())
    assert Path(path).stat().st_size > 0
    assert [flush.step["job_name"] for flush in read_batches(path)] == ["work"]


def test_a_file_of_a_newer_version_is_left_alone(path: str) -> None:
    write_batch(path, batch())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(NODE_SCHEMA) + 1}")
    before = Path(path).read_bytes()
    with pytest.raises(DatabaseError, match="newer"):
        write_batch(path, batch(usage=usage(peak_memory_bytes=5)))
    assert Path(path).read_bytes() == before


def test_what_cannot_be_written_is_written_not_at_all(path: str) -> None:
    write_batch(path, batch())
    before = dump(path)
    broken = batch(invocation="second", job_id=5)
    broken.exits = [exit_record(no_such_column=1)]
    with pytest.raises(DatabaseError, match="no_such_column"):
        write_batch(path, broken)
    assert dump(path) == before


# --- the lock -------------------------------------------------------------------------------------------------


def test_no_lock_file_stays(path: str) -> None:
    write_batch(path, batch())
    place = node_local.subdirectory("locks")
    assert place is not None
    assert [name for name in os.listdir(place) if Path(path).parts[-3] in name] == []


def test_a_lock_that_is_held_is_waited_for_and_named(path: str) -> None:
    lock = take_lock(path, 0)
    with pytest.raises(DatabaseError, match="another process on this node has locked it"):
        write_batch(path, batch(), lock_wait_seconds=0)
    os.close(lock)
    write_batch(path, batch(), lock_wait_seconds=0)


def test_a_lock_whose_file_was_removed_is_no_lock(path: str) -> None:
    """A cleaner of /tmp removed the file: the next process makes a new one, and all later ones see that."""
    Path(path).parent.mkdir(parents=True)
    place = node_local.subdirectory("locks")
    assert place is not None
    before = set(os.listdir(place))
    first = take_lock(path, 0)
    (name,) = set(os.listdir(place)) - before
    os.unlink(os.path.join(place, name))
    second = take_lock(path, 0)
    with pytest.raises(OSError, match="another process"):
        take_lock(path, 0)
    os.close(first)
    with pytest.raises(OSError, match="another process"):
        take_lock(path, 0)
    os.close(second)
    with NodeFileWriter(path, 0):
        pass


def test_a_disk_that_takes_no_lock_file(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the lock is on the directory of locks: it excludes others of its kind, and those who have a file."""
    real, full = os.open, [True]

    def open_on_a_full_disk(name: str, flags: int, mode: int = 0o777) -> int:
        if full[0] and flags & os.O_CREAT and not os.path.exists(name):
            raise OSError(errno.ENOSPC, "full", name)
        return real(name, flags, mode)

    monkeypatch.setattr(os, "open", open_on_a_full_disk)
    on_the_directory = take_lock(path, 0)
    second = take_lock(path + "2", 0)  # of the same process, for another file
    release_lock(path + "2", second)
    take = f"from torc_slurm.database.node_file import take_lock; take_lock({path!r}, 0)"
    other = subprocess.run([sys.executable, "-c", take], capture_output=True, text=True, check=False)
    assert "another process" in other.stderr
    release_lock(path, on_the_directory)
    assert subprocess.run([sys.executable, "-c", take], check=False).returncode == 0
    Path(node_local.subdirectory("locks") or "", f"{node_local.file_name_of(path)}.lock").unlink()
    full[0] = False
    with_a_file = take_lock(path, 0)
    full[0] = True
    with pytest.raises(OSError, match="another process"):
        take_lock(path, 0)
    release_lock(path, with_a_file)
    release_lock(path, take_lock(path, 0))


def test_a_link_of_another_user_is_not_followed(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(path).parent.mkdir(parents=True)
    os.symlink(tmp_path / "elsewhere", path)
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    if os.getuid() == 0:
        os.lchown(path, 54_321, -1)
    with pytest.raises(DatabaseError, match="a symbolic link that another user made"):
        write_batch(path, batch())
    assert not (tmp_path / "elsewhere").exists()


# --- the spool ------------------------------------------------------------------------------------------------


def test_a_spool_brings_all_over_and_goes(tmp_path: Path, path: str) -> None:
    flush = with_samples(batch(usage=usage(), notes=[(BEGIN, "spooled")]), 1, 2, 3)
    flush.monitor = {"cpu_seconds": 0.5, "reader": "procfs"}
    spool = write_to_spool(path, "test-all", flush)
    assert bring_over(str(tmp_path)) == [path]
    other = path_of(tmp_path / "directly", batch().step)
    write_batch(other, flush)
    assert [line for line in dump(path) if "schema_migrations" not in line] == [
        line for line in dump(other) if "schema_migrations" not in line
    ]
    assert not os.path.exists(spool)
    assert bring_over(str(tmp_path)) == []


def test_a_spool_that_was_brought_over_in_part_is_not_doubled(tmp_path: Path, path: str) -> None:
    """A writer that was given up may still have written: its rows are in the file once."""
    write_batch(path, with_samples(batch(usage=usage()), 1, 2))
    write_to_spool(path, "test-twice", with_samples(batch(usage=usage()), 1, 2, 3))
    assert bring_over(str(tmp_path)) == [path]
    once = [(BEGIN + when,) for when in (1, 2, 3)]
    assert rows(path, "SELECT timestamp FROM job_resource_samples ORDER BY id") == once
    assert rows(path, "SELECT timestamp FROM job_io_samples ORDER BY id") == once
    assert rows(path, "SELECT timestamp FROM job_memory_samples ORDER BY id") == once


def test_an_old_spool_does_not_replace_newer_figures(tmp_path: Path, path: str) -> None:
    early = batch(usage=usage(peak_memory_bytes=1), exits=[], end_time=None, last_flush_time=BEGIN + 1)
    write_to_spool(path, "test-old", with_samples(early, 0.5))
    write_batch(path, with_samples(batch(usage=usage(peak_memory_bytes=2)), 2))
    assert bring_over(str(tmp_path)) == [path]
    assert rows(path, "SELECT peak_memory_bytes FROM step_usage") == [(2,)]
    assert rows(path, "SELECT end_time FROM steps") == [(BEGIN + 5,)]
    assert len(rows(path, "SELECT * FROM job_resource_samples")) == 2


def test_a_spooled_exit_without_its_monitor_raises_what_is_there(tmp_path: Path, path: str) -> None:
    write_batch(path, batch(usage=usage(peak_memory_bytes=100, num_processes_peak=4), exits=[], end_time=None))
    lone = batch(last_flush_time=BEGIN + 9)
    lone.usage = None
    lone.usage_at_exit = dict.fromkeys(
        (
            "elapsed_seconds",
            "cpu_seconds",
            "cpu_source",
            "avg_cpu_percent",
            "memory_floor_source",
            "peak_memory_source",
        ),
        None,
    ) | {"cpu_seconds": 3.0, "elapsed_seconds": 6.0, "peak_memory_bytes": 70, "memory_floor_bytes": 70}
    write_to_spool(path, "test-lone", lone)
    assert bring_over(str(tmp_path)) == [path]
    query = "SELECT cpu_seconds, peak_memory_bytes, num_processes_peak FROM step_usage"
    assert rows(path, query) == [(3.0, 100, 4)]


def test_a_spool_stays_while_its_target_cannot_be_written(tmp_path: Path, path: str) -> None:
    (tmp_path / "resource_utilization").write_text("in the way")
    spool = write_to_spool(path, "test-stays", batch())
    assert bring_over(str(tmp_path)) == []
    assert os.path.exists(spool)
    (tmp_path / "resource_utilization").unlink()
    assert bring_over(str(tmp_path)) == [path]


def test_only_spools_for_the_given_directory_are_brought_over(tmp_path: Path) -> None:
    mine, others = path_of(tmp_path / "mine", batch().step), path_of(tmp_path / "others", batch().step)
    write_to_spool(mine, "test-mine", batch())
    write_to_spool(others, "test-others", batch())
    assert bring_over(str(tmp_path / "mine")) == [mine]
    assert bring_over(str(tmp_path)) == [others]


@pytest.mark.parametrize("written", [[], [".db"], [".db", ".db-journal"]])
def test_what_a_writer_left_that_was_killed_before_it_wrote_is_removed(
    tmp_path: Path, path: str, written: list[str]
) -> None:
    place = node_local.subdirectory("spool")
    assert place is not None
    target = Path(place) / "test-empty.target"
    target.write_text(path)
    for ending in written:
        target.with_suffix(ending).touch()
    assert bring_over(str(tmp_path)) == []
    assert list(Path(place).glob("test-empty*")) == []
    assert not os.path.exists(path)
