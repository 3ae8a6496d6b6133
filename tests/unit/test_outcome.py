"""What became of an attempt, from the wrapper's exit record and Slurm's words together, each with its evidence."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import CLUSTERS, facts, job_of, sacct_rows

from torc_slurm.slurm.accounting import rows_from_records
from torc_slurm.slurm.outcome import STATUSES, SlurmView, WrapperView, attempt_status
from torc_slurm.slurm.records import AllocationKey


def slurm_views(cluster: str, scenario: str) -> dict[str, SlurmView]:
    """By step name, as read ten minutes after the last end."""
    rows = sacct_rows(cluster, scenario)
    now = max(row.end_time or 0 for row in rows) + 600
    found = rows_from_records(rows, AllocationKey(job_of(rows)), [], facts=facts(cluster), backend="sacct", now=now)
    return {row.step_name or "": SlurmView.from_row(row.as_mapping()) for row in found.other_rows}


def exited(code: int, **more: float) -> WrapperView:
    return dataclasses.replace(WrapperView(return_code=code), **more)  # type: ignore[arg-type] # own fields


def died(number: int) -> WrapperView:
    return WrapperView(return_code=128 + number, signal=number)


NOTHING = WrapperView()


# --- recorded jobs of four clusters


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize(
    ("scenario", "step", "wrapper", "status"),
    [
        ("ends", "completed", exited(0), "completed"),
        ("ends", "completed", NOTHING, "completed"),
        ("ends", "exits_3", exited(3), "failed"),
        ("ends", "exits_3", NOTHING, "failed"),
        ("ends", "exits_200", exited(200), "failed"),
        ("ends", "sigterm", died(15), "failed"),  # Slurm says CANCELLED, and nobody cancelled it
        ("ends", "sigsegv", died(11), "failed"),
        ("ends", "sigsegv", NOTHING, "failed"),
        ("ends", "kill_on_bad_exit", exited(7), "failed"),
        ("limit", "early", exited(0), "completed"),  # ended before the limit that ended its job
        ("limit", "exits_0_on_term", exited(0), "timeout"),
        ("limit", "exits_0_on_term", NOTHING, "timeout"),
        ("limit", "exits_7_on_term", exited(7), "timeout"),
        ("limit", "dies_of_term", died(15), "timeout"),
        ("limit", "dies_of_term", NOTHING, "timeout"),
        ("cancelled", "early", exited(0), "completed"),
        ("cancelled", "exits_0_on_term", exited(0), "cancelled"),
        ("cancelled", "dies_of_term", died(15), "cancelled"),
        ("cancelled_step", "cancelled_alone", NOTHING, "cancelled"),
        ("cancelled_step", "cancelled_alone", died(9), "cancelled"),
        ("cancelled_step", "after", exited(0), "completed"),
        ("node_fail", "before", exited(0), "completed"),
        ("node_fail", "lost", NOTHING, "node_fail"),
        ("running", "dies_of_term", NOTHING, "running"),
    ],
)
def test_recorded_steps(cluster: str, scenario: str, step: str, wrapper: WrapperView, status: str) -> None:
    outcome = attempt_status(wrapper, slurm_views(cluster, scenario)[step])
    assert outcome.status == status, outcome.evidence
    assert outcome.evidence


@pytest.mark.parametrize(
    ("step", "wrapper", "status"),
    [
        ("at_once", exited(137, signal=9, oom_kills=1), "oom"),
        ("at_once", NOTHING, "oom"),
        ("slowly", exited(1), "oom"),  # the wrapper could not read its cgroup: Slurm's word counts
        ("child_only", exited(0, oom_kills=1), "completed"),  # the job dealt with it
        ("beside_it", exited(0, oom_kills=0), "completed"),
    ],
)
def test_killed_for_memory(step: str, wrapper: WrapperView, status: str) -> None:
    outcome = attempt_status(wrapper, slurm_views("22.05-cgroup", "oom")[step])
    assert outcome.status == status, outcome.evidence


def test_a_job_that_dealt_with_its_oom_kill_says_so() -> None:
    outcome = attempt_status(exited(0, oom_kills=1), slurm_views("22.05-cgroup", "oom")["child_only"])
    assert outcome.evidence == "exit code 0; Slurm says OUT_OF_MEMORY"


# --- one rule at a time


def found(state: str, job_state: str = "COMPLETED", **more: float | None) -> SlurmView:
    view = SlurmView("found", state, job_state, job_end_time=1000.0, end_time=900.0, exit_code=0, exit_signal=0)
    return dataclasses.replace(view, **more)  # type: ignore[arg-type] # own fields


@pytest.mark.parametrize(
    ("wrapper", "slurm", "status", "evidence"),
    [
        (NOTHING, None, "running", "no exit record yet"),
        (exited(0), None, "completed", "exit code 0"),
        (exited(3), None, "failed", "exit code 3"),
        (died(11), None, "failed", "died of SIGSEGV"),
        (exited(0), SlurmView("unavailable"), "completed", "exit code 0"),
        (NOTHING, SlurmView("unavailable"), "running", "no exit record yet"),
        (NOTHING, SlurmView("pending", "RUNNING", "RUNNING"), "running", "no exit record yet; Slurm says RUNNING"),
        (exited(0), SlurmView("pending", "RUNNING", "RUNNING"), "completed", "exit code 0"),
        (NOTHING, SlurmView("missing"), "failed", "no exit record; Slurm says nothing"),
        (exited(1), found("PREEMPTED"), "preempted", "Slurm says PREEMPTED; exit code 1"),
        (exited(1), found("NODE_FAIL"), "node_fail", "Slurm says NODE_FAIL; exit code 1"),
        (exited(0), found("TIMEOUT"), "timeout", "Slurm says TIMEOUT; exit code 0"),
        (NOTHING, found("FAILED", exit_code=9), "failed", "no exit record; Slurm says FAILED, exit code 9"),
        (exited(143), found("FAILED", exit_code=15), "failed", "exit code 143"),
        (died(9), found("CANCELLED", exit_signal=9), "failed", "died of SIGKILL; Slurm says CANCELLED"),
        (exited(3), found("COMPLETED"), "failed", "exit code 3; Slurm says COMPLETED"),
        (WrapperView(200, 72), None, "failed", "died of signal 72"),
    ],
)
def test_status_and_evidence(wrapper: WrapperView, slurm: SlurmView | None, status: str, evidence: str) -> None:
    assert attempt_status(wrapper, slurm) == (status, evidence)


@pytest.mark.parametrize(
    ("job_state", "status"),
    [
        ("TIMEOUT", "timeout"),
        ("DEADLINE", "timeout"),
        ("CANCELLED", "cancelled"),
        ("REQUEUED", "cancelled"),
        ("PREEMPTED", "preempted"),
        ("NODE_FAIL", "completed"),
        ("FAILED", "completed"),
        ("OUT_OF_MEMORY", "completed"),
        ("COMPLETED", "completed"),
    ],
)
def test_what_ended_the_job_ended_the_step_that_still_ran(job_state: str, status: str) -> None:
    assert attempt_status(exited(0), found("COMPLETED", job_state, end_time=1000.0)).status == status
    assert attempt_status(exited(0), found("COMPLETED", job_state, end_time=999.0)).status == "completed"


@pytest.mark.parametrize("job_state", ["NODE_FAIL", "BOOT_FAIL"])
def test_a_lost_node_takes_the_steps_with_it_that_have_no_end_of_their_own(job_state: str) -> None:
    lost = found("CANCELLED", job_state, end_time=1000.0, exit_code=None, exit_signal=None)
    assert attempt_status(NOTHING, lost).status == "node_fail"


def test_an_end_that_is_only_the_jobs_does_not_outweigh_the_wrappers() -> None:
    """The step ended before its job was cancelled; its record had not come, so Slurm showed the job's end."""
    inherited = SlurmView("partial", "CANCELLED", "CANCELLED", job_end_time=1000.0, end_time=1000.0)
    assert attempt_status(exited(0, end_time=990.4), inherited).status == "completed"
    assert attempt_status(exited(0, end_time=1000.4), inherited).status == "cancelled"
    assert attempt_status(NOTHING, inherited).status == "cancelled"


numbers = st.none() | st.integers(0, 300)
times = st.none() | st.floats(0, 2000)
states = st.none() | st.sampled_from(
    [
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMEOUT",
        "OUT_OF_MEMORY",
        "NODE_FAIL",
        "PREEMPTED",
        "RUNNING",
        "SOMETHING_NEW",
    ]
)
wrappers = st.builds(WrapperView, numbers, numbers, numbers, times)
slurms = st.none() | st.builds(
    SlurmView,
    st.sampled_from(["found", "partial", "pending", "missing", "unavailable"]),
    states, states, times, times, numbers, numbers, numbers,
)  # fmt: skip


@given(wrappers, slurms)
def test_every_combination_has_one_status_and_its_evidence(wrapper: WrapperView, slurm: SlurmView | None) -> None:
    outcome = attempt_status(wrapper, slurm)
    assert outcome.status in STATUSES
    assert outcome.evidence
    assert "\n" not in outcome.evidence
    if outcome.status == "completed":
        assert wrapper.return_code == 0 or (
            wrapper.return_code is None and slurm is not None and slurm.state == "COMPLETED"
        )
    if outcome.status == "running":
        assert wrapper.return_code is None
