"""The lock file of the main database: writers on several login nodes take turns, even if the file system has no locks.

``torc.db.lock`` is created exclusively and names its owner: host, process and time. If the owner has died on this host,
the lock is taken over. An owner on another host cannot be checked from here, so the error names the file and what to
check.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from torc_slurm.common.errors import DatabaseError
from torc_slurm.common.liveness import Life, Process, life_of, this_process
from torc_slurm.database.node_file import release_lock, take_lock
from torc_slurm.files.whole_files import create_exclusively

LOCK_SUFFIX = ".lock"
_GUARD_SUFFIX = ".takeover"
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.5
_SAY_AFTER_SECONDS = 1.0
_NAMELESS_GUARD_SECONDS = 10.0
_LONGEST_TEXT = 4096


class LockTimeoutError(DatabaseError):
    """Another process held the main database longer than the time limit."""


@dataclass(frozen=True)
class Owner:
    """The holder of a lock: enough to check whether it still lives, and to tell the user who it is."""

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    process_start: str
    user: str
    since: float

    @property
    def process(self) -> Process:
        """The process that made the lock."""
        return Process(self.host, self.pid, self.boot_id, self.pid_namespace, self.process_start, self.since)


def current_owner() -> Owner:
    """This process, as its lock file names it."""
    me = this_process()
    return Owner(
        host=me.host,
        boot_id=me.boot_id,
        pid_namespace=me.pid_namespace,
        pid=me.pid,
        process_start=me.start_ticks,
        user=_user_name(),
        since=time.time(),
    )


@contextlib.contextmanager
def write_lock(
    path: str, *, timeout_seconds: float = 30.0, on_wait: Callable[[str], None] = lambda _message: None
) -> Iterator[None]:
    """Hold the lock file of the database at ``path`` while the body runs.

    ``on_wait`` is called once, with one line for the user, if the lock is not free within a second.

    Raises:
        LockTimeoutError: it was not free within ``timeout_seconds``; the message names owner, file and remedy.
        DatabaseError: a link, a directory or a special file has the lock's name.
        OSError: the directory cannot be written (PermissionError, EROFS, ENOSPC…).
    """
    lock = path + LOCK_SUFFIX
    owner = current_owner()
    _acquire(lock, owner, timeout_seconds, on_wait)
    try:
        guard = lock + _GUARD_SUFFIX
        if _guard_is_stale(guard):  # its process was killed between removing the lock and the guard
            with contextlib.suppress(OSError), _turn_at(guard):
                pass
        yield
    finally:
        if read_owner(lock) == owner:  # not another process's, after a user removed ours by hand
            with contextlib.suppress(FileNotFoundError):
                os.unlink(lock)


def _acquire(lock: str, owner: Owner, timeout_seconds: float, on_wait: Callable[[str], None]) -> None:
    begin = time.monotonic()
    pause = _FIRST_PAUSE_SECONDS
    said = False
    while not _create(lock, owner):
        if _remove_if_dead(lock):
            continue
        for path in (lock, lock + _GUARD_SUFFIX):
            _refuse_other_kinds(path)
        waited = time.monotonic() - begin
        if waited >= timeout_seconds:
            raise LockTimeoutError(_describe(lock, waited))
        if waited >= _SAY_AFTER_SECONDS and not said:
            said = True
            on_wait(f"waiting for {_holder(lock)} (lock {lock})")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _refuse_other_kinds(path: str) -> None:
    """A lock is always a regular file, so nobody will remove a link or a directory with its name.

    Raises:
        DatabaseError: there is something else; the message names it and the remedy.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # it has just been removed
    if not stat.S_ISREG(mode):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "a directory" if stat.S_ISDIR(mode) else "a special file"
        raise DatabaseError(f"{path} is {kind} instead of a lock that torc wrote; remove it and try again")


def _create(path: str, owner: Owner) -> bool:
    """Create the file. Returns False if it exists already."""
    return create_exclusively(path, json.dumps(asdict(owner)), 0o644)


def read_owner(lock: str) -> Owner | None:
    """The owner that a lock file names; None if there is no such file, or it names none."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, encoding="utf-8") as file:
            return Owner(**json.loads(file.read(_LONGEST_TEXT)))
    except (OSError, ValueError, TypeError):
        return None


def owner_is_dead(owner: Owner) -> bool:
    """True only if it is certain: the same machine since the same boot, and no such process there.

    A process id whose process has another start time counts as dead. After a reboot nothing is certain: another machine
    can have the same name.
    """
    return life_of(owner.process) is Life.ended


def _remove_if_dead(lock: str) -> bool:
    """Remove a dead process's lock. Only the holder of the guard file removes one, so that no live lock is removed.

    The processes of one user and host take turns with a kernel lock, which ends with a killed process; the guard file
    is for other users. A guard of a dead process is removed in the same way.
    """
    owner = read_owner(lock)
    if owner is None or not owner_is_dead(owner):
        return False
    guard = lock + _GUARD_SUFFIX
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_turn_at(guard))
        except OSError:
            return False  # another process is taking it over
        if not _create(guard, current_owner()):
            return False
        stack.callback(os.unlink, guard)
        if read_owner(lock) != owner:
            return False
        os.unlink(lock)
        return True


@contextlib.contextmanager
def _turn_at(guard: str) -> Iterator[None]:
    """Take turns with the processes of this user and host, and remove a guard that a killed process left.

    Raises:
        OSError: another process is there.
    """
    turn = take_lock(guard, wait_seconds=0.0)
    try:
        if _guard_is_stale(guard):
            os.unlink(guard)
        yield
    finally:
        release_lock(guard, turn)


def _guard_is_stale(guard: str) -> bool:
    """Whether the guard's process has died. A guard without a name is from a process that was killed while writing
    it.
    """
    owner = read_owner(guard)
    if owner is not None:
        return owner_is_dead(owner)
    try:
        return time.time() - os.lstat(guard).st_mtime > _NAMELESS_GUARD_SECONDS
    except OSError:
        return False


def _holder(lock: str) -> str:
    owner = read_owner(lock)
    if owner is None:
        return "another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(owner.since))
    return f"process {owner.pid} of {owner.user} on {owner.host}, which writes since {since}"


def _describe(lock: str, waited_seconds: float) -> str:
    names = [name for name in (lock, lock + _GUARD_SUFFIX) if os.path.exists(name)]
    return (
        f"waited {waited_seconds:.0f} s for {_holder(lock)}; "
        f"if no such process runs any more, remove {' and '.join(names) or lock} and try again"
    )


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # an account without a passwd entry, as in a container
        return str(os.getuid())
