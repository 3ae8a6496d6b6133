"""The status of each job, and whose record of an attempt counts: the wrapper's, Slurm's, or the runner's journal."""

from __future__ import annotations

import pytest

from torc_slurm.database.job_states import job_statuses, with_journal
from torc_slurm.database.rows import Row


def statuses(words: dict[int, tuple[int, str]], active_run: int | None, **before: str) -> dict[int, str]:
    """The statuses of jobs 1 and 2, and of 3, which waits for both."""
    jobs = {job: before.get(f"j{job}", "ready") for job in (1, 2, 3)}
    return job_statuses(jobs, {3: [1, 2]}, words, active_run)


@pytest.mark.parametrize(
    ("words", "active_run", "expected"),
    [
        ({}, None, ["ready", "ready", "blocked"]),
        ({}, 1, ["submitted", "submitted", "blocked"]),
        ({1: (1, "running")}, 1, ["running", "submitted", "blocked"]),
        ({1: (1, "completed"), 2: (1, "running")}, 1, ["completed", "running", "blocked"]),
        ({1: (1, "completed"), 2: (1, "completed")}, 1, ["completed", "completed", "submitted"]),
        ({1: (1, "completed"), 2: (1, "completed")}, None, ["completed", "completed", "ready"]),
        ({1: (1, "failed"), 3: (1, "cancelled")}, None, ["failed", "ready", "cancelled"]),
        ({1: (1, "failed"), 3: (1, "cancelled")}, 2, ["submitted", "submitted", "blocked"]),
        ({1: (1, "completed"), 2: (2, "oom")}, 2, ["completed", "oom", "blocked"]),
        ({1: (1, "running")}, None, ["failed", "ready", "blocked"]),
    ],
)
def test_where_jobs_stand(words: dict[int, tuple[int, str]], active_run: int | None, expected: list[str]) -> None:
    assert list(statuses(words, active_run).values()) == expected


def test_what_is_completed_stays_completed() -> None:
    assert statuses({}, 2, j1="completed", j2="completed")[3] == "submitted"


def journal(state: str, **more: object) -> Row:
    return {"state": state, "reason": "the time limit came", "end_time": 9.0} | more  # type: ignore[return-value]  # a test row


def decided(status: str, source: str | None = "exit records") -> Row:
    return {"status": status, "status_evidence": "died of SIGTERM", "end_time_source": source}


@pytest.mark.parametrize(
    ("status", "state", "result"),
    [
        ("failed", "timeout", "timeout"),
        ("failed", "cancelled", "cancelled"),
        ("failed", "failed", "failed"),
        ("failed", "completed", "failed"),
        ("completed", "failed", "completed"),
        ("completed", "cancelled", "cancelled"),
        ("completed", "timeout", "timeout"),
        ("completed", "oom", "completed"),
        ("oom", "failed", "oom"),
        ("timeout", "cancelled", "timeout"),
        ("running", "failed", "failed"),
        ("running", "running", "running"),
    ],
)
def test_which_record_counts(status: str, state: str, result: str) -> None:
    merged = with_journal(decided(status), journal(state))
    assert merged["status"] == result
    assert ("the runner says" in str(merged["status_evidence"])) == (status != result)


def test_the_journals_end_stands_in_where_the_wrapper_wrote_none() -> None:
    merged = with_journal(decided("running", None), journal("failed"))
    assert (merged["end_time"], merged["end_time_source"]) == (9.0, "journal")
    assert with_journal(decided("failed"), journal("failed")).get("end_time") is None
    assert with_journal(decided("running", None), None) == decided("running", None)


def test_what_wrote_no_end_until_its_run_ended_has_failed() -> None:
    merged = with_journal(decided("running", None), journal("running"), run_ended=True)
    assert merged["status"] == "failed"
    assert with_journal(decided("completed"), None, run_ended=True)["status"] == "completed"
