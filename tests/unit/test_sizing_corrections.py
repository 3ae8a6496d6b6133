"""What to request instead: the Rust torc's examples, and an example for each rule."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from sizing_cases import ASKED, attempt, ended, facts, job, killed

from torc_slurm.common.errors import InputError
from torc_slurm.sizing.corrections import Corrections, correct
from torc_slurm.sizing.decision import DOWN, KEPT, UP, Decision, Options
from torc_slurm.sizing.documents import corrections_document
from torc_slurm.sizing.evidence import Resource
from torc_slurm.sizing.facts import Attempt, Facts, Job, Request, Requirement
from torc_slurm.sizing.guards import Guards, NodeSize

MEMORY, RUNTIME, CPU = Resource.memory, Resource.runtime, Resource.cpu
DEFAULTS = Options()


def decision(corrections: Corrections, resource: Resource, requirement: int = 10) -> Decision:
    (found,) = [
        each
        for each in corrections.decisions
        if each.resource is resource and each.requirement.resource_requirements_id == requirement
    ]
    return found


def adjustments(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["adjustments"]
    return found


def outcome(resource: Resource, *attempts: Attempt, asked: Request = ASKED, **options: object) -> tuple[str, object]:
    """Direction and new request for one job with these attempts."""
    made = decision(correct(facts(job(1, *attempts), asked=asked), Options(**options)), resource)  # type: ignore[arg-type]
    return made.direction, made.new


def reason(resource: Resource, *jobs: Job, asked: Request = ASKED, options: Options = DEFAULTS) -> str:
    return decision(correct(facts(*jobs, asked=asked), options), resource).reason


# --- the reference's examples -----------------------------------------------------------------------------------


def reference_case() -> Facts:
    up, down = Request(memory="8g"), Request(memory="32g", runtime="PT4H")
    small = {"peak_cpu_percent": 90.0, "avg_cpu_percent": 80.0}
    return Facts(
        123,
        (Requirement(10, "large", up), Requirement(11, "pre", down)),
        (
            job(15, attempt(up, peak_memory_bytes=10_500_000_000, **small), name="train_model"),
            Job(20, "preprocess_a", 11, (attempt(down, peak_memory_bytes=10**9, exec_time_seconds=600.0, **small),)),
            Job(
                21, "preprocess_b", 11, (attempt(down, peak_memory_bytes=2147483648, exec_time_seconds=30.0, **small),)
            ),
        ),
    )


def test_the_references_document() -> None:
    document = corrections_document(correct(reference_case(), DEFAULTS), dry_run=False)
    assert list(document) == [
        "status",
        "workflow_id",
        "dry_run",
        "no_downsize",
        "memory_multiplier",
        "cpu_multiplier",
        "runtime_multiplier",
        "resource_requirements_updated",
        "jobs_analyzed",
        "memory_corrections",
        "runtime_corrections",
        "cpu_corrections",
        "downsize_memory_corrections",
        "downsize_runtime_corrections",
        "downsize_cpu_corrections",
        "adjustments",
    ]
    assert document == {
        "status": "success",
        "workflow_id": 123,
        "dry_run": False,
        "no_downsize": False,
        "memory_multiplier": 1.2,
        "cpu_multiplier": 1.2,
        "runtime_multiplier": 1.2,
        "resource_requirements_updated": 2,
        "jobs_analyzed": 3,
        "memory_corrections": 1,
        "runtime_corrections": 0,
        "cpu_corrections": 0,
        "downsize_memory_corrections": 2,
        "downsize_runtime_corrections": 2,
        "downsize_cpu_corrections": 0,
        "adjustments": [
            {
                "resource_requirements_id": 10,
                "direction": "upscale",
                "job_ids": [15],
                "job_names": ["train_model"],
                "memory_adjusted": True,
                "original_memory": "8g",
                "new_memory": "13g",
                "max_peak_memory_bytes": 10500000000,
            },
            {
                "resource_requirements_id": 11,
                "direction": "downscale",
                "job_ids": [20, 21],
                "job_names": ["preprocess_a", "preprocess_b"],
                "memory_adjusted": True,
                "original_memory": "32g",
                "new_memory": "3g",
                "max_peak_memory_bytes": 2147483648,
                "runtime_adjusted": True,
                "original_runtime": "PT4H",
                "new_runtime": "PT12M",
            },
        ],
    }
    assert list(adjustments(document)[1])[4:] == [
        "memory_adjusted",
        "original_memory",
        "new_memory",
        "max_peak_memory_bytes",
        "runtime_adjusted",
        "original_runtime",
        "new_runtime",
    ]


def test_nothing_to_correct_has_every_key_too() -> None:
    document = corrections_document(correct(Facts(7, ()), DEFAULTS), dry_run=True)
    assert (document["adjustments"], document["jobs_analyzed"], document["dry_run"]) == ([], 0, True)
    assert len(document) == 16


def test_a_requirement_that_goes_both_ways_gives_two_adjustments_and_counts_once() -> None:
    made = correct(facts(job(1, attempt(peak_memory_bytes=9 * 10**9, exec_time_seconds=60.0))), DEFAULTS)
    assert [each.direction for each in made.adjustments] == [UP, DOWN]
    assert made.requirements_updated == 1
    document = corrections_document(made, dry_run=False)
    up, down = adjustments(document)
    assert "runtime_adjusted" not in up
    assert "memory_adjusted" not in down
    assert (down["cpu_adjusted"], down["original_cpus"], down["new_cpus"], down["max_peak_cpu_percent"]) == (
        True,
        4,
        3,
        200.0,
    )


# --- memory -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "new"),
    [
        ({"memory_limit_bytes": 8192 * 2**20, "peak_memory_bytes": 8 * 10**9}, "18g"),  # the limit, not the peak
        ({"memory_limit_bytes": 8192 * 2**20, "peak_memory_bytes": None}, "18g"),
        ({"memory_limit_bytes": None, "peak_memory_bytes": None}, "16g"),  # its request is known
        ({"memory_limit_bytes": 10**12, "peak_memory_bytes": 9 * 10**9}, "18g"),  # a shared limit
        ({"status": "failed", "memory_limit_bytes": 8192 * 2**20}, "18g"),
        ({"status": "cancelled", "memory_limit_bytes": 8192 * 2**20}, "18g"),
        (
            {
                "status": "failed",
                "oom_kills": None,
                "memory_limit_bytes": 8192 * 2**20,
                "peak_memory_bytes": 8589934000,
            },
            "18g",
        ),
    ],
)
def test_a_kill_for_memory_doubles_what_it_had(changed: dict[str, Any], new: str) -> None:
    assert outcome(MEMORY, killed(**changed)) == (UP, new)


def test_the_monitors_allowance_is_not_the_jobs() -> None:
    asked = Request(memory="100m")
    limit = (100 + 16) * 2**20
    assert outcome(MEMORY, killed(asked, memory_limit_bytes=limit, peak_memory_bytes=None), asked=asked) == (UP, "210m")


def test_a_kill_that_a_later_run_has_survived_asks_for_no_more_but_stays_a_bound() -> None:
    first = killed(memory_limit_bytes=8 * 10**9, peak_memory_bytes=8 * 10**9)
    asked = Request(memory="10g", num_cpus=4, runtime="PT4H")
    assert outcome(MEMORY, first, attempt(asked, run_id=2, peak_memory_bytes=9 * 10**9), asked=asked) == (KEPT, "10g")
    assert outcome(MEMORY, first, attempt(asked, run_id=2, peak_memory_bytes=10**9), asked=Request("32g")) == (
        DOWN,
        "10g",
    )


def test_kills_double_until_it_fits_and_then_the_peak_counts() -> None:
    runs = [
        killed(Request(size, 4, "PT4H"), run_id=number, peak_memory_bytes=None)
        for number, size in enumerate(("1g", "2g", "4g"), 1)
    ]
    for number, new in enumerate(("2g", "4g", "8g"), 1):
        assert outcome(MEMORY, *runs[:number], asked=runs[number - 1].request) == (UP, new)
    fits = attempt(ASKED, run_id=4, peak_memory_bytes=4_200_000_000)
    assert outcome(MEMORY, *runs, fits) == (DOWN, "6g")
    assert outcome(MEMORY, killed(), asked=ASKED, memory_multiplier=Decimal(3)) == (UP, "24g")
    assert "it needs more than 8.00 GB" in reason(MEMORY, job(1, killed()))
    assert reason(MEMORY, job(1, killed())).endswith("times 2")


def test_what_the_cluster_ended_says_nothing() -> None:
    for status in ("preempted", "cancelled", "node_fail", "running"):
        lost = attempt(status=status, return_code=None, peak_memory_bytes=99 * 10**9, exec_time_seconds=10**6)
        made = correct(facts(job(1, lost)), DEFAULTS)
        assert {each.direction for each in made.decisions} == {KEPT}
        assert made.jobs_analyzed == 0


def test_null_is_not_zero() -> None:
    blank = attempt(peak_memory_bytes=None, peak_cpu_percent=None, avg_cpu_percent=None, exec_time_seconds=None)
    made = correct(facts(job(1, blank)), DEFAULTS)
    assert {each.direction for each in made.decisions} == {KEPT}
    assert "NULL is not 0" in decision(made, MEMORY).reason


@pytest.mark.parametrize(
    "other",
    [
        job(2),
        job(2, attempt(peak_memory_bytes=None)),
        job(2, attempt(status="failed", return_code=3)),
        job(2, attempt(is_lower_bound=True)),
        job(2, ended(exec_time_seconds=14400.0)),
    ],
)
def test_nothing_is_sized_down_unless_every_job_completed_with_figures(other: Job) -> None:
    made = decision(correct(facts(job(1, attempt(peak_memory_bytes=10**9)), other), DEFAULTS), MEMORY)
    assert made.direction == KEPT
    assert "job 2" in made.reason


def test_the_most_demanding_job_counts() -> None:
    made = correct(
        facts(job(2, attempt(peak_memory_bytes=10**9)), job(1, attempt(peak_memory_bytes=2 * 10**9))), DEFAULTS
    )
    assert decision(made, MEMORY).new == "3g"


def test_a_job_of_5_ms_does_not_make_a_megabyte() -> None:
    tiny = attempt(peak_memory_bytes=900_000, exec_time_seconds=0.005, peak_cpu_percent=0.0, avg_cpu_percent=0.0)
    assert [outcome(each, tiny) for each in (MEMORY, RUNTIME, CPU)] == [(DOWN, "100m"), (DOWN, "PT1M"), (DOWN, 1)]


def test_a_failure_of_its_own_is_no_reason_for_more_and_none_for_less() -> None:
    crashed = attempt(status="failed", return_code=3, peak_memory_bytes=9 * 10**9, exec_time_seconds=10**5)
    assert outcome(MEMORY, crashed) == (KEPT, "8g")
    assert outcome(RUNTIME, crashed) == (KEPT, "PT4H")


# --- run time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "new"),
    [
        ({"exec_time_seconds": 14430.0}, "PT4H49M"),
        ({"exec_time_seconds": 14396.0}, "PT4H48M"),  # the wrapper's clock started after Slurm's
        ({"exec_time_seconds": None}, "PT4H48M"),
        ({"status": "failed", "runtime_enforced": True, "exec_time_seconds": 14400.0}, "PT4H48M"),
        ({"status": "cancelled", "runtime_enforced": True, "exec_time_seconds": 14400.0}, "PT4H48M"),
        ({"hung": None, "exec_time_seconds": 14400.0}, "PT4H48M"),
    ],
)
def test_a_timeout_is_a_lower_bound(changed: dict[str, Any], new: str) -> None:
    assert outcome(RUNTIME, ended(**changed)) == (UP, new)


def test_an_allocation_that_ended_early_says_little_of_the_job() -> None:
    assert outcome(RUNTIME, ended(exec_time_seconds=300.0)) == (KEPT, "PT4H")
    assert "with its allocation" in reason(RUNTIME, job(1, ended(exec_time_seconds=300.0)))


def test_a_job_that_hung_is_never_a_reason_for_more_time() -> None:
    assert outcome(RUNTIME, ended(exec_time_seconds=14400.0, hung=True)) == (KEPT, "PT4H")
    told = reason(RUNTIME, job(1, ended(exec_time_seconds=14400.0, hung=True)), job(2, attempt()))
    assert "used almost no CPU in the second half" in told


def test_a_job_that_idled_and_completed_needs_its_time() -> None:
    assert outcome(RUNTIME, attempt(exec_time_seconds=14500.0, hung=True)) == (UP, "PT4H50M")


def test_an_unknown_hang_is_reported_as_unknown() -> None:
    assert "unknown whether it hung" in reason(RUNTIME, job(1, ended(exec_time_seconds=14400.0, hung=None)))


# --- CPUs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peak", "asked", "new"),
    [
        (523.4, 4, (UP, 7)),
        (402.0, 4, (KEPT, 4)),  # the two clocks always differ a little
        (100.3, 4, (DOWN, 2)),
        (100.3, 1, (KEPT, 1)),
        (250.0, 8, (DOWN, 3)),
    ],
)
def test_cpus_are_sized_by_the_peak(peak: float, asked: int, new: tuple[str, int]) -> None:
    request = Request(memory="8g", num_cpus=asked)
    assert outcome(CPU, attempt(request, peak_cpu_percent=peak, avg_cpu_percent=peak / 2), asked=request) == new


def test_cpus_by_average_and_peak() -> None:
    assert outcome(CPU, attempt(peak_cpu_percent=10.0, avg_cpu_percent=250.0)) == (DOWN, 3)
    assert outcome(CPU, attempt(peak_cpu_percent=None, avg_cpu_percent=50.0)) == (KEPT, 4)
    assert outcome(CPU, attempt(peak_cpu_percent=50.0, avg_cpu_percent=None)) == (KEPT, 4)


def test_cpus_stay_divisible_among_the_tasks() -> None:
    request = Request(memory="8g", num_cpus=12, ntasks_per_node=3)
    assert outcome(CPU, attempt(request, peak_cpu_percent=400.0), asked=request) == (DOWN, 6)
    assert outcome(CPU, attempt(request, peak_cpu_percent=20.0, avg_cpu_percent=9.0), asked=request) == (DOWN, 3)


def test_a_multiplier_of_one_gives_one_cpu_to_one_thread() -> None:
    busy = attempt(peak_cpu_percent=100.3, avg_cpu_percent=99.8)
    assert outcome(CPU, busy, cpu_multiplier=Decimal(1)) == (DOWN, 1)


# --- what was asked -----------------------------------------------------------------------------------------------


def test_nothing_asked_is_left_out() -> None:
    asked = Request()
    assert outcome(MEMORY, attempt(asked), asked=asked) == (KEPT, None)
    assert outcome(RUNTIME, attempt(asked), asked=asked) == (KEPT, None)
    assert correct(facts(job(1, attempt(asked), requirement=None), asked=asked), DEFAULTS).jobs_analyzed == 0


def test_no_downsize() -> None:
    assert outcome(MEMORY, attempt(peak_memory_bytes=10**9), downsize=False) == (KEPT, "8g")
    assert outcome(MEMORY, attempt(peak_memory_bytes=9 * 10**9), downsize=False) == (UP, "11g")


def test_job_ids_choose_requirements_and_all_their_jobs_count() -> None:
    others = (Requirement(11, "other", ASKED),)
    jobs = (job(1, attempt()), job(2, attempt(peak_memory_bytes=10**9)), job(3, attempt(), requirement=11))
    made = correct(facts(*jobs, others=others), DEFAULTS, {2})
    assert {each.requirement.resource_requirements_id for each in made.decisions} == {10}
    assert made.jobs_analyzed == 1
    assert decision(made, MEMORY).new == "5g"
    with pytest.raises(InputError, match="no job 9"):
        correct(facts(*jobs), DEFAULTS, {9})


@pytest.mark.parametrize("value", ["0.9", "101", "NaN", "Infinity"])
def test_multipliers_out_of_range(value: str) -> None:
    with pytest.raises(InputError, match="multiplier"):
        Options(memory_multiplier=Decimal(value))


def test_a_larger_multiplier_is_heard_until_the_next_run_answers() -> None:
    asked = Request(memory="11g", num_cpus=4, runtime="PT4H")  # corrected since
    first = killed(memory_limit_bytes=8 * 10**9, peak_memory_bytes=None)
    assert outcome(MEMORY, first, asked=asked, memory_multiplier=Decimal(2)) == (UP, "16g")
    assert outcome(MEMORY, first, asked=asked, memory_multiplier=Decimal(2), answer_failures_once=True) == (KEPT, "11g")


# --- guard rails --------------------------------------------------------------------------------------------------


def guarded(resource: Resource, *attempts: Attempt, asked: Request = ASKED, **guards: object) -> Decision:
    options = Options(guards=Guards(**guards))  # type: ignore[arg-type]
    return decision(correct(facts(job(1, *attempts), asked=asked), options), resource)


def test_no_more_than_a_node_has() -> None:
    nodes = (NodeSize(2, 64_000), NodeSize(8, 12_500))
    over = attempt(peak_memory_bytes=10_500_000_000)
    made = guarded(MEMORY, over, nodes=nodes, partition="debug")
    assert (made.direction, made.new) == (UP, "12500m")  # 13g would not fit; the nodes with 64 GB have too few CPUs
    assert "partition debug" in made.reason


def test_an_impossible_amount_is_not_requested() -> None:
    made = guarded(MEMORY, killed(memory_limit_bytes=8192 * 2**20), nodes=(NodeSize(8, 8192),), partition="debug")
    assert (made.direction, made.new) == (KEPT, "8g")
    assert "cannot be requested" in made.reason
    made = guarded(MEMORY, attempt(peak_memory_bytes=20 * 10**9), most_memory="10g")
    assert (made.direction, made.new) == (KEPT, "8g")


def test_given_bounds_and_the_partitions_time_limit() -> None:
    assert guarded(MEMORY, killed(), most_memory="9g").new == "9g"
    assert guarded(RUNTIME, ended(exec_time_seconds=14400.0), time_limit_seconds=15_000).new == "PT4H10M"
    assert guarded(RUNTIME, ended(exec_time_seconds=14400.0), most_runtime_seconds=14_500).new == "PT4H1M"
    assert guarded(CPU, attempt(peak_cpu_percent=700.0), nodes=(NodeSize(8, 1),)).new == 8
    assert guarded(CPU, attempt(peak_cpu_percent=500.0), most_cpus=5).new == 5


def test_the_largest_factor_counts_from_what_the_attempt_had() -> None:
    asked = Request(memory="1g")
    failed = killed(asked, memory_limit_bytes=None, peak_memory_bytes=9 * 10**9)
    assert guarded(MEMORY, failed, asked=asked).new == "10g"
    assert guarded(MEMORY, failed, asked=Request(memory="10g")).direction == KEPT  # not again without a new run
    made = guarded(MEMORY, failed, asked=asked, largest_factor=Decimal(2))
    assert (made.direction, made.new) == (KEPT, "1g")  # 2g is known to be too small
    assert "no more than 2 times at once (--largest-factor)" in made.reason


def test_the_largest_factor_never_cuts_off_what_a_job_has_used() -> None:
    asked = Request(memory="1g")
    assert guarded(MEMORY, attempt(asked, peak_memory_bytes=50 * 10**9), asked=asked).new == "50g"


def test_the_floor_can_be_given() -> None:
    assert guarded(MEMORY, attempt(peak_memory_bytes=10**6), least_memory="2g").new == "2g"


def test_a_node_with_fewer_cpus_is_no_place_even_when_the_cpus_are_corrected_too() -> None:
    nodes = (NodeSize(2, 64_000), NodeSize(8, 9_000))
    over = attempt(peak_memory_bytes=10**10, peak_cpu_percent=100.0, avg_cpu_percent=90.0)
    options = Options(guards=Guards(nodes=nodes, partition="p"))
    made = correct(facts(job(1, over)), options)
    assert (decision(made, CPU).new, decision(made, MEMORY).new) == (2, "12g")
    again = correct(facts(job(1, over), asked=dataclasses.replace(ASKED, num_cpus=2, memory="12g")), options)
    assert decision(again, MEMORY).direction == KEPT


def test_every_decision_has_a_reason() -> None:
    made = correct(reference_case(), DEFAULTS)
    assert len(made.decisions) == 6
    assert all(each.reason for each in made.decisions)
    document = corrections_document(made, dry_run=True, explain=True)
    assert [each["direction"] for each in document["explanations"]] == [UP, KEPT, KEPT, DOWN, DOWN, KEPT]


# --- a busy node ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waited", "new"),
    [(None, 2), (0.0, 2), (4.0, 2), (18.0, 2), (150.0, 4)],
    ids=["not known", "none", "as everywhere", "too little to matter", "busy node"],
)
def test_a_job_that_waited_for_cpus_keeps_them(waited: float | None, new: int) -> None:
    """0.29 of a core for each of four threads does not show what the job does with free CPUs."""
    used = attempt(peak_cpu_percent=116.0, avg_cpu_percent=116.0, cpu_seconds=100.0, cpu_wait_seconds=waited)
    made = decision(correct(facts(job(1, used)), Options()), CPU)
    assert (made.direction, made.new if made.direction == DOWN else 4) == (DOWN if new == 2 else KEPT, new)
    if made.direction == KEPT:
        assert "job 1 job_1 waited 2m 30s for a CPU and used 1m 40s of CPU time" in made.reason


def test_free_cpus_would_not_have_helped_a_job_that_waited_less_than_a_second() -> None:
    used = attempt(peak_cpu_percent=80.0, avg_cpu_percent=2.0, cpu_seconds=0.1, cpu_wait_seconds=0.9)
    assert outcome(CPU, used) == (DOWN, 1)


def test_a_job_that_waited_may_still_be_given_more() -> None:
    used = attempt(peak_cpu_percent=700.0, avg_cpu_percent=600.0, cpu_seconds=100.0, cpu_wait_seconds=100.0)
    assert outcome(CPU, used) == (UP, 9)
