"""Which unfinished jobs another run helps, and which requests it raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sizing_cases import ASKED, attempt, ended, facts, job, killed

from torc_slurm.sizing.decision import Options
from torc_slurm.sizing.facts import Attempt, Job, Request
from torc_slurm.sizing.guards import Guards
from torc_slurm.sizing.recovery import Recovery, plan_recovery

ONCE = Options(downsize=False, answer_failures_once=True)


def recovery(*jobs: Job, asked: Request = ASKED, waits_for: Mapping[int, Sequence[int]] | None = None) -> Recovery:
    return plan_recovery(facts(*jobs, asked=asked), ONCE, waits_for or {})


def helped(*attempts: Attempt, asked: Request = ASKED) -> tuple[str, bool]:
    (found,) = recovery(job(1, *attempts), asked=asked).unfinished
    return found.cause.value, found.is_helped


def test_each_cause() -> None:
    assert helped(killed()) == ("memory", True)
    assert helped(ended(exec_time_seconds=14400.0)) == ("time", True)
    assert helped(ended(exec_time_seconds=300.0)) == ("time", True)  # its allocation ended before its own limit
    assert helped(ended(exec_time_seconds=14400.0, hung=True)) == ("time", False)
    assert helped(attempt(status="failed", return_code=3)) == ("failed", False)
    assert helped(attempt(status="node_fail")) == ("lost", True)
    assert helped(attempt(status="preempted")) == ("lost", True)
    assert helped() == ("not_run", True)


def test_completed_jobs_are_not_changed() -> None:
    found = recovery(job(1, attempt(peak_memory_bytes=9 * 10**9)), job(2, attempt(peak_cpu_percent=900.0)))
    assert (found.unfinished, found.corrections.adjustments) == ((), ())


def test_nothing_is_lowered_and_no_cpu_raised() -> None:
    found = recovery(job(1, killed(peak_cpu_percent=900.0, exec_time_seconds=1.0)))
    (adjustment,) = found.corrections.adjustments
    assert [each.resource.name for each in adjustment.decisions] == ["memory"]


def test_what_was_given_more_since_is_left_as_it_is() -> None:
    asked = Request("9g", 4, "PT4H")
    found = recovery(job(1, killed()), asked=asked)
    assert found.corrections.adjustments == ()
    assert found.unfinished[0].reason == "its request was raised since: 8g -> 9g"


def test_a_request_that_cannot_grow_does_not_help() -> None:
    options = Options(downsize=False, answer_failures_once=True, guards=Guards(most_memory="8g"))
    (found,) = plan_recovery(facts(job(1, killed())), options, {}).unfinished
    assert not found.is_helped
    assert "cannot be requested" in found.reason


def test_a_job_without_a_request_cannot_get_more() -> None:
    (found,) = recovery(job(1, killed(Request()), requirement=None)).unfinished
    assert (found.is_helped, "resource_requirements" in found.reason) == (False, True)
    assert helped(killed(Request(), memory_limit_bytes=10**9), asked=Request()) == ("memory", False)


def test_a_job_is_helped_only_if_all_that_it_waits_for_are() -> None:
    jobs = (job(1, attempt(status="failed", return_code=3)), job(2), job(3), job(4, killed()), job(5))
    found = recovery(*jobs, waits_for={2: [1], 3: [2], 5: [4]})
    assert [each.is_helped for each in found.unfinished] == [False, False, False, True, True]
    assert found.unfinished[2].reason == "it waits for job 1 job_1"
    assert [each.job.job_id for each in found.helped] == [4, 5]
    again = plan_recovery(facts(*jobs), ONCE, {2: [1], 3: [2], 5: [4]}, retry_failed=True)
    assert all(each.is_helped for each in again.unfinished)


def test_a_job_that_completed_once_is_done() -> None:
    assert recovery(job(1, attempt(), attempt(run_id=2, status="cancelled"))).unfinished == ()
