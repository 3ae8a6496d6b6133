"""The facade over both cgroup versions, on trees laid out as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

from torc_slurm.step.cgroup import StepCgroup, find_step_cgroup

MIB = 1 << 20


def lay_out(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def v2_step(root: Path, tasks: int) -> tuple[str, str]:
    """A v2 step under ``root``; returns the texts of /proc/self/cgroup and mountinfo of its first task."""
    step = "system.slice/slurmstepd.scope/job_12/step_3"
    lay_out(root, {f"{step}/cgroup.procs": "", f"{step}/memory.max": str(500 * MIB)})
    lay_out(root, {f"{step}/user/cgroup.procs": "", f"{step}/user/memory.max": "max"})
    lay_out(root, {f"{step}/slurm/memory.stat": f"anon {90 * MIB}\n", f"{step}/slurm/cpu.stat": "usage_usec 9000000\n"})
    for task in range(tasks):
        directory = f"{step}/user/task_{task}"
        lay_out(
            root,
            {
                f"{directory}/cgroup.procs": "1\n",
                f"{directory}/memory.stat": f"anon {30 * MIB}\nfile {200 * MIB}\nshmem {5 * MIB}\n",
                f"{directory}/memory.swap.current": f"{2 * MIB}\n",
                f"{directory}/memory.peak": f"{250 * MIB}\n",
                f"{directory}/memory.max": "max\n",
                f"{directory}/memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n",
                f"{directory}/cpu.stat": "usage_usec 1500000\nuser_usec 1000000\n",
            },
        )
    mountinfo = f"30 25 0:26 / {root} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    return f"0::/{step}/user/task_0\n", mountinfo


def test_v2_sums_the_tasks_and_leaves_slurmstepd_out(tmp_path: Path) -> None:
    found = find_step_cgroup(*v2_step(tmp_path, tasks=2))
    assert found is not None
    assert found.source == "cgroup_v2"
    assert found.cpu_seconds() == 3.0
    assert found.charged_bytes() == 2 * 37 * MIB  # anonymous, shared and swapped; no page cache
    assert found.peak_with_cache_bytes() == 500 * MIB
    assert found.oom_kills() == 2
    assert found.limit_bytes() == 500 * MIB


def test_cpu_of_a_task_whose_directory_went_is_kept(tmp_path: Path) -> None:
    found = find_step_cgroup(*v2_step(tmp_path, tasks=2))
    assert found is not None
    assert found.cpu_seconds() == 3.0
    for path in sorted(tmp_path.rglob("task_1/*")):
        path.unlink()
    assert found.cpu_seconds() == 3.0


def test_a_v2_hierarchy_without_controllers_is_none(tmp_path: Path) -> None:
    lay_out(tmp_path, {"a/cgroup.procs": ""})
    assert find_step_cgroup("0::/a\n", f"30 25 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n") is None


def v1_mounts(root: Path) -> str:
    return "".join(
        f"3{number} 25 0:2{number} / {root}/{name} rw shared:{number} - cgroup cgroup rw,{name}\n"
        for number, name in enumerate(("memory", "cpuacct"))
    )


def test_v1_step(tmp_path: Path) -> None:
    step = "slurm_n1/uid_0/job_4/step_0"
    lay_out(
        tmp_path,
        {
            f"memory/{step}/cgroup.procs": "",
            f"memory/{step}/memory.limit_in_bytes": str(100 * MIB),
            f"memory/{step}/task_0/cgroup.procs": "",
            f"memory/{step}/task_0/memory.limit_in_bytes": "9223372036854771712",
            f"memory/{step}/task_0/memory.stat": f"cache 1\ntotal_rss {41 * MIB}\ntotal_swap {MIB}\n",
            f"memory/{step}/task_0/memory.max_usage_in_bytes": str(90 * MIB),
            f"memory/{step}/task_0/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            f"cpuacct/{step}/task_0/cpuacct.usage": "2500000000\n",
        },
    )
    text = f"4:memory:/{step}/task_0\n2:cpuacct:/{step}/task_0\n0::/\n"
    found = find_step_cgroup(text, v1_mounts(tmp_path))
    assert found is not None
    assert (found.source, found.cpu_seconds(), found.charged_bytes()) == ("cgroup_v1", 2.5, 42 * MIB)
    assert (found.oom_kills(), found.limit_bytes()) == (3, 100 * MIB)


def test_the_whole_machines_counter_is_never_the_steps(tmp_path: Path) -> None:
    """With jobacct_gather/linux the cpuacct line is ``/`` (seen on 22.05)."""
    lay_out(tmp_path, {"cpuacct/cpuacct.usage": "999\n", "memory/memory.stat": "total_rss 1\n"})
    assert find_step_cgroup("4:memory:/\n2:cpuacct:/\n", v1_mounts(tmp_path)) is None


def test_slurmds_own_cgroup_tells_of_limits_only(tmp_path: Path) -> None:
    lay_out(tmp_path, {"memory.stat": "total_rss 7\n", "memory.limit_in_bytes": "5\n", "cgroup.procs": ""})
    found = StepCgroup(1, str(tmp_path), str(tmp_path))
    assert (found.cpu_seconds(), found.charged_bytes(), found.limit_bytes()) == (None, None, 5)


def test_a_container_sees_its_part_as_the_whole(tmp_path: Path) -> None:
    lay_out(tmp_path, {"job_1/step_0/task_0/memory.stat": "anon 5\n", "job_1/step_0/task_0/cpu.stat": "usage_usec 1\n"})
    mountinfo = f"30 25 0:26 /system.slice {tmp_path} rw - cgroup2 cgroup2 rw\n"
    found = find_step_cgroup("0::/system.slice/job_1/step_0/task_0\n", mountinfo)
    assert found is not None
    assert found.charged_bytes() == 5
