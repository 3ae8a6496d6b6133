"""The procfs reader, with trees that change between two samples in ways that its shortcuts could miss."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from measured import await_that, program, state_of

from torc_slurm.step.cpu_ledger import CpuLedger
from torc_slurm.step.process_tree import ProcfsTree
from torc_slurm.step.readings import ProcessReading, TreeReading


class Watch:
    """A reader whose wrapper is this process, for the processes that it starts from now on."""

    def __init__(self, tree: ProcfsTree | None = None) -> None:
        self.tree = tree or ProcfsTree()
        self._wrappers = {os.getpid(): frozenset(self.tree.children_of(os.getpid()))}
        self.look()

    def look(self, thorough: bool = False) -> TreeReading:
        return self.tree.read(self._wrappers, thorough)

    def reading_of(self, pid: int) -> ProcessReading:
        (reading,) = (process for process in self.look().processes if process.pid == pid)
        return reading


@contextmanager
def started(name: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program; at the end, neither it nor a descendant is left."""
    process = subprocess.Popen(program(name, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        below = ProcfsTree().read({process.pid: frozenset()}).processes
        process.kill()
        for reading in below:
            with suppress(ProcessLookupError):  # one that was just exiting
                os.kill(reading.pid, signal.SIGKILL)
        process.communicate()


def line_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def tell(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"x")
    process.stdin.flush()


def sleeps(pid: int) -> bool:
    return state_of(pid) == "S"


def make_run(pid: int) -> None:
    clock = (~pid << 3) | 2
    before = time.clock_gettime_ns(clock)
    os.kill(pid, signal.SIGUSR1)
    await_that(lambda: time.clock_gettime_ns(clock) > before, "it to run")


@pytest.mark.parametrize("how", ["wait", "ignore", "leave"])
def test_a_process_that_has_passed_to_one_that_sleeps(how: str) -> None:
    """It was unknown, and its new parent has not run: another process's exit is the only sign of it."""
    watch = Watch()
    with started("hand_on", how) as parent:
        assert line_of(parent) == "ready"
        await_that(lambda: sleeps(parent.pid), "the parent at rest")
        before = watch.look()
        assert before.num_processes == 2
        tell(parent)
        handed_on = int(line_of(parent))
        await_that(lambda: handed_on in watch.tree.children_of(parent.pid), "it to be handed on")
        assert handed_on in {process.pid for process in watch.look().processes}


def test_what_did_not_run_is_as_it_was() -> None:
    watch = Watch()
    with started("threads", 3, 60) as idle, started("count_signals", signal.SIGUSR1, signal.SIGTERM) as busy:
        await_that(lambda: watch.look().num_threads == 5, "four threads and one")
        await_that(lambda: sleeps(idle.pid) and sleeps(busy.pid), "both at rest")
        before = watch.reading_of(busy.pid)
        make_run(busy.pid)
        idle_readings = [watch.reading_of(idle.pid) for _ in range(3)]  # every 30th sample reads all
        assert idle_readings[0] is idle_readings[1] or idle_readings[1] is idle_readings[2]
        assert watch.reading_of(busy.pid).cpu_seconds > before.cpu_seconds


def test_a_look_at_a_tree_that_sleeps_changes_nothing() -> None:
    with started("hand_on", "leave") as wrapper:
        assert line_of(wrapper) == "ready"
        await_that(lambda: sleeps(wrapper.pid), "the wrapper at rest")
        tree, wrappers = ProcfsTree(), {wrapper.pid: frozenset[int]()}
        again = await_that(lambda: seen if (seen := tree.read(wrappers)).is_unchanged else None, "all at rest")
        assert again is not None
        assert again.num_processes == 1
        tell(wrapper)
        line_of(wrapper)
        assert not tree.read(wrappers).is_unchanged


def test_cpu_time_of_threads_is_the_kernels_to_the_nanosecond() -> None:
    watch = Watch()
    with started("threads", 3, 60) as process:
        await_that(lambda: watch.look().num_threads == 4, "four threads")
        os.kill(process.pid, signal.SIGSTOP)
        await_that(lambda: state_of(process.pid) == "T", "it to stand still")
        clock = time.clock_gettime_ns((~process.pid << 3) | 2)
        assert watch.reading_of(process.pid).cpu_seconds == clock * 1e-9


class Interrupted(ProcfsTree):
    """Calls a function just before it reads the given process."""

    def __init__(self) -> None:
        super().__init__()
        self.before_pid = 0
        self.act: Callable[[], object] = lambda: None

    def _read_whole(self, process: Any) -> bool:  # noqa: ANN401 - the reader's own
        if process.pid == self.before_pid:
            self.before_pid = 0
            self.act()
        return super()._read_whole(process)


@pytest.mark.parametrize("both_ran", [True, False], ids=["parent read before", "parent asleep before"])
def test_a_child_that_is_waited_for_in_the_middle_of_a_look_counts_once(both_ran: bool) -> None:
    tree, ledger = Interrupted(), CpuLedger()
    watch = Watch(tree)
    with started("reap_when_told", 0.3) as parent:
        child = int(line_of(parent))
        await_that(lambda: sleeps(child) and sleeps(parent.pid), "both at rest")
        before = ledger.add(watch.look(), 0.0)
        assert before > 0.3

        def end_and_reap() -> None:
            os.kill(child, signal.SIGKILL)
            tell(parent)
            assert line_of(parent) == "reaped"

        for pid in (child, parent.pid) if both_ran else (child,):
            make_run(pid)
        tree.before_pid, tree.act = child, end_and_reap
        ledger.add(watch.look(), 0.0)
        assert tree.before_pid == 0
        await_that(lambda: sleeps(parent.pid), "the parent at rest")
        assert ledger.add(watch.look(), 0.0) == pytest.approx(before, abs=0.03)


def test_a_kernel_that_tells_no_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_clock: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(time, "clock_gettime_ns", refuse)
    watch = Watch()
    with started("burn", 0.3) as process:
        await_that(lambda: watch.look().cpu_seconds >= 0.2, "0.2 s of CPU, in ticks")
        assert not watch.look().is_unchanged
        process.wait()
        assert process.pid in {gone.pid for gone in watch.look().vanished}


def test_sums_after_many_shortcuts_are_those_of_a_look_at_everything() -> None:
    watch = Watch()
    with started("burn_in_children", 40, 0.01), started("threads", 2, 60), started("sleepers", 5):
        end = time.monotonic() + 0.9
        while time.monotonic() < end:
            quick = watch.look()
            assert quick.rss_bytes == sum(process.rss_bytes for process in quick.processes)
            assert quick.num_threads == sum(p.threads for p in quick.processes if not p.is_zombie)
            assert quick.cpu_seconds == pytest.approx(sum(process.total_cpu_seconds for process in quick.processes))
