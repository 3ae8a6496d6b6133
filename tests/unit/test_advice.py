"""What `torc seff` suggests, and which jobs give no suggestion."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.common.units import MIB, parse_slurm_size, parse_slurm_time
from torc_slurm.sizing.advice import LOW, Advice, advise, sbatch_lines, waiting
from torc_slurm.sizing.job_use import JobUse

GIB = 1024 * MIB
USED = JobUse(
    slurm_job_id=1,
    job_id="1",
    state="COMPLETED",
    elapsed_seconds=900.0,
    time_limit_seconds=4 * 3600.0,
    cpu_seconds=1700.0,
    allocated_cpus=8,
    node_count=1,
    task_count=1,
    peak_cpu_percent=199.0,
    peak_memory_bytes=500 * MIB,
    peak_memory_source="cgroup_v2",
    requested_memory_bytes=8 * GIB,
)


def of(*jobs: JobUse) -> dict[str, Advice]:
    return {advice.resource: advice for advice in advise(jobs)}


def with_(**changes: object) -> JobUse:
    return dataclasses.replace(USED, **changes)  # type: ignore[arg-type] # fields by name


def test_a_job_with_too_large_a_request_gets_advice() -> None:
    advice = of(USED)
    assert {name: each.suggested for name, each in advice.items()} == {"memory": "600M", "cpus": 2, "time": "00:20:00"}
    assert sbatch_lines(advice.values(), [USED]) == [
        "#SBATCH --mem=600M",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --time=00:20:00",
    ]
    assert "524.29 MB of 8.59 GB" in advice["memory"].reason


def test_following_the_advice_leaves_nothing_to_advise() -> None:
    assert of(with_(requested_memory_bytes=600 * MIB, allocated_cpus=2, time_limit_seconds=1200.0)) == {}


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "CANCELLED", "NODE_FAIL", "PREEMPTED", None])
def test_no_advice_from_a_job_that_did_not_end_by_itself(state: str | None) -> None:
    assert of(with_(state=state)) == {}


@pytest.mark.parametrize(
    ("resource", "missing"),
    [
        ("memory", "peak_memory_bytes"),
        ("memory", "requested_memory_bytes"),
        ("cpus", "cpu_seconds"),
        ("cpus", "allocated_cpus"),
        ("time", "elapsed_seconds"),
        ("time", "time_limit_seconds"),
    ],
)
def test_no_advice_from_what_is_not_known(resource: str, missing: str) -> None:
    assert resource not in of(with_(**{missing: None}))


def test_a_job_that_failed_gives_no_reason_to_ask_for_less() -> None:
    assert of(with_(state="FAILED")) == {}


def test_one_that_failed_among_others_too() -> None:
    assert of(USED, with_(state="FAILED")) == {}


def test_killed_for_memory_doubles_the_request() -> None:
    advice = of(with_(state="OUT_OF_MEMORY", requested_memory_bytes=GIB, peak_memory_bytes=GIB - 1))
    assert advice["memory"].suggested == "2048M"
    assert "killed for memory" in advice["memory"].reason
    assert set(advice) == {"memory"}


def test_ended_by_the_time_limit_doubles_the_limit() -> None:
    assert of(with_(state="TIMEOUT", time_limit_seconds=900.0))["time"].suggested == "00:30:00"


def test_memory_that_was_nearly_full_is_raised() -> None:
    assert of(with_(requested_memory_bytes=510 * MIB))["memory"].suggested == "600M"


def test_slurms_own_figure_gives_little_confidence() -> None:
    polled = with_(peak_memory_source="slurm_maxrss", memory_is_sampled=True, poll_interval_seconds=30.0)
    assert of(polled)["memory"].confidence == LOW


def test_a_job_that_slurm_hardly_looked_at_keeps_its_memory() -> None:
    short = with_(
        peak_memory_source="slurm_maxrss", memory_is_sampled=True, poll_interval_seconds=30.0, elapsed_seconds=60.0
    )
    assert "memory" not in of(short)


def test_without_a_peak_the_average_has_headroom() -> None:
    assert of(with_(peak_cpu_percent=None))["cpus"].suggested == 3  # 1.9 on average x 1.2


def test_the_largest_of_several_jobs_decides() -> None:
    advice = of(USED, with_(peak_memory_bytes=3 * GIB), USED)
    assert advice["memory"].suggested == "3700M"
    assert advice["memory"].confidence == "high"
    assert " was at most " in advice["memory"].reason
    assert advice["memory"].reason.endswith(" in 3 jobs.")


def test_cpus_stay_a_multiple_of_the_tasks() -> None:
    four_tasks = with_(task_count=4, peak_cpu_percent=None, allocated_cpus=16, cpu_seconds=4 * 880.0)
    advice = of(four_tasks)["cpus"]
    assert advice.suggested == 8
    assert sbatch_lines([advice], [four_tasks]) == ["#SBATCH --cpus-per-task=2"]


@given(
    peak=st.integers(1, 2**50),
    requested=st.integers(1, 2**50),
    elapsed=st.floats(0.01, 1e8),
    limit=st.floats(60, 1e8),
    cpu=st.floats(0, 1e9),
    cpus=st.integers(1, 10_000),
    tasks=st.integers(1, 64),
)
def test_less_is_never_under_what_was_used_and_more_is_more(
    peak: int, requested: int, elapsed: float, limit: float, cpu: float, cpus: int, tasks: int
) -> None:
    job = with_(
        peak_memory_bytes=peak,
        requested_memory_bytes=requested,
        elapsed_seconds=elapsed,
        time_limit_seconds=limit,
        cpu_seconds=cpu,
        allocated_cpus=cpus,
        task_count=tasks,
        peak_cpu_percent=None,
    )
    advice = of(job)
    if "memory" in advice:
        assert parse_slurm_size(str(advice["memory"].suggested)) >= peak
    if "time" in advice:
        assert float(parse_slurm_time(str(advice["time"].suggested)) or 0) >= elapsed
    if "cpus" in advice:
        assert int(advice["cpus"].suggested) * elapsed * 1.05 >= min(cpu, cpus * elapsed) * 0.9
        assert int(advice["cpus"].suggested) % tasks == 0


def test_a_kill_is_answered_only_where_it_is_known_to_have_had_less() -> None:
    killed = with_(slurm_job_id=1, submit_time=1.0, state="OUT_OF_MEMORY", requested_memory_bytes=None)
    later = with_(slurm_job_id=2, submit_time=2.0)
    assert of(killed, later)["memory"].is_more
    answered = dataclasses.replace(killed, requested_memory_bytes=GIB)
    assert not of(answered, later)["memory"].is_more


def test_an_end_by_a_time_limit_that_is_not_known_is_not_answered() -> None:
    ended = with_(slurm_job_id=1, submit_time=1.0, state="TIMEOUT", time_limit_seconds=None)
    assert of(ended, with_(slurm_job_id=2, submit_time=2.0))["time"].is_more


def test_a_job_with_unknown_cpu_time_is_not_reported_as_idle() -> None:
    idle = with_(state="TIMEOUT", cpu_seconds=0.1)
    assert "almost no CPU" in of(idle)["time"].reason
    assert "almost no CPU" not in of(dataclasses.replace(idle, cpu_seconds=None))["time"].reason


def test_a_job_that_waited_for_cpus_keeps_them() -> None:
    assert of(USED)["cpus"].suggested == 2
    assert of(with_(cpu_wait_seconds=50.0))["cpus"].suggested == 2  # as everywhere
    busy = with_(cpu_wait_seconds=4100.0)
    assert set(of(busy)) == {"memory", "time"}
    assert waiting(USED) is None
    assert waiting(busy) == (
        "It waited 1h 8m 20s for a CPU and used 28m 20s of CPU time: it may use more if CPUs are free."
    )
