"""The cost of much work, in counts that no load of the machine changes: files copied, statements run, texts made."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pytest
from sizing_cases import attempt, facts, job

from bench.scale.accounting import JOB, make_accounting
from bench.scale.node_files import make
from bench.scale.plain import ANSWER
from torc_slurm.common.errors import DatabaseError
from torc_slurm.database import idle_spans, node_records, readers, series
from torc_slurm.database.attempts import AttemptKey, create_attempts
from torc_slurm.database.main import MainDatabase, open_main
from torc_slurm.database.node_records import NodeRecords, StepRecord, read_node_file
from torc_slurm.database.series import SeriesFiles
from torc_slurm.database.slurm_stats import write_slurm_stats
from torc_slurm.database.store import store_accounting
from torc_slurm.plots.gather import Gathering
from torc_slurm.plots.model import Run
from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.sizing import utilization
from torc_slurm.slurm import record_reader
from torc_slurm.slurm.sacct import parse
from torc_slurm.spec.drafts import LISTS
from torc_slurm.spec.model import WorkflowModel
from torc_slurm.usecases import attempt_results, collect
from torc_slurm.usecases.attempts_of_files import AttemptsOfFiles

WORKFLOW = 1


@contextlib.contextmanager
def database(output_dir: Path) -> Iterator[MainDatabase]:
    with open_main(str(output_dir), create_directory=True) as opened:
        yield opened


def statements(output_dir: Path, nodes: int, attempts: int = 10, *, spread: bool = True) -> int:
    """How many statements a collect sends for some steps over so many nodes, or with ``spread`` off on each node.

    Those of triggers, for which SQLite reports the statement that fired them once more, are not among them.
    """
    make(output_dir, nodes=nodes, attempts=attempts, samples=3, spread=spread)
    with database(output_dir) as opened:
        seen: list[str] = []
        opened.connection.set_trace_callback(seen.append)
        collect.collect_node_files(opened)
        opened.connection.set_trace_callback(None)
    return sum(1 for _ in groupby(seen))


def test_statements_of_a_collect_grow_with_the_nodes_and_no_faster(tmp_path: Path) -> None:
    ten, twenty, forty = (statements(tmp_path / str(nodes), nodes) for nodes in (10, 20, 40))
    assert forty - twenty == 2 * (twenty - ten)


def test_a_new_attempt_is_stored_without_a_search_for_it(tmp_path: Path) -> None:
    """At most three statements for each: its result, its node, its exit. Many rows are inserted by one statement."""
    few, many = (statements(tmp_path / str(count), 2, count, spread=False) for count in (20, 220))
    assert 0 < many - few < 2 * 200 / 3


def test_an_attempt_that_is_known_already_is_not_created_again(tmp_path: Path) -> None:
    with database(tmp_path) as opened:

        def create(*job_ids: int) -> list[int | None]:
            columns = (*AttemptKey._fields, "status", "measured_node_count", "recorded_task_count")
            rows = [(1, job_id, 1, 1, None, None, None, "running", 0, 0) for job_id in job_ids]
            table = dict(zip(columns, zip(*rows, strict=True), strict=True))
            return create_attempts(opened.connection, len(rows), table)

        assert create(1, 2) == [1, 2]
        assert create(1, 3, 2) == [None, 4, None]
        assert [row[0] for row in opened.connection.execute("SELECT job_id FROM results ORDER BY id")] == [1, 2, 3]


def test_a_file_that_did_not_change_is_not_read_again(
    tmp_path: Path, calls: Callable[[Any, str], list[object]]
) -> None:
    make(tmp_path, nodes=3, attempts=2, samples=3, spread=False)
    read = calls(readers, "read_node_file")
    with database(tmp_path) as opened:
        collect.collect_node_files(opened)
        assert len(read) == 3
        collect.collect_node_files(opened)
    assert len(read) == 3


def test_many_files_are_read_by_other_processes_as_by_this_one(
    tmp_path: Path, calls: Callable[[Any, str], list[object]]
) -> None:
    make(tmp_path, nodes=40, attempts=2, samples=3, spread=False)
    paths = collect.node_file_paths(str(tmp_path))
    Path(paths[7]).write_bytes(b"no database")
    Path(paths[9]).unlink()
    read = calls(readers, "_read")
    many = [*readers.read_node_files(paths)]
    assert read == []
    few = [*chain.from_iterable(readers.read_node_files([path]) for path in paths)]
    assert list(map(repr, many)) == list(map(repr, few))
    assert {type(many[7]), type(many[9])} == {DatabaseError, FileNotFoundError}


def test_what_a_killed_reader_did_not_send_is_read_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, nodes=40, attempts=2, samples=3, spread=False)
    paths = collect.node_file_paths(str(tmp_path))
    this_process, read = os.getpid(), read_node_file

    def killed_in_a_reader(path: str, directory: str) -> NodeRecords:
        if os.getpid() != this_process and path == paths[20]:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path, directory)

    monkeypatch.setattr(readers, "read_node_file", killed_in_a_reader)
    found = [each.path for each in readers.read_node_files(paths) if isinstance(each, NodeRecords)]
    assert found == paths


def test_whether_an_attempt_hung_is_known_from_the_collect(
    tmp_path: Path, calls: Callable[[Any, str], list[object]]
) -> None:
    make(tmp_path, nodes=4, attempts=20, samples=50, spread=False)  # every twentieth attempt fails
    copied = calls(idle_spans, "snapshot")
    with database(tmp_path) as opened:
        collect.collect_node_files(opened)
        assert idle_spans.hung_attempts(opened.connection, str(tmp_path), WORKFLOW) == {
            (number, 1, 1): False for number in (20, 40, 60, 80)
        }
    assert copied == []


def test_a_file_is_copied_once_for_what_an_older_version_did_not_keep(
    tmp_path: Path, calls: Callable[[Any, str], list[object]]
) -> None:
    make(tmp_path, nodes=4, attempts=20, samples=50, spread=False)
    copied = calls(idle_spans, "snapshot")
    with database(tmp_path) as opened:
        collect.collect_node_files(opened)
        opened.connection.execute("UPDATE step_nodes SET last_half = NULL")
        first = idle_spans.hung_attempts(opened.connection, str(tmp_path), WORKFLOW)
        assert len(copied) == 4
        assert idle_spans.hung_attempts(opened.connection, str(tmp_path), WORKFLOW) == first
    assert len(copied) == 4


def test_a_check_writes_out_only_what_it_shows(calls: Callable[[Any, str], list[object]]) -> None:
    within = [job(number, attempt()) for number in range(100)]
    over = [job(100 + number, attempt(peak_memory_bytes=9 * 10**9)) for number in range(3)]
    written = calls(utilization, "show_used")
    assert utilization.check(facts(*within, *over)).violations == 3
    assert len(written) == 3


def test_a_file_at_rest_is_not_copied_and_its_series_are_not_read(
    tmp_path: Path, calls: Callable[[Any, str], list[object]]
) -> None:
    make(tmp_path, nodes=3, attempts=20, samples=50, spread=False)  # every twentieth attempt fails
    copied, examined = calls(node_records, "snapshot"), calls(node_records, "last_halves")
    with database(tmp_path) as opened:
        collect.collect_node_files(opened)
        found = opened.connection.execute("SELECT last_half, count(*) FROM step_nodes GROUP BY 1 ORDER BY 1").fetchall()
    assert (copied, examined) == ([], [])
    assert [tuple(row) for row in found] == [(None, 57), ("busy", 3)]


def test_an_attempt_on_one_node_is_merged_when_it_is_stored(
    tmp_path: Path, calls: Callable[[Any, str], list[object]]
) -> None:
    make(tmp_path, nodes=3, attempts=20, samples=0, spread=False)
    at_once, again = calls(collect, "figures_alone"), calls(attempt_results, "attempt_figures")
    with database(tmp_path) as opened:
        collect.collect_node_files(opened)
        assert (len(at_once), again) == (3, [])
        stored = all_results(opened)
        attempt_results.rebuild_results(opened.connection, range(1, 61))
        assert all_results(opened) == stored


def test_what_slurm_says_of_merged_attempts_does_not_merge_them_again(
    tmp_path: Path, calls: Callable[[Any, str], list[object]]
) -> None:
    """The answers change statuses; only attempts that Slurm suspended need their nodes' records once more."""
    make(tmp_path, nodes=2, attempts=20, samples=0, spread=False)
    states = ("COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED")
    records = [
        AccountingRecord(
            JOB,
            str(number),
            status="found",
            state=states[number % 5],
            elapsed_seconds=60.0,
            suspended_seconds=40.0 if number % 10 == 7 else None,
        )
        for number in range(1, 41)
    ]
    with database(tmp_path) as opened:
        collect.collect_node_files(opened)
        before = all_results(opened)
        merged = calls(attempt_results, "attempt_figures")
        stored = store_accounting(opened.connection, records)
        attempt_results.rebuild_results(opened.connection, stored.attempts, measured=frozenset())
        assert len(merged) == 4
        found = all_results(opened)
        assert found != before
        attempt_results.rebuild_results(opened.connection, range(1, 41))
        assert len(merged) == 4 + 40
        assert all_results(opened) == found


def test_new_records_of_nodes_are_merged_even_if_slurm_has_answered(tmp_path: Path) -> None:
    make(tmp_path, nodes=2, attempts=3, samples=0, spread=True)
    paths = collect.node_file_paths(str(tmp_path))
    other = Path(paths[1]).rename(tmp_path / "later")
    with database(tmp_path) as opened:
        collect.collect_node_files(opened)
        opened.connection.execute("UPDATE results SET end_time_source = 'exit records', end_time = 1.0")
        other.rename(paths[1])
        write_slurm_stats(paths[0], [AccountingRecord(JOB, "1", status="found", state="COMPLETED")])
        collect.collect_node_files(opened)
        counts = opened.connection.execute("SELECT measured_node_count, end_time > 1.0 FROM results").fetchall()
    assert [tuple(row) for row in counts] == [(2, 1)] * 3


def all_results(opened: MainDatabase) -> list[tuple[object, ...]]:
    return [tuple(row) for row in opened.connection.execute("SELECT * FROM results ORDER BY id")]


def test_a_damaged_series_does_not_keep_the_attempts_from_a_collect(tmp_path: Path) -> None:
    make(tmp_path, nodes=1, attempts=19, samples=5000, spread=False)  # none fails, so no series is looked at
    (path,) = collect.node_file_paths(str(tmp_path))
    content = bytearray(Path(path).read_bytes())
    content[-8192:] = b"\xff" * 8192  # the last pages are samples: the file was written in one go
    Path(path).write_bytes(content)
    with database(tmp_path) as opened:
        (outcome,) = collect.collect_node_files(opened)
    assert (outcome.outcome, outcome.steps) == ("collected", 19)


def gathered(paths: Sequence[str], files: SeriesFiles) -> tuple[Run, int]:
    """The run of these node files, and how many of their records were kept until all were read."""

    def records() -> int:
        gc.collect()
        return sum(isinstance(each, StepRecord) for each in gc.get_objects())

    before = records()
    with AttemptsOfFiles(paths) as attempts:
        gathering = Gathering(attempts)
        for path in paths:
            gathering.add(files.read(path, with_series=False))
        kept = records() - before
        return gathering.run(), kept


def ends(run: Run) -> list[tuple[object, ...]]:
    return [
        (job.job_id, job.name, each.status, each.evidence, each.return_code, each.end_time, len(each.parts))
        for job in run.jobs
        for each in job.attempts
    ]


@pytest.mark.parametrize(("spread", "kept"), [(False, 0), (True, 60)])  # of several nodes all may be needed
def test_of_many_files_only_records_stay_that_the_database_may_lack(tmp_path: Path, spread: bool, kept: int) -> None:
    make(tmp_path, nodes=3, attempts=20, samples=3, spread=spread)
    paths = collect.node_file_paths(str(tmp_path))
    with database(tmp_path) as opened, SeriesFiles() as files:
        without, all_of_them = gathered(paths, files)
        assert all_of_them == 60
        collect.collect_node_files(opened)
        run, some_of_them = gathered(paths, files)
    assert some_of_them == kept
    assert ends(run) == ends(without)


def test_a_file_newer_than_the_database_s_row_counts(tmp_path: Path) -> None:
    make(tmp_path, nodes=2, attempts=3, samples=3, spread=False)
    paths = collect.node_file_paths(str(tmp_path))
    with database(tmp_path) as opened:
        collect.collect_node_files(opened)
    with closing(sqlite3.connect(paths[1])) as connection, connection:
        connection.execute("UPDATE steps SET last_flush_time = last_flush_time + 1 WHERE job_id = 5")
        connection.execute("UPDATE task_exits SET return_code = 7 WHERE step = 5 OR step = 6")
    with SeriesFiles() as files:
        run, kept = gathered(paths, files)
    assert kept == 1
    assert [job.last.return_code for job in run.jobs] == [0, 0, 0, 0, 7, 0]


def test_only_files_whose_series_are_read_are_copied(tmp_path: Path, calls: Callable[[Any, str], list[object]]) -> None:
    make(tmp_path, nodes=5, attempts=4, samples=3, spread=False)
    paths = collect.node_file_paths(str(tmp_path))
    copied = calls(series, "snapshot")
    with SeriesFiles() as files:
        run, _ = gathered(paths, files)
        assert copied == []
        part = run.jobs[7].parts[0]
        assert len(part.file.samples(part.job_id, part.begin_time, part.end_time).times) == 3
    assert [arguments for arguments in copied if paths[1] in str(arguments)] == copied != []


def test_the_cells_of_an_answer_are_read_column_by_column(
    tmp_path: Path, calls: Callable[[Any, str], list[object]]
) -> None:
    make_accounting(tmp_path / "bin", steps=1000)
    text = (tmp_path / "bin" / ANSWER).read_text()
    one_by_one, columns = calls(record_reader, "_read_tres"), calls(record_reader, "_read_column")
    found = parse(text.replace("mem=1000040960,", "mem=none,"))
    steps = [row for row in found if row.slurm_job_id == JOB and (row.step_id or "").isdigit()]
    assert [row.step_id for row in steps if row.reason] == ["10"]
    assert len(steps) == 1000
    assert len(one_by_one) == 2 * 4  # the four cells of the step's records in both components
    assert len(columns) < 200


def test_jobs_without_lists_share_one_empty_list() -> None:
    jobs = [{"name": name, "command": "true"} for name in "abc"]
    model = WorkflowModel.model_validate({"name": "w", "jobs": jobs})
    assert len({id(getattr(job, key)) for job in model.jobs for key in (*LISTS, "srun_options")}) == 1
