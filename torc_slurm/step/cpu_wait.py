"""How long a step's threads were ready to run but had no CPU, which distinguishes a busy node from an idle job.

Three sources are read together with the high-water marks, never at a plain sample; the largest figure counts:

- ``psi``: ``cpu.pressure`` of the step's cgroup, the time during which at least one of its threads waited;
- ``throttled``: ``cpu.stat`` of the cgroup and those above it, the time for which a quota stopped it;
- ``schedstat``: the run delay of its threads. It lacks what threads and processes waited after their last reading: a
  lower bound. A task's first process is read once more when it has exited, before its wrapper reaps it.
"""

from __future__ import annotations

from torc_slurm.step import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.step.cgroup import StepCgroup
    from torc_slurm.step.readings import ProcessReading


class CpuWait:
    """The waiting times of one step on one node, so far."""

    def __init__(self, own_cgroup: StepCgroup | None) -> None:
        self._cgroup = own_cgroup
        self._cgroup_before = own_cgroup.cpu_wait_seconds() if own_cgroup else {}
        self._living: dict[tuple[int, int], tuple[int, float]] = {}  # pid and start: CPU clock then, seconds
        self._first: dict[int, float] = {}  # by pid, of tasks' first processes that have exited
        self._gone_seconds = 0.0
        self._is_known = False

    def look(self, processes: list[ProcessReading]) -> None:
        """Read the processes that ran since the last call (a wait counts once it is over); ended ones keep theirs."""
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
        """Register a task's first process; its wrapper reports once more about it."""
        self._first[pid] = 0.0

    def task_ended(self, pid: int, seconds: float) -> None:
        """That process has exited; its first thread waited this long (below 0: unknown)."""
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
        """The columns of ``step_usage``: seconds so far and their source; NULL without a source."""
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
