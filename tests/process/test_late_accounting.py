"""Which questions are put to accounting, and that no other command waits for the answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_files import BEGIN, accounting_row, batch, write, write_accounting

from torc_slurm.database.main import open_main
from torc_slurm.database.selection import Selection
from torc_slurm.usecases.collect import collect_node_files
from torc_slurm.usecases.late_accounting import MOST_ALLOCATIONS, open_questions, up_to_date


@pytest.fixture
def no_sacct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")


def questions(output_dir: Path, selection: Selection | None = None) -> list[tuple[int, int | None, tuple[str, ...]]]:
    with open_main(str(output_dir)) as database:
        collect_node_files(database)
        asked = open_questions(database.connection, selection or Selection())
    return [
        (question.allocation.slurm_job_id, question.allocation.restart_count, question.step_ids) for question in asked
    ]


def test_one_question_per_allocation_and_only_for_what_is_not_final(tmp_path: Path) -> None:
    path = write(tmp_path, *(batch(job_id=n, step_id=str(n), invocation=str(n)) for n in range(5)))
    write(tmp_path, batch(node="n2", job_id=4, step_id="4"))
    write(tmp_path, batch(slurm_job_id=9, run_id=3))
    write(tmp_path, batch(slurm_job_id=None, step_id=None, job_id=1))
    write_accounting(
        path,
        accounting_row(step_id="0", status="found"),
        accounting_row(step_id="1", status="partial"),
        accounting_row(step_id="2", status="missing"),
        accounting_row(step_id="3", status="pending"),
    )
    assert questions(tmp_path) == [(9, 2, ("0",)), (7, 0, ("3", "4"))]
    assert questions(tmp_path, Selection(slurm_job="7")) == [(7, 0, ("3", "4"))]


def test_a_question_says_whose_and_when(tmp_path: Path) -> None:
    write(
        tmp_path,
        batch(slurm_array="5_2", begin_time=BEGIN + 9),
        batch(job_id=1, step_id="1", slurm_array="5_2", invocation="2"),
    )
    with open_main(str(tmp_path)) as database:
        collect_node_files(database)
        (question,) = open_questions(database.connection, Selection())
    key = question.allocation
    assert (key.slurm_job_id, key.slurm_array, key.user_name, key.earliest_begin_time) == (7, "5_2", "ann", BEGIN)


def test_a_run_of_a_workflow_says_nothing_of_restarts(tmp_path: Path) -> None:
    write(tmp_path, batch(workflow_id=3, run_id=4, attempt_id=1))
    assert questions(tmp_path) == [(7, None, ("0",))]


def test_there_is_a_bound_and_the_latest_come_first(tmp_path: Path) -> None:
    for number in range(MOST_ALLOCATIONS + 5):
        write(tmp_path, batch(slurm_job_id=100 + number))
    asked = questions(tmp_path)
    assert [job for job, _, _ in asked] == list(range(100 + MOST_ALLOCATIONS + 4, 104, -1))


@pytest.mark.usefixtures("no_sacct")
def test_asking_stops_where_accounting_cannot_be_had(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, batch(slurm_job_id=100 + number))
    with up_to_date(str(tmp_path), Selection()) as current:
        counts = dict(current.database.connection.execute("SELECT status, count(*) FROM slurm_stats GROUP BY status"))
    assert counts == {"unavailable": 1}
    assert (current.asked, current.unanswered) == (3, 3)


@pytest.mark.usefixtures("no_sacct")
def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, batch())
    rows = []
    for _ in range(2):
        with up_to_date(str(tmp_path), Selection()) as current:
            rows.append([tuple(row) for row in current.database.connection.execute("SELECT * FROM slurm_stats")])
    assert rows[0] == rows[1]
    assert current.accounting_rows == 0
