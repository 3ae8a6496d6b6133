"""How the lab identifies its own processes: by their environment, which the kernel hides during an exec."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from slurm_lab import processes

MARK = "TORC_TEST_MARK=1"
EXECS = 300
READINGS = 1000


@contextlib.contextmanager
def shell_that_becomes(program: Path) -> Iterator[int]:
    """The pid of a shell, started with the mark, that execs a program as soon as it runs."""
    name, value = MARK.split("=")
    environment = {"PATH": os.defpath, name: value}
    process = subprocess.Popen(["/bin/sh", "-c", 'exec "$0" 60', str(program)], env=environment)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def evict(path: Path) -> None:
    """Make the kernel read the file from disk again, so that the next exec of it is slow."""
    descriptor = os.open(path, os.O_RDWR)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def test_a_process_in_an_exec_is_still_one_of_the_labs(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy("/bin/sleep", program)
    met = 0
    for _ in range(EXECS):
        evict(program)
        with shell_that_becomes(program) as pid:
            while os.path.realpath(f"/proc/{pid}/exe") != str(program) or not environ(pid):
                if not environ(pid):
                    met += 1
                    assert processes.was_started_with(pid, [MARK])
    assert met, f"none of {EXECS} execs was seen while it happened: this test has shown nothing"


def test_a_process_is_one_of_the_labs_while_the_kernel_lays_out_its_environment() -> None:
    """The kernel first sets the end of the environment to its start: that is not an empty environment."""
    name, value = MARK.split("=")
    again = 'exec /bin/sh -c "$AGAIN"'
    many = {f"VARIABLE_{number}": "x" for number in range(5000)}
    process = subprocess.Popen(["/bin/sh", "-c", again], env={name: value, "AGAIN": again, **many})
    met = 0
    try:
        for _ in range(READINGS):
            met += not environ(process.pid)
            assert processes.was_started_with(process.pid, [MARK])
    finally:
        process.kill()
        process.wait()
    assert met, f"none of {READINGS} readings fell into an exec: this test has shown nothing"


def environ(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_a_process_without_environment_does_not_belong_to_the_lab_and_is_not_awaited() -> None:
    process = subprocess.Popen(["/bin/sleep", "60"], env={})
    try:
        assert not processes.was_started_with(process.pid, [MARK])
        assert process.pid not in processes.with_environment([MARK])
    finally:
        process.kill()
        process.wait()


def test_an_ended_process_does_not_belong_to_the_lab() -> None:
    name, value = MARK.split("=")
    process = subprocess.Popen(["/bin/true"], env={name: value})
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie: nobody has reaped it
    assert not processes.was_started_with(process.pid, [MARK])
    process.wait()
    assert not processes.was_started_with(process.pid, [MARK])
