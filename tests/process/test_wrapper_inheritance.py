"""COMMAND receives the same as without the wrapper. Each test runs it bare and wrapped, and compares.

The commands are ``cat`` and the like, which show what they got and, unlike Python, change nothing of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from measured import TORC_STEP, environment, node_files, program, run, the_record, under_torc_step

PLAIN = {"PATH": os.environ["PATH"], "HOME": "/", "EMPTY": "", "SPACES": " a  b ", "LINES": "a\nb", "TORC": "x"}


def bare(
    command: Sequence[str | bytes],
    prepare: Callable[[], object] | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> bytes:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        preexec_fn=prepare,
        env=env,
        pass_fds=pass_fds,
        cwd=cwd,
    ).stdout


def both(
    tmp_path: Path,
    command: Sequence[str | bytes],
    prepare: Callable[[], object] | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> tuple[bytes, bytes]:
    """The command's output alone, and under torc-step."""
    env = environment() if env is None else env
    alone = bare(command, prepare, env, pass_fds, cwd)
    return alone, bare(under_torc_step(tmp_path / "out", command), prepare, env, pass_fds, cwd)


# --- arguments ------------------------------------------------------------------------------------------------

ODD_ARGUMENTS: list[bytes] = [
    b"",
    b" ",
    b"a b",
    b"two\nlines",
    b"'",
    b'"',
    b"$HOME `id` $(id) ; & | > < * ? [a-z] ~ ! # \\",
    b"--",
    b"--help",
    b"-",
    b"\xff\xfe\x80",
    "grün €".encode(),
    b"\xed\xa0\x80",
    bytes(range(1, 256)),
    b"x" * 100_000,
]


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LANG": "C.UTF-8"}, {"LC_ALL": "no_such.ISO-8859-1"}])
def test_arguments_byte_for_byte(locale: dict[str, str], tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"]} | locale
    shown = bare(under_torc_step(tmp_path / "out", ["printf", "%s\\0", *ODD_ARGUMENTS]), env=env)
    assert shown.split(b"\0")[:-1] == ODD_ARGUMENTS


def test_options_of_the_command_are_not_torc_steps(tmp_path: Path) -> None:
    done = run(tmp_path, ["echo", "--output-dir", "/", "--help", "--"])
    assert done.stdout == b"--output-dir / --help --\n"


# --- environment ----------------------------------------------------------------------------------------------


def entries(environ: bytes) -> list[bytes]:
    return [entry for entry in environ.split(b"\0") if not entry.startswith(b"TORC_")]


@pytest.mark.parametrize(
    "locale",
    [
        {},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX"},
        {"LANG": "C"},
        {"LC_CTYPE": "C"},
        {"LC_CTYPE": "POSIX", "LANG": "en_US.UTF-8"},
        {"LC_CTYPE": "C.UTF-8"},
        {"LANG": "C.UTF-8"},
        {"LC_CTYPE": ""},
        {"LC_ALL": ""},
    ],
)
def test_environment_is_the_same_but_for_torc(locale: dict[str, str], tmp_path: Path) -> None:
    alone, wrapped = both(tmp_path, ["cat", "/proc/self/environ"], env=PLAIN | locale)
    assert entries(wrapped) == entries(alone)


def test_environment_that_is_no_text(tmp_path: Path) -> None:
    odd = [b"A=\xff\xfe", b"\xff=\x80", b"B==", b"a.b-c=1", b"D=" + b"x" * 100_000]
    alone = bare(["env", "-i", *odd, "cat", "/proc/self/environ"])
    wrapped = bare(["env", "-i", *odd, *under_torc_step(tmp_path, ["cat", "/proc/self/environ"])])
    assert entries(wrapped) == entries(alone)


def test_no_environment_at_all(tmp_path: Path) -> None:
    wrapped = bare(["env", "-i", *under_torc_step(tmp_path, ["/bin/cat", "/proc/self/environ"])])
    assert entries(wrapped) == [b""]


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONINSPECT"])
def test_what_is_meant_for_a_python_job_reaches_it_and_not_the_wrapper(name: str, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for module in ("errno", "_signal", "select", "sqlite3", "psutil", "pwd", "time", "gc", "resource"):
        (library / f"{module}.py").write_text("raise SystemExit('the wrong module')")
    value = {"PYTHONPATH": f"{library}:relative", "PYTHONWARNINGS": "error", "PYTHONSTARTUP": str(library / "gc.py")}
    done = run(tmp_path / "out", ["sh", "-c", f'echo "${name}"'], env=environment(**{name: value.get(name, "1")}))
    assert (done.returncode, done.stdout.decode().strip()) == (0, value.get(name, "1"))
    assert [line for line in done.stderr.splitlines() if b"recorded in" not in line] == []
    assert the_record(tmp_path / "out").exit["return_code"] == 0


# --- descriptors ----------------------------------------------------------------------------------------------

LIST_DESCRIPTORS = ["ls", "-l", "/proc/self/fd"]


def descriptors(listing: bytes) -> dict[int, str]:
    """Number to target from ``ls -l /proc/self/fd``, without the streams that differ and ls's own."""
    found = re.findall(r" (\d+) -> (.*)", listing.decode())
    return {int(number): target for number, target in found if int(number) > 2 and "/proc/" not in target}


@contextlib.contextmanager
def inherited() -> Iterator[list[int]]:
    """Descriptors 3 to 9, like those that a shell, a jobserver or MPI's process manager passes down.

    Not a fixture: pytest opens its own files, on these numbers, between a fixture and its test.
    """
    saved = [(number, os.dup(number)) for number in range(3, 10) if _is_open(number)]
    for _, copy in saved:
        os.set_inheritable(copy, False)
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 100) for end in ends]
    for end in ends:
        os.close(end)
    for number in range(3, 10):
        os.dup2(high[number % 2], number)
    try:
        yield list(range(3, 10))
    finally:
        for number in range(3, 10):
            os.close(number)
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
        for end in high:
            os.close(end)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_inherited_descriptors_and_no_others(tmp_path: Path) -> None:
    with inherited() as numbers:
        alone, wrapped = both(tmp_path, LIST_DESCRIPTORS, pass_fds=numbers)
    assert descriptors(wrapped) == descriptors(alone)
    assert sorted(descriptors(wrapped)) == numbers


def test_nothing_of_the_monitors_in_the_job(tmp_path: Path) -> None:
    """Nor in a job that starts when the monitor already has its files open."""
    show = ["sh", "-c", "sleep 0.2; exec ls -l /proc/self/fd"]
    assert descriptors(run(tmp_path, show).stdout) == {}


def test_a_jobserver_works(tmp_path: Path) -> None:
    write_and_read = ["sh", "-c", "printf token >&5; dd bs=5 count=1 <&4 2>/dev/null"]
    with inherited() as numbers:
        assert bare(under_torc_step(tmp_path, write_and_read), pass_fds=numbers) == b"token"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_closed_streams_stay_closed(closed: tuple[int, ...], tmp_path: Path) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    show = tmp_path / "shown"
    script = f"for n in 0 1 2 3 4 5; do [ -e /proc/$$/fd/$n ] && echo $n; done >{show}; exit 0"
    # the shell opens the file on the lowest free descriptor, so any difference between the two lists is a bug
    subprocess.run(["sh", "-c", script], preexec_fn=close, check=False)
    alone = show.read_text()
    show.unlink()
    done = subprocess.run(
        under_torc_step(tmp_path / "out", ["sh", "-c", script]), preexec_fn=close, env=environment(), check=False
    )
    assert done.returncode == 0
    assert show.read_text() == alone
    assert the_record(tmp_path / "out").exit["return_code"] == 0


# --- signals --------------------------------------------------------------------------------------------------


def signal_state(status: bytes) -> dict[str, int]:
    """SigBlk, SigIgn and SigCgt of ``/proc/self/status`` as bit masks."""
    found = re.findall(r"^(Sig(?:Blk|Ign|Cgt)|ShdPnd|SigPnd):\s*([0-9a-f]+)$", status.decode(), re.MULTILINE)
    return {name: int(mask, 16) for name, mask in found}


def ignore(*numbers: int) -> Callable[[], object]:
    return lambda: [signal.signal(number, signal.SIG_IGN) for number in numbers]


def block(*numbers: int) -> Callable[[], object]:
    return lambda: signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


STATES: dict[str, Callable[[], object] | None] = {
    "as usual": None,
    "nohup": ignore(signal.SIGHUP),
    "a shell's background job": ignore(signal.SIGINT, signal.SIGQUIT),
    "SIGCHLD ignored": ignore(signal.SIGCHLD),
    "SIGTERM ignored": ignore(signal.SIGTERM),
    "job control ignored": ignore(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    "USR1 blocked": block(signal.SIGUSR1),
    "all blocked": block(*signal.valid_signals()),
    "SIGCHLD blocked": block(signal.SIGCHLD),
    "real time": ignore(signal.SIGRTMIN, signal.SIGRTMAX),
}


@pytest.mark.parametrize("state", STATES)
def test_signal_mask_and_dispositions_as_received(state: str, tmp_path: Path) -> None:
    alone, wrapped = both(tmp_path, ["cat", "/proc/self/status"], STATES[state])
    assert signal_state(wrapped) == signal_state(alone)
    assert the_record(tmp_path / "out").exit["return_code"] == 0


def test_a_broken_pipe_kills_the_job_quietly(tmp_path: Path) -> None:
    """``yes | head``: SIGPIPE has its default action in the job, and the wrapper dies of it too."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        under_torc_step(tmp_path, ["yes"]), stdout=writer, stderr=subprocess.PIPE, env=environment()
    )
    os.close(writer)
    assert os.read(reader, 2) == b"y\n"
    os.close(reader)
    _, said = process.communicate()
    assert process.returncode == -signal.SIGPIPE
    assert said.count(b"\n") == 1  # the line that names the record


# --- limits, place, scheduling --------------------------------------------------------------------------------


def show_all_status(status: bytes) -> dict[str, str]:
    """The parts of /proc/self/status and limits that must be the same."""
    names = ("Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed", "CapEff")
    pairs = (line.split(":", 1) for line in status.decode().splitlines() if ":" in line)
    found = {name: value.strip() for name, value in pairs}
    limits = [line for line in status.decode().splitlines() if line.startswith("Max ")]
    return {name: found.get(name, "") for name in names} | {"limits": "\n".join(limits)}


def set_everything() -> None:
    os.umask(0o137)
    os.nice(3)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for limit, soft in (
        (resource.RLIMIT_NOFILE, 40),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_STACK, 4 << 20),
        (resource.RLIMIT_CPU, 100),
        (resource.RLIMIT_FSIZE, 50 << 20),
        (resource.RLIMIT_AS, 2 << 30),
        (resource.RLIMIT_DATA, 1 << 30),
        (resource.RLIMIT_MEMLOCK, 4096),
    ):
        resource.setrlimit(limit, (soft, resource.getrlimit(limit)[1]))


def test_umask_limits_affinity_and_priority(tmp_path: Path) -> None:
    command = ["cat", "/proc/self/status", "/proc/self/limits"]
    alone, wrapped = both(tmp_path, command, set_everything)
    assert show_all_status(wrapped) == show_all_status(alone)
    assert "0137" in show_all_status(wrapped)["Umask"]
    alone, wrapped = both(tmp_path, ["nice"], set_everything)
    assert wrapped == alone


def test_the_job_goes_first_when_memory_is_short(tmp_path: Path) -> None:
    alone, wrapped = both(tmp_path, ["cat", "/proc/self/oom_score_adj"])
    assert int(wrapped) == min(1000, int(alone) + 100)


def test_working_directory(tmp_path: Path) -> None:
    alone, wrapped = both(tmp_path, ["readlink", "/proc/self/cwd"], cwd=tmp_path)
    assert wrapped == alone == f"{tmp_path}\n".encode()


@pytest.mark.parametrize("output_dir", ["absolute", "relative", "default"])
def test_a_working_directory_that_was_deleted(output_dir: str, tmp_path: Path) -> None:
    """The job runs normally; its record goes to the directory's last path."""
    gone = tmp_path / "gone"
    gone.mkdir()
    env = environment()
    if output_dir == "absolute":
        env["TORC_OUTPUT_DIR"] = str(tmp_path / "out")
    elif output_dir == "relative":
        env["TORC_OUTPUT_DIR"] = "out"
    inside = f'cd {gone}; rmdir {gone}; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", inside, "sh", TORC_STEP, "--", "sh", "-c", "readlink /proc/self/cwd; exit 7"],
        env=env,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, f"{gone} (deleted)\n".encode())
    assert b"Traceback" not in done.stderr
    place = {"relative": gone / "out", "default": gone / "torc_output"}.get(output_dir, tmp_path / "out")
    assert the_record(place).exit["return_code"] == 7


def identity_of(stat: bytes) -> list[bytes]:
    """Process group, session and terminal of ``/proc/self/stat``, with the pid and its parent first."""
    fields = stat.rpartition(b")")[2].split()
    return [stat.split()[0], *fields[1:5]]


def test_process_group_and_session_are_the_launchers(tmp_path: Path) -> None:
    """As without torc-step: the job is in the group and the session of its launcher."""
    alone, wrapped = both(tmp_path, ["cat", "/proc/self/stat"])
    _, _, group, session, terminal = identity_of(alone)
    assert identity_of(wrapped)[2:] == [group, session, terminal]
    assert (int(group), int(session)) == (os.getpgrp(), os.getsid(0))


def test_a_group_of_its_own_is_the_wrappers(tmp_path: Path) -> None:
    """A shell with job control: the wrapper leads the group, the job is a member, and one signal reaches both."""
    stat = bare(under_torc_step(tmp_path, ["sh", "-c", "cat /proc/self/stat /proc/$PPID/stat"]), os.setpgrp)
    mine, wrappers = (identity_of(line) for line in stat.splitlines())
    assert mine[2] == wrappers[2] == wrappers[0]


def test_the_job_has_no_child_that_it_did_not_start(tmp_path: Path) -> None:
    wait = program("wait_for_any_child")
    alone, wrapped = both(tmp_path, wait)
    assert wrapped == alone == b"no child\n"


def test_an_ordinary_limit_on_processes_hurts_only_the_record(tmp_path: Path) -> None:
    """If no further process may start, the job still runs, unmeasured, and a message says so."""
    done = run(tmp_path, ["echo", "ran"], prepare=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (0, 0)))
    if os.getuid() == 0:  # the limit does not apply to root
        assert node_files(tmp_path)
    assert (done.returncode, done.stdout) == (0, b"ran\n")


def test_terminal_settings_are_untouched(tmp_path: Path) -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    subprocess.run(under_torc_step(tmp_path, ["true"]), stdin=slave, env=environment(), check=True)
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
