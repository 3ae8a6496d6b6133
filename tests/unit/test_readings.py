"""The sums of a tree's reading, also if only some of its processes were read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.step.readings import ProcessReading, TreeReading

READING = st.builds(
    ProcessReading,
    pid=st.integers(2, 9),
    start_ticks=st.integers(0, 9),
    parent_pid=st.just(1),
    cpu_seconds=st.floats(0, 1e6),
    children_cpu_seconds=st.floats(0, 1e6),
    rss_bytes=st.integers(0, 1 << 50),
    threads=st.integers(1, 999),
    major_faults=st.integers(0, 1 << 40),
    minor_faults=st.none() | st.integers(0, 1 << 40),
    is_zombie=st.booleans(),
)


def sums(tree: TreeReading) -> tuple[object, ...]:
    return (
        pytest.approx(tree.cpu_seconds),
        tree.rss_bytes,
        tree.num_processes,
        tree.num_threads,
        tree.major_faults,
    )


@given(st.lists(READING, min_size=1, max_size=9), st.lists(st.tuples(st.integers(0, 8), READING), max_size=9))
def test_some_read_again_add_up_as_all_read_again(
    processes: list[ProcessReading], replacements: list[tuple[int, ProcessReading]]
) -> None:
    replacements = [(place % len(processes), reading) for place, reading in replacements]
    before = TreeReading(processes, processes[:1])
    after = before.with_new(replacements)
    expected = list(processes)
    for place, reading in replacements:
        expected[place] = reading
    assert after.processes == expected
    assert sums(after) == sums(TreeReading(expected, []))
    if all(reading.minor_faults is not None for reading in (*processes, *(reading for _, reading in replacements))):
        assert after.minor_faults == TreeReading(expected, []).minor_faults
    assert (before.processes, after.vanished, after.is_unchanged) == (processes, [], False)
