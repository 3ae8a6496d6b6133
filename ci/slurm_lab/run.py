"""`run`: one command in its own lab, as the caller or as an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from . import cgroups, users
from . import lab as labs
from .errors import LabError
from .lab import Lab

# A shell's statuses: 127 not found, 126 found but not executable, 128 + n ended by signal n.
NOT_FOUND = 127
NOT_EXECUTABLE = 126
BY_SIGNAL = 128


def check_command(command: str) -> None:
    """Check, before a lab is started, that the command exists."""
    if shutil.which(command) is None:
        if Path(command).exists():
            raise CommandError(f"{command}: cannot be executed", NOT_EXECUTABLE)
        raise CommandError(f"{command}: no such command", NOT_FOUND)


def run_command(lab: Lab, command: list[str], user_name: str | None) -> int:
    """Run it to its end in the lab's cgroup, so that it ends with the lab; return its exit status."""
    user = users.find(user_name) if user_name else None
    environment = {**os.environ, **lab.exports(), labs.MEMBER_VARIABLE: lab.settings.id}
    if user is not None:
        environment |= _identity(lab, user)

    def prepare() -> None:
        cgroup = cgroups.of_lab(lab.settings.id)
        if cgroup is not None:
            cgroups.join(cgroup)
        if user is not None:
            _become(user, environment["HOME"])

    try:
        process = subprocess.Popen(command, env=environment, preexec_fn=prepare)
    except OSError as error:
        raise CommandError(f"{command[0]}: cannot be executed ({error.strerror})", NOT_EXECUTABLE) from None
    except subprocess.SubprocessError as error:
        raise LabError(f"{command[0]}: cannot be run as {user_name or 'this user'} ({error})") from None
    return _wait(process)


class CommandError(LabError):
    """The command did not start; the exit status is a shell's."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def _identity(lab: Lab, user: pwd.struct_passwd) -> dict[str, str]:
    """A home that exists: the user's own, else the one in the lab."""
    home = user.pw_dir if Path(user.pw_dir).is_dir() else str(lab.home(user.pw_name))
    return {"HOME": home, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell or "/bin/sh"}


def _become(user: pwd.struct_passwd, home: str) -> None:
    """Drop all of the caller's privileges: groups first, because only root can change them."""
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    try:
        os.chdir(os.getcwd())
    except OSError:
        os.chdir(home)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait like a shell: the terminal's signals are for the command, ours are passed on.

    A hang-up ends this process, and with it the lab and a command that outlives its terminal.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda received, _: process.send_signal(received))
    code = process.wait()
    return BY_SIGNAL - code if code < 0 else code
