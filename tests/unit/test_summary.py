"""The summary of a run: at most 15 lines, with any job names and any number of failures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.reports.summary import MOST_LINES, SummaryRow, summary_lines

ROWS = [
    SummaryRow("prepare", "completed", None, 5 * 10**8, 99.0, 10.0, 10**9, 1, 60),
    SummaryRow(
        "train",
        "oom",
        "the kernel killed one of its processes for memory",
        105 * 10**8,
        523.4,
        9900.0,
        8 * 10**9,
        4,
        7200,
    ),
    SummaryRow("eval", "cancelled", "job train, on which it depends, did not complete"),
    SummaryRow("later", "not started"),
]


def test_the_lines() -> None:
    assert summary_lines("workflow 3 (demo), run 1", ROWS, ["torc slurm stats 3"]) == [
        "workflow 3 (demo), run 1: 4 jobs: 1 completed, 1 not started, 1 cancelled, 1 oom",
        "  most memory against its request: train, 10.50 GB of 8.00 GB (+31.3%)",
        "  most CPU against its request: train, 523.4% of 400% (4 cores) (+30.9%)",
        "  most run time against its request: train, 2h 45m 0s of 2h 0m 0s (+37.5%)",
        "  oom: train (the kernel killed one of its processes for memory)",
        "  cancelled: eval (job train, on which it depends, did not complete)",
        "next: torc slurm stats 3",
    ]


def test_nothing_measured_is_not_zero() -> None:
    lines = summary_lines("run", [SummaryRow("a", "completed", memory_bytes=10, num_cpus=1, runtime_seconds=5)])
    assert lines == ["run: 1 job: 1 completed"]


def test_what_the_node_files_lack_is_counted_too() -> None:
    lines = summary_lines("run", [SummaryRow("a", "not started")], states={"completed": 1, "not started": 0})
    assert lines == ["run: 1 job: 1 completed"]


texts = st.text(max_size=100)
rows = st.builds(
    SummaryRow,
    name=texts,
    status=st.sampled_from(["completed", "failed", "oom", "cancelled", "not started", "timeout"]),
    reason=st.none() | texts,
    peak_memory_bytes=st.none() | st.integers(0, 10**15),
    peak_cpu_percent=st.none() | st.floats(0, 1e6),
    exec_time_seconds=st.none() | st.floats(0, 1e8),
    memory_bytes=st.none() | st.integers(0, 10**15),
    num_cpus=st.none() | st.integers(1, 1000),
    runtime_seconds=st.none() | st.integers(0, 10**8),
)


@given(st.lists(rows, max_size=50), texts)
def test_never_more_than_fifteen_lines_that_any_terminal_can_show(found: list[SummaryRow], title: str) -> None:
    lines = summary_lines(title, found, ["one", "two"])
    assert len(lines) <= MOST_LINES
    assert all(line.isprintable() for line in lines)
    assert lines[-2:] == ["next: one", "next: two"]
