"""The lab itself: jobs run in it, are limited and accounted for, and nothing of it is left, however it ends. The tests
look for leftovers in /proc, the cgroups, passwd and the directory, without asking the lab.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm

LAB = Path(__file__).resolve().parents[2] / "ci" / "slurm-lab"
PATIENCE_SECONDS = 40.0
# A Python that an ordinary user may start: pytest's own can be below /root.
PYTHON = "/usr/bin/python3"
EAT_400_MIB = "x = [bytearray(2**20) for _ in range(400)]"


@dataclass(frozen=True)
class Lab:
    """A lab as its users see it: the lines of `slurm-lab env`."""

    env: dict[str, str]

    @property
    def dir(self) -> Path:
        return Path(self.env["TORC_LAB_DIR"])

    @property
    def user(self) -> str:
        return self.env["TORC_LAB_USER"]

    @property
    def nodes(self) -> list[str]:
        return self.env["TORC_LAB_NODES"].split(",")

    def run(self, *argv: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command with the lab's environment, in a directory that everyone may enter."""
        command = ["runuser", "-u", user, "--", *argv] if user else [*argv]
        return subprocess.run(
            command, env={**os.environ, **self.env}, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )

    def states(self, job: str) -> dict[str, str]:
        """The job and its steps with their current states in sacct."""
        out = self.run("sacct", "-nP", "-j", job, "-o", "JobID,State").stdout
        return dict(line.split("|") for line in out.splitlines())

    def submit(self, script: str, *options: str, user: str | None = None) -> str:
        result = self.run("sbatch", "--parsable", "-o", "/dev/null", *options, "--wrap", script, user=user)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()


def slurm_lab(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("TORC_LAB")}
    return subprocess.run(
        [str(LAB), *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
    )


def env_of(directory: Path) -> Lab:
    result = slurm_lab("env", "--dir", str(directory))
    assert result.returncode == 0, result.stderr
    pairs = (word.split("=", 1) for word in shlex.split(result.stdout) if word != "export")
    return Lab(dict(pairs))


def up(directory: Path, *options: str) -> Lab:
    result = slurm_lab("up", "--dir", str(directory), *options)
    assert result.returncode == 0, result.stderr
    return env_of(directory)


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE_SECONDS} s in vain for {what}"
        time.sleep(0.05)


def keepers_of(lab: Lab) -> list[int]:
    """By command line, only among the processes with this lab's id."""
    wanted = {b"slurm_lab.keeper", lab.env["TORC_LAB_ID"].encode()}
    return [pid for pid in pids() if wanted <= set(read(pid, "cmdline").split(b"\0"))]


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def left_of(lab: Lab) -> list[str]:
    """Every trace of a lab, its user's and its jobs' processes included. Zombies do not count."""
    # Not only the directory: a user that two labs share may have its home in the other one.
    marks = [lab.env["TORC_LAB_ID"].encode(), *(f"{lab.dir}/{name}".encode() for name in ("conf", "run", "spool"))]
    uid = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}.get(lab.user)
    found = [f"user {lab.user}"] if uid is not None else []
    found += [str(lab.dir)] if lab.dir.exists() else []
    for tree in [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), *Path("/sys/fs/cgroup").iterdir()]:
        found += [str(path) for path in tree.glob(f"*{lab.env['TORC_LAB_ID']}*")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(lab.dir) in line]
    for pid in set(pids()) - {os.getpid()}:
        text = read(pid, "environ") + read(pid, "cmdline") + read(pid, "cgroup")
        if any(mark in text for mark in marks) and b") Z " not in read(pid, "stat"):
            found.append(f"process {pid}: {read(pid, 'cmdline')!r}")
    return found


def assert_nothing_left(lab: Lab) -> None:
    try:
        wait_for(lambda: not left_of(lab), "the lab to be gone")
    except AssertionError:
        assert left_of(lab) == []


# A job that leaves processes everywhere: in a step, daemonised in a step, in the batch script, without a parent.
LEAVES_PROCESSES = """
setsid sh -c 'setsid sleep 9999 & sleep 9998' &
srun sh -c '(setsid sleep 9997 > /dev/null 2>&1 &); sleep 9996'
"""


def is_running_all_over(lab: Lab) -> bool:
    """All four sleeps of the job above have been started."""
    running = {read(pid, "cmdline").removesuffix(b"\x00") for pid in pids() if is_of(lab, pid)}
    return {b"sleep\x00%d" % seconds for seconds in (9996, 9997, 9998, 9999)} <= running


def is_of(lab: Lab, pid: int) -> bool:
    return lab.env["TORC_LAB_ID"].encode() in read(pid, "environ")


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A short directory that ordinary users may enter; they may not enter pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="tl-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def lab(base: Path) -> Iterator[Lab]:
    lab = up(base / "a")
    yield lab
    assert slurm_lab("down", "--dir", str(lab.dir)).returncode == 0
    assert left_of(lab) == []


def test_an_ordinary_users_job_runs_and_is_accounted_for(lab: Lab) -> None:
    out = Path(lab.env["TORC_LAB_HOME"]) / "out"
    job = lab.submit("srun -N2 -n2 id -un", "-N2", f"-o{out}", f"-D{out.parent}", user=lab.user)
    wait_for(lambda: lab.states(job).get(f"{job}.0") == "COMPLETED", "the job's step in sacct")
    wait_for(lambda: lab.states(job)[job] == "COMPLETED", "the job's end in sacct")
    assert out.read_text().split() == [lab.user, lab.user]


def test_roots_job_runs_on_both_nodes(lab: Lab) -> None:
    result = lab.run("srun", "-N2", "printenv", "SLURMD_NODENAME")
    assert sorted(result.stdout.split()) == lab.nodes, result.stderr


def test_a_step_over_its_memory_is_killed_by_the_kernel(lab: Lab) -> None:
    result = lab.run("srun", "-Jtoo-much", "--mem=100M", PYTHON, "-c", EAT_400_MIB, user=lab.user)
    assert result.returncode != 0
    job = re.search(r"StepId=(\d+)\.0", result.stderr)
    assert job, result.stderr
    wait_for(lambda: lab.states(job[1]).get(f"{job[1]}.0") == "OUT_OF_MEMORY", "OUT_OF_MEMORY in sacct")


def test_four_steps_of_one_cpu_run_side_by_side_and_a_step_of_four_runs(lab: Lab, base: Path) -> None:
    """Also on a machine with fewer real cores. Each of the four waits until all have started."""
    meeting = base / "meeting"
    meeting.mkdir()
    meet = f"touch {meeting}/$SLURM_STEP_ID; until [ $(ls {meeting} | wc -l) -ge 4 ]; do sleep 0.05; done"
    step = f"srun -N1 -n1 -c1 --exact --mem=200M timeout 30 sh -c {shlex.quote(meet)}"
    script = " & ".join([step] * 4) + " & wait; srun -N1 -n1 -c4 true; srun -N1 -n4 -c1 true"
    job = lab.submit(script, "-N1", "-n4")
    wait_for(lambda: lab.states(job).get(job) in ("COMPLETED", "FAILED"), "the job's end")
    expected = {job, f"{job}.batch", *(f"{job}.{number}" for number in range(6))}
    assert lab.states(job) == dict.fromkeys(expected, "COMPLETED")


def test_a_step_is_in_its_nodes_cgroups(lab: Lab) -> None:
    result = lab.run("srun", "-w", lab.nodes[1], "cat", "/proc/self/cgroup")
    paths = {line.split(":")[1]: line.split(":")[2] for line in result.stdout.splitlines()}
    for controller in ("memory", "cpuset", "cpuacct", "freezer"):
        assert paths[controller].startswith(f"/slurm_{lab.nodes[1]}/uid_0/job_")


def test_it_listens_on_loopback_only(lab: Lab) -> None:
    """From the kernel: addresses in /proc/net/tcp are little-endian hexadecimal, 0A is LISTEN."""
    status = slurm_lab("status", "--dir", str(lab.dir)).stdout
    ports = {int(port) for port in re.findall(r"port (\d+)", status)}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1].split(":") for row in rows if row[3] == "0A"]
    ours = {int(port, 16): address for address, port in listening if int(port, 16) in ports}
    assert ours == dict.fromkeys(ports, "0100007F")
    assert len(ports) == 4


def test_the_accounting_daemon_can_be_taken_away_and_brought_back(lab: Lab) -> None:
    assert slurm_lab("stop", "slurmdbd", "--dir", str(lab.dir)).returncode == 0
    assert lab.run("timeout", "10", "sacct").returncode != 0
    assert "not running" in slurm_lab("status", "--dir", str(lab.dir)).stdout
    result = slurm_lab("start", "slurmdbd", "--dir", str(lab.dir))
    assert result.returncode == 0, result.stderr
    assert lab.run("timeout", "10", "sacct").returncode == 0


def test_up_again_changes_nothing(lab: Lab) -> None:
    assert up(lab.dir) == lab


def test_a_second_lab_runs_without_cgroups_and_does_not_disturb_the_first(lab: Lab, base: Path) -> None:
    second = up(base / "b", "--cgroup", "off", "--slurm-conf-line", "KillWait=7")
    assert "slurm_" not in second.run("srun", "cat", "/proc/self/cgroup").stdout
    assert "= 7 sec" in second.run("scontrol", "show", "config").stdout
    job = second.submit(LEAVES_PROCESSES, user=second.user)
    wait_for(lambda: is_running_all_over(second), "the job's processes")
    assert second.run("squeue", "-hj", job, "-o%T").stdout.strip() == "RUNNING"
    assert slurm_lab("down", "--dir", str(second.dir)).returncode == 0
    assert left_of(second) == []
    assert lab.run("srun", "true").returncode == 0


def test_run_gives_the_commands_status_to_its_caller_and_leaves_nothing(base: Path) -> None:
    """As an ordinary user, from a directory that the user may not enter."""
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    script = "export -p; id -un; id -G; pwd; touch ~/x; umask; srun -n2 id -un; setsid sleep 9999 & exit 7"
    result = slurm_lab("run", "--user", f"tl{os.getpid()}", "--", "bash", "-c", script, cwd=closed)
    assert result.returncode == 7, result.stderr
    env = dict(re.findall(r'^declare -x (\w+)="(.*)"$', result.stdout, re.MULTILINE))
    said = result.stdout.splitlines()[-7:]
    home = env["TORC_LAB_HOME"]
    assert [env["USER"], env["HOME"]] == [f"tl{os.getpid()}", home]
    assert said[1] == f"tl{os.getpid()}"
    assert said[2].isdigit(), "the user's own group and none of root's"
    assert said[3] == home
    assert said[5:] == [f"tl{os.getpid()}"] * 2
    assert left_of(Lab(env)) == []


@pytest.mark.parametrize(("command", "status"), [("/etc/passwd", 126), ("no-such-command", 127)])
def test_run_says_at_once_that_a_command_cannot_run(command: str, status: int) -> None:
    result = slurm_lab("run", "--", command)
    assert result.returncode == status
    assert result.stderr.splitlines() == [result.stderr.strip()]
    assert command in result.stderr


ENDS: dict[str, Callable[[subprocess.Popen[bytes], Lab], object]] = {
    "its caller is killed": lambda caller, _: caller.kill(),
    "its caller loses its terminal": lambda caller, _: caller.send_signal(signal.SIGHUP),
    "its directory is removed": lambda _, lab: shutil.rmtree(lab.dir, ignore_errors=True),
}


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Does not wait for it if the test failed before it was ended."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_when(end: str, base: Path) -> None:
    """Even if the command ignores its terminal."""
    ready = base / end.replace(" ", "-")
    script = f"trap '' HUP; setsid sleep 9995 & env > {ready}.new; mv {ready}.new {ready}; sleep 9994"
    argv = [str(LAB), "run", "--dir", str(base / "e"), "--", "bash", "-c", script]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as caller, ended(caller):
        wait_for(lambda: ready.exists() or caller.poll() is not None, "the command to run")
        assert ready.exists(), caller.communicate()[1].decode()
        ours = re.findall(r"^(TORC_LAB_\w+|SLURM_CONF)=(.*)$", ready.read_text(), re.MULTILINE)
        lab = Lab(dict(ours))
        lab.submit(LEAVES_PROCESSES, user=lab.user)
        wait_for(lambda: is_running_all_over(lab), "the job's processes")
        ENDS[end](caller, lab)
        assert_nothing_left(lab)


def test_killed_keepers_and_a_user_that_two_labs_share(base: Path) -> None:
    """The first lab loses one keeper: the other removes the lab, and the user moves to the second lab's home. The
    second lab loses both at the same time: the next command removes it and the user.
    """
    name = f"tl{os.getpid()}"
    first = up(base / "f", "--user", name)
    second = up(base / "g", "--user", name)
    assert pwd.getpwnam(name).pw_dir == first.env["TORC_LAB_HOME"]
    for lab in (first, second):
        lab.submit(LEAVES_PROCESSES, user=name)
        wait_for(lambda: is_running_all_over(lab), "the job's processes")  # noqa: B023  (called in this iteration)

    os.kill(keepers_of(first)[0], signal.SIGKILL)
    wait_for(lambda: left_of(first) == [f"user {name}"], "the first lab to be gone")
    assert pwd.getpwnam(name).pw_dir == second.env["TORC_LAB_HOME"]
    assert second.run("srun", "-n1", "sh", "-c", "cd; touch x; id -un", user=name).stdout.strip() == name

    pids_of_both = keepers_of(second)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids_of_both:
            os.kill(pid, number)
    wait_for(lambda: not keepers_of(second), "both keepers to end")
    result = slurm_lab("status", "--dir", str(second.dir))
    assert result.returncode == 1
    assert "lost its keepers" in result.stderr
    assert left_of(second) == []


def test_a_daemon_that_will_not_start_is_shown_from_its_log(base: Path) -> None:
    result = slurm_lab("up", "--dir", str(base / "h"), "--slurm-conf-line", "StateSaveLocation=/proc/nowhere")
    assert result.returncode == 1
    assert "slurmctld" in result.stderr.splitlines()[0]
    assert "/proc/nowhere" in result.stderr
    assert not (base / "h").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "names"),
    [
        ([], 2, "COMMAND"),
        (["upp"], 2, "upp"),
        (["run"], 2, "no command"),
        (["run", "--"], 2, "no command"),
        (["up", "--cgroup", "maybe"], 2, "maybe"),
        (["up", "--jobacct-gather", "magic"], 2, "magic"),
        (["up", "--cgroup", "off", "--jobacct-gather", "cgroup"], 2, "cgroup"),
        (["up", "--user", "no such:user"], 2, "no such:user"),
        (["up", "--slurm-conf-line", "nonsense"], 2, "nonsense"),
        (["up", "--slurm-conf-line", "Nonsense=1"], 2, "Nonsense"),
        (["up", "--dir", "/opt/no/such/place"], 2, "/opt/no/such"),
        (["up", "--dir", "/etc"], 2, "/etc"),
        (["up", "--dir", "/opt/" + "x" * 100], 2, "too long"),
        (["up", "--dir", "/opt/with space"], 2, "with space"),
        (["up", "--dir", "/root/lab"], 2, "chmod"),
        (["env", "--dir", "/opt/no-lab-here"], 1, "/opt/no-lab-here"),
        (["stop", "slurmdbd", "--dir", "/opt/no-lab-here"], 1, "/opt/no-lab-here"),
        (["status", "--dir", "/opt/no-lab-here"], 1, "/opt/no-lab-here"),
        (["--dir", "/opt/no-lab-here", "status"], 1, "/opt/no-lab-here"),
        (["down", "--dir", "/opt/no-lab-here"], 0, ""),
    ],
)
def test_bad_input_is_one_line_that_names_it(arguments: list[str], status: int, names: str) -> None:
    result = slurm_lab(*arguments)
    said = result.stdout + result.stderr
    assert result.returncode == status, said
    assert names in said
    assert len(said.splitlines()) == (1 if names else 0)


def test_an_unknown_daemon_is_named_with_those_there_are(lab: Lab) -> None:
    result = slurm_lab("stop", "slurmdb", "--dir", str(lab.dir))
    assert result.returncode == 2
    assert "'slurmdb'" in result.stderr
    assert "slurmdbd" in result.stderr
