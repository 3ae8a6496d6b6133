"""The ordinary user that jobs run as: an existing one, or one that labs create and the last of them removes.

The comment field of a user that a lab created says so, with the directories of the labs that use it. Every change of it
holds one lock, so that labs that start and end at the same time agree on which is the last.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import processes
from .errors import LabError, UsageError
from .lab import Lab

TAG = "torc-slurm-lab"
# useradd(8): what Debian's useradd accepts without --badname.
VALID_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
LOCKED_FILE = "/usr/sbin/useradd"
PASSWD = Path("/etc/passwd")
ACCOUNTS_LOCK = "/etc/.pwd.lock"


def check_name(name: str) -> str:
    if not VALID_NAME.fullmatch(name):
        raise UsageError(f"--user {name!r}: not a user name; use at most 31 of a-z, 0-9, _ and -")
    return name


def find(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def acquire(lab: Lab) -> None:
    """Create the lab's user if it does not exist, and its home inside the lab."""
    name = lab.settings.user
    with _one_at_a_time() as lock:
        user = find(name)
        if user is None:
            _add(name, lab, lock)
        elif _labs_of(user):
            _rewrite(name, [*_labs_of(user), str(lab.dir)], user.pw_dir)
        _make_home(lab)


def release(lab: Lab) -> None:
    """Release the lab's user; the last lab ends its processes and removes it."""
    with _one_at_a_time() as lock:
        user = find(lab.settings.user)
        if user is None or str(lab.dir) not in _labs_of(user):
            return
        others = [path for path in _labs_of(user) if path != str(lab.dir) and Path(path).is_dir()]
        if others:
            _rewrite(user.pw_name, others, f"{others[0]}/home/{user.pw_name}")
        else:
            _remove(user, lock)


def _labs_of(user: pwd.struct_passwd) -> list[str]:
    """The labs that share a user that a lab created; empty for any other user."""
    tag, *directories = user.pw_gecos.split(" ")
    return directories if tag == TAG else []


def _add(name: str, lab: Lab, lock: int) -> None:
    command = ["useradd", "--no-create-home", "--no-log-init", "--user-group", "--shell", "/bin/bash"]
    _run([*command, "--home-dir", str(lab.home(name)), "--comment", f"{TAG} {lab.dir}", name], lock)


def _remove(user: pwd.struct_passwd, lock: int) -> None:
    processes.kill(processes.of_user(user.pw_uid))
    for place in ("/tmp", "/dev/shm", "/var/tmp"):  # noqa: S108 - torc-step's own directory, made by this user's jobs
        shutil.rmtree(f"{place}/torc-{user.pw_uid}", ignore_errors=True)
    # --force: a zombie of this user, which its parent has not reaped, must not keep the user.
    _run(["userdel", "--force", user.pw_name], lock)


def _make_home(lab: Lab) -> None:
    user = pwd.getpwnam(lab.settings.user)
    home = lab.home(user.pw_name)
    home.mkdir(mode=0o755)
    os.chown(home, user.pw_uid, user.pw_gid)


def _run(command: list[str], lock: int) -> None:
    """The command holds the lock too: if its caller is killed, the sweep waits for the command."""
    program = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin") or command[0]
    argv = [program, *command[1:]]
    result = subprocess.run(argv, pass_fds=[lock], capture_output=True, text=True, check=False)
    if result.returncode:
        raise LabError(f"`{' '.join(command)}` ended with {result.returncode}: {result.stderr.strip()}")


def _rewrite(name: str, labs: list[str], home: str) -> None:
    """Change comment and home. usermod refuses while the user has processes (another lab's jobs)."""

    def change(line: str) -> str:
        fields = line.split(":")
        return ":".join([*fields[:4], " ".join([TAG, *labs]), home, fields[6]]) if fields[0] == name else line

    _edit_passwd(change)


def _edit_passwd(change: Callable[[str], str]) -> None:
    """Like lckpwdf(3) and the shadow tools: under a record lock on /etc/.pwd.lock, replaced in one step."""
    with open(ACCOUNTS_LOCK, "a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        lines = PASSWD.read_text().splitlines()
        temporary = PASSWD.with_name("passwd.torc-slurm-lab")
        temporary.write_text("".join(change(line) + "\n" for line in lines))
        temporary.chmod(0o644)
        temporary.replace(PASSWD)


@contextmanager
def _one_at_a_time() -> Iterator[int]:
    """A lock on a file that always exists, so that no file is left."""
    descriptor = os.open(LOCKED_FILE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
