"""One facade over cgroup v1 and v2: what the step's own cgroup charged it with.

Paths come from ``/proc/self/cgroup`` and ``/proc/self/mountinfo``, never from job numbers: Slurm has named these
directories in several ways. Each task of a step has its own directory (``task_0``, …). Their figures are summed, which
excludes slurmstepd. A path belongs to the step only if it names a step: with jobacct_gather/linux the cpuacct line
is ``/``, the whole machine, and without task/cgroup the memory line names slurmd's cgroup.

Figures are the kernel's: v1 ``cpuacct.usage``, ``cpu.stat``, ``memory.stat``,
``memory.max_usage_in_bytes``, ``memory.oom_control``; v2 ``cpu.stat``, ``cpu.pressure``, ``memory.stat``,
``memory.swap.current``, ``memory.peak``, ``memory.events``.
"""

from __future__ import annotations

import os

UNLIMITED_BYTES = 1 << 60  # v1 writes about 2**63 if there is no limit


class StepCgroup:
    """The step's directories of one cgroup version. A figure is None if the kernel does not offer it.

    A memory directory above the step's own is used only for limits and kills.
    """

    def __init__(self, version: int, memory_dir: str | None, cpu_dir: str | None) -> None:
        self.version = version
        self._memory_dir = memory_dir
        self._own_memory_dir = memory_dir if _names_a_step(memory_dir) else None
        self._cpu_dir = cpu_dir if _names_a_step(cpu_dir) else None
        self._ended_cpu: dict[str, float] = {}

    @property
    def source(self) -> str:
        return f"cgroup_v{self.version}"

    @property
    def includes_slurmstepd(self) -> bool:
        """Whether the memory charged is the whole step's: with jobacct_gather/linux there are no task directories."""
        return self._own_memory_dir is not None and os.path.basename(self._own_memory_dir).startswith("step_")

    def cpu_seconds(self) -> float | None:
        """CPU time of all processes that were ever in the step's cgroups, including the monitor's."""
        if self._cpu_dir is None:
            return None
        for directory in _task_dirs(self._cpu_dir):
            seconds = self._cpu_of(directory)
            if seconds is not None:
                self._ended_cpu[directory] = seconds  # kept: a task's directory can disappear before the step ends
        return sum(self._ended_cpu.values()) if self._ended_cpu else None

    def _cpu_of(self, directory: str) -> float | None:
        if self.version == 1:
            nanoseconds = _number(f"{directory}/cpuacct.usage")
            return None if nanoseconds is None else nanoseconds * 1e-9
        microseconds = _table(f"{directory}/cpu.stat").get("usage_usec")
        return None if microseconds is None else microseconds * 1e-6

    def cpu_wait_seconds(self) -> dict[str, float]:
        """How long its threads had no CPU, by source: ``psi`` (some of them waited), ``throttled`` (by a quota)."""
        directory = self._cpu_dir
        if directory is None:
            return {}
        found = {}
        above, name = os.path.split(directory)
        waited = _pressure_seconds(f"{above if name.startswith('task_') else directory}/cpu.pressure")
        if waited is not None:
            found["psi"] = waited
        while os.path.exists(f"{directory}/cgroup.procs"):
            table = _table(f"{directory}/cpu.stat")
            for key, unit in (("throttled_usec", 1e-6), ("throttled_time", 1e-9)):
                if key in table:
                    found["throttled"] = found.get("throttled", 0.0) + table[key] * unit
            directory = os.path.dirname(directory)
        return found

    def charged_bytes(self) -> int | None:
        """Memory that only this step's processes hold: anonymous, shared and swapped; no page cache."""
        if self._own_memory_dir is None:
            return None
        found = [self._charged_to(directory) for directory in _task_dirs(self._own_memory_dir)]
        charges = [charge for charge in found if charge is not None]
        return sum(charges) if charges else None

    def _charged_to(self, directory: str) -> int | None:
        table = _table(f"{directory}/memory.stat")
        if self.version == 1:
            if "total_rss" not in table:
                return None
            return table["total_rss"] + table.get("total_shmem", 0) + table.get("total_swap", 0)
        if "anon" not in table:
            return None
        return table["anon"] + table.get("shmem", 0) + (_number(f"{directory}/memory.swap.current") or 0)

    def peak_with_cache_bytes(self) -> int | None:
        """The kernel's high-water mark, with page cache and monitor. With several tasks, their sum: an upper bound."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        if self._own_memory_dir is None:
            return None
        found = [_number(f"{directory}/{name}") for directory in _task_dirs(self._own_memory_dir)]
        peaks = [peak for peak in found if peak is not None]
        return sum(peaks) if peaks else None

    def oom_kills(self) -> int | None:
        """How many processes the kernel killed for memory. Each cgroup counts its own."""
        if self._memory_dir is None:
            return None
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        found = [_table(f"{directory}/{name}").get("oom_kill") for directory in _task_dirs(self._memory_dir)]
        counts = [count for count in found if count is not None]
        return sum(counts) if counts else None

    def limit_bytes(self) -> int | None:
        """The smallest memory limit of this cgroup and of those above it."""
        name = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
        limits = []
        directory = self._memory_dir or ""
        while directory and os.path.exists(f"{directory}/cgroup.procs"):
            limit = _number(f"{directory}/{name}")
            if limit is not None and limit < UNLIMITED_BYTES:
                limits.append(limit)
            directory = os.path.dirname(directory)
        return min(limits, default=None)


_own_mounts: dict[str, tuple[str, str]] = {}


def load_mounts() -> dict[str, tuple[str, str]]:
    """Where control groups are mounted: read once, also for the processes that this one forks (0.4 ms).

    Raises:
        OSError: there is no procfs.
    """
    if not _own_mounts:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            _own_mounts.update(_mounts(file.read()))
    return _own_mounts


def _own_place() -> tuple[dict[str, str], dict[str, tuple[str, str]]] | None:
    """This process's cgroups and the mounts, by controller; None if they cannot be read."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
            return _paths_by_controller(file.read()), load_mounts()
    except OSError:
        return None


def own_cgroup() -> StepCgroup | None:
    """The cgroup of this process; None where it is not to be found."""
    place = _own_place()
    return _step_cgroup(*place) if place else None


def find_step_cgroup(cgroup_text: str, mountinfo_text: str) -> StepCgroup | None:
    """The cgroup that ``/proc/PID/cgroup`` names; None if no controller that torc uses is mounted.

    A v2 hierarchy is used only if it has the memory or cpu controller: on many machines it exists without any.
    """
    return _step_cgroup(_paths_by_controller(cgroup_text), _mounts(mountinfo_text))


def _step_cgroup(paths: dict[str, str], mounts: dict[str, tuple[str, str]]) -> StepCgroup | None:
    memory = _directory(paths, mounts, "memory", "memory.stat")
    cpu = _directory(paths, mounts, "cpuacct", "cpuacct.usage")
    if memory or cpu:
        return StepCgroup(1, memory, cpu)
    memory = _directory(paths, mounts, "", "memory.stat")
    cpu = _directory(paths, mounts, "", "cpu.stat") if memory else None
    return StepCgroup(2, memory, cpu) if memory else None


def quota_cpus() -> float | None:
    """How many CPUs' time this process's cgroup or one above it gives (``cpu.max``); None where it sets no quota."""
    place = _own_place()
    return _quota(*place) if place else None


def find_quota(cgroup_text: str, mountinfo_text: str) -> float | None:
    """The smallest quota of the cgroups that ``/proc/PID/cgroup`` names, in CPUs."""
    return _quota(_paths_by_controller(cgroup_text), _mounts(mountinfo_text))


def _quota(paths: dict[str, str], mounts: dict[str, tuple[str, str]]) -> float | None:
    quotas = []
    for controller in ("cpu", ""):
        if controller in paths and controller in mounts:
            mount_point, directory = mounts[controller][1], _below_the_mount(paths, mounts, controller)
            while len(directory) >= len(mount_point):
                quotas.append(_quota_of(directory))
                directory = os.path.dirname(directory)
    return min((quota for quota in quotas if quota), default=None)


def _quota_of(directory: str) -> float | None:
    quota, period = _number(f"{directory}/cpu.cfs_quota_us"), _number(f"{directory}/cpu.cfs_period_us")
    if period is None:
        words = _text(f"{directory}/cpu.max").split()  # "max 100000" where there is none
        quota, period = (int(word) if word.isdigit() else None for word in [*words, "", ""][:2])
    return quota / period if quota and period else None


def _names_a_step(directory: str | None) -> bool:
    return directory is not None and "/step_" in directory


def _paths_by_controller(text: str) -> dict[str, str]:
    """Controller ('' for v2) to path, from lines ``9:name=systemd:/`` or ``0::/a/b``."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _mounts(text: str) -> dict[str, tuple[str, str]]:
    """Controller ('' for v2) to (root, mount point), from /proc/self/mountinfo (proc(5))."""
    mounts: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        if not after.startswith("cgroup"):
            continue
        fields, kind = before.split(), after.split()
        if len(fields) < 5:
            continue
        names = [""] if kind[0] == "cgroup2" else kind[-1].split(",")
        for name in names:
            mounts.setdefault(name, (_unescape(fields[3]), _unescape(fields[4])))
    return mounts


def _unescape(path: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path


def _directory(
    paths: dict[str, str], mounts: dict[str, tuple[str, str]], controller: str, must_have: str
) -> str | None:
    if controller not in paths or controller not in mounts:
        return None
    if paths[controller] == "/" and mounts[controller][0] == "/" and controller:
        return None  # the whole machine's
    directory = _below_the_mount(paths, mounts, controller)
    return directory if os.path.exists(f"{directory}/{must_have}") else None


def _below_the_mount(paths: dict[str, str], mounts: dict[str, tuple[str, str]], controller: str) -> str:
    root, mount_point = mounts[controller]
    path = paths[controller]
    if root != "/" and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]  # a container mounts its part of the tree as the root
    return mount_point + path.rstrip("/")


def _task_dirs(directory: str) -> list[str]:
    """All task directories of the step, if this is one of them; else only this directory."""
    above, name = os.path.split(directory)
    if not name.startswith("task_"):
        return [directory]
    try:
        return sorted(os.path.join(above, entry) for entry in os.listdir(above) if entry.startswith("task_"))
    except OSError:
        return [directory]


def _number(path: str) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None  # v2 writes "max" where there is no limit


def _pressure_seconds(path: str) -> float | None:
    """``total=`` of the line ``some``: microseconds during which a thread waited."""
    words = _text(path).split("\n")[0].split()  # nothing: no PSI in this kernel, or it is turned off
    total = words[-1] if words[:1] == ["some"] else ""
    return int(total[6:]) * 1e-6 if total.startswith("total=") and total[6:].isdigit() else None


def _text(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(16384).decode("ascii", "replace")
    except OSError:
        return ""


def _table(path: str) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
