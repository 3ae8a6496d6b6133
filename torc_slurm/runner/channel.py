"""The pipes between the runner and a group: the runner writes the jobs, the group one line per event.

The pipe to the group stays open as long as the runner lives, so the group notices when the runner ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from torc_slurm.runner.loop import Loop

MARK = "torc-group "
READY = "ready"
MOST_WORDS = 4000
# How long the last lines may take after the process has ended: its recorder still writes records.
LAST_WORDS_SECONDS = 5.0


class GroupChannel:
    """``on_message`` gets each line that begins with `MARK`, without it. All other lines are kept for the user."""

    def __init__(self, loop: Loop, on_message: Callable[[str], None]) -> None:
        self._loop = loop
        self._on_message = on_message
        self.stdin, self._way_in = os.pipe2(os.O_CLOEXEC)
        self._way_out, self.stdout = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._way_out, False)
        self._partial = b""
        self._words = ""
        self._is_open = True
        self._then: Callable[[str], None] | None = None

    @contextlib.contextmanager
    def begin(self, text: bytes) -> Iterator[None]:
        """Wrap the start of the process, which gets ``text``. If the start fails, all pipes are closed."""
        try:
            yield
        except BaseException:
            os.close(self._way_in)
            os.close(self._way_out)
            raise
        finally:
            os.close(self.stdin)
            os.close(self.stdout)
        self._loop.watch(self._way_out, self._read)
        copy = os.dup(self._way_in)
        self._loop.in_background(lambda: _write_all(copy, text), lambda _result: None)

    def when_closed(self, then: Callable[[str], None]) -> None:
        """The process has ended: call ``then`` with the other lines, once no process has the pipe open."""
        self._then = then
        if self._is_open:
            self._read()
        if self._is_open:
            self._loop.after(LAST_WORDS_SECONDS, self._close)
        else:
            self._call_back()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._is_open:
                output = os.read(self._way_out, 65536)
                if not output:
                    self._close()
                    return
                self._take(output)

    def _take(self, output: bytes) -> None:
        *lines, self._partial = (self._partial + output).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "backslashreplace")
            if text == MARK + READY:
                self._answer()
            elif text.startswith(MARK):
                self._on_message(text.removeprefix(MARK))
            else:
                self._words = f"{self._words}{text}\n"[-MOST_WORDS:]

    def _answer(self) -> None:
        """The group has read its jobs. It starts them when it reads this, so each side knows that the other works."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._way_in, b"go\n")

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.unwatch(self._way_out)
            os.close(self._way_out)
            os.close(self._way_in)
            self._call_back()

    def _call_back(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(self._words + self._partial.decode("utf-8", "backslashreplace"))


def _write_all(descriptor: int, text: bytes) -> None:
    """Called in a thread: Slurm may start the step late."""
    try:
        while text:
            text = text[os.write(descriptor, text) :]
    finally:
        os.close(descriptor)
