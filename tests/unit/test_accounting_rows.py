"""How each record is assessed: statuses with their reasons, and None for everything that Slurm did not measure."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import CLUSTERS, facts, job_of, sacct_rows

from torc_slurm.database.main_schema import MAIN_SCHEMA
from torc_slurm.database.migrations import Schema, migrate
from torc_slurm.database.node_schema import NODE_SCHEMA
from torc_slurm.database.slurm_stats import upsert_slurm_stats
from torc_slurm.records.accounting import COLUMN_NAMES, STATUSES, AccountingRecord
from torc_slurm.slurm.accounting import AllocationAccounting, rows_from_records
from torc_slurm.slurm.assess import FORGOTTEN_SECONDS, LATE_SECONDS
from torc_slurm.slurm.configuration import SlurmFacts, parse_config
from torc_slurm.slurm.job_records import AllocationKey

ONE_SECOND = SlurmFacts("22.05.8", "jobacct_gather/linux", None, "task=1")
POLLED = {name for name in COLUMN_NAMES if name.startswith(("max_", "total_")) and "cpu" not in name}
POLLED |= {"ave_cpu_seconds", "gpu_memory_bytes", "gpu_utilization_percent"}


def answer(cluster: str, scenario: str, *step_ids: str, seconds_later: float = 10, **key: str) -> AllocationAccounting:
    """The result that a query this long after the job's end would have had from the recording."""
    rows = sacct_rows(cluster, scenario)
    now = max(row.end_time or row.start_time or 0 for row in rows) + seconds_later
    allocation = AllocationKey(job_of(rows), **key)  # type: ignore[arg-type] # test's own words
    return rows_from_records(rows, allocation, step_ids, facts=facts(cluster), backend="sacct", now=now)


def by_name(found: AllocationAccounting) -> dict[str, AccountingRecord]:
    return {row.name or "": row for row in (*found.rows, *found.other_rows)}


def of(
    step: AccountingRecord | None, *, job_end: float | None = 100, state: str = "COMPLETED", now: float = 110
) -> AccountingRecord:
    """The row for step 0 of job 12 with this record."""
    job = AccountingRecord(12, None, state=state, start_time=10, end_time=job_end, submit_time=5)
    rows = [job] if step is None else [job, step]
    found = rows_from_records(rows, AllocationKey(12), ["0"], facts=ONE_SECOND, backend="sacct", now=now)
    (row,) = found.rows
    return row


def ended(**values: object) -> AccountingRecord:
    measured = {
        "max_rss_bytes": 5_000_000, "max_rss_node": "n1", "max_rss_task": 0, "max_vm_size_bytes": 9_000_000,
        "max_disk_read_bytes": 4, "max_disk_write_bytes": 0, "ave_cpu_seconds": 0.0, "total_cpu_seconds": 0.5,
        "user_cpu_seconds": 0.5, "system_cpu_seconds": 0.0, "total_rss_bytes": 5_000_000, "consumed_energy_joules": 7,
        "elapsed_seconds": 30,
    }  # fmt: skip
    step = AccountingRecord(12, "0", state="COMPLETED", exit_code=0, exit_signal=0, start_time=20, end_time=50)
    return step._replace(**(measured | values))  # type: ignore[arg-type] # own fields


# --- the contract with the database


@pytest.mark.parametrize("schema", [NODE_SCHEMA, MAIN_SCHEMA], ids=["node file", "torc.db"])
def test_the_records_fields_are_the_tables_columns(schema: Schema) -> None:
    with closing(table(schema)) as connection:
        columns = [row["name"] for row in connection.execute("PRAGMA table_info(slurm_stats)")]
    own = ("id", "workflow_id", "job_id", "attempt_id")
    assert {name for name in columns if name not in own} == set(COLUMN_NAMES)


def test_every_status_is_one_of_the_schemas() -> None:
    assert set(STATUSES) == {"found", "partial", "pending", "missing", "unavailable"}


# --- recorded jobs


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_ends(cluster: str) -> None:
    rows = by_name(answer(cluster, "ends", "0", "1", "2"))
    for name in ("completed", "writes", "two_nodes", "batch"):
        assert (name, rows[name].status, rows[name].reason) == (name, "found", None)
        assert (rows[name].max_rss_bytes or 0) > 0
    for name in ("short", "exits_3", "exits_200", "sigterm", "sigsegv", "kill_on_bad_exit"):
        assert (name, rows[name].status) == (name, "partial")
        assert "polls every 1s" in (rows[name].reason or "")
        assert {column for column in POLLED if getattr(rows[name], column) is not None} == set()
        assert (rows[name].total_cpu_seconds or 0) > 0  # from getrusage, not polled
        assert rows[name].elapsed_seconds is not None
    assert rows["exits_3"].exit_code == 3
    assert rows["completed"].gather_type == facts(cluster).gather_type
    assert rows["completed"].slurm_version == facts(cluster).slurm_version
    assert rows["completed"].consumed_energy_joules is None  # 0 without an energy plugin
    assert rows["completed"].requested_memory == "600M"


def test_killed_for_memory() -> None:
    rows = by_name(answer("22.05-cgroup", "oom", "0", "1", "2"))
    for name in ("at_once", "child_only"):
        assert (rows[name].status, rows[name].state, rows[name].max_rss_bytes) == ("partial", "OUT_OF_MEMORY", None)
        assert "killed for memory" in (rows[name].reason or "")
        assert rows[name].max_vm_size_bytes is None  # Slurm printed 4096
    slowly = rows["slowly"]
    assert (slowly.status, slowly.exit_code, slowly.exit_signal) == ("found", 0, 125)
    assert 0 < (slowly.max_rss_bytes or 0) < 60 * 2**20
    assert "lower bound" in (slowly.reason or "")
    assert rows["beside_it"].reason is None


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_running_steps_are_pending_and_show_nothing_final(cluster: str) -> None:
    rows = by_name(answer(cluster, "running", "0", "1", "2", "3"))
    assert rows["early"].status in ("found", "partial")  # final: it has ended, in an allocation that still runs
    runs = rows["dies_of_term"]
    assert (runs.status, runs.state, runs.job_state) == ("pending", "RUNNING", "RUNNING")
    for column in (
        "exit_code",
        "exit_signal",
        "end_time",
        "total_cpu_seconds",
        "consumed_energy_joules",
        "job_end_time",
    ):
        assert getattr(runs, column) is None


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_read_right_after_a_cancellation(cluster: str) -> None:
    """Slurm shows CANCELLED, 0:0 and the job's end for steps that a moment later have another end."""
    soon, later = (by_name(answer(cluster, name, "0", "1", "2", "3")) for name in ("just_cancelled", "cancelled"))
    for name, row in soon.items():
        if row.status == "pending":
            assert row.exit_code is row.exit_signal is row.total_cpu_seconds is None
        else:
            assert row == later[name]._replace(queried_at=row.queried_at)
    assert later["exits_0_on_term"].state == "COMPLETED"
    assert (later["exits_7_on_term"].state, later["exits_7_on_term"].exit_code) == ("FAILED", 7)
    assert (later["dies_of_term"].state, later["dies_of_term"].exit_signal) == ("CANCELLED", 15)
    assert {row.status for name, row in later.items() if name != "early"} == {"found"}
    assert {name: row.job_state for name, row in later.items()} == dict.fromkeys(later, "CANCELLED") | {"early": None}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_finished_step_has_the_same_row_while_its_job_runs_and_after_its_end(cluster: str) -> None:
    early = [by_name(answer(cluster, name, "0", seconds_later=9))["early"] for name in ("running", "cancelled")]
    assert len({row._replace(queried_at=None) for row in early}) == 1


def test_a_job_record_that_its_steps_made_leaves_them_pending_but_their_figures_show() -> None:
    job = AccountingRecord(12, None, name="allocation", user_name="root", state="COMPLETED", start_time=10, end_time=51)
    for now, status in ((52, "pending"), (51 + LATE_SECONDS + 1, "found")):
        key = AllocationKey(12, user_name="ann")
        (row,) = rows_from_records([job, ended()], key, ["0"], facts=ONE_SECOND, backend="sacct", now=now).rows
        assert (row.status, row.max_rss_bytes, row.requested_memory) == (status, 5_000_000, None)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_steps_of_a_lost_node_take_their_jobs_end(cluster: str) -> None:
    soon, later = (answer(cluster, "node_fail", "0", "1", seconds_later=after) for after in (10, LATE_SECONDS + 10))
    assert [row.status for row in soon.rows] == ["found", "pending"]
    assert [row.status for row in later.rows] == ["found", "partial"]
    lost = later.rows[1]
    assert lost.job_state == "NODE_FAIL"
    assert lost.end_time is not None
    assert lost.exit_code is None
    assert "the job's" in (lost.reason or "")


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_who_cancelled_is_kept(cluster: str) -> None:
    rows = by_name(answer(cluster, "cancelled_step", "0", "1"))
    assert (rows["cancelled_alone"].state, rows["cancelled_alone"].cancelled_by_uid) == ("CANCELLED", 0)
    assert rows["after"].cancelled_by_uid is None


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_each_run_of_a_requeued_job_has_its_own_rows(cluster: str) -> None:
    rows = sacct_rows(cluster, "requeued")
    starts = [row.start_time or 0 for row in rows if row.step_id == "0"]
    states = []
    for run_id, start in enumerate(starts, start=1):
        key = AllocationKey(job_of(rows), run_id=run_id, user_name="root", earliest_begin_time=start + 0.2)
        (row,) = rows_from_records(rows, key, ["0"], facts=ONE_SECOND, backend="sacct", now=starts[-1] + 60).rows
        assert row.run_id == run_id
        states.append((row.job_state, row.exit_code, row.exit_signal))
    assert states == [("REQUEUED", 0, 15), (None, 1, 0)]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_second_run_of_a_requeued_job_waits_for_its_record(cluster: str) -> None:
    rows = sacct_rows(cluster, "requeued_waiting")
    first_end = max(row.end_time or 0 for row in rows)
    key = AllocationKey(job_of(rows), run_id=2, earliest_begin_time=first_end + 400)
    (row,) = rows_from_records(rows, key, ["0"], facts=ONE_SECOND, backend="sacct", now=first_end + 410).rows
    assert (row.status, row.state, row.max_rss_bytes) == ("pending", None, None)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_unrequested_steps_are_returned_separately(cluster: str) -> None:
    found = answer(cluster, "ends", "0", "3")
    assert [row.step_id for row in found.rows] == ["0", "3"]
    assert [row.step_id for row in found.other_rows] == ["batch", "1", "2", "4", "5", "6", "7", "8"]


# --- one rule at a time


def test_a_measured_zero_stays_zero() -> None:
    row = of(ended())
    assert row.status == "found"
    assert (row.max_disk_write_bytes, row.ave_cpu_seconds, row.system_cpu_seconds) == (0, 0.0, 0.0)
    assert row.consumed_energy_joules == 7


@pytest.mark.parametrize("rss", [0, None])
def test_without_max_rss_no_polled_figure_counts(rss: int | None) -> None:
    row = of(ended(max_rss_bytes=rss))
    assert row.status == "partial"
    assert {column for column in POLLED if getattr(row, column) is not None} == set()
    assert row.total_cpu_seconds == 0.5


def test_a_virtual_size_of_zero_was_not_measured() -> None:
    row = of(ended(max_vm_size_bytes=0, max_vm_size_node="n1"))
    assert (row.status, row.max_vm_size_bytes, row.max_vm_size_node) == ("found", None, None)


def test_a_cpu_time_of_zero_was_not_measured() -> None:
    row = of(ended(total_cpu_seconds=0.0, user_cpu_seconds=0.0, system_cpu_seconds=0.0))
    assert (row.total_cpu_seconds, row.user_cpu_seconds, row.system_cpu_seconds) == (None, None, None)


def test_a_cluster_that_measures_nothing_says_so() -> None:
    step = ended(max_rss_bytes=None, total_cpu_seconds=0.0)
    job = AccountingRecord(12, None, state="COMPLETED", start_time=10, end_time=100)
    none = SlurmFacts("22.05.8", "jobacct_gather/none", None, "task=1")
    (row,) = rows_from_records([job, step], AllocationKey(12), ["0"], facts=none, backend="sacct", now=110).rows
    assert (row.status, row.total_cpu_seconds) == ("partial", None)
    assert "jobacct_gather/none" in (row.reason or "")


def test_a_long_step_without_figures_is_not_called_short() -> None:
    assert "polls every" not in (of(ended(max_rss_bytes=0)).reason or "")
    assert "polls every" in (of(ended(max_rss_bytes=0, elapsed_seconds=1)).reason or "")


@pytest.mark.parametrize(
    ("job_end", "state", "now", "status"),
    [
        (100, "COMPLETED", 110, "pending"),
        (100, "COMPLETED", 100 + LATE_SECONDS + 1, "missing"),
        (None, "RUNNING", 10_000_000, "pending"),
        (100, "COMPLETING", 100 + LATE_SECONDS + 1, "pending"),
    ],
)
def test_a_step_without_a_record(job_end: float | None, state: str, now: float, status: str) -> None:
    row = of(None, job_end=job_end, state=state, now=now)
    assert row.status == status
    assert row.state is None
    assert row.reason


@pytest.mark.parametrize(
    ("begin", "status"),
    [(None, "pending"), (1_000_000.0 - 60, "pending"), (1_000_000.0 - FORGOTTEN_SECONDS - 1, "missing")],
)
def test_a_job_without_a_record(begin: float | None, status: str) -> None:
    key = AllocationKey(12, earliest_begin_time=begin)
    (row,) = rows_from_records([], key, ["0"], facts=ONE_SECOND, backend="sacct", now=1_000_000).rows
    assert row.status == status
    assert "job 12" in (row.reason or "")


def test_a_recycled_job_id_gives_no_figures() -> None:
    job = AccountingRecord(12, None, user_name="bob", state="COMPLETED", start_time=10, end_time=100)
    key = AllocationKey(12, user_name="ann", earliest_begin_time=5_000)
    (row,) = rows_from_records([job, ended()], key, ["0"], facts=ONE_SECOND, backend="sacct", now=5_100).rows
    assert (row.status, row.max_rss_bytes, row.job_state) == ("pending", None, None)
    assert "another user" in (row.reason or "")


def test_a_step_that_runs_on_in_accounting_takes_its_jobs_end_in_time() -> None:
    runs = AccountingRecord(12, "0", state="RUNNING", start_time=20, elapsed_seconds=30)
    assert of(runs).status == "pending"
    late = of(runs, now=100 + LATE_SECONDS + 1)
    assert (late.status, late.end_time, late.exit_code) == ("partial", 100, None)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_row_that_is_not_plainly_found_says_why(cluster: str) -> None:
    for scenario in ("ends", "names", "running", "just_cancelled", "node_fail", "requeued_waiting"):
        for row in (*(found := answer(cluster, scenario, "0", "1", "99")).rows, *found.other_rows):
            assert row.status == "found" or row.reason


def test_a_step_missing_in_a_cut_answer_is_not_lost() -> None:
    job = AccountingRecord(12, None, state="COMPLETED", start_time=10, end_time=100)
    late = 100 + LATE_SECONDS + 1
    found = rows_from_records(
        [job, ended()], AllocationKey(12), ["0", "1"], facts=ONE_SECOND, backend="sacct", now=late, cut_off="cut off"
    )
    assert [row.status for row in found.rows] == ["found", "unavailable"]


def test_an_odd_cell_leaves_its_step_found_and_says_so() -> None:
    row = of(ended(ave_cpu_seconds=None, reason="not used: AveCPU '213502982334-14:25:51'"))
    assert (row.status, row.max_rss_bytes, row.ave_cpu_seconds) == ("found", 5_000_000, None)
    assert "213502982334" in (row.reason or "")


# --- facts


def test_facts_of_the_configuration() -> None:
    assert facts("22.05-cgroup") == SlurmFacts("22.05.8", "jobacct_gather/cgroup", None, "task=1")
    text = "JobAcctGatherFrequency  = energy=5,task=30\nJobAcctGatherParams = UsePss\nJobAcctGatherType=(null)\n"
    assert parse_config(text) == SlurmFacts(None, "jobacct_gather/none", "UsePss", "energy=5,task=30")
    assert parse_config("") == SlurmFacts()


@given(st.text() | st.from_regex(r"(JobAcctGather(Type|Params|Frequency) *= ?.{0,40}\n){0,4}", fullmatch=True))
def test_any_configuration_gives_facts_that_stand_in_it(text: str) -> None:
    found = parse_config(text)
    for fact in found:
        assert fact is None or fact in text or fact == "jobacct_gather/none"
    interval = found.gather_interval_seconds
    assert interval is None or str(int(interval)) in str(found.gather_frequency)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("task=1", 1), ("30", 30), ("energy=5,task=30", 30), ("task=0", 0), ("energy=5", None), (None, None)],
)
def test_gather_interval(text: str | None, seconds: float | None) -> None:
    assert SlurmFacts(gather_frequency=text).gather_interval_seconds == seconds


# --- keeping rows


def table(schema: Schema = NODE_SCHEMA) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrate(connection, schema)
    return connection


def kept(connection: sqlite3.Connection) -> list[dict[str, object]]:
    return [dict(row) for row in connection.execute("SELECT * FROM slurm_stats ORDER BY step_id")]


def put(connection: sqlite3.Connection, *rows: AccountingRecord) -> None:
    upsert_slurm_stats(connection, rows)


def test_rows_go_in_and_come_back_whole() -> None:
    connection = table()
    rows = answer("22.05-cgroup", "ends", "0", "1", "2").rows
    put(connection, *rows)
    assert kept(connection) == [row.as_row() for row in rows]


@pytest.mark.parametrize("order", list(permutations(STATUSES)))
def test_the_best_status_stays_in_any_order(order: tuple[str, ...]) -> None:
    connection = table()
    for number, status in enumerate(order):
        put(connection, AccountingRecord(12, "0", 1, status=status, queried_at=float(number)))
    assert [row["status"] for row in kept(connection)] == ["found"]


@pytest.mark.parametrize("order", [("pending", "found"), ("found", "pending"), ("missing", "pending", "found")])
def test_the_best_status_of_one_answer_stays(order: tuple[str, ...]) -> None:
    connection = table()
    rows = [AccountingRecord(12, "0", 1, status=status, queried_at=1.0) for status in order]
    put(connection, *rows, AccountingRecord(12, "1", 1, status="partial"))
    assert [(row["step_id"], row["status"]) for row in kept(connection)] == [("0", "found"), ("1", "partial")]


@pytest.mark.parametrize("status", ["found", "partial", "missing"])
def test_a_final_row_is_not_written_again(status: str) -> None:
    connection = table()
    for when in (1.0, 2.0):
        put(connection, AccountingRecord(12, "0", 1, status=status, queried_at=when))
    assert [row["queried_at"] for row in kept(connection)] == [1.0]


def test_a_pending_row_takes_the_newer_answer() -> None:
    connection = table()
    for when, state in ((1.0, None), (2.0, "RUNNING")):
        put(connection, AccountingRecord(12, "0", 1, status="pending", state=state, queried_at=when))
    assert [(row["state"], row["queried_at"]) for row in kept(connection)] == [("RUNNING", 2.0)]


def test_runs_and_steps_are_rows_of_their_own() -> None:
    connection = table()
    put(connection, *(AccountingRecord(12, step, run, status="found") for step in ("0", "batch") for run in (1, 2)))
    assert len(kept(connection)) == 4
