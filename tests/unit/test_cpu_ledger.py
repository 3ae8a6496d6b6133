"""CPU time adds up, compared with a simulated kernel whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.step.cpu_ledger import TICK_SLACK_SECONDS, CpuLedger
from torc_slurm.step.readings import ProcessReading, TreeReading

WRAPPER = 1


@dataclass
class Simulated:
    """A process of the simulated kernel: exact seconds, its own and those of its reaped children."""

    pid: int
    parent: int
    start: int
    own: float = 0.0
    waited: float = 0.0
    ignores_children: bool = False

    def reading(self) -> ProcessReading:
        return ProcessReading(self.pid, self.start, self.parent, self.own, self.waited, 0, 1, 0, 0, False)


@dataclass
class Kernel:
    """Charges time, reaps like wait4 and SIG_IGN, and reuses pids."""

    alive: dict[int, Simulated] = field(default_factory=dict)
    seen: dict[int, ProcessReading] = field(default_factory=dict)
    wrapper_waited: float = 0.0
    charged: float = 0.0
    clock: int = 0

    def fork(self, parent: int, ignores_children: bool) -> None:
        pid = next(pid for pid in range(2, 100) if pid not in self.alive)
        self.clock += 1
        self.alive[pid] = Simulated(pid, parent, self.clock, ignores_children=ignores_children)

    def burn(self, pid: int, seconds: float) -> None:
        self.alive[pid].own += seconds
        self.charged += seconds

    def end(self, pid: int) -> None:
        process = self.alive.pop(pid)
        total = process.own + process.waited
        for child in self.alive.values():
            if child.parent == pid:
                child.parent = WRAPPER
        parent = self.alive.get(process.parent)
        if parent is None:
            self.wrapper_waited += total
        elif not parent.ignores_children:
            parent.waited += total

    def sample(self) -> TreeReading:
        now = {pid: process.reading() for pid, process in self.alive.items()}
        same = {pid for pid in now if pid in self.seen and self.seen[pid].start_ticks == now[pid].start_ticks}
        vanished = [reading for pid, reading in self.seen.items() if pid not in same]
        self.seen = now
        return TreeReading(list(now.values()), vanished)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["fork", "burn", "burn", "end", "sample", "sample"]),
        st.integers(0, 10**6),
        st.floats(0.0, 5.0, allow_nan=False),
        st.booleans(),
    ),
    max_size=60,
)


def _play(kernel: Kernel, ledger: CpuLedger, events: list[tuple[str, int, float, bool]], deaf: bool) -> None:
    before = 0.0
    for what, choice, seconds, ignores in events:
        pids = sorted(kernel.alive)
        if what == "fork" or not pids:
            kernel.fork(([WRAPPER, *pids])[choice % (len(pids) + 1)], deaf and ignores)
        elif what == "burn":
            kernel.burn(pids[choice % len(pids)], seconds)
        elif what == "end":
            kernel.end(pids[choice % len(pids)])
        else:
            total = ledger.add(kernel.sample(), kernel.wrapper_waited)
            assert total >= before, "the total fell"
            before = total


@given(EVENTS)
def test_nothing_is_lost_where_every_parent_waits(events: list[tuple[str, int, float, bool]]) -> None:
    kernel, ledger = Kernel(), CpuLedger()
    _play(kernel, ledger, events, deaf=False)
    total = ledger.add(kernel.sample(), kernel.wrapper_waited)
    assert abs(total - kernel.charged) < 1e-6


@given(EVENTS)
def test_never_more_than_was_charged_where_parents_do_not_wait(events: list[tuple[str, int, float, bool]]) -> None:
    kernel, ledger = Kernel(), CpuLedger()
    _play(kernel, ledger, events, deaf=True)
    total = ledger.add(kernel.sample(), kernel.wrapper_waited)
    assert total <= kernel.charged + 1e-6


def test_the_last_reading_of_an_unreaped_child_counts() -> None:
    kernel, ledger = Kernel(), CpuLedger()
    kernel.fork(WRAPPER, ignores_children=True)
    parent = next(iter(kernel.alive))
    kernel.fork(parent, ignores_children=False)
    child = max(kernel.alive)
    kernel.burn(child, 3.0)
    ledger.add(kernel.sample(), kernel.wrapper_waited)
    kernel.end(child)
    assert ledger.add(kernel.sample(), kernel.wrapper_waited) >= 3.0 - TICK_SLACK_SECONDS
