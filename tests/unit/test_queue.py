"""The ready queue: the order that dependencies require."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.runner.queue import Cancelled, JobQueue


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[int, list[int]]]:
    """Jobs that depend on earlier ones, given in any order."""
    count = draw(st.integers(0, 25))
    jobs = [(job, draw(st.lists(st.integers(0, job - 1), max_size=4)) if job else []) for job in range(count)]
    return draw(st.permutations(jobs))


@given(graphs(), st.sets(st.integers(0, 24)))
def test_each_job_runs_after_its_dependencies_or_is_cancelled_with_cause(
    graph: list[tuple[int, list[int]]], failing: set[int]
) -> None:
    queue = JobQueue(graph)
    needs = dict(graph)
    ready = queue.initially_ready()
    completed: set[int] = set()
    failed: set[int] = set()
    cancelled: dict[int, int] = {}
    while ready:
        job = ready.pop()
        assert set(needs[job]) <= completed
        if job in failing:
            failed.add(job)
            cancelled |= dict(queue.fail(job)[0])
        else:
            completed.add(job)
            ready += queue.complete(job)
    assert queue.is_over
    assert completed | failed | cancelled.keys() == set(needs)
    assert len(completed) + len(failed) + len(cancelled) == len(needs)
    assert set(cancelled.values()) <= failed
    for job in cancelled:
        assert set(needs[job]) & (failed | cancelled.keys())


def test_dependencies_that_are_not_in_the_plan_are_done_already() -> None:
    assert JobQueue([(2, [1])]).initially_ready() == [2]


def test_dependents_of_dependents_name_the_job_that_failed() -> None:
    queue = JobQueue([(1, []), (2, [1]), (3, [2]), (4, [])])
    assert queue.fail(1) == ([Cancelled(2, 1), Cancelled(3, 1)], [])
    assert queue.unfinished == {4}
