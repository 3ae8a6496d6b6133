"""The runner's event loop: child processes, pipes, signals, timers and background work, without polling.

It replaces asyncio, which takes 70 ms to import and, before Python 3.12, waits for each child in its own thread.
Handlers run one after another in the main thread. Work that may hang (a file system, a Slurm command) runs in a thread,
and its result arrives as an event.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TypeVar

Handler = Callable[[], None]
Result = TypeVar("Result")

_LONGEST_WAIT_SECONDS = 3600.0


class Timer:
    """A call that is due at a time of the monotonic clock, unless it is cancelled."""

    def __init__(self, due: float, handler: Handler) -> None:
        self.due = due
        self.handler = handler
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """A context manager: it catches signals, and restores their handlers at the end."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._readers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._signals: dict[int, Handler] = {}
        self._handled_before: dict[int, signal.Handlers | Callable[[int, FrameType | None], object] | int | None] = {}
        self._done: deque[Handler] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup_before = -1
        self.watch(self._wake_read, self._woken)

    def __enter__(self) -> Loop:
        self._wakeup_before = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, handler in self._handled_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)

    def watch(self, descriptor: int, handler: Handler) -> None:
        """Call the handler whenever the descriptor is readable, or its other end is closed."""
        self._readers[descriptor] = handler
        self._poll.register(descriptor, select.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching the descriptor; call this before closing it."""
        del self._readers[descriptor]
        self._poll.unregister(descriptor)

    def on_signal(self, number: int, handler: Handler) -> None:
        """Call the handler, outside of signal context, after the signal (once for several at a time)."""
        self._signals[number] = handler
        self._handled_before.setdefault(number, signal.getsignal(number))
        signal.signal(number, lambda _number, _frame: None)

    def after(self, seconds: float, handler: Handler) -> Timer:
        """Call the handler once, after this many seconds."""
        timer = Timer(time.monotonic() + seconds, handler)
        heapq.heappush(self._timers, (timer.due, next(self._count), timer))
        return timer

    def in_background(self, work: Callable[[], Result], done: Callable[[Result | Exception], None]) -> None:
        """Do the work in a thread, then call ``done`` in the loop with its result or its exception.

        The thread does not keep the process alive: work that hangs is abandoned.
        """

        def run() -> None:
            outcome: Result | Exception
            try:
                outcome = work()
            except Exception as error:
                outcome = error
            self._done.append(lambda: done(outcome))
            with contextlib.suppress(BlockingIOError):  # a full pipe wakes the loop too
                os.write(self._wake_write, b"\0")

        threading.Thread(target=run, daemon=True).start()

    def run(self, until: Callable[[], bool]) -> None:
        """Handle events until the condition holds; it is checked after each round."""
        while not until():
            for descriptor, _ in self._poll.poll(self._wait_milliseconds()):
                handler = self._readers.get(descriptor)
                if handler is not None:  # an earlier handler of this round may have unwatched it
                    handler()
            self._run_timers()

    def _wait_milliseconds(self) -> int:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        if not self._timers:
            return int(_LONGEST_WAIT_SECONDS * 1000)
        wait = min(max(0.0, self._timers[0][0] - time.monotonic()), _LONGEST_WAIT_SECONDS)
        return int(wait * 1000) + 1

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.handler()

    def _woken(self) -> None:
        """Bytes in the wake-up pipe are signal numbers; 0 means finished work."""
        try:
            numbers = set(os.read(self._wake_read, 65536))
        except BlockingIOError:
            return
        while self._done:
            self._done.popleft()()
        for number in sorted(numbers & self._signals.keys()):
            self._signals[number]()
