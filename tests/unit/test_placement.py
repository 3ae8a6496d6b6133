"""Placement: never over capacity, no starvation, deterministic."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.runner.placement import Demand, Node, Placed, Placement, fits_empty


@st.composite
def nodes_of(draw: st.DrawFn) -> tuple[Node, ...]:
    count = draw(st.integers(1, 5))
    return tuple(
        Node(
            f"n{number}",
            cpus=draw(st.integers(1, 16)),
            memory_mib=draw(st.none() | st.integers(1, 64)),
            gpus=draw(st.integers(0, 4)),
            threads_per_core=draw(st.sampled_from((1, 1, 2))),
        )
        for number in range(count)
    )


demands = st.builds(
    Demand,
    cpus=st.integers(1, 16),
    memory_mib=st.integers(0, 64),
    gpus=st.integers(0, 3),
    nodes=st.integers(1, 3),
)


class Watched:
    """A placement with a simple record of what runs where."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.placement = Placement(nodes)
        self.demands: dict[int, Demand] = {}
        self.where: dict[int, tuple[str, ...]] = {}

    def take(self, most: int) -> list[Placed]:
        placed = self.placement.take(most)
        assert len(placed) <= most
        for job, where in placed:
            assert len(set(where)) == self.demands[job].nodes
            self.where[job] = where
        self.check()
        return placed

    def check(self) -> None:
        for name, node in self.nodes.items():
            here = [self.demands[job] for job, where in self.where.items() if name in where]
            assert sum(demand.cpus for demand in here) <= node.cpus
            assert sum(demand.gpus for demand in here) <= node.gpus
            assert node.memory_mib is None or sum(demand.memory_mib for demand in here) <= node.memory_mib
            threads = node.threads_per_core
            assert sum(-(-demand.cpus // threads) for demand in here) <= -(-node.cpus // threads)

    def end(self, job: int) -> None:
        del self.where[job]
        self.placement.release(job)


@given(nodes_of(), st.lists(demands, max_size=30), st.randoms(use_true_random=False), st.integers(1, 5))
def test_every_job_that_fits_runs_once_and_no_node_is_overfull(
    nodes: tuple[Node, ...], wanted: list[Demand], chance: random.Random, most: int
) -> None:
    watched = Watched(nodes)
    coming = [(job, demand) for job, demand in enumerate(wanted) if fits_empty(demand, nodes)]
    expected = {job for job, _ in coming}
    seen: set[int] = set()
    while coming or watched.where or seen != expected:
        for _ in range(chance.randint(0, 5)):
            if coming:
                job, demand = coming.pop(chance.randrange(len(coming)))
                watched.demands[job] = demand
                watched.placement.add(job, demand, job)
        started = [job for job, _ in watched.take(most)]
        assert not seen & set(started)
        seen.update(started)
        assert watched.where or coming or seen == expected, "nothing runs, and yet nothing starts"
        if watched.where:
            watched.end(chance.choice(sorted(watched.where)))


@given(nodes_of(), demands, st.lists(demands, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_stream_of_small_jobs_never_starves_a_large_one(
    nodes: tuple[Node, ...], large: Demand, small: list[Demand], chance: random.Random
) -> None:
    small = [demand for demand in small if fits_empty(demand, nodes)]
    if not fits_empty(large, nodes):
        return
    watched = Watched(nodes)
    job = waiting = 0
    for step in range(200):
        while small and waiting < 20:
            job, waiting = job + 1, waiting + 1
            watched.demands[job] = chance.choice(small)
            watched.placement.add(job, watched.demands[job], job)
        if step == 5:
            watched.demands[0] = large
            watched.placement.add(0, large, job)
        waiting -= len(watched.take(1000))
        if 0 in watched.where:
            return
        if watched.where:
            watched.end(min(watched.where))  # the oldest: every job ends some time
    raise AssertionError("the large job was never started")


@given(nodes_of(), st.lists(demands, max_size=20))
def test_the_same_jobs_go_to_the_same_nodes(nodes: tuple[Node, ...], wanted: list[Demand]) -> None:
    def once() -> list[Placed]:
        placement = Placement(nodes)
        for job, demand in enumerate(wanted):
            if fits_empty(demand, nodes):
                placement.add(job, demand, job)
        return placement.take(1000)

    assert once() == once()


def test_a_job_that_can_never_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="can never fit"):
        Placement([Node("n1", 4, 100)]).add(1, Demand(5), 1)


def test_jobs_fill_a_node_before_the_next_and_all_nodes_at_once() -> None:
    placement = Placement([Node("n1", 4, 100), Node("n2", 4, 100)])
    for job in range(9):
        placement.add(job, Demand(1, 10), job)
    where = [nodes for _, nodes in placement.take(100)]
    assert where == [("n1",)] * 4 + [("n2",)] * 4


def test_small_jobs_fill_what_the_waiting_job_leaves() -> None:
    placement = Placement([Node("n1", 4, None), Node("n2", 4, None)])
    placement.add(1, Demand(2), 1)
    assert placement.take(9) == [Placed(1, ("n1",))]
    placement.add(2, Demand(3, nodes=2), 2)  # waits for n1
    for job in range(3, 9):
        placement.add(job, Demand(1), job)
    assert placement.take(9) == [Placed(3, ("n1",)), Placed(4, ("n2",))]  # one next to the waiting job on each node
    placement.release(1)
    assert placement.take(9) == [Placed(2, ("n1", "n2"))]


def test_an_earlier_job_of_the_same_size_does_not_block_the_one_with_the_reservation() -> None:
    placement = Placement([Node("n1", 4, None)])
    placement.add(5, Demand(1), 5)
    placement.take(9)
    placement.add(6, Demand(4), 6)
    placement.take(9)
    placement.add(1, Demand(4), 1)  # became ready later, though it is earlier in the plan
    placement.release(5)
    assert placement.take(9) == [Placed(6, ("n1",))]


def test_a_lost_node_gets_no_more_jobs_and_what_fits_nowhere_else_does_not_wait() -> None:
    placement = Placement([Node("n1", 4, None), Node("n2", 8, None)])
    for job, demand in enumerate((Demand(8), Demand(4), Demand(6), Demand(1, nodes=2), Demand(4))):
        placement.add(job, demand, job)
    assert placement.take(9) == [Placed(0, ("n2",)), Placed(1, ("n1",))]  # job 2 waits for n2
    assert placement.withdraw("n2") == [2, 3]
    placement.release(0)  # it ended with its node
    placement.release(1)
    assert placement.take(9) == [Placed(4, ("n1",))]
    assert placement.withdraw("n2") == []


def test_one_cpu_jobs_take_whole_cores() -> None:
    placement = Placement([Node("n1", 8, None, threads_per_core=2)])
    for job in range(8):
        placement.add(job, Demand(1), job)
    assert len(placement.take(100)) == 4


def test_a_job_without_gpus_leaves_the_gpus_alone() -> None:
    placement = Placement([Node("n1", 4, None, gpus=2), Node("n2", 4, None)])
    placement.add(1, Demand(1), 1)
    assert placement.take(9) == [Placed(1, ("n2",))]
