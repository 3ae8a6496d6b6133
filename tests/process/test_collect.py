"""Collect with every kind of broken node file, with real writers, real kills and real processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from node_files import BEGIN, accounting_row, batch, dump, exit_record, path_of, write, write_accounting

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.main import main_database_path, open_main
from torc_slurm.database.migrations import migrate
from torc_slurm.database.node_schema import NODE_SCHEMA
from torc_slurm.database.spool import write_to_spool
from torc_slurm.usecases.attempt_results import rebuild_results
from torc_slurm.usecases.collect import FileOutcome, collect_node_files

TESTS = Path(__file__).parents[1]


def collect(output_dir: Path) -> list[FileOutcome]:
    with open_main(str(output_dir)) as database:
        return collect_node_files(database)


def results(output_dir: Path) -> list[dict[str, object]]:
    with closing(sqlite3.connect(main_database_path(str(output_dir)))) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM results ORDER BY slurm_job_id, job_id")]


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A separate Python that can import the package and the tests' helpers."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line


# --- what is collected ----------------------------------------------------------------------------------------


def test_a_step_becomes_a_result(tmp_path: Path) -> None:
    write(tmp_path, batch(exits=[exit_record(return_code=3)], usage={"avg_cpu_percent": 99.5}))
    (outcome,) = collect(tmp_path)
    assert (outcome.outcome, outcome.steps, len(outcome.changed_attempts)) == ("collected", 1, 1)
    (row,) = results(tmp_path)
    assert (row["return_code"], row["status"], row["job_name"]) == (3, "failed", "work")
    assert (row["peak_memory_bytes"], row["peak_memory_gb"]) == (10**9, 1.0)
    assert row["avg_cpu_percent"] == 99.5
    assert row["avg_memory_gb"] is None  # not measured, and not 0
    assert row["end_time"] == BEGIN + 5


def test_any_path_will_do(tmp_path: Path) -> None:
    odd = tmp_path / "a b?mode=ro#x%20'\"\n名"
    write(odd, batch())
    collect(odd)
    assert len(results(odd)) == 1
    assert sorted(os.listdir(odd)) == ["resource_utilization", "torc.db"]


def test_collecting_again_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, batch(notes=[(BEGIN, "lost 3 samples")]), batch(job_id=1, step_id="1", invocation="second"))
    write_accounting(path, accounting_row(), accounting_row(step_id="1", status="pending", end_time=None))
    (tmp_path / "resource_utilization" / "resource_metrics_n9_slurm7_1.db").write_text("not a database")
    collect(tmp_path)
    before = dump(main_database_path(str(tmp_path)))
    assert {outcome.outcome for outcome in collect(tmp_path)} == {"unchanged", "skipped"}
    assert dump(main_database_path(str(tmp_path))) == before


def test_reading_everything_again_changes_nothing_either(tmp_path: Path) -> None:
    path = write(tmp_path, batch(notes=[(BEGIN, "lost")]))
    write_accounting(path, accounting_row())
    collect(tmp_path)
    before = dump(main_database_path(str(tmp_path)))
    with open_main(str(tmp_path)) as database:
        database.connection.execute("UPDATE node_files SET fingerprint = 'forgotten'")
        assert collect_node_files(database)[0].outcome == "collected"
        rebuild_results(database.connection, {1})
        database.connection.execute("UPDATE node_files SET fingerprint = ?, collected_at = ?", _file_row(before))
    assert dump(main_database_path(str(tmp_path))) == before


def _file_row(text: list[str]) -> tuple[str, float]:
    (line,) = [line for line in text if line.startswith('INSERT INTO "node_files"')]
    _, fingerprint, collected_at, _ = line.partition("VALUES(")[2].rstrip(");").split(",")
    return fingerprint.strip("'"), float(collected_at)


def test_the_original_is_never_touched(tmp_path: Path) -> None:
    path = write(tmp_path, batch())
    directory = os.path.dirname(path)
    before = {name: os.stat(os.path.join(directory, name)) for name in os.listdir(directory)}
    collect(tmp_path)
    after = {name: os.stat(os.path.join(directory, name)) for name in os.listdir(directory)}
    assert {name: (s.st_size, s.st_mtime_ns) for name, s in before.items()} == {
        name: (s.st_size, s.st_mtime_ns) for name, s in after.items()
    }


def test_several_nodes_and_tasks(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"node_count": 2, "task_count": 4, "local_task_count": 2}
    small = {"peak_memory_bytes": 10, "peak_memory_source": "pss", "avg_cpu_percent": 150.0, "cpu_seconds": 3.0}
    large = {"peak_memory_bytes": 30, "peak_memory_source": "cgroup", "avg_cpu_percent": 50.0, "cpu_seconds": 1.0}
    write(tmp_path, batch(usage=small, exits=[exit_record(0), exit_record(1, 7)], **shared))
    write(
        tmp_path,
        batch(usage=large, exits=[exit_record(2, 137), exit_record(3, 2)], node="n2", node_index=1, **shared),
    )
    assert len(collect(tmp_path)) == 2
    (row,) = results(tmp_path)
    assert (row["peak_memory_bytes"], row["peak_memory_source"], row["peak_memory_node"]) == (30, "cgroup", "n2")
    assert (row["avg_cpu_percent"], row["cpu_seconds"]) == (150.0, 3.0)
    assert (row["all_nodes_peak_memory_bytes"], row["all_nodes_cpu_seconds"]) == (40, 4.0)
    assert (row["return_code"], row["return_signal"]) == (137, 9)
    assert (row["measured_nodes"], row["recorded_task_count"]) == ("n1,n2", 4)


def test_a_node_that_has_not_reported_leaves_totals_unknown(tmp_path: Path) -> None:
    write(tmp_path, batch(node_count=2, task_count=2))
    collect(tmp_path)
    (row,) = results(tmp_path)
    assert row["peak_memory_bytes"] == 10**9
    assert row["all_nodes_peak_memory_bytes"] is None
    assert row["status"] == "running"
    assert row["end_time"] is None


def test_a_running_step_grows(tmp_path: Path) -> None:
    write(tmp_path, batch(exits=[], end_time=None, last_flush_time=BEGIN + 1, usage={"peak_memory_bytes": 5}))
    collect(tmp_path)
    assert results(tmp_path)[0]["status"] == "running"
    write(tmp_path, batch(usage={"peak_memory_bytes": 50}))
    assert collect(tmp_path)[0].outcome == "collected"
    (row,) = results(tmp_path)
    assert (row["status"], row["peak_memory_bytes"]) == ("completed", 50)


def test_only_what_is_new_is_written(tmp_path: Path) -> None:
    write(tmp_path, batch())
    collect(tmp_path)
    write(tmp_path, batch(job_id=1, step_id="1", invocation="second"))
    (outcome,) = collect(tmp_path)
    assert (outcome.steps, outcome.changed_attempts) == (2, frozenset({2}))


def test_a_step_killed_without_warning_ends_with_slurms_word(tmp_path: Path) -> None:
    path = write(tmp_path, batch(exits=[], end_time=None, last_flush_time=BEGIN + 1))
    write_accounting(path, accounting_row(state="CANCELLED", exit_code=0, exit_signal=9))
    collect(tmp_path)
    (row,) = results(tmp_path)
    assert (row["end_time"], row["end_time_source"]) == (BEGIN + 6, "accounting")
    assert row["status"] != "running"
    assert row["return_code"] is None


def test_oom_needs_a_kill_and_a_failure(tmp_path: Path) -> None:
    write(
        tmp_path,
        batch(usage={"oom_kills": 1}, exits=[exit_record(return_code=137)]),
        batch(usage={"oom_kills": 1}, job_id=1, step_id="1", invocation="2"),
        batch(usage={"oom_kills": 0}, exits=[exit_record(return_code=137)], job_id=2, step_id="2", invocation="3"),
    )
    collect(tmp_path)
    assert [row["status"] == "oom" for row in results(tmp_path)] == [True, False, False]


def test_records_outside_slurm_and_of_workflows(tmp_path: Path) -> None:
    local: dict[str, Any] = {"slurm_job_id": None, "step_id": None, "job_id": 1}
    write(tmp_path, batch(**local))
    write(tmp_path, batch(node="laptop", **local))
    write(tmp_path, batch(workflow_id=4, attempt_id=2, **local))
    collect(tmp_path)
    collect(tmp_path)
    keys = {(row["workflow_id"], row["local_host"], row["attempt_id"]) for row in results(tmp_path)}
    assert keys == {(None, "n1", 1), (None, "laptop", 1), (4, None, 2)}


def test_two_wrappers_in_one_step_are_two_attempts(tmp_path: Path) -> None:
    path = write(tmp_path, batch(), batch(invocation="second", begin_time=BEGIN + 6, job_name="more"))
    write_accounting(path, accounting_row())
    collect(tmp_path)
    assert [row["attempt_id"] for row in results(tmp_path)] == [1, 2]
    assert "attempt_id" in " ".join(dump(main_database_path(str(tmp_path))))


def test_accounting_that_comes_before_its_step_finds_it_later(tmp_path: Path) -> None:
    path = write(tmp_path, batch(node="n1", workflow_id=4, attempt_id=1, job_id=9, step_id="3"))
    write_accounting(path, accounting_row(step_id="5"))
    collect(tmp_path)
    write(tmp_path, batch(node="n2", workflow_id=4, attempt_id=1, job_id=10, step_id="5"))
    collect(tmp_path)
    with closing(sqlite3.connect(main_database_path(str(tmp_path)))) as connection:
        assert connection.execute("SELECT workflow_id, job_id, attempt_id FROM slurm_stats").fetchall() == [(4, 10, 1)]


def test_what_this_node_spooled_is_brought_over(tmp_path: Path) -> None:
    flush = batch(slurm_job_id=None, step_id=None, job_id=1)
    spool = write_to_spool(path_of(tmp_path, flush.step), f"test-{tmp_path.name}-{os.getpid()}", flush)
    assert collect(tmp_path)[0].outcome == "collected"
    assert len(results(tmp_path)) == 1
    assert not os.path.exists(spool)


# --- what cannot be collected ---------------------------------------------------------------------------------


def text_file(path: str) -> None:
    Path(path).write_text("not a database\n" * 1000)


def one_byte(path: str) -> None:
    Path(path).write_text("x")


def newer_schema(path: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, NODE_SCHEMA)
        connection.execute(f"PRAGMA user_version = {len(NODE_SCHEMA) + 1}")


def foreign_database(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")


def text_in_a_number(path: str) -> None:
    write(Path(path).parents[1], batch(node="broken"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE step_usage SET peak_memory_bytes = 'much'")


def infinite_figure(path: str) -> None:
    write(Path(path).parents[1], batch(node="broken"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE step_usage SET avg_cpu_percent = 9e999")


def damaged_pages(path: str) -> None:
    write(Path(path).parents[1], batch(node="broken", command="x" * 20_000))
    content = bytearray(Path(path).read_bytes())
    for page in range(4096, len(content), 4096):
        content[page : page + 512] = b"\xff" * 512
    Path(path).write_bytes(content)


def truncated(path: str) -> None:
    write(Path(path).parents[1], batch(node="broken"))
    os.truncate(path, os.path.getsize(path) // 2)


BROKEN: dict[str, Callable[[str], None]] = {
    "text": text_file,
    "short": one_byte,
    "directory": os.mkdir,
    "fifo": os.mkfifo,
    "dangling link": lambda path: os.symlink("/nowhere/at/all", path),
    "newer": newer_schema,
    "foreign": foreign_database,
    "text in a number": text_in_a_number,
    "infinite": infinite_figure,
    "damaged": damaged_pages,
    "truncated": truncated,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_and_never_stands_in_the_way(kind: str, tmp_path: Path) -> None:
    good = write(tmp_path, batch())
    broken = path_of(tmp_path, {"workflow_id": None, "slurm_job_id": 7, "node": "broken", "run_id": 1})
    BROKEN[kind](broken)
    outcomes = {outcome.path: outcome for outcome in collect(tmp_path)}
    assert outcomes[good].outcome == "collected"
    assert outcomes[broken].outcome == "skipped"
    assert broken in (outcomes[broken].problem or "")
    assert len(results(tmp_path)) == 1
    before = dump(main_database_path(str(tmp_path)))
    again = {outcome.path: outcome for outcome in collect(tmp_path)}
    assert again[broken].problem == outcomes[broken].problem
    assert dump(main_database_path(str(tmp_path))) == before


def test_a_file_that_was_only_just_created_holds_nothing_yet(tmp_path: Path) -> None:
    path = path_of(tmp_path, {"workflow_id": None, "slurm_job_id": 7, "node": "n1", "run_id": 1})
    os.makedirs(os.path.dirname(path))
    Path(path).touch()
    (outcome,) = collect(tmp_path)
    assert (outcome.outcome, outcome.steps, outcome.problem) == ("collected", 0, None)


def test_a_broken_file_that_is_mended_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, batch())
    content = Path(path).read_bytes()
    os.truncate(path, 100)
    assert collect(tmp_path)[0].outcome == "skipped"
    Path(path).write_bytes(content)
    assert collect(tmp_path)[0].outcome == "collected"
    assert len(results(tmp_path)) == 1


# --- files that are being written -----------------------------------------------------------------------------

KILLED_WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("PRAGMA cache_spill = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE step_usage SET peak_memory_bytes = 999")
connection.execute("UPDATE steps SET last_flush_time = last_flush_time + 100")
for number in range(5000):
    connection.execute("INSERT INTO job_resource_samples (job_id, memory_bytes) VALUES (0, zeroblob(300))")
print("half written", flush=True)
time.sleep(600)
"""


def test_a_hot_journal_is_rolled_back_in_the_copy_only(tmp_path: Path) -> None:
    """A writer killed with -9 in the middle of a transaction that has reached the file."""
    path = write(tmp_path, batch())
    size = os.path.getsize(path)
    with child(KILLED_WRITER, path) as writer:
        wait_for_line(writer, "half written")
        writer.send_signal(signal.SIGKILL)
    assert os.path.getsize(path) > size, "the transaction never reached the file: the test would show nothing"
    assert os.path.getsize(path + "-journal") > 0
    journal, content = Path(path + "-journal").read_bytes(), Path(path).read_bytes()
    assert collect(tmp_path)[0].outcome == "collected"
    (row,) = results(tmp_path)
    assert row["peak_memory_bytes"] == 10**9
    assert (Path(path + "-journal").read_bytes(), Path(path).read_bytes()) == (journal, content)
    write(tmp_path, batch(job_id=1, step_id="1", invocation="after the crash"))  # the next writer recovers
    collect(tmp_path)
    assert len(results(tmp_path)) == 2


STEADY_WRITER = """
import sys
from pathlib import Path
from typing import Any
from node_files import batch, write
count = 0
while True:
    write(Path(sys.argv[1]), batch(job_id=count, step_id=str(count), invocation=str(count)))
    count += 1
    if count == 20:
        print("writing", flush=True)
"""


def test_a_file_that_is_written_all_the_time_is_read_whole_or_named_busy(tmp_path: Path) -> None:
    with child(STEADY_WRITER, tmp_path) as writer:
        wait_for_line(writer, "writing")
        outcomes = [collect(tmp_path)[0] for _ in range(5)]
        writer.kill()
    for outcome in outcomes:
        # unchanged: the writer had no CPU meanwhile
        assert outcome.outcome in ("collected", "unchanged") or "being written" in (outcome.problem or ""), outcome
    assert collect(tmp_path)[0].outcome == "collected"
    rows = results(tmp_path)
    assert [row["job_id"] for row in rows] == list(range(len(rows)))
    assert len(rows) >= 20


# --- torc.db itself -------------------------------------------------------------------------------------------

COLLECTOR = """
import sys
from torc_slurm.usecases.collect import collect_node_files
from torc_slurm.database.main import open_main
sys.stdin.readline()
with open_main(sys.argv[1]) as database:
    print(*(outcome.outcome for outcome in collect_node_files(database)))
"""


def test_collects_at_once_take_turns(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path, batch(node=f"n{number}", slurm_job_id=number + 1))
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    collectors = [
        subprocess.Popen(
            [sys.executable, "-c", COLLECTOR, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(6)
    ]
    for process in collectors:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[0].split() for process in collectors]
    assert [process.returncode for process in collectors] == [0] * 6
    assert sorted(said, key=lambda words: words.count("collected")) == [["unchanged"] * 30] * 5 + [["collected"] * 30]
    assert len(results(tmp_path)) == 30
    assert not [name for name in os.listdir(tmp_path) if "lock" in name]


AS_ORDINARY_USER = """
import os, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
from torc_slurm.usecases.collect import collect_node_files
from torc_slurm.database.main import open_main
with open_main(sys.argv[1]) as database:
    for outcome in collect_node_files(database):
        print(outcome.outcome)
    print(database.read_only_reason)
    print(database.connection.execute("SELECT count(*) FROM results").fetchone()[0])
"""


def as_ordinary_user(output_dir: Path) -> list[str]:
    """Collect as a user with ordinary permissions: root becomes nobody in the child."""
    for parent in [output_dir, *output_dir.parents]:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    with child(AS_ORDINARY_USER, output_dir) as process:
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0
    return lines


@pytest.fixture
def read_only_dir(tmp_path: Path) -> Path:
    output_dir = tmp_path / "output"
    write(output_dir, batch())
    return output_dir


def test_a_read_only_directory_is_collected_into_memory(read_only_dir: Path) -> None:
    collect(read_only_dir)
    write(read_only_dir, batch(job_id=1, step_id="1", invocation="second"))
    (read_only_dir / "torc.db").chmod(0o444)
    read_only_dir.chmod(0o555)
    before = dump(main_database_path(str(read_only_dir)))
    try:
        outcome, reason, count = as_ordinary_user(read_only_dir)
    finally:
        read_only_dir.chmod(0o755)
    assert (outcome, count) == ("collected", "2")
    assert "cannot be written" in reason
    assert dump(main_database_path(str(read_only_dir))) == before


def test_an_unreadable_node_file_is_named(read_only_dir: Path) -> None:
    path = write(read_only_dir, batch(node="secret"))
    os.chmod(path, 0)
    read_only_dir.chmod(0o555)
    try:
        *outcomes, _, count = as_ordinary_user(read_only_dir)
    finally:
        read_only_dir.chmod(0o755)
    assert (outcomes, count) == (["collected", "skipped"], "1")


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
def test_a_file_that_is_not_a_main_database_is_named(content: bytes | None, tmp_path: Path) -> None:
    write(tmp_path, batch())
    path = main_database_path(str(tmp_path))
    if content is None:
        foreign_database(path)
    else:
        Path(path).write_bytes(content)
    with pytest.raises(DatabaseError, match=path):
        collect(tmp_path)
    assert not os.path.exists(path + ".lock")


def test_a_main_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with open_main(str(tmp_path)) as database:
        database.connection.execute("PRAGMA user_version = 999")
    with pytest.raises(DatabaseError, match="newer"):
        collect(tmp_path)


def test_the_database_belongs_to_whom_the_directory_does(tmp_path: Path) -> None:
    """Root who looks into a user's directory must not lock the user out."""
    output_dir = tmp_path / "output"
    output_dir.mkdir()
    if os.geteuid() == 0:
        os.chown(output_dir, 65534, 65534)
    collect(output_dir)
    assert (output_dir / "torc.db").stat().st_uid == output_dir.stat().st_uid
