"""For how long a step's threads were ready to run and had no CPU: what tells a busy node from an idle job.

Three sources, read when the high-water marks are read and never at a plain sample; the one that says most decides:

- ``psi``: ``cpu.pressure`` of the step's cgroup, the time during which at least one of its threads waited;
- ``throttled``: ``cpu.stat`` of the cgroup and those above it, the time for which a quota stopped it;
- ``schedstat``: the run delay of its threads. What threads and processes waited after they were last seen is missing: a
  lower bound. A task's first process is seen once more when it has ended, before its wrapper waits for it.
"""

from __future__ import annotations

from torc_slurm.step import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.step.cgroup import StepCgroup
    from torc_slurm.step.readings import ProcessReading


class CpuWait:
    """What is known of the waiting of one step on one node, so far."""

    def __init__(self, own_cgroup: StepCgroup | None) -> None:
        self._cgroup = own_cgroup
        self._cgroup_before = own_cgroup.cpu_wait_seconds() if own_cgroup else {}
        self._living: dict[tuple[int, int], tuple[int, float]] = {}  # pid and start: CPU clock then, seconds
        self._first: dict[int, float] = {}  # by pid, of tasks' first processes that have ended
        self._gone_seconds = 0.0
        self._is_known = False

    def look(self, processes: list[ProcessReading]) -> None:
        """Read those that ran since the last look: waiting counts when it is over. What is gone keeps what was seen."""
        before, self._living = self._living, {}
        for process in processes:
            key = (process.pid, process.start_ticks)
            clock_ns, seconds = before.pop(key, (-1, 0.0))
            if not process.is_zombie and (not process.clock_ns or process.clock_ns != clock_ns):
                delay = kernel.run_delay_seconds(process.pid)
                self._is_known |= delay is not None
                seconds = max(seconds, delay or 0.0)
            self._living[key] = process.clock_ns, seconds
        for (pid, _), (_, seconds) in before.items():
            self._keep(pid, seconds)

    def task_began(self, pid: int) -> None:
        """A task's first process, of which its wrapper tells once more."""
        self._first[pid] = 0.0

    def task_ended(self, pid: int, seconds: float) -> None:
        """That process has ended: its first thread waited for so long; below 0: not known."""
        self._is_known |= seconds >= 0
        for key in [key for key in self._living if key[0] == pid]:
            self._keep(pid, self._living.pop(key)[1])
        self._keep(pid, seconds)

    def _keep(self, pid: int, seconds: float) -> None:
        if pid in self._first:
            self._first[pid] = max(self._first[pid], seconds)
        else:
            self._gone_seconds += max(seconds, 0.0)

    def columns(self) -> dict[str, object]:
        """Of ``step_usage``: seconds so far and their source; NULL where nothing tells."""
        found = {}
        if self._is_known:
            living = sum(seconds for _, seconds in self._living.values())
            found["schedstat"] = living + sum(self._first.values()) + self._gone_seconds
        now = self._cgroup.cpu_wait_seconds() if self._cgroup else {}
        for source, seconds in now.items():
            if source in self._cgroup_before:
                found[source] = max(0.0, seconds - self._cgroup_before[source])
        best = max(found, key=lambda each: found[each], default=None)
        return {"cpu_wait_seconds": found[best] if best else None, "cpu_wait_source": best}
