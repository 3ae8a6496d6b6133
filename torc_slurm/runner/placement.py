"""Where jobs run: packs them on nodes by CPUs, memory and GPUs, never more than fit. Pure and deterministic.

Jobs go in the plan's order, each to the nodes on which it leaves the least room, so that large gaps stay for large
jobs. The first job that does not fit reserves nodes: from then on another job starts there only if it would still fit
beside the waiting one. The jobs running there end some time, so the waiting job never starves, and its nodes are not
idle meanwhile. There is one reservation at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

_NO_LIMIT = 1 << 62


class Node(NamedTuple):
    """What jobs may use on one node; ``memory_mib`` is None if memory is not allocated."""

    name: str
    cpus: int
    memory_mib: int | None
    gpus: int = 0
    threads_per_core: int = 1


class Demand(NamedTuple):
    """What a job takes on each of ``nodes`` nodes."""

    cpus: int
    memory_mib: int = 0
    gpus: int = 0
    nodes: int = 1


class Placed(NamedTuple):
    """A job that may start now, on these nodes."""

    job_id: int
    nodes: tuple[str, ...]


class _Room(NamedTuple):
    """CPUs, cores, MiB and GPUs of a node: all, free, or taken."""

    cpus: int
    cores: int
    memory_mib: int
    gpus: int

    def less(self, other: _Room) -> _Room:
        return _Room(*(mine - its for mine, its in zip(self, other, strict=True)))

    def plus(self, other: _Room) -> _Room:
        return _Room(*(mine + its for mine, its in zip(self, other, strict=True)))

    def holds(self, other: _Room) -> bool:
        return all(mine >= its for mine, its in zip(self, other, strict=True))


_NOTHING = _Room(0, 0, 0, 0)


def _whole_room(node: Node) -> _Room:
    memory = _NO_LIMIT if node.memory_mib is None else node.memory_mib
    return _Room(node.cpus, _cores(node.cpus, node), memory, node.gpus)


def _taken_by(demand: Demand, node: Node) -> _Room:
    return _Room(demand.cpus, _cores(demand.cpus, node), demand.memory_mib, demand.gpus)


def _cores(cpus: int, node: Node) -> int:
    """Slurm gives a step whole cores: on a node with two threads per core a 1-CPU step takes as much as a 2-CPU one."""
    return -(-cpus // node.threads_per_core)


def fits_empty(demand: Demand, nodes: Sequence[Node]) -> bool:
    """Whether the job would fit if nothing else ran."""
    return sum(_whole_room(node).holds(_taken_by(demand, node)) for node in nodes) >= demand.nodes


class _Reservation:
    """Nodes reserved for a waiting job: what starts there must fit beside it."""

    def __init__(self, job_id: int, order: int, demand: Demand, nodes: Sequence[str]) -> None:
        self.job_id = job_id
        self.order = order
        self.demand = demand
        self.started_since: dict[str, _Room] = dict.fromkeys(nodes, _NOTHING)
        self.jobs_since: set[int] = set()


class Placement:
    """The state of the nodes and of the jobs that wait for room on them."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._rank = {node.name: rank for rank, node in enumerate(nodes)}
        self._free = {node.name: _whole_room(node) for node in nodes}
        self._waiting: dict[Demand, deque[tuple[int, int]]] = {}  # by demand: (order, job), in order
        self._running: dict[int, tuple[Demand, tuple[str, ...]]] = {}
        self._reservation: _Reservation | None = None

    @property
    def running(self) -> frozenset[int]:
        """The jobs that occupy room."""
        return frozenset(self._running)

    def add(self, job_id: int, demand: Demand, order: int) -> None:
        """Add a ready job; a lower ``order`` goes first.

        Raises:
            ValueError: it would not fit even if nothing else ran, and so would wait forever.
        """
        if not fits_empty(demand, tuple(self._nodes.values())):
            raise ValueError(f"job {job_id} can never fit: {demand}")
        queue = self._waiting.setdefault(demand, deque())
        queue.append((order, job_id))
        if len(queue) > 1 and queue[-2] > queue[-1]:
            self._waiting[demand] = deque(sorted(queue))

    def take(self, most: int) -> list[Placed]:
        """The jobs that may start now, at most ``most``; they occupy their room until `release`."""
        placed: list[Placed] = []
        blocked: set[Demand] = set()
        while len(placed) < most and (head := self._next_to_try(blocked)) is not None:
            (order, job_id), demand = head
            nodes = self._find(job_id, demand)
            if nodes:
                self._start(job_id, order, demand, nodes)
                placed.append(Placed(job_id, nodes))
            else:
                blocked.add(demand)
                self._reserve(job_id, order, demand)
        return placed

    def _next_to_try(self, blocked: set[Demand]) -> tuple[tuple[int, int], Demand] | None:
        """The job with the reservation, then the first in order. A demand that does not fit is tried once per pass."""
        kept = self._reservation
        if kept is not None and kept.demand not in blocked:
            return (kept.order, kept.job_id), kept.demand
        heads = [(queue[0], demand) for demand, queue in self._waiting.items() if demand not in blocked]
        return min(heads, default=None)

    def withdraw(self, name: str) -> list[int]:
        """Remove a lost node: no more jobs start there.

        Returns:
            The waiting jobs that can no longer fit; they stop waiting.
        """
        if self._nodes.pop(name, None) is None:
            return []
        del self._free[name]
        if self._reservation is not None and name in self._reservation.started_since:
            self._reservation = None
        left = tuple(self._nodes.values())
        never = [demand for demand in self._waiting if not fits_empty(demand, left)]
        return [job_id for demand in never for _, job_id in self._waiting.pop(demand)]

    def take_along(self, job_id: int, key: int, most: int, may_join: Callable[[int], bool]) -> list[int]:
        """Up to so many waiting jobs of the same demand as one that was taken, whose room is ``key``'s from now on.

        Where it would be only that one, nothing is changed. No more than its share, were all of the waiting spread
        over the room that is free now: other CPUs are not to be idle meanwhile.
        """
        demand, nodes = self._running[job_id]
        queue = self._waiting.get(demand, deque())
        shares = self._fit_now(demand) + 1
        able = list(islice((entry for entry in queue if may_join(entry[1])), (most + 1) * shares))  # more is no matter
        chosen = able[: min(most, -(-(len(able) + 1) // shares) - 1)]
        if not chosen:
            return []
        for entry in chosen:
            queue.remove(entry)
        if not queue:
            del self._waiting[demand]
        del self._running[job_id]
        self._running[key] = (demand, nodes)
        kept = self._reservation
        if kept is not None and job_id in kept.jobs_since:
            kept.jobs_since = (kept.jobs_since - {job_id}) | {key}
        taken_along = [other for _, other in chosen]
        if kept is not None and kept.job_id in taken_along:
            self._reservation = None
        return taken_along

    def _fit_now(self, demand: Demand) -> int:
        """How many more of a demand on one node fit now."""
        count = 0
        for node in self._nodes.values():
            free, taken = self._free[node.name], _taken_by(demand, node)
            count += min((mine // its for mine, its in zip(free, taken, strict=True) if its), default=0)
        return count

    def release(self, job_id: int) -> None:
        """Free the room of a job that has ended."""
        demand, nodes = self._running.pop(job_id)
        kept = self._reservation
        for name in self._nodes.keys() & set(nodes):
            taken = _taken_by(demand, self._nodes[name])
            self._free[name] = self._free[name].plus(taken)
            if kept is not None and job_id in kept.jobs_since and name in kept.started_since:
                kept.started_since[name] = kept.started_since[name].less(taken)

    def _find(self, job_id: int, demand: Demand) -> tuple[str, ...]:
        """The nodes for the job, empty if it does not fit now: those on which it leaves the least, GPUs first."""
        able = [name for name in self._nodes if self._may_start(job_id, demand, name)]
        if len(able) < demand.nodes:
            return ()
        chosen = sorted(able, key=lambda name: (self._left(demand, name), self._rank[name]))[: demand.nodes]
        return tuple(sorted(chosen, key=self._rank.__getitem__))

    def _may_start(self, job_id: int, demand: Demand, name: str) -> bool:
        taken = _taken_by(demand, self._nodes[name])
        if not self._free[name].holds(taken):
            return False
        kept = self._reservation
        if kept is None or kept.job_id == job_id or name not in kept.started_since:
            return True
        beside = _taken_by(kept.demand, self._nodes[name]).plus(kept.started_since[name]).plus(taken)
        return _whole_room(self._nodes[name]).holds(beside)

    def _left(self, demand: Demand, name: str) -> tuple[int, int, int]:
        left = self._free[name].less(_taken_by(demand, self._nodes[name]))
        return left.gpus, left.cores, left.memory_mib

    def _start(self, job_id: int, order: int, demand: Demand, nodes: tuple[str, ...]) -> None:
        queue = self._waiting[demand]
        queue.remove((order, job_id))
        if not queue:
            del self._waiting[demand]
        self._running[job_id] = (demand, nodes)
        kept = self._reservation
        if kept is not None and kept.job_id == job_id:
            self._reservation = kept = None
        for name in nodes:
            taken = _taken_by(demand, self._nodes[name])
            self._free[name] = self._free[name].less(taken)
            if kept is not None and name in kept.started_since:
                kept.started_since[name] = kept.started_since[name].plus(taken)
                kept.jobs_since.add(job_id)

    def _reserve(self, job_id: int, order: int, demand: Demand) -> None:
        """Reserve for the job the nodes on which the least is missing."""
        if self._reservation is not None:
            return
        able = [name for name, node in self._nodes.items() if _whole_room(node).holds(_taken_by(demand, node))]
        nearest = sorted(able, key=lambda name: (self._lacks(demand, name), self._rank[name]))
        self._reservation = _Reservation(job_id, order, demand, nearest[: demand.nodes])

    def _lacks(self, demand: Demand, name: str) -> tuple[int, int, int]:
        taken = _taken_by(demand, self._nodes[name])
        left = self._free[name].less(taken)
        return max(0, -left.gpus), max(0, -left.cores), max(0, -left.memory_mib)
