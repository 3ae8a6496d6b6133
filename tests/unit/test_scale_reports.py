"""The cost of reports on many attempts, in counts that no load of the machine changes: SQLite's instructions, texts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sizing_cases import attempt, facts, job

from bench.scale.workflow import make_workflow
from torc_slurm.cli import answer, json_text
from torc_slurm.cli.main import main
from torc_slurm.cli.options import Format
from torc_slurm.database import main as main_database
from torc_slurm.database.attempts import AttemptKey, create_attempt, create_attempts
from torc_slurm.database.job_states import refresh_job_statuses
from torc_slurm.database.main import open_main
from torc_slurm.database.results import result_rows
from torc_slurm.database.selection import SORTS, Selection, attempt_ids, latest, select_notes
from torc_slurm.database.workflows import job_rows
from torc_slurm.sizing import evidence
from torc_slurm.sizing.corrections import correct
from torc_slurm.sizing.decision import Options
from torc_slurm.sizing.utilization import check

FIRST = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Output directories of collected workflows, by the number of their attempts: every twentieth failed."""
    found = {}
    for attempts in (40, 200):
        found[attempts] = tmp_path_factory.mktemp("scale") / "out"
        make_workflow(found[attempts], attempts=attempts, nodes=2, samples=0)
    return found


@pytest.fixture
def connection(made: dict[int, Path]) -> Iterator[sqlite3.Connection]:
    """The database of the smaller one; its changes are undone."""
    with open_main(str(made[40])) as database:
        database.connection.execute("BEGIN")
        yield database.connection
        database.connection.execute("ROLLBACK")


def instructions(connection: sqlite3.Connection, read: Callable[[sqlite3.Connection], object]) -> int:
    """How many instructions SQLite's machine runs for a reading."""
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(counted, 1)
    read(connection)
    connection.set_progress_handler(None, 0)
    return count


@pytest.mark.parametrize(
    "read",
    [
        lambda connection: attempt_ids(connection, Selection(workflow_id=1), limit=FIRST),
        lambda connection: list(result_rows(connection, 1, limit=FIRST)),
        lambda connection: list(job_rows(connection, 1, limit=FIRST)),
        lambda connection: latest(connection, Selection()),
        lambda connection: select_notes(connection, [1, 2, 3]),
        lambda connection: refresh_job_statuses(connection, 1, None),
    ],
    ids=["stats", "results list", "jobs list", "latest record", "notes", "statuses"],
)
def test_the_first_rows_of_many_cost_the_same_as_of_few(
    made: dict[int, Path], read: Callable[[sqlite3.Connection], object]
) -> None:
    counts = []
    for directory in made.values():
        with open_main(str(directory)) as database:
            counts.append(instructions(database.connection, read))
    assert counts[0] == counts[1]


def test_attempts_come_in_the_same_order_sorted_or_read_from_an_index(made: dict[int, Path]) -> None:
    with open_main(str(made[200])) as database:
        connection = database.connection
        orders = [attempt_ids(connection, Selection(workflow_id=1), sort=sort) for sort in (None, *SORTS)]
        for index in ("results_in_order", "results_of_workflows"):
            connection.execute("BEGIN")
            connection.execute(f"DROP INDEX {index}")
            assert [attempt_ids(connection, Selection(workflow_id=1), sort=sort) for sort in (None, *SORTS)] == orders
            connection.execute("ROLLBACK")
    assert orders[0] == sorted(orders[0])


CHANGES = {
    "another program adds an attempt": [
        "INSERT INTO results (workflow_id, job_id, run_id, attempt_id, status, measured_node_count, "
        "recorded_task_count) VALUES (1, 3, 7, 1, 'failed', 1, 1)"
    ],
    "an attempt ends otherwise": ["UPDATE results SET status = 'oom' WHERE job_id = 3"],
    "an attempt is removed": ["DELETE FROM results WHERE job_id = 3"],
    "the journal knows another job": [
        "DELETE FROM results WHERE job_id = 3",
        "REFRESH",
        "INSERT INTO job_states (workflow_id, run_id, job_id, attempt_id, state) VALUES (1, 1, 3, 1, 'cancelled')",
    ],
    "the journal is changed": [
        "DELETE FROM results WHERE job_id = 3",
        "INSERT INTO job_states (workflow_id, run_id, job_id, attempt_id, state) VALUES (1, 1, 3, 1, 'cancelled')",
        "REFRESH",
        "UPDATE job_states SET state = 'timeout'",
    ],
    "the journal is removed": [
        "DELETE FROM results WHERE job_id = 3",
        "INSERT INTO job_states (workflow_id, run_id, job_id, attempt_id, state) VALUES (1, 1, 3, 1, 'cancelled')",
        "REFRESH",
        "DELETE FROM job_states",
    ],
    "a completed job runs again": ["UPDATE jobs SET counts_from_run_id = 2, status = 'ready' WHERE job_id = 3"],
    "somebody sets a status": ["UPDATE jobs SET status = 'blocked' WHERE job_id = 3"],
}


def statuses(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT status FROM jobs ORDER BY job_id")]


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("active_run", [None, 1, 2])
def test_the_statuses_of_jobs_follow_every_change(
    connection: sqlite3.Connection, changes: list[str], active_run: int | None
) -> None:
    refresh_job_statuses(connection, 1, active_run)
    for change in changes:
        if change == "REFRESH":
            refresh_job_statuses(connection, 1, active_run)
        else:
            connection.execute(change)
    refresh_job_statuses(connection, 1, active_run)
    found = statuses(connection)
    connection.execute("DELETE FROM current_job_statuses")
    refresh_job_statuses(connection, 1, active_run)
    assert statuses(connection) == found


@pytest.mark.parametrize("at_once", [False, True])
def test_the_statuses_of_jobs_follow_new_attempts(connection: sqlite3.Connection, at_once: bool) -> None:
    refresh_job_statuses(connection, 1, None)
    assert statuses(connection)[2] == "completed"
    key = AttemptKey(1, 3, 2, 1, None, None, None)
    values = {**key._asdict(), "status": "failed", "measured_node_count": 0, "recorded_task_count": 0}
    if at_once:
        create_attempts(connection, 1, {name: [value] for name, value in values.items()})
    else:
        create_attempt(connection, key, {"status": "failed"})
    refresh_job_statuses(connection, 1, None)
    assert statuses(connection)[2] == "failed"


def test_the_statuses_of_jobs_follow_the_active_run(connection: sqlite3.Connection) -> None:
    refresh_job_statuses(connection, 1, None)
    assert statuses(connection)[19] == "failed"
    refresh_job_statuses(connection, 1, 2)
    assert statuses(connection)[19] == "submitted"


@pytest.mark.parametrize("words", [("results", "list"), ("jobs", "list")])
def test_a_table_is_read_without_a_copy_of_the_database(
    made: dict[int, Path],
    calls: Callable[[Any, str], list[object]],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, str],
) -> None:
    copied = calls(main_database, "detached_copy")
    assert main([*words, "1", "--output-dir", str(made[40])]) == 0
    assert (len(copied), len(capsys.readouterr().out.splitlines())) == (0, 42)
    assert main([*words, "1", "-f", "json", "--output-dir", str(made[40])]) == 0
    assert (len(copied), len(json.loads(capsys.readouterr().out)["items"])) == (1, 40)


def test_plain_values_of_many_items_are_written_key_by_key(
    calls: Callable[[Any, str], list[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    items = [{"n": number, "x": number / 7, "text": f"j{number}", "none": None} for number in range(1000)]
    one_by_one = calls(json_text, "_text")
    for written in (answer.Answer(items=iter(items)), answer.Answer(document={"items": items})):
        answer.write(written, Format.json)
        assert json.loads(capsys.readouterr().out) == {"items": items}
    assert one_by_one == []


def test_only_uses_above_the_request_become_decimal(calls: Callable[[Any, str], list[object]]) -> None:
    within = [job(number, attempt()) for number in range(100)]
    over = [job(100 + number, attempt(peak_cpu_percent=900.0)) for number in range(3)]
    converted = calls(evidence, "exact")
    check(facts(*within, *over))
    assert len(converted) == 3
    correct(facts(*within), Options())
    assert len(converted) == 3
