"""A signal reaches COMMAND exactly once, whether it was sent to the wrapper, to the group or to COMMAND itself.

The wrapper takes signals in turn, real-time ones last: when SIGRTMAX, sent only to it, has arrived at the job, it has
handled everything that was sent before.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from measured import (
    WAIT_LIMIT_SECONDS,
    await_that,
    children_of,
    environment,
    is_alive,
    monitor_of,
    node_files,
    program,
    records,
    start,
    state_of,
    the_record,
    under_torc_step,
)

CATCHABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGRTMAX})
AT_ONCE = [number for number in CATCHABLE if number != signal.SIGCONT]  # a stop signal discards a pending one
ORDINARY = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT, signal.SIGCONT]


def signal_mask(pid: int, name: str) -> int:
    """A mask of signals in ``/proc/PID/status``: SigCgt (handled), ShdPnd (pending), …"""
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{name}:")[2].split()[0], 16)


def handles_signals(pid: int) -> bool:
    return signal_mask(pid, "SigCgt") >> (signal.SIGRTMAX - 1) & 1 == 1


def waits_for(pid: int) -> int:
    """The pending signals that the process does not block."""
    return signal_mask(pid, "ShdPnd") & ~signal_mask(pid, "SigBlk")


class Counting:
    """A job that counts its signals, in its own process group."""

    def __init__(self, output_dir: Path) -> None:
        self._output = b""
        self.wrapper = start(output_dir, program("count_signals"), stdout=subprocess.PIPE, new_session=True)
        self.job = int(self._line().split()[1])
        self.monitor = monitor_of(self.wrapper)
        await_that(lambda: handles_signals(self.monitor), "the monitor that takes signals")

    def _line(self) -> str:
        assert self.wrapper.stdout is not None
        while b"\n" not in self._output:
            readable, _, _ = select.select([self.wrapper.stdout], [], [], WAIT_LIMIT_SECONDS)
            assert readable, f"nothing more arrived at the job; before: {self._output!r}"
            text = os.read(self.wrapper.stdout.fileno(), 65536)
            assert text, "the job ended"
            self._output += text
        line, _, self._output = self._output.partition(b"\n")
        return line.decode()

    def to_wrapper(self, number: int) -> None:
        os.kill(self.wrapper.pid, number)

    def to_group(self, number: int) -> None:
        os.killpg(self.wrapper.pid, number)

    def is_idle(self) -> bool:
        """Whether wrapper and monitor have taken all signals so far, so that later ones do not merge with them."""
        return not any(signal_mask(pid, "ShdPnd") for pid in (self.wrapper.pid, self.monitor))

    def next(self) -> int:
        """The next signal that arrived at the job."""
        return int(self._line())

    def await_another_sentinel(self) -> None:
        def find() -> bool:
            others = [pid for pid in children_of(self.wrapper.pid) if pid != self.job]
            return len(others) == 1 and handles_signals(others[0])

        await_that(find, "a bare sentinel in place of the monitor")

    def all_that_arrived(self) -> list[int]:
        """End the job; returns the signals since the last call."""
        self.to_wrapper(signal.SIGRTMAX)
        arrived = []
        while (number := self.next()) != signal.SIGRTMAX:
            arrived.append(number)
        assert self.wrapper.wait() == 0
        return arrived


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Counting]:
    job = Counting(tmp_path)
    yield job
    if job.wrapper.poll() is None:
        os.killpg(job.wrapper.pid, signal.SIGKILL)
        job.wrapper.wait()
    assert job.wrapper.stdout is not None
    job.wrapper.stdout.close()


def test_every_signal_sent_to_the_wrapper_alone_arrives_once(counting: Counting) -> None:
    for number in AT_ONCE:
        counting.to_wrapper(number)
    assert sorted(counting.all_that_arrived()) == AT_ONCE


def test_every_signal_sent_to_the_group_arrives_once(counting: Counting) -> None:
    for number in CATCHABLE:
        counting.to_group(number)
        assert counting.next() == number
    assert counting.all_that_arrived() == []


def test_every_signal_sent_to_the_group_at_once_arrives_once(counting: Counting) -> None:
    for number in AT_ONCE:
        counting.to_group(number)
    assert sorted(counting.all_that_arrived()) == AT_ONCE


def test_a_signal_sent_to_the_job_itself_arrives_once(counting: Counting) -> None:
    for number in CATCHABLE:
        os.kill(counting.job, number)
        assert counting.next() == number
    assert counting.all_that_arrived() == []


def test_a_burst_of_queued_signals_to_the_group(counting: Counting) -> None:
    for _ in range(30):
        counting.to_group(signal.SIGRTMIN)
    assert counting.all_that_arrived() == [signal.SIGRTMIN] * 30


def test_a_burst_of_queued_signals_to_the_wrapper(counting: Counting) -> None:
    for _ in range(30):
        counting.to_wrapper(signal.SIGRTMIN)
    assert counting.all_that_arrived() == [signal.SIGRTMIN] * 30


@pytest.mark.parametrize("number", ORDINARY)
def test_now_to_the_group_now_to_the_wrapper(number: int, counting: Counting) -> None:
    """Neither is mistaken for the other, however soon one follows after the other has been taken."""
    for _ in range(5):
        counting.to_group(number)
        assert counting.next() == number
        await_that(counting.is_idle, "the signal taken by the wrapper and the monitor too")
        counting.to_wrapper(number)
        assert counting.next() == number
        counting.to_wrapper(number)
        assert counting.next() == number
    assert counting.all_that_arrived() == []


def test_the_same_signal_to_the_group_in_quick_succession(counting: Counting) -> None:
    for _ in range(20):
        counting.to_group(signal.SIGUSR1)
        assert counting.next() == signal.SIGUSR1
        await_that(counting.is_idle, "the signal taken by the wrapper and the monitor too")
    assert counting.all_that_arrived() == []


def test_a_signal_to_the_monitor_alone_does_not_count_as_the_wrappers(counting: Counting) -> None:
    os.kill(counting.monitor, signal.SIGTERM)
    await_that(counting.is_idle, "the signal taken by the monitor")  # the monitor may wait for a CPU
    for _ in range(3):  # each takes as long as the wrapper would wait for the monitor's report
        counting.to_wrapper(signal.SIGUSR1)
        assert counting.next() == signal.SIGUSR1
    counting.to_wrapper(signal.SIGTERM)
    assert counting.all_that_arrived() == [signal.SIGTERM]


def test_an_old_report_of_the_monitor_does_not_count_while_the_wrapper_is_busy(counting: Counting) -> None:
    """On a loaded node the wrapper takes one signal after another and is never idle between them."""
    os.kill(counting.wrapper.pid, signal.SIGSTOP)
    os.kill(counting.monitor, signal.SIGTERM)
    await_that(lambda: not signal_mask(counting.monitor, "ShdPnd"), "the signal taken by the monitor")
    one_by_one = [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM]
    for number in one_by_one:  # the wrapper waits 30 ms for a report of each
        counting.to_wrapper(number)
    os.kill(counting.wrapper.pid, signal.SIGCONT)
    assert [counting.next() for _ in one_by_one[:-1]] == one_by_one[:-1]
    counting.to_wrapper(signal.SIGTERM)
    assert signal.SIGTERM in counting.all_that_arrived()


def test_pkill_by_the_wrappers_name_reaches_the_job(counting: Counting) -> None:
    family = [counting.wrapper.pid, *children_of(counting.wrapper.pid)]
    for pid in (pid for pid in family if Path(f"/proc/{pid}/comm").read_text() == "torc-step\n"):
        os.kill(pid, signal.SIGTERM)
    assert counting.all_that_arrived() == [signal.SIGTERM]


def test_a_stopped_group_and_its_continuation(counting: Counting) -> None:
    counting.to_group(signal.SIGSTOP)
    await_that(lambda: state_of(counting.job) == "T", "the job stopped")
    counting.to_group(signal.SIGCONT)
    assert counting.next() == signal.SIGCONT
    assert counting.all_that_arrived() == []


def test_a_stopped_and_continued_job_does_not_hold_the_wrapper(counting: Counting) -> None:
    """Without a terminal, nobody would continue a wrapper that stopped because its job did."""
    os.kill(counting.job, signal.SIGSTOP)
    await_that(lambda: state_of(counting.job) == "T", "the job stopped")
    os.kill(counting.job, signal.SIGCONT)
    assert counting.next() == signal.SIGCONT
    assert counting.all_that_arrived() == []


@pytest.mark.parametrize("number", ORDINARY)
def test_without_the_monitor_a_signal_to_the_wrapper_still_arrives_once(number: int, counting: Counting) -> None:
    os.kill(counting.monitor, signal.SIGKILL)
    await_that(lambda: not state_of(counting.monitor), "the monitor reaped")
    counting.to_wrapper(number)
    assert counting.all_that_arrived() == [number]


@pytest.mark.parametrize("number", ORDINARY)
def test_without_the_monitor_a_signal_to_the_group_still_arrives_once(number: int, counting: Counting) -> None:
    os.kill(counting.monitor, signal.SIGKILL)
    await_that(lambda: not state_of(counting.monitor), "the monitor reaped")
    counting.await_another_sentinel()
    counting.to_group(number)
    assert counting.next() == number
    assert counting.all_that_arrived() == []


def test_the_monitor_survives_every_signal(counting: Counting) -> None:
    for number in CATCHABLE:
        os.kill(counting.monitor, number)
    await_that(lambda: not waits_for(counting.monitor), "the monitor to take all signals")
    assert is_alive(counting.monitor)
    assert counting.all_that_arrived() == []


# --- how it ends ----------------------------------------------------------------------------------------------


def test_sigkill_of_the_wrapper_kills_the_job(counting: Counting) -> None:
    counting.to_wrapper(signal.SIGKILL)
    assert counting.wrapper.wait() == -signal.SIGKILL
    await_that(lambda: not is_alive(counting.job), "the job killed")
    await_that(lambda: not is_alive(counting.monitor), "the monitor ended")


def test_what_was_measured_of_a_killed_wrapper_is_recorded(counting: Counting, tmp_path: Path) -> None:
    await_that(lambda: [path for path in node_files(tmp_path) if records(path)], "a first record")
    counting.to_wrapper(signal.SIGKILL)
    counting.wrapper.wait()
    await_that(lambda: not is_alive(counting.monitor), "the monitor ended")
    record = the_record(tmp_path)
    assert record.exits == []
    assert "was killed: its exit is not recorded" in record.notes[0]
    assert record.figures["peak_memory_bytes"] > 1_000_000


def test_an_alarm_set_before_the_start_ends_the_job(tmp_path: Path) -> None:
    """``perl -e 'alarm shift; exec @ARGV'``: a timer survives exec in the wrapper, but is meant for the job."""
    set_alarm = "import os, signal, sys; signal.setitimer(signal.ITIMER_REAL, 0.3); os.execv(sys.argv[1], sys.argv[1:])"
    command = under_torc_step(tmp_path, ["sleep", "1000"])
    done = subprocess.run([sys.executable, "-c", set_alarm, *command], env=environment(), timeout=30, check=False)
    assert done.returncode == -signal.SIGALRM
    assert the_record(tmp_path).exit["signal"] == signal.SIGALRM


def test_a_job_that_ignores_sigterm_runs_on(tmp_path: Path) -> None:
    script = "trap '' TERM; echo ready; read line; exit 5"
    wrapper = start(tmp_path, ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, new_session=True)
    assert wrapper.stdout is not None
    assert wrapper.stdout.readline() == b"ready\n"
    os.kill(wrapper.pid, signal.SIGTERM)
    os.killpg(wrapper.pid, signal.SIGTERM)
    wrapper.communicate(b"go\n", timeout=30)
    assert wrapper.returncode == 5


def test_a_job_that_handles_sigterm_chooses_its_exit_status(tmp_path: Path) -> None:
    wrapper = start(tmp_path, program("wait", int(signal.SIGTERM), 9), stdout=subprocess.PIPE)
    assert wrapper.stdout is not None
    assert wrapper.stdout.readline().startswith(b"ready")
    os.kill(wrapper.pid, signal.SIGTERM)
    wrapper.communicate(timeout=30)
    assert wrapper.returncode == 9
    assert (the_record(tmp_path).exit["return_code"], the_record(tmp_path).exit["signal"]) == (9, None)


def test_a_signal_from_the_job_to_its_own_group(tmp_path: Path) -> None:
    """``trap 'kill 0' EXIT``, as many scripts have it: the wrapper neither doubles it nor dies before the job."""
    script = "trap 'echo once' TERM; kill -TERM 0; exit 4"
    wrapper = start(tmp_path, ["sh", "-c", script], stdout=subprocess.PIPE, new_session=True)
    stdout, _ = wrapper.communicate(timeout=30)
    assert (wrapper.returncode, stdout) == (4, b"once\n")


def test_signals_in_the_first_moment_are_not_lost(tmp_path: Path) -> None:
    """A signal to the wrapper before its monitor has started: the job gets it."""
    for _ in range(10):
        wrapper = start(tmp_path, ["sleep", "1000"], new_session=True)
        await_that(lambda pid=wrapper.pid: children_of(pid), "the job")  # type: ignore[misc]  # bound at once
        os.kill(wrapper.pid, signal.SIGTERM)
        assert wrapper.wait(timeout=30) == -signal.SIGTERM
