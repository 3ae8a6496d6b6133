"""One table of Slurm's states answers every question about a state, and an unknown state is not an end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.slurm import states
from torc_slurm.slurm.job_records import is_final
from torc_slurm.slurm.steps import is_running
from torc_slurm.slurm.submission import parse_active_jobs

unknown_states = st.from_regex(r"[A-Z][A-Z_]{2,20}", fullmatch=True).filter(lambda state: state not in states.STATES)


@given(unknown_states)
def test_an_unknown_state_is_marked_and_is_never_an_end(state: str) -> None:
    assert is_running(state)
    assert parse_active_jobs(f"12|{state}\n") == {12: f"{state} (unknown to torc; treated as not ended)"}
    assert not is_final(AccountingRecord(12, "0", state=state, end_time=50.0))
    assert states.status_of_end(state) is None


@pytest.mark.parametrize("state", states.STATES)
def test_queue_and_accounting_agree_on_every_state(state: str) -> None:
    phase = states.STATES[state].phase
    assert is_running(state) == (phase == states.RUNNING)
    assert (12 in parse_active_jobs(f"12|{state}\n")) == (phase != states.ENDED)
    final = is_final(AccountingRecord(12, "0", state=state, end_time=50.0))
    assert final == (phase == states.ENDED or state == "REQUEUED")


@pytest.mark.parametrize("state", ["PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING"])
def test_what_waits_is_active_and_has_no_process(state: str) -> None:
    assert parse_active_jobs(f"12|{state}\n") == {12: state}
    assert not is_running(state)


def test_a_job_that_slurm_has_forgotten_does_not_run() -> None:
    assert not is_running(None)
