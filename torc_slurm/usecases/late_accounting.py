"""Asks Slurm's accounting, from the login node, for the measured steps whose final row is still missing.

It makes one query per allocation, the latest first, up to a limit, and stops after the first failure, because the
next query would fail too. Other commands do not wait meanwhile: the main database is unlocked during a query.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from torc_slurm.common.text import storable
from torc_slurm.database.main import MainDatabase, open_prepared, transaction
from torc_slurm.database.selection import Selection, latest
from torc_slurm.database.slurm_stats import steps_without_final_row, unmeasured_without_final_row
from torc_slurm.database.spool import bring_over
from torc_slurm.database.store import store_accounting
from torc_slurm.files.output_names import RESOURCE_DIR
from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.slurm.accounting import fetch_allocation
from torc_slurm.slurm.job_records import AllocationKey
from torc_slurm.usecases.attempt_results import rebuild_results
from torc_slurm.usecases.collect import FileOutcome, collect_node_files
from torc_slurm.usecases.run_states import refresh_collected

MOST_ALLOCATIONS = 50


class Question(NamedTuple):
    """The steps of one allocation to ask for, in one query."""

    allocation: AllocationKey
    step_ids: tuple[str, ...]


class Answers(NamedTuple):
    """The rows of all questions, and why another backend was used than the requested one."""

    rows: list[AccountingRecord]
    note: str | None = None


class UpToDate(NamedTuple):
    """The up-to-date main database, and the result of each node file and each question."""

    database: MainDatabase
    selection: Selection
    files: list[FileOutcome]
    asked: int
    unanswered: int
    accounting_rows: int
    unanswered_reason: str | None = None  # of the first question without an answer
    backend_note: str | None = None  # why another backend was used than the requested one


@contextlib.contextmanager
def up_to_date(
    output_dir: str,
    selection: Selection,
    *,
    latest_only: bool = False,
    ask_accounting: bool = True,
    all_steps: bool = False,
    timeout_seconds: float | None = None,
    backend: str | None = None,
    on_wait: Callable[[str], None] = lambda _message: None,
) -> Iterator[UpToDate]:
    """Collect all node files, fill in accounting for the allocations that ``selection`` names, then run the body.

    Args:
        latest_only: if ``selection`` is empty, take the latest record instead of everything.
        all_steps: also ask for steps that nobody measured, such as ``batch``, which ends after the epilog has asked.

    Raises:
        InputError, DatabaseError: as `open_main`.
    """

    def collect(database: MainDatabase) -> tuple[list[FileOutcome], Selection, list[Question]]:
        files = collect_node_files(database)
        meant = latest(database.connection, selection) if latest_only and selection.is_empty else None
        chosen = meant or selection
        questions = open_questions(database.connection, chosen, all_steps=all_steps) if ask_accounting else []
        return files, chosen, questions

    if not os.path.isdir(output_dir):  # this node's steps could not even make it: their records are in its spool
        bring_over(os.path.join(output_dir, RESOURCE_DIR))
    with open_prepared(output_dir, collect, on_wait=on_wait) as (database, (files, chosen, questions)):
        if not questions or database.read_only_reason:  # a copy in memory makes nobody wait
            answers = ask(questions, timeout_seconds=timeout_seconds, backend=backend)
            yield _stored(database, chosen, files, questions, answers)
            return
    answers = ask(questions, timeout_seconds=timeout_seconds, backend=backend)

    def store(database: MainDatabase) -> UpToDate:
        return _stored(database, chosen, files, questions, answers)

    with open_prepared(output_dir, store, on_wait=on_wait) as (_, stored):
        yield stored


def open_questions(connection: sqlite3.Connection, selection: Selection, *, all_steps: bool = False) -> list[Question]:
    """One question per allocation that has a step without a final row: a measured step, or any with ``all_steps``.

    At most `MOST_ALLOCATIONS`, latest first.
    """
    steps = steps_without_final_row(connection, selection)
    if all_steps:
        steps += unmeasured_without_final_row(connection, selection)
        steps.sort(key=lambda step: (step.slurm_job_id, step.run_id), reverse=True)
    questions = []
    for (job, array, run_id, user, workflow_id, cluster), group in groupby(steps, key=lambda step: step[:6]):
        members = list(group)
        begin = min(step.start_time for step in members)
        restarts = run_id - 1 if workflow_id is None else None
        key = AllocationKey(job, array, run_id, user, begin, restarts, cluster)
        questions.append(Question(key, tuple(dict.fromkeys(step.step_id for step in members))))
    return questions[:MOST_ALLOCATIONS]


def ask(questions: Sequence[Question], *, timeout_seconds: float | None, backend: str | None) -> Answers:
    """The accounting rows of these steps, and of the allocation's other steps, which the query returns too.

    Stops after the first failure.
    """
    rows: list[AccountingRecord] = []
    note = None
    for question in questions:
        answer = fetch_allocation(
            question.allocation, question.step_ids, timeout_seconds=timeout_seconds, backend=backend
        )
        rows += [*answer.rows, *answer.other_rows]
        note = note or answer.note
        if any(row.status == "unavailable" for row in answer.rows):
            break
    return Answers(rows, note)


def ask_about_unrecorded(slurm_job_id: int, backend: str | None = None) -> Answers:
    """What Slurm knows about a job of this user that has no record; its step 0 comes first."""
    key = AllocationKey(slurm_job_id, user_name=_user_name())
    return ask([Question(key, ("0",))], timeout_seconds=None, backend=backend)


def _user_name() -> str | None:
    try:
        return str(storable(pwd.getpwuid(os.getuid()).pw_name))
    except KeyError:  # an account without a passwd entry, as in a container
        return None


def _stored(
    database: MainDatabase,
    selection: Selection,
    files: list[FileOutcome],
    questions: Sequence[Question],
    answers: Answers,
) -> UpToDate:
    rows = answers.rows
    with transaction(database.connection):
        stored = store_accounting(database.connection, rows)
        rebuild_results(database.connection, stored.attempts, measured=frozenset())
        if stored.attempts or any(file.outcome == "collected" for file in files):
            refresh_collected(database.connection)
    answered = {(row.slurm_job_id, row.run_id) for row in rows if row.status != "unavailable"}
    return UpToDate(
        database=database,
        selection=selection,
        files=files,
        asked=len(questions),
        unanswered=len(questions) - len(answered),
        accounting_rows=stored.accounting_rows,
        unanswered_reason=next((row.reason for row in rows if row.status == "unavailable"), None),
        backend_note=answers.note,
    )
