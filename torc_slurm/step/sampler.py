"""Takes samples of the step's tree and keeps its figures; the monitor decides when, and what is written.

One sample: the reader's tree -> CPU ledger (and the cgroup's counter) -> memory figures -> a row of the series.
"""

from __future__ import annotations

import os
import time

from torc_slurm.step import kernel
from torc_slurm.step.cpu_bound import CpuBound
from torc_slurm.step.cpu_ledger import CpuLedger
from torc_slurm.step.cpu_wait import CpuWait
from torc_slurm.step.half_time import HalfTime
from torc_slurm.step.memory import MemoryFigures, RationedPss
from torc_slurm.step.series import Counters, Series, cpu_percent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.database.batch import Batch
    from torc_slurm.step.cgroup import StepCgroup
    from torc_slurm.step.link import Begin, Exit
    from torc_slurm.step.readings import TreeReader, TreeReading

# The cgroup's CPU counter is used if it exceeds wait4's by more than this per task: nobody waited for some children.
# Without such children the two differed by 0.3 ms for one task and by 5 to 18 ms for four (their sentinels).
_CGROUP_EXCESS_SECONDS = 0.006
_OWN_MEMORY_EVERY = 10  # samples
_OWN_MEMORY_SECONDS = 600.0


class Task:
    """A task that registered: its wrapper's Begin, and its Exit (None while it runs, or if it never came)."""

    __slots__ = ("begin", "exit", "gone")

    def __init__(self, begin: Begin) -> None:
        self.begin = begin
        self.exit: Exit | None = None
        self.gone = False  # the wrapper was killed: no Exit will come

    @property
    def end_monotonic(self) -> float | None:
        return None if self.exit is None else self.begin.begin_monotonic + self.exit.elapsed_seconds


class Sampler:
    """The figures of one step on one node, so far."""

    def __init__(
        self, reader: TreeReader, cgroup: StepCgroup | None, owns_cgroup: bool, local_task_count: int = 1
    ) -> None:
        self._reader = reader
        self._is_blind = reader.name == "none"  # then unknown figures must be None, not 0
        self._cgroup = cgroup
        self._own_cgroup = cgroup if owns_cgroup else None
        self._local_task_count = local_task_count
        self._tasks: dict[int, Task] = {}
        self._living_wrappers: dict[int, frozenset[int]] | None = None
        self._ledger = CpuLedger()
        self._memory = MemoryFigures()
        self.pss = RationedPss(reader)  # it limits its own CPU time: no reason to sample less often
        self._own_bytes = 0
        self._own_memory: tuple[float, int] | None = None  # monotonic time and bytes
        self._looked_at: dict[int, int] = {}  # for high-water marks: pid to the process's CPU clock at that time
        self._tree: TreeReading | None = None
        self._last_tree: TreeReading | None = None  # the last one with a living process
        self._last_memory = (0, "sampled_rss")
        self._oom_kills_before = cgroup.oom_kills() if cgroup else None
        self._oom_kills: int | None = None
        self._limit_bytes = cgroup.limit_bytes() if cgroup else None
        self._cpu_seconds = 0.0
        self._cpu_source: str | None = None
        self._has_running_task = False  # or one whose exit is lost
        self._charged_seconds: float | None = None
        self._bound = CpuBound()
        self._series = Series(0.0)
        self._io = _IoFigures(reader)
        self._half_time = HalfTime()
        self._cpu_wait = CpuWait(self._own_cgroup)
        self.begin_monotonic: float | None = None
        self.begin_time = 0.0
        self.num_processes_peak: int | None = None
        self.num_threads_peak: int | None = None
        self.major_faults = 0
        self.sample_count = 0

    @property
    def reader_name(self) -> str:
        return self._reader.name

    # --- tasks ---------------------------------------------------------------------------------------------------

    def task_began(self, task: Task) -> None:
        self._tasks[task.begin.wrapper_pid] = task
        self._living_wrappers = None
        self._has_running_task = True
        self._bound.task_began(task.begin.wrapper_pid)
        self._cpu_wait.task_began(task.begin.job_pid)
        if self.begin_monotonic is None:
            self.begin_time, self.begin_monotonic = task.begin.begin_time, task.begin.begin_monotonic
            self._series = Series(self.begin_monotonic)
        else:
            self._series.task_began(task.begin.begin_monotonic)

    def task_is_gone(self) -> None:
        """Note that a task's wrapper was killed."""
        self._living_wrappers = None

    def task_ended(self, task: Task) -> None:
        """Add the kernel's figures of its exit, while its wrapper can still be read."""
        if task.exit is not None:
            self._has_running_task = any(task.exit is None for task in self._tasks.values())
            self._memory.see_exit(task.exit.max_rss_bytes, task.begin.wrapper_rss_bytes)
            self._io.keep(task)
            if not self._is_blind:
                self._cpu_wait.task_ended(task.exit.job_pid, task.exit.run_delay_seconds)

    def _wrappers(self) -> dict[int, frozenset[int]]:
        """The living wrappers, with those of their children that are not the job's, or not yet: before its exec."""
        if self._living_wrappers is None:
            me = os.getpid()
            alive = [task.begin for task in self._tasks.values() if not task.gone]
            copies = frozenset(begin.job_pid for begin in alive if kernel.is_before_exec(begin.job_pid))
            living = {each.wrapper_pid: copies.union((me, each.helper_pid, each.recorder_pid)) for each in alive}
            if copies:
                return living
            self._living_wrappers = living
        return self._living_wrappers

    # --- one sample ----------------------------------------------------------------------------------------------

    def sample(self, thorough: bool = False, final: bool = False) -> None:
        """Take a sample now. ``thorough`` also reads high-water marks and I/O, which cost more."""
        if self.begin_monotonic is None:
            return
        began = time.monotonic()
        tree = self._tree = self._reader.read(self._wrappers(), thorough or final)
        now = time.monotonic()
        if not tree.is_unchanged or final:
            self._take_cpu(tree)
        best_bytes, source = self._take_memory(tree, now)
        if not self._is_blind:
            if self.num_processes_peak is None or tree.num_processes > self.num_processes_peak:
                self.num_processes_peak = tree.num_processes
            if self.num_threads_peak is None or tree.num_threads > self.num_threads_peak:
                self.num_threads_peak = tree.num_threads
            if tree.major_faults > self.major_faults:
                self.major_faults = tree.major_faults
        if thorough or final:
            self.look_at_high_water_marks()
            self._io.take(tree, self._tasks)
        self.sample_count += 1
        if tree.num_processes:
            self._last_tree = tree
        if self._is_blind:
            return  # no series: no sample has all figures of a row
        self._half_time.note(now - self.begin_monotonic, self._cpu_seconds)
        self._close_interval(began, now, tree, best_bytes, source, final)

    def _take_cpu(self, tree: TreeReading) -> None:
        waited_seconds = 0.0
        for task in self._tasks.values():
            waited_seconds += self._waited_seconds(task)
        self._ledger.add(tree, waited_seconds)
        self._charged_seconds = self._cgroup_cpu_seconds()
        seconds, self._cpu_source = self._best_cpu(self._charged_seconds)
        if seconds > self._cpu_seconds:
            self._cpu_seconds = seconds

    def _waited_seconds(self, task: Task) -> float:
        if task.exit is not None:
            used = task.exit.user_cpu_seconds + task.exit.system_cpu_seconds
            return used + task.exit.orphans_cpu_seconds
        if task.gone:
            return 0.0
        waited = self._reader.waited_cpu_seconds(task.begin.wrapper_pid)
        return max(0.0, waited - task.begin.waited_before_seconds)

    def _cgroup_cpu_seconds(self) -> float | None:
        """What the cgroup charged, minus what wrappers, sentinels and monitor used.

        None while a task has not registered: the start of its wrapper would count as the job's.
        """
        charged = self._own_cgroup.cpu_seconds() if self._own_cgroup else None
        if charged is None or len(self._tasks) < self._local_task_count:
            return None
        overhead_seconds = sum(self._overhead_cpu_seconds(task) for task in self._tasks.values())
        return charged - overhead_seconds - kernel.own_cpu_seconds()

    def _overhead_cpu_seconds(self, task: Task) -> float:
        """CPU of a task's wrapper and sentinel, as last known."""
        if task.exit is not None:
            return task.exit.wrapper_cpu_seconds
        wrapper = self._reader.wrapper_cpu_seconds(task.begin.wrapper_pid)
        return max(task.begin.wrapper_cpu_seconds, wrapper)

    def _best_cpu(self, charged: float | None) -> tuple[float, str | None]:
        """The tree's CPU time; or the cgroup's if that is larger, because nobody waited for some processes."""
        seen = self._ledger.total_seconds
        if charged is not None and charged > seen * 1.005 + _CGROUP_EXCESS_SECONDS * max(1, len(self._tasks)):
            return charged, self._own_cgroup.source if self._own_cgroup else None
        return seen, "procfs" if self._has_running_task else "wait4"

    def _take_memory(self, tree: TreeReading, now: float) -> tuple[int, str]:
        if tree.is_unchanged and self._last_tree is not None and self._own_cgroup is not None:
            self._memory.see_sample(now, *self._last_memory, tree.rss_bytes)
            return self._last_memory
        charged = self._own_cgroup.charged_bytes() if self._own_cgroup else None
        if charged is not None and self._own_cgroup is not None:
            if self.sample_count % _OWN_MEMORY_EVERY == 0:
                self._own_bytes = self._measure_own_bytes()
            best_bytes, source = max(0, charged - self._own_bytes), self._own_cgroup.source
        elif self._is_blind:
            return self._last_memory
        else:
            best_bytes, source = self.pss.best_bytes(tree, now)
        if not tree.num_processes and not self._is_blind:
            return self._last_memory  # all processes have exited: the last known value
        self._memory.see_sample(now, best_bytes, source, tree.rss_bytes)
        self._last_memory = best_bytes, source
        return best_bytes, source

    def own_memory_bytes(self) -> int:
        """Private and shared memory (PSS) of wrappers, sentinels and monitor.

        Reading it costs 1 ms and it hardly changes: it is measured again every ten minutes.
        """
        now = time.monotonic()
        if self._own_memory is None or now - self._own_memory[0] > _OWN_MEMORY_SECONDS:
            self._own_memory = now, sum(self._reader.proportional_bytes(pid) for pid in self._own_pids())
        return self._own_memory[1]

    def _own_pids(self) -> set[int]:
        pids = {os.getpid()}
        for wrapper, helpers in self._wrappers().items():
            pids |= {wrapper, *helpers}
        return pids - {0}

    def _measure_own_bytes(self) -> int:
        """The part of the cgroup's memory that is not the job's: wrappers, sentinels and this monitor."""
        own = sum(self._reader.anonymous_bytes(pid) for pid in self._own_pids())
        if self._own_cgroup is not None and self._own_cgroup.includes_slurmstepd and self._tasks:
            own += self._reader.unshared_bytes(next(iter(self._tasks.values())).begin.parent_pid)
        return own

    def _close_interval(
        self, began: float, now: float, tree: TreeReading, best_bytes: int, source: str, final: bool
    ) -> None:
        """Make a row of the series for the time since the last row."""
        if not final and not self._series.is_ready(began, now):
            return
        assert self.begin_monotonic is not None
        if final:
            now = self._end_monotonic(now)
        when = self.begin_time + (now - self.begin_monotonic)
        counters = Counters(self._ledger.total_seconds, self._charged_seconds, self._cpu_seconds)
        if not self._series.is_possible(now, counters, self._bound.cpus):
            self._bound.refresh([process.pid for process in tree.processes])
        shown = self._last_tree or tree  # at the end the tree is empty: use the last one that was not
        self._series.close(
            now,
            counters,
            self._bound.cpus,
            (when, shown.rss_bytes, shown.num_processes),
            (when, best_bytes, source),
            (when, *self._io.totals(), tree.num_threads, self.major_faults),
            final,
        )

    def _end_monotonic(self, now: float) -> float:
        """The step's end according to its tasks' exits, so that the last row lies within the step's time."""
        return max((task.end_monotonic or now for task in self._tasks.values()), default=now)

    def hand_over(self, batch: Batch, keep_last: bool) -> None:
        """Move the rows since the last call into the batch."""
        self._series.hand_over(batch, keep_last)

    def drop_rows(self) -> None:
        self._series.drop()

    def look_at_high_water_marks(self) -> None:
        """Called before a flush, so that the record has the spikes, and the waiting, of a step that is killed later."""
        looked_at, self._looked_at = self._looked_at, {}
        processes = self._tree.processes if self._tree is not None else []
        self._cpu_wait.look(processes)
        for process in processes:
            if process.is_zombie:
                continue
            if not process.clock_ns or looked_at.get(process.pid) != process.clock_ns:
                self._memory.floor.see(self._reader.high_water_bytes(process.pid), "vmhwm")
            self._looked_at[process.pid] = process.clock_ns

    # --- the figures ---------------------------------------------------------------------------------------------

    def usage(self, elapsed_seconds: float, ended: bool) -> dict[str, object]:
        """The current columns of ``step_usage``."""
        self._take_cgroup_figures()
        cpu_seconds, cpu_source = self._cpu_of_step(elapsed_seconds, ended)
        average = cpu_percent(cpu_seconds, elapsed_seconds, self._bound.cpus)
        peak_percent = self._series.peak_percent
        if average is not None:
            peak_percent = max(peak_percent or 0.0, average)
        self._memory.estimated_bytes = self.pss.estimated_peak_bytes()
        best = self._memory.best_so_far()
        peak_bytes, peak_source = self._memory.peak()
        average_bytes, average_source = self._memory.average()
        storage_read, storage_written, read_chars, written_chars = self._io.totals()
        ended_tasks = [task.exit for task in self._tasks.values() if task.exit is not None]
        return {
            "elapsed_seconds": elapsed_seconds,
            "cpu_seconds": cpu_seconds,
            "cpu_source": cpu_source,
            "avg_cpu_percent": average,
            "peak_cpu_percent": peak_percent,
            "peak_memory_bytes": peak_bytes,
            "peak_memory_source": peak_source,
            "memory_floor_bytes": self._memory.floor.bytes,
            "memory_floor_source": self._memory.floor.source,
            "memory_best_bytes": best.bytes,
            "memory_best_source": best.source,
            "memory_ceiling_bytes": self._memory.ceiling.bytes,
            "memory_ceiling_source": self._memory.ceiling.source,
            "sampled_rss_peak_bytes": None if self._is_blind else self._memory.sampled_rss_peak_bytes,
            "avg_memory_bytes": average_bytes,
            "avg_memory_source": average_source,
            "memory_limit_bytes": self._limit_bytes,
            "oom_kills": self._oom_kills,
            "num_processes_peak": self.num_processes_peak,
            "num_threads_peak": self.num_threads_peak,
            "storage_read_bytes": storage_read,
            "storage_written_bytes": storage_written,
            "read_chars": read_chars,
            "written_chars": written_chars,
            "major_faults": max(self.major_faults, sum(end.major_faults for end in ended_tasks)),
            "sample_count": self.sample_count,
            **self._cpu_wait.columns(),
            "last_half_cpu_seconds": self._half_time.last_half_cpu_seconds(elapsed_seconds, cpu_seconds),
        }

    def _cpu_of_step(self, elapsed_seconds: float, ended: bool) -> tuple[float | None, str | None]:
        """CPU seconds and their source, without what the cgroup charged before the step began."""
        if not ended:
            is_known = not self._is_blind or self._charged_seconds is not None
            return (self._cpu_seconds, self._cpu_source) if is_known else (None, None)
        charged = self._cgroup_cpu_seconds()
        if charged is not None and charged > self._bound.count * elapsed_seconds:
            charged = None
        return self._best_cpu(charged)

    def _take_cgroup_figures(self) -> None:
        if self._cgroup is None:
            return
        peak = self._own_cgroup.peak_with_cache_bytes() if self._own_cgroup else None
        if peak is not None:
            self._memory.ceiling.see(peak, self._cgroup.source)
        kills = self._cgroup.oom_kills()
        if kills is not None and self._oom_kills_before is not None:
            self._oom_kills = kills - self._oom_kills_before


class _IoFigures:
    """Bytes read and written by the tree: by living processes and by the children that the wrappers reaped."""

    def __init__(self, reader: TreeReader) -> None:
        self._reader = reader
        self._totals: list[int | None] = [None, None, None, None]
        self._kept: dict[int, tuple[int, ...]] = {}

    def totals(self) -> tuple[int | None, ...]:
        """Bytes from storage, to storage, read and written in total; None if a process could not be read."""
        return tuple(self._totals)

    def take(self, tree: TreeReading, tasks: dict[int, Task]) -> None:
        """Add up the kernel's counters: a process's own include those of the children it has reaped."""
        for task in tasks.values():
            if not task.gone:
                self.keep(task)
        found = [self._reader.io_counters(process.pid) for process in tree.processes if not process.is_zombie]
        if len(self._kept) < len(tasks) or None in found:
            return  # another user's process, or one that just exited: a sum without it would be wrong
        counters = [*found, *self._kept.values()]
        sums = [sum(counter[place] for counter in counters if counter is not None) for place in range(4)]
        self._totals = [max(before or 0, now) for before, now in zip(self._totals, sums, strict=True)]

    def keep(self, task: Task) -> None:
        """What the children that a wrapper reaped used: its counters minus its own before the job."""
        now = self._reader.io_counters(task.begin.wrapper_pid)
        if now is not None:
            own = (
                task.begin.own_storage_read_bytes,
                task.begin.own_storage_written_bytes,
                task.begin.own_read_chars,
                task.begin.own_written_chars,
            )
            pairs = zip(now, own, strict=True)
            self._kept[task.begin.wrapper_pid] = tuple(max(0, after - before) for after, before in pairs)
