"""Records how the jobs of a group ended, several in one transaction, and then reports to the runner.

It is a process of its own: a hung file system delays no job, and records are written even if the group's wrapper is
killed. The runner gets exit codes from the wrapper, not from this process.
"""

from __future__ import annotations

import contextlib
import copy
import os
import select
import time

from torc_slurm.common.process_name import set_process_name
from torc_slurm.step import link
from torc_slurm.step.flush import Flusher, Target
from torc_slurm.step.job import say
from torc_slurm.step.lone_exit import own_cpus, usage_at_exit
from torc_slurm.step.monitor import FINAL_WRITE_SECONDS
from torc_slurm.step.record import exit_row, new_batch, own_invocation
from torc_slurm.step.sentinel import PROCESS_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from torc_slurm.common.identity import StepIdentity
    from torc_slurm.database.batch import Batch
    from torc_slurm.step.group import Member
    from torc_slurm.step.options import Options

GATHER_SECONDS = 0.25


class Recorder:
    """Receives the ends of a group's jobs until its wrapper has ended."""

    def __init__(
        self,
        options: Options,
        identity: StepIdentity,
        members: list[Member],
        socket: _socket.socket,
        notify: Callable[[str], None],
    ) -> None:
        self._options = copy.copy(options)
        self._identity = identity
        self._members = members
        self._socket = socket
        self._notify = notify
        name = f"{identity.node}.{os.getpid()}.{time.time_ns()}"
        self._flusher = Flusher(Target(identity, bool(options.site_output_dir)), name, say)
        self._cpus = own_cpus()
        self._batches: list[Batch] = []
        self._lines: list[str] = []
        set_process_name(PROCESS_NAME)

    def run(self) -> None:
        with contextlib.suppress(ImportError):  # a damaged Python: then the writers spool
            import torc_slurm.database.node_file  # noqa: F401 - once here, and not in each forked writer
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        due = 0.0
        while True:
            timeout = max(0, round((due - time.monotonic()) * 1000)) if self._lines else None
            if poll.poll(timeout):
                text = link.receive(self._socket)
                if not text:
                    break
                if not self._lines:
                    due = time.monotonic() + GATHER_SECONDS
                self._take(text)
            if self._lines and time.monotonic() >= due:
                self._write()
        self._write()

    def _take(self, text: bytes) -> None:
        head, begin_text, end_text = text.split(b"|")
        index, wrapper_rss_bytes, is_watched, is_over_time, oom_kills = map(int, head.split())
        begin, end = link.decode(begin_text), link.decode(end_text)
        assert isinstance(begin, link.Begin)
        assert isinstance(end, link.Exit)
        if not is_watched:
            self._batches.append(self._batch(self._members[index], begin, end, wrapper_rss_bytes, oom_kills))
        times = f"{end.begin_time!r} {end.end_time!r}"
        self._lines.append(f"ended {index} {end.return_code} {times} {is_over_time} {oom_kills}")

    def _batch(
        self, member: Member, begin: link.Begin, end: link.Exit, wrapper_rss_bytes: int, oom_kills: int
    ) -> Batch:
        member.put_into(self._options, self._identity)
        batch = new_batch(self._options, self._identity, own_invocation(self._identity, begin), begin.begin_time)
        batch.step |= {"working_dir": member.working_dir, "end_time": end.end_time}
        batch.exits.append(exit_row(end, begin.local_task, wrapper_rss_bytes))
        if self._options.sampling:
            usage = usage_at_exit(end, wrapper_rss_bytes, self._cpus)
            batch.usage = {**usage, "peak_cpu_percent": usage["avg_cpu_percent"], "oom_kills": oom_kills}
        return batch

    def _write(self) -> None:
        if self._batches:
            for batch in self._batches[:-1]:
                self._flusher.keep(batch)
            self._flusher.finish(self._batches[-1], FINAL_WRITE_SECONDS)
        for line in self._lines:
            self._notify(line)
        self._batches, self._lines = [], []
