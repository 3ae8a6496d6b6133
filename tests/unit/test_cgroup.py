"""Both versions of cgroups, on directory trees like those of the kernel and Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from torc_slurm.step.cgroup import StepCgroup, find_quota, find_step_cgroup

GB = 10**9


def lay_out(directory: Path, **files: str | int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in {"cgroup.procs": "", **files}.items():
        (directory / name.replace("__", ".")).write_text(f"{text}\n")


def v1(tmp_path: Path, *tasks: str) -> tuple[str, str]:
    """/proc/self/cgroup and mountinfo of a task of step 0; 1 GB and 2 s per task."""
    step = "slurm_n1/uid_0/job_7/step_0"
    lay_out(tmp_path / "memory", memory__stat="total_rss 0", memory__limit_in_bytes=2**63 - 4096)
    lay_out(tmp_path / "memory" / step, memory__stat="total_rss 9", memory__limit_in_bytes=4 * GB)
    for task in tasks:
        lay_out(
            tmp_path / "memory" / step / task,
            memory__stat=f"cache 5\nrss {GB}\ntotal_cache 77\ntotal_rss {GB}\ntotal_shmem 1000\ntotal_swap 20",
            memory__max_usage_in_bytes=3 * GB,
            memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1",
            memory__limit_in_bytes=2**63 - 4096,
        )
        lay_out(tmp_path / "cpu" / step / task, cpuacct__usage=2 * 10**9)
    mounts = (
        f"31 24 0:27 / {tmp_path}/memory rw,nosuid - cgroup cgroup rw,memory\n"
        f"32 24 0:28 / {tmp_path}/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    )
    return f"4:memory:/{step}/{tasks[0]}\n2:cpu,cpuacct:/{step}/{tasks[0]}\n0::/\n", mounts


def v2(tmp_path: Path, *tasks: str) -> tuple[str, str]:
    step = "system.slice/slurmstepd.scope/job_7/step_0/user"
    lay_out(tmp_path / "unified" / step / ".." / "slurm", memory__stat=f"anon {GB}", cpu__stat="usage_usec 9000000")
    lay_out(tmp_path / "unified", cpu__stat="usage_usec 1")
    lay_out(tmp_path / "unified" / step, memory__max=4 * GB, memory__stat="anon 1", cpu__stat="usage_usec 1")
    for task in tasks:
        lay_out(
            tmp_path / "unified" / step / task,
            memory__stat=f"anon {GB}\nfile 99\nshmem 1000\nkernel 5",
            memory__swap__current=20,
            memory__peak=3 * GB,
            memory__max="max",
            memory__events="low 0\nhigh 0\nmax 0\noom 1\noom_kill 1\noom_group_kill 0",
            cpu__stat="usage_usec 2000000\nuser_usec 1\nsystem_usec 1",
        )
    mounts = f"30 23 0:26 / {tmp_path}/unified rw,nosuid,nodev - cgroup2 cgroup2 rw,nsdelegate\n"
    return f"0::/{step}/{tasks[0]}\n", mounts


LAYOUTS = {"v1": v1, "v2": v2}


def found(layout: str, tmp_path: Path, *tasks: str) -> StepCgroup:
    cgroup = find_step_cgroup(*LAYOUTS[layout](tmp_path, *tasks))
    assert cgroup is not None
    assert cgroup.source == f"cgroup_{layout}"
    return cgroup


def test_waiting_for_cpus(tmp_path: Path) -> None:
    """Pressure is the step's own; a quota may be that of any cgroup above it."""
    cgroup = found("v2", tmp_path, "task_0", "task_1")
    assert cgroup.cpu_wait_seconds() == {}
    step = tmp_path / "unified/system.slice/slurmstepd.scope/job_7/step_0/user"
    pressure = "some avg10=1.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9"
    lay_out(step, cpu__pressure=pressure)
    assert cgroup.cpu_wait_seconds() == {"psi": 2.5}
    lay_out(
        tmp_path / "unified/system.slice/slurmstepd.scope/job_7/step_0",
        cpu__stat="nr_throttled 3\nthrottled_usec 4000000",
    )
    assert cgroup.cpu_wait_seconds() == {"psi": 2.5, "throttled": 4.0}


def test_a_quota_of_version_1(tmp_path: Path) -> None:
    cgroup = found("v1", tmp_path, "task_0")
    lay_out(tmp_path / "cpu/slurm_n1/uid_0/job_7/step_0/task_0", cpu__stat="nr_throttled 3\nthrottled_time 1500000000")
    assert cgroup.cpu_wait_seconds() == {"throttled": 1.5}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_task(layout: str, tmp_path: Path) -> None:
    cgroup = found(layout, tmp_path, "task_0")
    assert cgroup.charged_bytes() == GB + 1000 + 20
    assert cgroup.peak_with_cache_bytes() == 3 * GB
    assert cgroup.cpu_seconds() == pytest.approx(2.0)
    assert cgroup.oom_kills() == 1
    assert cgroup.limit_bytes() == 4 * GB
    assert not cgroup.includes_slurmstepd


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_steps_tasks_together(layout: str, tmp_path: Path) -> None:
    """All tasks are summed, from the first one's directory, without slurmstepd next to them."""
    cgroup = found(layout, tmp_path, "task_0", "task_1", "task_2")
    assert cgroup.charged_bytes() == 3 * (GB + 1020)
    assert cgroup.cpu_seconds() == pytest.approx(6.0)
    assert cgroup.oom_kills() == 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_task_that_ended_keeps_its_cpu_time(layout: str, tmp_path: Path) -> None:
    cgroup = found(layout, tmp_path, "task_0", "task_1")
    assert cgroup.cpu_seconds() == pytest.approx(4.0)
    for path in tmp_path.rglob("task_1"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    assert cgroup.cpu_seconds() == pytest.approx(4.0)
    assert cgroup.charged_bytes() == GB + 1020


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_the_kernel_does_not_offer_is_unknown(layout: str, tmp_path: Path) -> None:
    """Older kernels: no memory.peak (before 5.19), no oom_kill (v1 before 4.13), no swap accounting, no limit."""
    cgroup = found(layout, tmp_path, "task_0")
    for name in ("memory.peak", "memory.max_usage_in_bytes", "memory.swap.current", "memory.events", "cpu.stat"):
        for file in tmp_path.rglob(name):
            file.unlink()
    for file in tmp_path.rglob("memory.oom_control"):
        file.write_text("oom_kill_disable 0\nunder_oom 0\n")
    for file in (*tmp_path.rglob("memory.max"), *tmp_path.rglob("memory.limit_in_bytes")):
        file.write_text("max\n" if layout == "v2" else f"{2**63 - 4096}\n")
    assert cgroup.peak_with_cache_bytes() is None
    assert cgroup.oom_kills() is None
    assert cgroup.limit_bytes() is None
    assert cgroup.charged_bytes() == GB + 1000 + (20 if layout == "v1" else 0)
    assert (cgroup.cpu_seconds() is None) == (layout == "v2")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_removed_cgroup(layout: str, tmp_path: Path) -> None:
    cgroup = found(layout, tmp_path, "task_0")
    for file in tmp_path.rglob("task_0/*"):
        file.unlink()
    figures = (cgroup.charged_bytes(), cgroup.peak_with_cache_bytes(), cgroup.cpu_seconds(), cgroup.oom_kills())
    assert figures == (None, None, None, None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_tightest_limit_counts(layout: str, tmp_path: Path) -> None:
    cgroup = found(layout, tmp_path, "task_0")
    name = "memory.max" if layout == "v2" else "memory.limit_in_bytes"
    (task,) = (path for path in tmp_path.rglob("task_0") if (path / name).exists())
    (task / name).write_text(f"{GB}\n")
    assert cgroup.limit_bytes() == GB


def test_v2_without_the_memory_controller_is_none(tmp_path: Path) -> None:
    """On many machines the unified hierarchy is mounted next to v1, and empty."""
    text, mounts = v2(tmp_path, "task_0")
    for file in tmp_path.rglob("memory.*"):
        file.unlink()
    assert find_step_cgroup(text, mounts) is None


def test_nothing_mounted_nothing_named(tmp_path: Path) -> None:
    text, mounts = v1(tmp_path, "task_0")
    assert find_step_cgroup("", mounts) is None
    assert find_step_cgroup(text, "") is None
    assert find_step_cgroup("nonsense\n:::\n\n", "nonsense\n - \n") is None


def test_a_container_sees_its_part_mounted_as_the_whole(tmp_path: Path) -> None:
    """The mount's root is the container's own directory: paths are relative to it."""
    text, mounts = v2(tmp_path, "task_0")
    outer = text.replace("0::/", "0::/kubepods/pod1/")
    inner = mounts.replace(" / ", " /kubepods/pod1 ")
    cgroup = find_step_cgroup(outer, inner)
    assert cgroup is not None
    assert cgroup.charged_bytes() == GB + 1020


def test_a_mount_point_with_a_blank(tmp_path: Path) -> None:
    text, mounts = v2(tmp_path / "a b", "task_0")
    cgroup = find_step_cgroup(text, mounts.replace("a b", "a\\040b"))
    assert cgroup is not None
    assert cgroup.charged_bytes() == GB + 1020


def test_what_is_not_a_steps_own_tells_limits_and_kills_only(tmp_path: Path) -> None:
    """A user's session, a container, slurmd's cgroup: they include others' memory and CPU."""
    lay_out(
        tmp_path / "unified" / "user.slice",
        memory__stat="anon 5",
        memory__max=GB,
        memory__events="oom_kill 2",
        cpu__stat="usage_usec 7",
    )
    mounts = f"30 23 0:26 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n"
    cgroup = find_step_cgroup("0::/user.slice\n", mounts)
    assert cgroup is not None
    assert (cgroup.charged_bytes(), cgroup.cpu_seconds(), cgroup.peak_with_cache_bytes()) == (None, None, None)
    assert (cgroup.limit_bytes(), cgroup.oom_kills()) == (GB, 2)


def test_slurmds_own_cgroup_tells_limits_only(tmp_path: Path) -> None:
    lay_out(tmp_path, memory__stat="total_rss 7", memory__limit_in_bytes=5, cpuacct__usage=1)
    cgroup = StepCgroup(1, str(tmp_path), str(tmp_path))
    assert (cgroup.cpu_seconds(), cgroup.charged_bytes(), cgroup.limit_bytes()) == (None, None, 5)


def test_the_whole_machines_cpu_is_not_the_steps(tmp_path: Path) -> None:
    """With jobacct_gather/linux the cpuacct line is ``/``."""
    text, mounts = v1(tmp_path, "task_0")
    lay_out(tmp_path / "cpu", cpuacct__usage=10**15)
    cgroup = find_step_cgroup(
        text.replace("2:cpu,cpuacct:/slurm_n1/uid_0/job_7/step_0/task_0", "2:cpu,cpuacct:/"), mounts
    )
    assert cgroup is not None
    assert cgroup.cpu_seconds() is None
    assert cgroup.charged_bytes() == GB + 1020


# --- quotas of CPU time


def test_the_tightest_quota_counts(tmp_path: Path) -> None:
    step = "slurm_n1/uid_0/job_7/step_0"
    lay_out(tmp_path / "cpu" / step, cpu__cfs_quota_us=-1, cpu__cfs_period_us=100_000)
    lay_out(tmp_path / "cpu" / "slurm_n1", cpu__cfs_quota_us=250_000, cpu__cfs_period_us=100_000)
    lay_out(tmp_path / "cpu", cpu__cfs_quota_us=400_000, cpu__cfs_period_us=100_000)
    lay_out(tmp_path / "unified" / step, cpu__max="50000 200000")
    lay_out(tmp_path / "unified" / "slurm_n1", cpu__max="max 100000")
    v1_mount = f"32 24 0:28 / {tmp_path}/cpu rw - cgroup cgroup rw,cpu\n"
    v2_mount = f"30 23 0:26 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n"
    assert find_quota(f"3:cpu:/{step}\n", v1_mount) == 2.5
    assert find_quota("3:cpu:/\n", v1_mount) == 4.0  # a container's own root
    assert find_quota(f"0::/{step}\n", v2_mount) == 0.25
    assert find_quota("0::/slurm_n1\n", v2_mount) is None
    assert find_quota(f"3:cpu:/{step}\n0::/{step}\n", v1_mount + v2_mount) == 0.25


@pytest.mark.parametrize("text", ["", "max", "max 100000", "0 100000", "5 0", "nonsense x", "-1 100000"])
def test_a_quota_that_says_nothing_is_none(text: str, tmp_path: Path) -> None:
    lay_out(tmp_path, cpu__max=text)
    assert find_quota("0::/\n", f"30 23 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n") is None
