"""At a terminal, under a shell with job control: Ctrl-C, Ctrl-\\, Ctrl-Z, fg and bg work as without torc-step."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shlex
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from measured import WAIT_LIMIT_SECONDS, await_that, environment, program, state_of, the_record, under_torc_step

CTRL_C, CTRL_BACKSLASH, CTRL_Z = b"\x03", b"\x1c", b"\x1a"


class Terminal:
    """An interactive shell on a pseudo-terminal; the test types like a user."""

    def __init__(self, output_dir: Path) -> None:
        self._master, slave = os.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self._output_dir = output_dir
        self._seen = b""
        self.shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(PS1="$ ", HISTFILE="/dev/null"),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.await_text(r"\$ $")

    def type(self, text: str | bytes) -> None:
        os.write(self._master, text if isinstance(text, bytes) else text.encode() + b"\n")

    def start(self, command: list[str], after: str = "") -> None:
        words = [str(word) for word in under_torc_step(self._output_dir, command)]
        self.type(shlex.join(words) + after)

    def await_text(self, pattern: str) -> re.Match[str]:
        """Consume the terminal's output up to the end of the pattern."""
        while not (found := re.search(pattern, self._seen.decode("utf-8", "replace"))):
            readable, _, _ = select.select([self._master], [], [], WAIT_LIMIT_SECONDS)
            assert readable, f"{pattern!r} did not come after {self._seen!r}"
            self._seen += os.read(self._master, 65536)
        self._seen = self._seen.decode("utf-8", "replace")[found.end() :].encode()
        return found

    def prompt_with_status(self) -> int:
        """The exit status of the shell's last command."""
        self.await_text(r"\$ $")
        self.type("echo status=$?")
        return int(self.await_text(r"status=(\d+)").group(1))

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = -1

    def close(self) -> None:
        if self._master >= 0:
            os.close(self._master)
        self.shell.kill()
        self.shell.wait()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def test_ctrl_c_reaches_the_job_once(terminal: Terminal) -> None:
    terminal.start(program("count_signals"))
    terminal.await_text(r"ready \d+")
    for number, key in ((signal.SIGINT, CTRL_C), (signal.SIGQUIT, CTRL_BACKSLASH), (signal.SIGTSTP, CTRL_Z)):
        terminal.type(key)
        terminal.await_text(rf"\b{number:d}\r\n")
    wrapper = int(Path(f"/proc/{terminal.shell.pid}/task/{terminal.shell.pid}/children").read_text())
    os.kill(wrapper, signal.SIGRTMAX)
    between = terminal.await_text(rf"(?s)(.*){signal.SIGRTMAX:d}\r\n").group(1)
    assert re.findall(r"\d+", between) == []


def test_ctrl_c_ends_an_ordinary_job(terminal: Terminal, tmp_path: Path) -> None:
    terminal.start(program("wait"))
    terminal.await_text("ready")
    terminal.type(CTRL_C)
    assert terminal.prompt_with_status() == 128 + signal.SIGINT
    assert the_record(tmp_path).exit["signal"] == signal.SIGINT


def test_ctrl_c_while_the_record_is_written_changes_nothing(terminal: Terminal, tmp_path: Path) -> None:
    terminal.start(program("wait", int(signal.SIGINT), 7))
    terminal.await_text("ready")
    terminal.type(CTRL_C)
    terminal.type(CTRL_C)
    assert terminal.prompt_with_status() == 7
    assert the_record(tmp_path).exit["return_code"] == 7


def test_ctrl_z_stops_the_job_for_the_shell_and_fg_goes_on(terminal: Terminal, tmp_path: Path) -> None:
    script = "echo ready $$; read line; echo got $line; exit 5"
    terminal.start(["sh", "-c", script])
    job = int(terminal.await_text(r"ready (\d+)").group(1))
    terminal.type(CTRL_Z)
    terminal.await_text("Stopped")
    await_that(lambda: state_of(job) == "T", "the job stopped")
    terminal.await_text(r"\$ $")
    terminal.type("fg")
    await_that(lambda: state_of(job) != "T", "the job continued")
    terminal.type("word")
    terminal.await_text("got word")
    assert terminal.prompt_with_status() == 5
    assert the_record(tmp_path).exit["return_code"] == 5


def test_bg_goes_on_in_the_background(terminal: Terminal) -> None:
    terminal.start(program("wait"))
    job = int(terminal.await_text(r"ready (\d+)").group(1))
    terminal.type(CTRL_Z)
    terminal.await_text("Stopped")
    terminal.await_text(r"\$ $")
    terminal.type("bg")
    await_that(lambda: state_of(job) not in ("T", ""), "the job continued")
    terminal.type("kill %1; wait %1; echo ended=$?")
    assert terminal.await_text(r"ended=(\d+)").group(1) == str(128 + signal.SIGTERM)


def test_a_background_job_that_reads_is_stopped_by_the_terminal(terminal: Terminal) -> None:
    terminal.start(["cat"], after=" &")
    terminal.await_text(r"Stopped|\$ $")
    terminal.type("wait -n; jobs")
    terminal.await_text("Stopped")
    terminal.type("kill -KILL %1; wait; echo ended=$?")
    terminal.await_text(r"ended=0")


def test_a_job_that_stops_itself_is_stopped_for_the_shell(terminal: Terminal) -> None:
    """Editors and pagers restore the terminal on Ctrl-Z and then stop only themselves."""
    terminal.start(["sh", "-c", "echo ready; kill -STOP $$; echo on; exit 3"])
    terminal.await_text("Stopped")
    terminal.await_text(r"\$ $")
    terminal.type("fg")
    terminal.await_text("on\r\n")
    assert terminal.prompt_with_status() == 3


def test_a_hangup_reaches_a_job_whose_wrapper_leads_the_session(tmp_path: Path) -> None:
    """``srun --pty torc-step -- bash``: on a hangup the kernel signals only the leader of the session."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        under_torc_step(tmp_path, program("wait")),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    assert os.read(master, 100).startswith(b"ready")
    os.close(master)
    assert process.wait(WAIT_LIMIT_SECONDS) == -signal.SIGHUP
    assert the_record(tmp_path).exit["signal"] == signal.SIGHUP
