"""The check of resource utilization: what is a violation, what is shown, and which attempts count."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from sizing_cases import ASKED, attempt, ended, facts, job, killed

from torc_slurm.sizing.documents import utilization_document
from torc_slurm.sizing.facts import Attempt, Request
from torc_slurm.sizing.utilization import Use, check


def uses(*attempts: Attempt, **options: object) -> list[tuple[str, str, str, str]]:
    report = check(facts(job(1, *attempts)), **options)  # type: ignore[arg-type]
    return [(use.resource_type, use.specified, use.peak_used, use.over_utilization) for use in report.uses]


def test_the_references_document() -> None:
    request = Request(memory="8g", num_cpus=4, runtime="PT2H")
    over = attempt(request, peak_memory_bytes=10_500_000_000, peak_cpu_percent=523.4, exec_time_seconds=9900.0)
    document = utilization_document(check(facts(job(15, over, name="train_model"), job(16, attempt()))))
    assert list(document) == ["workflow_id", "run_id", "total_results", "over_utilization_count", "violations"]
    assert document == {
        "workflow_id": 123,
        "run_id": None,
        "total_results": 2,
        "over_utilization_count": 3,
        "violations": [
            {
                "job_id": 15,
                "job_name": "train_model",
                "resource_type": "Memory",
                "specified": "8.00 GB",
                "peak_used": "10.50 GB",
                "over_utilization": "+31.3%",
            },
            {
                "job_id": 15,
                "job_name": "train_model",
                "resource_type": "CPU",
                "specified": "400% (4 cores)",
                "peak_used": "523.4%",
                "over_utilization": "+30.9%",
            },
            {
                "job_id": 15,
                "job_name": "train_model",
                "resource_type": "Runtime",
                "specified": "2h 0m 0s",
                "peak_used": "2h 45m 0s",
                "over_utilization": "+37.5%",
            },
        ],
    }


def test_nothing_to_show_is_a_document_too() -> None:
    assert utilization_document(check(facts())) == {
        "workflow_id": 123,
        "run_id": None,
        "total_results": 0,
        "over_utilization_count": 0,
        "violations": [],
    }


def test_all_shows_those_within_their_limits_and_counts_only_violations() -> None:
    report = check(facts(job(1, attempt(peak_memory_bytes=9 * 10**9))), show_all=True)
    assert [use.over_utilization for use in report.uses] == ["+12.5%", "-50.0%", "-50.0%"]
    assert report.violations == 1


def test_a_job_killed_for_memory_is_a_violation_though_its_peak_is_not_over() -> None:
    shot = killed(memory_limit_bytes=8192 * 2**20, peak_memory_bytes=7 * 10**9)
    assert uses(shot) == [("Memory", "8.00 GB", "8.59 GB", "+7.4%")]
    assert uses(killed(memory_limit_bytes=None, peak_memory_bytes=None)) == [("Memory", "8.00 GB", "8.00 GB", "+0.0%")]
    assert uses(killed(memory_limit_bytes=None, peak_memory_bytes=None), min_over_percent=Decimal(50))


def test_a_timeout_is_one_too_but_not_an_allocation_that_ended_early() -> None:
    assert uses(ended(exec_time_seconds=14399.0)) == [("Runtime", "4h 0m 0s", "4h 0m 0s", "+0.0%")]
    assert uses(ended(exec_time_seconds=300.0)) == []
    (use,) = [use for use in check(facts(job(1, ended(exec_time_seconds=300.0))), show_all=True).uses if use.note][-1:]
    assert use.note == "ended by the allocation's time limit"


def test_a_job_that_hung_until_its_time_limit_broke_it_all_the_same() -> None:
    report = check(facts(job(1, ended(exec_time_seconds=14400.0, hung=True))))
    (use,) = report.uses
    assert (use.resource_type, use.note) == (
        "Runtime",
        "ended at its time limit; used almost no CPU in the second half of it",
    )
    assert report.unmeasured == 0


def test_failed_jobs_only_on_request() -> None:
    crashed = attempt(status="failed", return_code=1, peak_memory_bytes=9 * 10**9)
    assert uses(crashed) == []
    assert uses(crashed, include_failed=True) == [("Memory", "8.00 GB", "9.00 GB", "+12.5%")]
    jobs = facts(job(1, crashed), job(2, attempt()))
    assert [check(jobs, include_failed=include).left_out for include in (False, True)] == [1, 0]


@pytest.mark.parametrize("status", ["cancelled", "preempted", "node_fail", "running"])
def test_what_the_cluster_ended_is_not_counted(status: str) -> None:
    report = check(facts(job(1, attempt(status=status, peak_memory_bytes=9 * 10**9))), include_failed=True)
    assert (report.total_results, report.uses) == (0, ())


def test_a_default_is_left_out() -> None:
    over = attempt(Request(), peak_memory_bytes=9 * 10**9, peak_cpu_percent=500.0)
    assert check(facts(job(1, over, requirement=None)), show_all=True).total_results == 0
    (cpu,) = check(facts(job(1, over)), show_all=True).uses  # a requirement without memory and time
    assert cpu.resource_type == "CPU"


def test_the_latest_attempt_counts_against_the_request_it_ran_with() -> None:
    first, second = killed(), attempt(Request("16g", 4, "PT4H"), run_id=2, peak_memory_bytes=9 * 10**9)
    assert uses(second, first) == []
    assert uses(first, second, run_id=1) == [("Memory", "8.00 GB", "8.00 GB", "+0.0%")]
    report = check(facts(job(1, first, second)), run_id=2, show_all=True)
    assert (report.run_id, report.uses[0].specified) == (2, "16.00 GB")
    retried = attempt(run_id=1, attempt_id=2)
    assert uses(retried, first) == []


def test_a_lost_attempt_does_not_hide_what_is_known() -> None:
    assert uses(killed(), attempt(run_id=2, status="cancelled"))


def test_min_over_utilization() -> None:
    barely = attempt(peak_memory_bytes=8_400_000_000)
    assert uses(barely, min_over_percent=Decimal(5))
    assert uses(barely, min_over_percent=Decimal("5.1")) == []


def test_what_was_not_measured_is_not_shown_and_counted() -> None:
    report = check(facts(job(1, attempt(peak_memory_bytes=None))), show_all=True)
    assert [use.resource_type for use in report.uses] == ["CPU", "Runtime"]
    assert (report.total_results, report.unmeasured) == (1, 1)


def test_jobs_come_in_the_order_of_their_ids_and_a_source_is_named() -> None:
    report = check(facts(job(20, attempt()), job(3, attempt())), show_all=True)
    found: list[Use] = list(report.uses)
    assert [use.job_id for use in found] == [3, 3, 3, 20, 20, 20]
    assert found[0].note == "by cgroup_v2"


def test_cpu_within_the_clocks_disagreement_is_no_violation() -> None:
    assert uses(attempt(peak_cpu_percent=404.9)) == []
    assert uses(attempt(peak_cpu_percent=406.0)) == [("CPU", "400% (4 cores)", "406.0%", "+1.5%")]
    assert ASKED.num_cpus == 4


SCHEMAS = Path(__file__).parents[2] / "schemas"


def test_failed_jobs_are_listed_like_in_the_rust_torc() -> None:
    over = attempt(peak_memory_bytes=10 * 10**9)
    failed = attempt(status="failed", return_code=3)
    report = check(facts(job(1, over), job(2, failed), job(3, killed()), job(4, attempt())), include_failed=True)
    document = utilization_document(report)
    schema = json.loads((SCHEMAS / "check-resource-utilization.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(document)
    told = {each["job_id"]: each for each in document["resource_violations"]}
    assert document["resource_violations_count"] == len(told) == 3
    assert [told[number]["memory_violation"] for number in (1, 2, 3)] == [True, False, True]
    assert [told[number]["likely_oom"] for number in (1, 2, 3)] == [False, False, True]
