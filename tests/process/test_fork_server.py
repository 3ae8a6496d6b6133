"""The fork server: jobs start as by exec, once each, whatever happens to the server. The test process is the runner."""

from __future__ import annotations

import dataclasses
import os
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from measured import await_that, children_of, is_alive, name_of
from runs import Here, environment, kill_quietly, plan_in, wait_until, wrappers_below

from torc_slurm.files.output_names import node_file_path
from torc_slurm.runner.attempts import Attempt
from torc_slurm.runner.children import Children
from torc_slurm.runner.fork_server import STARTS_WITHOUT, ForkServer
from torc_slurm.runner.launcher import LaunchError
from torc_slurm.runner.loop import Loop
from torc_slurm.runner.step_command import fork_server_command, step_command, step_environment
from torc_slurm.spec.plan import JobPlan
from torc_slurm.usecases.installation import step_command as torc_step

SHOW = """
cat /proc/self/status; cat /proc/self/limits; cat /proc/self/environ | tr '\\0' '\\n'; pwd; umask; nice
cat /proc/self/oom_score_adj /proc/self/cgroup; ls -l /proc/self/fd; tr '\\0' '\\n' </proc/$PPID/cmdline; echo
cat /proc/$PPID/comm; tr '\\0' '\\n' </proc/$PPID/environ | grep -c ^TORC_JOB_ID=
"""
FIRST_NUMBER = 987_001  # found nowhere else in what a job shows
# What differs between any two processes.
OF_ONE_PROCESS = re.compile(
    r"^(?:\w*[Pp]id|\w*tgid|Tgid|Ngid|NSpgid|NSsid|Vm\w+|Rss\w+|\w*ctxt_switches|SigQ):.*\n|\d\d:\d\d|/proc/\d+/fd",
    re.MULTILINE,
)


class Runner:
    """A runner's loop, children and fork server in this process."""

    def __init__(self, directory: Path, **environ: str) -> None:
        self.directory = directory
        self.plan = plan_in(directory)
        os.makedirs(self.plan.output_dir)
        self.environ = environment(**environ)
        self.loop = Loop()
        self.children = Children(self.loop)
        self.server = ForkServer(self.plan, self.environ, self.children, self.loop)
        self.statuses: dict[int, int] = {}
        self.pids: dict[int, int] = {}

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.server.end()
        kill_quietly(wrappers_below(self.directory))
        for number in self.pids:
            self.wait(number)

    def start(
        self, command: str, *, by_exec: bool = False, cwd: str | None = None, env: Mapping[str, str] | None = None
    ) -> int:
        """Start a job; returns its number."""
        number = FIRST_NUMBER + len(self.pids)
        job = JobPlan(number, f"j{number}", command, cwd or str(self.directory), env=env or {})
        attempt = Attempt(job, 1, ("n1",))
        stdout, stderr = (os.open(self.output(number, kind), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC) for kind in "oe")
        try:
            self.pids[number] = (self.children if by_exec else self.server).start(
                step_command(self.plan, attempt),
                lambda status: self.statuses.update({number: status}),
                cwd=job.working_dir,
                environment=step_environment(self.plan, attempt, self.environ),
                stdout=stdout,
                stderr=stderr,
            )
        finally:
            os.close(stdout)
            os.close(stderr)
        return number

    def output(self, number: int, kind: str = "o") -> Path:
        return self.directory / f"{number}.{kind}"

    def wait(self, number: int) -> int:
        """Wait for a job; returns its status."""
        self.loop.run(until=lambda: number in self.statuses)
        return self.statuses[number]

    def make_ready(self) -> None:
        """Start jobs until the next start is a fork."""
        for _ in range(STARTS_WITHOUT + 1):
            self.start("true")
        self.loop.run(until=lambda: self.server.is_ready)

    @property
    def node_file(self) -> str:
        return node_file_path(self.plan.output_dir, os.uname().nodename.partition(".")[0], "1", 1)

    def record(self, number: int) -> dict[str, object]:
        """A job's row of each table of the node file, as one."""
        found: dict[str, object] = {}
        with closing(sqlite3.connect(self.node_file)) as connection:
            connection.row_factory = sqlite3.Row
            step = connection.execute("SELECT * FROM steps WHERE job_id = ?", (number,)).fetchone()
            for table in ("step_usage", "monitor_usage", "task_exits"):
                found |= dict(connection.execute(f"SELECT * FROM {table} WHERE step = ?", (step["id"],)).fetchone())  # noqa: S608 - our own names
        return found | dict(step)

    def is_fork(self, number: int) -> bool:
        """Whether a running wrapper is a fork: it has the server's first environment, without the job's number."""
        return b"TORC_JOB_ID=" not in Path(f"/proc/{self.pids[number]}/environ").read_bytes()


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    made = Runner(tmp_path)
    with made.loop, made:
        yield made


def normal(shown: str, number: int) -> list[str]:
    """What a job showed of itself, without what differs between any two jobs."""
    return OF_ONE_PROCESS.sub("", shown).replace(str(number), "N").splitlines()


@pytest.mark.parametrize("whose", ["the runner's", "the job's"])
def test_a_job_starts_as_by_exec(whose: str, tmp_path: Path) -> None:
    """Also in an environment that would break a Python."""
    library = tmp_path / "library"
    library.mkdir()
    for name in ("sitecustomize", "select", "_socket", "ctypes"):
        (library / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    env = {
        "PYTHONPATH": str(library),
        "PYTHONHOME": "/nowhere",
        "LD_LIBRARY_PATH": str(library),
        "MALLOC_ARENA_MAX": "1",
    }
    env |= {"LC_ALL": "C", "LC_CTYPE": "C", "TZ": "UTC", "EMPTY": "", "LINES": "a\nb", "ODD": "\udcff"}
    runner = Runner(tmp_path, **(env if whose == "the runner's" else {}))
    with runner.loop, runner:
        runner.make_ready()
        numbers = [runner.start(SHOW, by_exec=by_exec, cwd=str(library), env=env) for by_exec in (True, False)]
        assert [runner.wait(number) for number in numbers] == [0, 1]  # the last grep finds no line
    texts = [runner.output(number).read_text(errors="surrogateescape") for number in numbers]
    shown = [normal(text, number) for text, number in zip(texts, numbers, strict=True)]
    assert shown[0][:-1] == shown[1][:-1]
    assert [each[-1] for each in shown] == ["1", "0"]
    assert {f"{name}={value}" for name, value in env.items()} <= set(texts[1].split("\n")) | {"LINES=a\nb"}
    assert [runner.output(number, "e").read_text() for number in numbers] == ["", ""]


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def test_the_wrapper_is_the_runners_child_and_the_job_its_child(runner: Runner) -> None:
    runner.make_ready()
    number = runner.start("echo $PPID; until [ -e go ]; do sleep 0.01; done; kill -9 $$")
    pid = runner.pids[number]
    assert runner.is_fork(number)
    await_that(lambda: runner.output(number).read_text(), "the job's begin")
    assert int(runner.output(number).read_text()) == pid
    _, parent, group, session, *_ = stat(pid)
    assert (int(parent), int(group), int(session)) == (os.getpid(), pid, pid)
    (runner.directory / "go").touch()
    assert runner.wait(number) == 128 + signal.SIGKILL


def test_a_signal_to_the_group_ends_the_job(runner: Runner) -> None:
    runner.make_ready()
    number = runner.start("trap 'echo asked; exit 3' TERM; echo begun; sleep 300 & wait")
    assert runner.is_fork(number)
    await_that(lambda: runner.output(number).read_text(), "the job's begin")
    runner.children.signal_group(runner.pids[number], signal.SIGTERM)
    assert (runner.wait(number), runner.output(number).read_text()) == (3, "begun\nasked\n")


ONCE = "echo ran >>ran; exit 7"


@pytest.mark.parametrize("is_heard", [False, True])
def test_a_server_that_was_killed(is_heard: bool, runner: Runner) -> None:
    runner.make_ready()
    before = runner.start("until [ -e go ]; do sleep 0.01; done; exit 5")
    assert runner.is_fork(before)
    assert runner.server.pid is not None
    os.kill(runner.server.pid, signal.SIGKILL)
    if is_heard:
        runner.loop.run(until=lambda: not runner.server.is_ready)
    number = runner.start(ONCE)
    assert not runner.server.is_ready
    assert runner.wait(number) == 7
    assert (runner.directory / "ran").read_text() == "ran\n"
    (runner.directory / "go").touch()
    assert runner.wait(before) == 5


def test_a_server_that_hangs(runner: Runner) -> None:
    runner.make_ready()
    assert runner.server.pid is not None
    os.kill(runner.server.pid, signal.SIGSTOP)
    number = runner.start(ONCE)
    assert not runner.server.is_ready
    assert runner.wait(number) == 7
    assert (runner.directory / "ran").read_text() == "ran\n"


def test_a_server_that_cannot_start(runner: Runner) -> None:
    os.rmdir(runner.plan.output_dir)
    runner.plan = dataclasses.replace(runner.plan, output_dir=str(runner.directory / "another"))
    numbers = [runner.start(ONCE) for _ in range(STARTS_WITHOUT + 2)]
    assert [runner.wait(number) for number in numbers] == [7] * len(numbers)
    assert runner.server.pid is None


def test_other_limits_than_at_the_servers_start(runner: Runner) -> None:
    runner.make_ready()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] - 1, before[1]))
    try:
        number = runner.start("ulimit -n")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (runner.wait(number), runner.output(number).read_text()) == (0, f"{before[0] - 1}\n")
    assert not runner.server.is_ready


@pytest.mark.parametrize(
    ("cwd", "env", "message"),
    [("missing", {}, "cannot be entered"), (None, {"A": "a\0b"}, "null byte"), (None, {"A=B": "c"}, "illegal")],
)
def test_what_cannot_be_started(cwd: str | None, env: dict[str, str], message: str, runner: Runner) -> None:
    runner.make_ready()
    with pytest.raises(LaunchError, match=message):
        runner.start("true", cwd=cwd, env=env)
    assert runner.server.is_ready


def test_a_request_larger_than_a_message(runner: Runner) -> None:
    runner.make_ready()
    number = runner.start("echo ${#A}${#B}${#C}", env=dict.fromkeys("ABC", "x" * 100_000))
    assert (runner.wait(number), runner.output(number).read_text()) == (0, "100000" * 3 + "\n")
    assert runner.server.is_ready


def test_the_records_are_of_the_same_kind(runner: Runner) -> None:
    """Also the memory: the kernel starts a job's ru_maxrss with the wrapper's, which has the server's at the fork."""
    runner.make_ready()
    use = f"{sys.executable} -ISc 'kept = bytes(range(1, 256)) * 200_000'"
    numbers = [runner.start(use, by_exec=by_exec) for by_exec in (True, False)]
    assert [runner.wait(number) for number in numbers] == [0, 0]
    by_exec, by_fork = (runner.record(number) for number in numbers)
    assert {name for name in by_fork if by_fork[name] is None} == {name for name in by_exec if by_exec[name] is None}
    assert by_fork["max_rss_bytes"] == pytest.approx(by_exec["max_rss_bytes"], rel=0.05)
    assert by_fork["peak_memory_bytes"] == pytest.approx(by_exec["peak_memory_bytes"], rel=0.1)


def test_a_wrappers_counters_begin_at_zero(runner: Runner) -> None:
    runner.make_ready()
    number = runner.start("cat /proc/$PPID/io")
    assert runner.wait(number) == 0
    assert runner.server.pid is not None
    of_wrapper = runner.output(number).read_text()
    of_server = Path(f"/proc/{runner.server.pid}/io").read_text()
    read = [int(text.split()[1]) for text in (of_wrapper, of_server)]
    assert read[0] < read[1] / 10


def test_the_job_has_no_copy_of_its_wrapper(runner: Runner) -> None:
    """The launcher starts it: before its exec, the kernel counts the most memory that the wrapper ever had."""
    runner.make_ready()
    number = runner.start("sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$PPID/status; exec true")
    assert runner.wait(number) == 0
    most_bytes = int(runner.output(number).read_text()) * 1024
    with closing(sqlite3.connect(runner.node_file)) as connection:
        query = "SELECT peak_memory_bytes FROM step_usage JOIN steps ON id = step WHERE job_id = ?"
        (found,) = connection.execute(query, (number,)).fetchone()
    assert found <= most_bytes


# --- the writer that the monitors share -------------------------------------------------------------------------


def shared_writer(runner: Runner) -> int:
    assert runner.server.pid is not None
    (pid,) = children_of(runner.server.pid)
    await_that(lambda: name_of(pid) == "torc-sampler", "its name")
    return int(pid)


def bytes_written_by(pid: int) -> int:
    return int(Path(f"/proc/{pid}/io").read_text().split("wchar: ")[1].split()[0])


def test_one_process_writes_all_records(runner: Runner) -> None:
    runner.make_ready()
    writer = shared_writer(runner)
    for code in (3, 4):
        before = bytes_written_by(writer)
        number = runner.start(f"exit {code}")
        assert runner.wait(number) == code
        assert runner.record(number)["return_code"] == code
        assert bytes_written_by(writer) > before
    assert shared_writer(runner) == writer


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_shared_writer_that_does_not_answer(number: int, runner: Runner) -> None:
    """Each monitor then starts a writer of its own. What the shared one writes later is the same once more."""
    runner.make_ready()
    writer = shared_writer(runner)
    os.kill(writer, number)
    jobs = [runner.start(f"exit {code}") for code in (3, 4, 5)]
    assert [runner.wait(job) for job in jobs] == [3, 4, 5]
    before = [runner.record(job) for job in jobs]
    assert [record["return_code"] for record in before] == [3, 4, 5]
    if number == signal.SIGSTOP:
        written = bytes_written_by(writer)
        os.kill(writer, signal.SIGCONT)
        await_that(lambda: bytes_written_by(writer) > written, "what it had to write")
    last = runner.start("exit 6")
    assert runner.wait(last) == 6
    assert runner.record(last)["return_code"] == 6
    assert [runner.record(job) for job in jobs] == before


def test_the_shared_writer_ends_with_the_server(runner: Runner) -> None:
    runner.make_ready()
    writer = shared_writer(runner)
    runner.server.end()
    await_that(lambda: not is_alive(writer), "its end")


# --- the server alone -----------------------------------------------------------------------------------------


@pytest.fixture
def alone(runner: Runner) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A server, and its socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, subprocess.Popen(fork_server_command(runner.plan), stdin=theirs.fileno()) as server:
        theirs.close()
        assert ours.recv(64) == b"ready"
        yield server, ours
        server.kill()


def ask(server: socket.socket, request: bytes) -> socket.socket:
    """Ask for a wrapper; returns our end of its channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.send(request)
        socket.send_fds(server, [b"fork"], [theirs.fileno(), 1, 2])
    return ours


@pytest.mark.parametrize("says", [b"", b"gone"])
def test_a_wrapper_starts_no_job_until_it_is_told_to(
    says: bytes, alone: tuple[subprocess.Popen[bytes], socket.socket], tmp_path: Path
) -> None:
    words = [str(tmp_path), "4", "--output-dir=out", "--", "touch", "ran"]
    with ask(alone[1], b"".join(word.encode() + b"\0" for word in [*words, "PATH=/usr/bin:/bin"])) as channel:
        word, number = channel.recv(64).split()
        assert word == b"ready"
        if says:
            channel.send(says)
    assert os.waitstatus_to_exitcode(os.waitpid(int(number), 0)[1]) == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("request_text", [b"", b"\0", b"/nowhere\00\0", b"/\0x\0"])
def test_a_request_that_means_nothing(
    request_text: bytes, alone: tuple[subprocess.Popen[bytes], socket.socket]
) -> None:
    with ask(alone[1], request_text) as channel:
        word, number = channel.recv(64).split()
        assert word == b"no"
    assert os.waitstatus_to_exitcode(os.waitpid(int(number), 0)[1]) == 1
    assert alone[0].poll() is None


def test_the_server_ends_with_the_runner(alone: tuple[subprocess.Popen[bytes], socket.socket]) -> None:
    server, ours = alone
    await_that(lambda: name_of(server.pid) == "torc-forkserver", "its name")
    ours.close()
    assert server.wait(30) == 0


def test_it_is_for_the_runner_only() -> None:
    done = subprocess.run([*torc_step(), "--fork-server"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"--fork-server is for the runner of torc" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    yield Here(tmp_path)
    kill_quietly(wrappers_below(tmp_path))


# --- torc run -------------------------------------------------------------------------------------------------

# Waits until the runner's server has said that it is ready.
WAIT_FOR_SERVER = (
    "runner=$(sed -n 's/^PPid:.//p' /proc/$PPID/status); "
    "until cat $(sed 's,[0-9]*,/proc/&/comm,g' /proc/$runner/task/$runner/children) 2>/dev/null"
    " | grep -q torc-forkserver; do sleep 0.01; done"
)
IS_FORK = "! grep -q TORC_JOB_ID= /proc/$PPID/environ"


def with_server(*jobs: Mapping[str, object]) -> list[Mapping[str, object]]:
    """These jobs, after others that have made the server ready: the runner hears it before the second gate's end."""
    first = [{"name": f"first{number}", "command": "true"} for number in range(STARTS_WITHOUT + 1)]
    gates = [
        {"name": "gate1", "command": WAIT_FOR_SERVER, "depends_on": [str(job["name"]) for job in first]},
        {"name": "gate2", "command": "true", "depends_on": ["gate1"]},
    ]
    return [*first, *gates, *({"depends_on": ["gate2"], **job} for job in jobs)]


def test_a_run_of_forks(here: Here) -> None:
    here.spec(with_server(*({"name": f"f{number}", "command": f"{IS_FORK} && exit {number}"} for number in range(20))))
    assert here.torc("run", "w.json").returncode == 1
    results = here.results()
    assert {
        name: row["return_code"] for name, row in results.items() if name.startswith("f") and name[1:].isdigit()
    } == {f"f{number}": number for number in range(20)}
    assert not wrappers_below(here.directory)


def test_a_run_of_forks_is_ended(here: Here) -> None:
    trap = f"trap 'echo asked; exit 0' TERM; {IS_FORK} && echo > begun; sleep 300 & wait"
    here.spec(
        with_server({"name": "sleeps", "command": trap}, {"name": "after", "command": "true", "depends_on": ["sleeps"]})
    )
    run = here.start("w.json")
    here.wait_for("begun")
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 1
    statuses = here.statuses()
    assert statuses["sleeps"] == "cancelled"
    assert here.results()["sleeps"]["return_code"] == 0
    assert not wrappers_below(here.directory)


def test_a_fork_is_ended_at_its_run_time(here: Here) -> None:
    short = {"name": "short", "num_cpus": 1, "memory": "50m", "runtime": "PT1S"}
    job = {"name": "long", "command": f"{IS_FORK} && exec sleep 300", "resource_requirements": "short"}
    here.spec(with_server(job), resource_requirements=[short], execution_config={"enforce_runtime": True})
    assert here.torc("run", "w.json").returncode == 1
    assert here.statuses()["long"] == "timeout"


def test_forks_outlive_their_runner(here: Here) -> None:
    wait = f"{IS_FORK} && echo >> begun; until [ -e stop ]; do sleep 0.05; done"
    here.spec(with_server({"name": "goes_on", "command": wait}))
    run = here.start("w.json")
    here.wait_for("begun")
    run.kill()
    run.wait()
    assert here.torc("run", "1").returncode == 1  # its job still runs
    (here.directory / "stop").touch()
    wait_until(lambda: not wrappers_below(here.directory), "the end of the job that was left alone")
    assert here.torc("run", "1").returncode == 0
    assert (here.directory / "begun").read_text() == "\n"
    assert here.statuses()["goes_on"] == "completed"
