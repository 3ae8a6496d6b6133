"""Records one task's exit without a monitor, if the step's monitor died or never answered.

`LoneExit.record` runs in its own process, which may hang or be too slow. Then the wrapper itself puts the exit into
the node's spool, without SQLite and without the shared file system.
"""

from __future__ import annotations

import os
import time

from torc_slurm.step import link
from torc_slurm.step.cpu_bound import CpuBound
from torc_slurm.step.flush import Flusher, Target
from torc_slurm.step.record import exit_row, new_batch, own_invocation
from torc_slurm.step.series import cpu_percent

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from torc_slurm.common.identity import StepIdentity
    from torc_slurm.database.batch import Batch
    from torc_slurm.step.options import Options


class LoneExit:
    """What a wrapper knows of its task when no monitor records its exit."""

    def __init__(
        self,
        options: Options,
        identity: StepIdentity,
        begin: link.Begin,
        monitor_end: str,
        has_met_a_monitor: bool,
    ) -> None:
        self._options = options
        self._identity = identity
        self._begin = begin
        self._monitor_end = monitor_end
        self._has_met_a_monitor = has_met_a_monitor

    def record(self, socket: _socket.socket, wait_seconds: float) -> bool:
        """Write the task's exit, received through ``socket``.

        Spool it if it cannot be written within ``wait_seconds``. Returns whether it is in one of the two places.
        """
        end = link.decode(link.receive(socket))
        assert isinstance(end, link.Exit)
        batch = self._batch(end)
        notices: list[str] = []
        flusher = Flusher(self._target(), str(batch.step["invocation"]), notices.append)
        flusher.finish(batch, wait_seconds)
        for text in notices if not flusher.is_lost else []:
            link.send(socket, b"say " + text.encode("utf-8", "backslashreplace"))
        return not flusher.is_lost

    def keep_on_node(self, end: link.Exit) -> str:
        """Put the task's exit into the node's spool; returns what to tell the user.

        Raises:
            DatabaseError: the node has no place for it.
        """
        from torc_slurm.database.plain_spool import write_plain_spool

        batch = self._batch(end)
        name = f"exit.{own_invocation(self._identity, self._begin)}"
        path = write_plain_spool(self._target().assume(batch), name, [batch])
        return f"the exit record is kept in {path} until torc slurm collect runs on this node"

    def _target(self) -> Target:
        """To be asked after `_batch`, which may make the task independent of its step."""
        return Target(self._identity, bool(self._options.site_output_dir))

    def _batch(self, end: link.Exit) -> Batch:
        identity, begin = self._identity, self._begin
        use = link.Use(link.meeting_place(identity.step_key), identity.step_key) if identity.shares_a_monitor else None
        if use is not None and not self._has_met_a_monitor and begin.local_task in use.tasks:
            identity.make_independent()  # another torc-step of this task is in that record: its exit must stay
            use = None
        invocation = use.name if use is not None else own_invocation(identity, begin)
        batch = new_batch(self._options, identity, invocation, begin.begin_time)
        batch.exits.append(exit_row(end, begin.local_task, begin.wrapper_rss_bytes))
        lost = f"the monitor {self._monitor_end}: unwritten measurements of task {end.task} are lost"
        unseen = f"task {end.task} found no monitor: its measurements are lost (its exit is recorded)"
        batch.notes.append((time.time(), lost if self._monitor_end else unseen))
        if not identity.shares_a_monitor:
            batch.step["end_time"] = end.end_time
            batch.usage_at_exit = usage_at_exit(end, begin.wrapper_rss_bytes, own_cpus())
        return batch


def own_cpus() -> float:
    """The CPUs' time that this process can be given."""
    bound = CpuBound()
    bound.task_began(os.getpid())
    return bound.cpus


def usage_at_exit(end: link.Exit, wrapper_rss_bytes: int, cpus: float) -> dict[str, object]:
    """What ``wait4`` alone tells of a job."""
    from torc_slurm.step.memory import MemoryFigures

    memory = MemoryFigures()
    memory.see_exit(end.max_rss_bytes, wrapper_rss_bytes)
    peak_bytes, peak_source = memory.peak()
    cpu_seconds = end.user_cpu_seconds + end.system_cpu_seconds + end.orphans_cpu_seconds
    return {
        "elapsed_seconds": end.elapsed_seconds,
        "cpu_seconds": cpu_seconds,
        "cpu_source": "wait4",
        "avg_cpu_percent": cpu_percent(cpu_seconds, end.elapsed_seconds, cpus),
        "peak_memory_bytes": peak_bytes,
        "peak_memory_source": peak_source,
        "memory_floor_bytes": memory.floor.bytes,
        "memory_floor_source": memory.floor.source,
    }
