"""Runs parts side by side, each with its log, and ends them all if the run is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .parts import CHECKOUT, Part

CORES = 2
WAITING_PARTS = 2
# How a part is ended: first as by Ctrl-C, so that pytest removes its labs; then by force.
ENDING: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGINT, 20.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
POLL_SECONDS = 0.1


@dataclass
class Run:
    """A part that was started."""

    part: Part
    log: Path
    junit: Path
    process: subprocess.Popen[bytes]
    began: float
    seconds: float = 0.0
    timed_out: bool = False

    @property
    def ok(self) -> bool:
        return self.process.returncode == 0

    def has_ended(self) -> bool:
        """Whether its process has exited. One that is over its limit is ended first."""
        self.seconds = time.monotonic() - self.began
        if self.process.poll() is None and self.seconds > self.part.limit_seconds:
            self.timed_out = True
            end([self])
        return self.process.poll() is not None


class _Interrupts:
    """Signals that ask this process to end raise `Interrupted`, except while a part starts and is not in a list yet."""

    deferring = False
    deferred: int | None = None

    def receive(self, number: int, _: object) -> None:
        if not self.deferring:
            raise Interrupted(number)
        self.deferred = number

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        self.deferring = True
        try:
            yield
        finally:
            self.deferring = False
        if self.deferred is not None:
            raise Interrupted(self.deferred)


_interrupts = _Interrupts()


class Interrupted(BaseException):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        self.number = number


def run_all(parts: Sequence[Part], logs: Path, env: Mapping[str, str], said: Callable[[str, Run], None]) -> list[Run]:
    """Run all parts, in order as room allows; calls `said` for each start and end."""
    waiting, running, ended = list(parts), list[Run](), list[Run]()
    try:
        while waiting or running:
            for part in [part for part in waiting if has_room(part, running)]:
                if has_room(part, running):
                    waiting.remove(part)
                    with _interrupts.wait():
                        running.append(start(part, logs, env))
                    said("starts", running[-1])
            time.sleep(POLL_SECONDS)
            for run in [run for run in running if run.has_ended()]:
                running.remove(run)
                ended.append(run)
                said("ends", run)
    finally:
        end(running)
    return ended


def has_room(part: Part, running: Sequence[Run]) -> bool:
    if part.cores == 0:
        return sum(run.part.cores == 0 for run in running) < WAITING_PARTS
    return sum(run.part.cores for run in running) + part.cores <= CORES


def start(part: Part, logs: Path, env: Mapping[str, str]) -> Run:
    """In its own session: a terminal's signals reach only this process, which then ends the parts."""
    log, junit = logs / f"{part.name}.log", logs / f"{part.name}.xml"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            part.argv(junit),
            env=env,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    return Run(part, log, junit, process, time.monotonic())


def end(runs: Sequence[Run]) -> None:
    """End what still runs, and what an ended part has left in its session."""
    for number, patience in ENDING:
        left = [run for run in runs if run.process.poll() is None]
        for run in left:
            run.process.send_signal(number) if number == signal.SIGINT else os.killpg(run.process.pid, number)
        deadline = time.monotonic() + patience
        while any(run.process.poll() is None for run in left) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def set_signals() -> None:
    """Ignore what the caller ignores (nohup), end in order on the rest; programs start with the defaults."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        ignored = signal.getsignal(number) == signal.SIG_IGN
        # A handler and not SIG_IGN: an exec resets handlers to the default but keeps SIG_IGN.
        signal.signal(number, (lambda *_: None) if ignored else _interrupts.receive)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
