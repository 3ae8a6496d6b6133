"""One set of statuses: every table by status elsewhere has each of them."""

from __future__ import annotations

from torc_slurm.plots.palette import STATUS
from torc_slurm.records.statuses import (
    ATTEMPT_STATUSES,
    END_WORDS,
    ENDED_FROM_OUTSIDE,
    ENDED_ON_REQUEST,
    ENDS,
    JOB_STATUSES,
    RETRIABLE,
    SPECIFIC_ENDS,
    WORST_FIRST,
    verdict,
)
from torc_slurm.sizing.thresholds import level_of_state
from torc_slurm.slurm.states import STATES


def test_a_job_has_each_status_once_and_an_attempt_does_not_wait() -> None:
    assert len(set(JOB_STATUSES)) == len(JOB_STATUSES)
    assert set(JOB_STATUSES) - set(ATTEMPT_STATUSES) == {"blocked", "ready", "submitted"}
    assert sorted(WORST_FIRST) == sorted(JOB_STATUSES)


def test_the_classes_are_of_ends() -> None:
    assert set(ENDS) >= ENDED_FROM_OUTSIDE | RETRIABLE | ENDED_ON_REQUEST
    assert set(END_WORDS) == set(SPECIFIC_ENDS)


def test_slurms_states_give_known_statuses_and_each_end_has_a_slurm_state() -> None:
    assert {state.status for state in STATES.values()} - {None} <= set(SPECIFIC_ENDS)
    assert {verdict(status) for status in ENDS} <= set(STATES)


def test_each_status_of_an_attempt_has_a_colour() -> None:
    assert set(STATUS) == set(ATTEMPT_STATUSES)


def test_an_end_that_the_job_may_have_to_answer_is_bad() -> None:
    words = (
        "FAILED",
        "FAILED SIGSEGV",
        "OUT_OF_MEMORY",
        "TIMEOUT",
        "NODE_FAIL",
        "COMPLETED",
        "CANCELLED",
        "RUNNING",
        None,
    )
    assert [level_of_state(word) for word in words] == ["bad"] * 5 + ["good", "", "", ""]
