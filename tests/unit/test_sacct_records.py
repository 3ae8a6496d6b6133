"""Which records belong to an allocation: requeued, recycled, array and heterogeneous jobs."""

from __future__ import annotations

import pytest
from recordings import CLUSTERS, job_of, sacct_rows

from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.slurm.job_records import (
    AllocationKey,
    is_final,
    is_inherited_end,
    job_records,
    merge_components,
    select_record,
)


def job(
    start: float | None, end: float | None, *, state: str = "COMPLETED", user: str = "ann", restarts: int | None = None
) -> AccountingRecord:
    row = AccountingRecord(
        12, None, user_name=user, state=state, start_time=start, end_time=end, restart_count=restarts
    )
    return row._replace(submit_time=(start or 0) - 5, shown_job_id="12")


def step(number: int, start: float, end: float) -> AccountingRecord:
    return AccountingRecord(12, str(number), state="COMPLETED", start_time=start, end_time=end)


RECYCLED = [job(100, 200, user="bob"), step(0, 110, 120), job(90_000, 90_100), step(0, 90_010, 90_020)]
REQUEUED = [
    job(1000, 1100, state="REQUEUED", restarts=0),
    step(0, 1001, 1100),
    job(1220, None, state="RUNNING", restarts=1),
    step(0, 1221, 1300),
]


def chosen(rows: list[AccountingRecord], **key: str | float | int) -> float | None:
    record = select_record(job_records(rows, 12), AllocationKey(12, **key))  # type: ignore[arg-type] # test's own words
    return None if record is None else record.job.start_time


@pytest.mark.parametrize(
    ("rows", "key", "start"),
    [
        (RECYCLED, {"earliest_begin_time": 90_010.5}, 90_000),
        (RECYCLED, {"earliest_begin_time": 110.5}, 100),
        (RECYCLED, {"earliest_begin_time": 110.5, "user_name": "ann"}, None),
        (RECYCLED, {"user_name": "bob"}, 100),
        (RECYCLED, {"earliest_begin_time": 50_000.0}, None),
        (RECYCLED, {"earliest_begin_time": 89_990.0}, 90_000),  # the node's clock is 10 s late
        (RECYCLED, {"earliest_begin_time": 90_120.0}, 90_000),
        (RECYCLED, {}, 90_000),
        (REQUEUED, {"earliest_begin_time": 1001.2}, 1000),
        (REQUEUED, {"earliest_begin_time": 1221.0}, 1220),
        (REQUEUED, {"earliest_begin_time": 1190.0}, 1220),
        (REQUEUED, {"restart_count": 0}, 1000),
        (REQUEUED, {"restart_count": 1}, 1220),
        (REQUEUED, {"restart_count": 5}, 1220),
        ([], {}, None),
    ],
)
def test_the_record_of_the_right_time_and_user(
    rows: list[AccountingRecord], key: dict[str, str | float | int], start: float | None
) -> None:
    assert chosen(rows, **key) == start


def test_a_record_that_waits_to_start_matches_no_allocation() -> None:
    assert chosen([job(None, None, state="PENDING")], earliest_begin_time=1000.0) is None


def test_a_record_without_a_shown_user_may_match() -> None:
    assert chosen([AccountingRecord(12, None, state="RUNNING", start_time=5.0)], user_name="ann") == 5.0


def test_a_provisional_record_can_be_anybodys() -> None:
    """The output of 22.05 if steps reached the database before their job."""
    early = AccountingRecord(12, None, name="allocation", user_name="root", state="PENDING", start_time=5.0)
    assert chosen([early], user_name="ann") == 5.0
    assert chosen([early._replace(requested_tres="cpu=1")], user_name="ann") is None


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_recorded_requeued_job(cluster: str) -> None:
    rows = sacct_rows(cluster, "requeued")
    first, second = job_records(rows, job_of(rows))
    assert (first.job.state, second.job.state) == ("REQUEUED", "FAILED")
    for record in (first, second):
        assert record.step_ids == ["batch", "0"]
        own = record.step("0")
        assert own is not None
        key = AllocationKey(job_of(rows), user_name="root", earliest_begin_time=(own.start_time or 0) + 0.3)
        assert select_record([first, second], key) is record


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_one_task_of_an_array(cluster: str) -> None:
    whole = sacct_rows(cluster, "array_whole")
    (record,) = job_records(whole, job_of(sacct_rows(cluster, "array_task_2")))
    assert record.job.shown_job_id.endswith("_2")
    assert {row.slurm_job_id for row in record.steps} == {record.job.slurm_job_id}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_components_of_a_heterogeneous_job(cluster: str) -> None:
    """The wrapper in the second component identifies its step by the first one's job id."""
    rows = sacct_rows(cluster, "het")
    (record,) = job_records(rows, job_of(rows))
    assert record.step_ids == ["batch", "0", "1"]
    both, second = record.step("0"), record.step("1")
    assert both is not None
    assert second is not None
    assert (both.task_count, (both.node_list or "").count("n1"), (both.node_list or "").count("n2")) == (2, 1, 1)
    assert (second.state, second.exit_code, second.task_count) == ("FAILED", 4, 1)


def test_merged_figures() -> None:
    one = AccountingRecord(
        12, "0", state="COMPLETED", exit_code=0, exit_signal=0, start_time=10, end_time=20, elapsed_seconds=10,
        max_rss_bytes=500, max_rss_node="n1", max_rss_task=0, total_rss_bytes=500, ave_cpu_seconds=3.0, task_count=1,
        total_cpu_seconds=3.0, node_list="n1", max_disk_read_bytes=1, max_disk_read_node="n1",
    )  # fmt: skip
    other = AccountingRecord(
        12, "0", state="FAILED", exit_code=4, exit_signal=0, start_time=11, end_time=25, elapsed_seconds=14,
        max_rss_bytes=300, max_rss_node="n2", max_rss_task=2, total_rss_bytes=800, ave_cpu_seconds=1.0, task_count=3,
        total_cpu_seconds=3.0, node_list="n2", max_disk_read_bytes=9, max_disk_read_node="n2",
    )  # fmt: skip
    both = merge_components([one, other])
    assert (both.state, both.exit_code) == ("FAILED", 4)
    assert (both.start_time, both.end_time, both.elapsed_seconds) == (10, 25, 14)
    assert (both.max_rss_bytes, both.max_rss_node, both.max_rss_task, both.total_rss_bytes) == (500, "n1", 0, 1300)
    assert (both.max_disk_read_bytes, both.max_disk_read_node) == (9, "n2")
    assert (both.ave_cpu_seconds, both.total_cpu_seconds, both.task_count) == (1.5, 6.0, 4)
    assert both.node_list == "n1,n2"


def test_an_incomplete_sum_is_none() -> None:
    rows = [
        AccountingRecord(12, "0", total_cpu_seconds=3.0, task_count=1),
        AccountingRecord(12, "0", task_count=1, ave_cpu_seconds=2.0),
    ]
    both = merge_components(rows)
    assert (both.total_cpu_seconds, both.ave_cpu_seconds, both.task_count) == (None, None, 2)


def test_a_component_that_still_runs_keeps_the_step_unfinished() -> None:
    ended = AccountingRecord(12, "0", state="COMPLETED", end_time=20.0)
    runs = AccountingRecord(12, "0", state="RUNNING")
    assert not is_final(merge_components([ended, runs]))


def test_steps_before_any_job_and_of_other_jobs_are_left_out() -> None:
    other = AccountingRecord(13, None, state="COMPLETED", start_time=5.0, submit_time=1.0, shown_job_id="13")
    rows = [step(7, 1, 2), job(100, 200), step(0, 110, 120), other, AccountingRecord(13, "0", state="COMPLETED")]
    (record,) = job_records(rows, 12)
    assert record.step_ids == ["0"]


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("scenario", ["node_fail", "just_cancelled"])
def test_ends_that_are_only_the_jobs(cluster: str, scenario: str) -> None:
    inherited = {row.name for row in sacct_rows(cluster, scenario) if row.step_id is not None and is_inherited_end(row)}
    if scenario == "node_fail":
        assert inherited == {"batch", "lost"}
    else:
        assert "early" not in inherited
        assert inherited <= {"batch", "dies_of_term", "exits_0_on_term", "exits_7_on_term"}
