"""Parsing sacct's output: recorded texts of four clusters, hostile names, and every kind of invalid text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import CLUSTERS, RECORDED, named, sacct_rows

from torc_slurm.common.errors import ParseError
from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.slurm.sacct import COLUMNS, NEW_COLUMNS, parse, parse_stream

ALL_TEXTS = sorted((RECORDED / "sacct").glob("*/*.txt"))
ALL_TEXTS = [path for path in ALL_TEXTS if path.name != "config.txt"]


def text_of(*records: dict[str, str], delimiter: str = "\x1fd\x1f", columns: tuple[str, ...] = COLUMNS) -> str:
    """sacct's output for these cells; a missing cell is blank."""
    blank = dict.fromkeys(columns, "") | {"JobIDRaw": "12", "JobID": "12", "State": "COMPLETED", "ExitCode": "0:0"}
    lines = [columns, *((blank | record).values() for record in records)]
    return "".join("".join(cell + delimiter for cell in line) + "\n" for line in lines)


def one(**cells: str) -> AccountingRecord:
    (row,) = parse(text_of(cells))
    return row


# --- recorded texts


@pytest.mark.parametrize("path", ALL_TEXTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recorded_text_is_read(path: Path) -> None:
    text = path.read_bytes().decode()
    rows = parse(text)
    assert rows[0].step_id is None
    assert all(row.slurm_job_id > 0 and row.state for row in rows)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_ends(cluster: str) -> None:
    steps = named(sacct_rows(cluster, "ends"))
    codes = {name: (row.state, row.exit_code, row.exit_signal) for name, row in steps.items()}
    exit_200 = 200 if cluster.startswith("26") else 72  # before 26.05 sacct printed 200 - 128
    assert codes == {
        "batch": ("FAILED", 5, 0),
        "completed": ("COMPLETED", 0, 0),
        "short": ("COMPLETED", 0, 0),
        "exits_3": ("FAILED", 3, 0),
        "exits_200": ("FAILED", exit_200, 0),
        "sigterm": ("CANCELLED", 0, 15),
        "sigsegv": ("CANCELLED", 0, 11),
        "two_nodes": ("COMPLETED", 0, 0),
        "kill_on_bad_exit": ("FAILED", 7, 0),
        "writes": ("COMPLETED", 0, 0),
    }


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_figures(cluster: str) -> None:
    rows = sacct_rows(cluster, "ends")
    job, steps = rows[0], named(rows)
    writes = steps["writes"]
    assert writes.max_disk_write_bytes is not None
    assert 30 * 2**20 <= writes.max_disk_write_bytes < 31 * 2**20
    assert writes.max_disk_read_bytes is not None
    assert writes.max_disk_read_bytes > 30 * 2**20
    two_nodes = steps["two_nodes"]
    assert two_nodes.task_count == 4
    assert two_nodes.max_rss_bytes is not None
    assert two_nodes.total_rss_bytes is not None
    assert two_nodes.max_rss_bytes < two_nodes.total_rss_bytes
    assert two_nodes.elapsed_seconds in (3, 4)
    assert (two_nodes.end_time or 0) - (two_nodes.start_time or 0) == two_nodes.elapsed_seconds
    assert job.requested_memory == "600M"
    assert job.allocated_tres == "billing=4,cpu=4,mem=600M,node=2"
    assert job.total_cpu_seconds == pytest.approx(sum(row.total_cpu_seconds or 0 for row in rows[1:]), abs=0.02)


@pytest.mark.parametrize("cluster", [name for name in CLUSTERS if "linux" in name])
def test_the_largest_task_and_its_node(cluster: str) -> None:
    """Task 3, on the second node, held four times as much as task 0."""
    two_nodes = named(sacct_rows(cluster, "ends"))["two_nodes"]
    assert two_nodes.max_rss_task == 3
    assert (two_nodes.max_rss_node or "").endswith("n2")
    assert 16_000_000 < (two_nodes.max_rss_bytes or 0) < 21_000_000


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_names_are_only_names(cluster: str) -> None:
    rows = sacct_rows(cluster, "names")
    snowman = "?" if cluster.startswith("22") else "☃"  # that database stores Latin-1
    assert [row.name for row in rows] == [
        "job\nname",
        "batch",
        "new\nline",
        "1.9|\n1.9|root|COMPLETED|0:0\n",
        'pi|pe "quote" \' \\ %s ;',
        "unit\x1fseparator\ttab",
        f"ümläut {snowman}",
        "job\nname",
    ]
    assert [row.step_id for row in rows] == [None, "batch", "0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_array_and_heterogeneous_jobs(cluster: str) -> None:
    task = sacct_rows(cluster, "array_task_2")
    assert {row.shown_job_id.partition(".")[0].partition("_")[2] for row in task} == {"2"}
    assert len({row.slurm_job_id for row in task}) == 1
    assert len({row.slurm_job_id for row in sacct_rows(cluster, "array_whole")}) == 3
    het = sacct_rows(cluster, "het")
    components = [row.shown_job_id.partition("+")[2] for row in het]
    assert components == ["0", "0.batch", "0.0", "1", "1.0", "1.1"]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_limits_and_cancellers(cluster: str) -> None:
    job = sacct_rows(cluster, "limit")[0]
    assert (job.state, job.time_limit_seconds) == ("TIMEOUT", 60)
    job = sacct_rows(cluster, "cancelled")[0]
    assert (job.state, job.cancelled_by_uid, job.exit_signal) == ("CANCELLED", 0, 0)
    step = named(sacct_rows(cluster, "cancelled_step"))["cancelled_alone"]
    assert (step.state, step.cancelled_by_uid, step.exit_signal) == ("CANCELLED", 0, 9)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_restarts_where_sacct_knows_them(cluster: str) -> None:
    restarts = [row.restart_count for row in sacct_rows(cluster, "requeued") if row.step_id is None]
    assert restarts == ([None, None] if cluster.startswith("22") else [0, 1])


# --- cells


def test_cells_are_read_as_their_columns_promise() -> None:
    row = one(
        JobIDRaw="12.3", JobID="10_2.3", User="ann", State="CANCELLED by 1000", ExitCode="0:15", Submit="Unknown",
        Start="2026-03-29T02:30:00", End="2026-03-29T03:30:00", ElapsedRaw="3600", MaxRSS="213284K", MaxRSSTask="7",
        MaxVMSize="1.00M", AveCPU="1-00:00:01", TotalCPU="00:09.372", TRESUsageInTot="mem=426568K",
        TRESUsageInMax="cpu=00:00:04,fs/disk=36414,mem=213284K,gres/gpumem=2G,gres/gpuutil=55",
        TRESUsageOutMax="energy=0,fs/disk=1",
        NodeList="n[1-2]", NTasks="4294967294", ReqMem="4Gn", TimelimitRaw="90", ConsumedEnergyRaw="0", JobName="x",
    )  # fmt: skip
    assert (row.slurm_job_id, row.step_id, row.shown_job_id, row.user_name) == (12, "3", "10_2.3", "ann")
    assert (row.state, row.cancelled_by_uid, row.exit_code, row.exit_signal) == ("CANCELLED", 1000, 0, 15)
    assert row.submit_time is None
    assert (row.end_time or 0) - (row.start_time or 0) == 3600  # UTC: no hour occurs twice or is missing
    assert (row.max_rss_bytes, row.max_rss_task, row.max_vm_size_bytes) == (213284 * 1024, 7, 2**20)
    assert (row.ave_cpu_seconds, row.total_cpu_seconds) == (86401, 9.372)
    assert (row.max_disk_read_bytes, row.max_disk_write_bytes) == (36414, 1)
    assert (row.total_rss_bytes, row.gpu_memory_bytes, row.gpu_utilization_percent) == (426568 * 1024, 2 * 2**30, 55)
    assert (row.task_count, row.requested_memory, row.time_limit_seconds) == (None, "4Gn", 5400)
    assert row.consumed_energy_joules == 0


def test_a_blank_cell_is_none_and_not_zero() -> None:
    row = one()
    known = {"slurm_job_id", "shown_job_id", "state", "exit_code", "exit_signal", "run_id", "status"}
    assert {name for name, value in row._asdict().items() if value is not None} == known


@pytest.mark.parametrize("cell", ["UNLIMITED", "Partition_Limit", ""])
def test_no_time_limit_is_none(cell: str) -> None:
    assert one(TimelimitRaw=cell).time_limit_seconds is None


def test_the_memory_that_22_05_prints_without_a_request_is_none() -> None:
    assert one(ReqMem="18446744073709551616.00M").requested_memory is None


@pytest.mark.parametrize("cell", ["12.x", "abc", "", "12.0.1"])
def test_a_record_without_a_readable_id_is_left_out_and_reported(cell: str) -> None:
    problems: list[str] = []
    text = text_of({"JobIDRaw": cell}, {"JobIDRaw": "13", "MaxRSS": "5"})
    (row,) = parse_stream([text.encode()], problems.append)
    assert (row.slurm_job_id, row.max_rss_bytes) == (13, 5)
    (problem,) = problems
    assert f"JobIDRaw {cell!r}" in problem


@pytest.mark.parametrize(
    ("column", "cell", "field"),
    [
        ("State", "CANCELLED by root", "cancelled_by_uid"),
        ("ExitCode", "0", "exit_code"),
        ("ExitCode", "0:0:0", "exit_signal"),
        ("Start", "yesterday", "start_time"),
        ("Start", "2026-13-01T00:00:00", "start_time"),
        ("End", "10:00:00", "end_time"),
        ("ElapsedRaw", "00:10", "elapsed_seconds"),
        ("ElapsedRaw", "-1", "elapsed_seconds"),
        ("ElapsedRaw", "18446744073709551615", "elapsed_seconds"),
        ("MaxRSS", "12n1", "max_rss_bytes"),
        ("MaxRSS", "n1", "max_rss_bytes"),
        ("MaxRSS", "12,5K", "max_rss_bytes"),
        ("MaxRSS", "18446744073709551615", "max_rss_bytes"),
        ("MaxRSS", "18446744073709551616.00K", "max_rss_bytes"),
        ("MaxVMSize", "1k", "max_vm_size_bytes"),
        ("AveCPU", "17", "ave_cpu_seconds"),
        ("AveCPU", "213503982334-14:25:51", "ave_cpu_seconds"),
        ("AveCPU", "49710-06:28:14", "ave_cpu_seconds"),
        ("TotalCPU", "a:b", "total_cpu_seconds"),
        ("TotalCPU", "INVALID", "total_cpu_seconds"),
        ("TRESUsageInTot", "mem", "total_rss_bytes"),
        ("TRESUsageInTot", "mem=x", "total_rss_bytes"),
        ("TRESUsageInTot", "mem=1,mem=2", "total_rss_bytes"),
        ("TRESUsageInTot", "mem=NONE", "total_rss_bytes"),
        ("TRESUsageInTot", "mem=infinite", "total_rss_bytes"),
        ("TRESUsageInMax", "gres/gpumem=18446744073709551614", "gpu_memory_bytes"),
        ("TRESUsageInMax", "gres/gpuutil=4294967294", "gpu_utilization_percent"),
        ("NTasks", "two", "task_count"),
        ("NTasks", "٣", "task_count"),
        ("ReqMem", "lots", "requested_memory"),
        ("TimelimitRaw", "1:00", "time_limit_seconds"),
        ("ConsumedEnergyRaw", "1.5", "consumed_energy_joules"),
        ("ConsumedEnergyRaw", "18446744073709551613", "consumed_energy_joules"),
    ],
)
def test_an_invalid_cell_is_none_and_named_and_the_rest_is_kept(column: str, cell: str, field: str) -> None:
    known = {"MaxVMSizeTask": "3", "UserCPU": "00:05", "JobName": "work"}
    row = one(**{column: cell, **known})
    assert getattr(row, field) is None
    assert (row.max_vm_size_task, row.user_cpu_seconds, row.name) == (3, 5.0, "work")
    assert column in (row.reason or "")
    assert cell.rpartition("=")[2][:40] in (row.reason or "")


def test_an_odd_unused_item_changes_nothing() -> None:
    row = one(TRESUsageInMax="cpu=NONE,energy=18446744073709551616.00,fs/disk=5273,mem=256K")
    assert (row.max_disk_read_bytes, row.reason) == (5273, None)


def test_a_state_of_another_form_is_an_unknown_state() -> None:
    assert one(State="half way").state == "half way"


# --- texts that are none


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "JobIDRaw",
        "JobIDRaw|JobID|",
        "JobIDRaw|JobID|\n",
        "sacct: error: slurm_persist_conn_open\n",
        "12|12|COMPLETED|\n",
        "JobIDRawJobIDUser\n",
    ],
)
def test_a_text_without_the_columns_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)


@given(st.lists(st.text(alphabet="abc :-=*", min_size=1)))
def test_lines_before_the_columns_names_are_the_sites_own(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines) + text_of({"MaxRSS": "7"})
    assert [row.max_rss_bytes for row in parse(text)] == [7]
    assert [row.max_rss_bytes for row in parse_stream([bytes([byte]) for byte in text.encode()])] == [7]


def test_a_header_without_records_is_no_rows() -> None:
    assert parse(text_of()) == []


def test_columns_are_found_by_name_in_any_order() -> None:
    columns = (*COLUMNS[:2], *reversed(COLUMNS[2:]))
    (row,) = parse(text_of({"MaxRSS": "77", "NTasks": "3"}, columns=columns))
    assert (row.max_rss_bytes, row.task_count) == (77, 3)


@pytest.mark.parametrize(
    "columns", [COLUMNS[:-1], (*COLUMNS, "Planned"), (*COLUMNS[:-1], "Reserved"), (*COLUMNS, COLUMNS[5]), COLUMNS[1:]]
)
def test_unrequested_columns_are_refused(columns: tuple[str, ...]) -> None:
    with pytest.raises(ParseError):
        parse(text_of({}, columns=columns))


@pytest.mark.parametrize("tail", ["12", "12|", "12\x1fd\x1f", "\n", " "])
def test_an_output_that_is_cut_off_is_refused(tail: str) -> None:
    with pytest.raises(ParseError):
        parse(text_of({}) + tail)


@pytest.mark.parametrize("number", [0, 1])
def test_a_record_with_a_column_too_many_or_too_few_is_refused_and_no_other(number: int) -> None:
    records = [
        {"JobIDRaw": f"12.{step}", "JobID": f"12.{step}", "MaxRSS": "7", "JobName": f"s{step}"} for step in range(3)
    ]
    whole = text_of(*records)
    for wrong in (
        whole.replace(f"s{number}\x1fd", f"s{number}\x1fd\x1fmore\x1fd"),
        whole.replace(f"12.{number}\x1fd\x1f12.{number}\x1fd\x1f", f"12.{number}\x1fd\x1f"),
        whole.replace(f"s{number}\x1fd\x1f", ""),
    ):
        rows = parse(wrong)
        assert [row.step_id for row in rows] == ["0", "1", "2"]
        damaged = rows.pop(number)
        assert "columns in place of" in (damaged.reason or "")
        assert (damaged.state, damaged.max_rss_bytes) == (None, None)
        assert [row.max_rss_bytes for row in rows] == [7, 7]


@given(st.sampled_from(ALL_TEXTS), st.integers(1, 5000))
def test_a_text_in_pieces_gives_the_same_records(path: Path, size: int) -> None:
    text = path.read_bytes()
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert list(parse_stream(pieces)) == parse(text.decode())


some_cells = st.one_of(
    st.sampled_from(["", "7", "1024K", "01:30.500", "1-02:03:04", "2026-03-29T02:30:00", "NONE", "(null)", "x\ny"]),
    st.text(alphabet="0123456789.:-KM=,memfs/disk ", max_size=20),
    st.sampled_from(["mem=7,fs/disk=8", "mem=9,fs/disk=1", "fs/disk=8,mem=7", "mem=7,mem=8", "mem", "mem=,x=1"]),
)


@given(st.lists(st.dictionaries(st.sampled_from(COLUMNS[2:]), some_cells, max_size=12), max_size=8))
def test_records_that_are_read_together_are_the_same_as_alone(records: list[dict[str, str]]) -> None:
    numbered = [{"JobIDRaw": f"12.{number}", "JobID": f"12.{number}"} | cells for number, cells in enumerate(records)]
    assert parse(text_of(*numbered)) == [one(**cells) for cells in numbered]


@given(st.text())
def test_any_text_gives_rows_or_an_error(text: str) -> None:
    try:
        rows = parse(text)
    except ParseError:
        return
    assert rows == []  # only a header that names every column passes


@given(st.text(alphabet=st.characters(codec="utf-8")), st.sampled_from(["JobName", "User", "NodeList"]))
def test_any_text_in_a_free_cell_comes_back_and_moves_no_other(value: str, column: str) -> None:
    row = one(**{column: value, "MaxRSS": "4096", "NTasks": "2"})
    assert (row.max_rss_bytes, row.task_count, row.exit_code) == (4096, 2, 0)
    assert value in {row.name or "", row.user_name or "", row.node_list or "", "None assigned", "(null)", "N/A"}


cells = st.text(alphabet="0123456789.:-KMGTPE=,abcTZ+ \n|", max_size=20)


@given(st.sampled_from(COLUMNS), cells)
def test_a_number_read_from_a_cell_stands_in_it(column: str, cell: str) -> None:
    """Never a wrong number: the value of an odd cell is None, or follows from its digits."""
    try:
        rows = parse(text_of({column: cell}))
    except ParseError:
        return
    known = [value for row in rows for name, value in row._asdict().items() if name != "run_id"]
    numbers = [value for value in known if isinstance(value, int | float) and value not in (0, 12)]
    assert not numbers or re.search("[1-9]", cell)


@given(st.sampled_from(ALL_TEXTS), st.data())
def test_a_recorded_text_with_a_piece_missing_is_refused_or_loses_whole_records(
    path: Path, data: st.DataObject
) -> None:
    text = path.read_bytes().decode()
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, min(len(text), start + 2000)))
    try:
        rows = parse(text[:start] + text[end:])
    except ParseError:
        return
    whole = {repr(row) for row in parse(text)}
    changed = [row for row in rows if repr(row) not in whole]
    # At most one record changed: the one that was cut.
    assert len(changed) <= 1


@given(st.sampled_from(ALL_TEXTS), st.data())
def test_every_true_beginning_of_a_text_is_refused_unless_it_ends_with_a_record(
    path: Path, data: st.DataObject
) -> None:
    text = path.read_bytes().decode()
    cut = data.draw(st.integers(0, len(text) - 1))
    try:
        rows = parse(text[:cut])
    except ParseError:
        return
    assert rows == parse(text)[: len(rows)]


def test_optional_columns_are_read_where_they_are() -> None:
    (row,) = parse(text_of({"Restarts": "2"}, columns=(*COLUMNS, *NEW_COLUMNS)))
    assert row.restart_count == 2
