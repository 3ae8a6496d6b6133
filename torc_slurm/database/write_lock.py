"""The lock file beside the main database: writers on several login nodes take turns, also where the file
system has no locks.

``torc.db.lock`` is created exclusively and names its owner: host, process and since when. A lock whose owner
has died on this host is taken over; one of another host cannot be judged from here, so the error names the
file and what to check.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from torc_slurm.database.node_file import release_lock, take_lock
from torc_slurm.errors import DatabaseError
from torc_slurm.liveness import Life, Process, life_of, this_process
from torc_slurm.whole_files import create_exclusively

LOCK_SUFFIX = ".lock"
_GUARD_SUFFIX = ".takeover"
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.5
_SAY_AFTER_SECONDS = 1.0
_NAMELESS_GUARD_SECONDS = 10.0
_LONGEST_TEXT = 4096


class LockTimeoutError(DatabaseError):
    """Another process kept the main database for longer than we were ready to wait."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock: enough to tell whether it still lives, and to tell the user whom to ask."""

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
    """This process, as it stands in its lock file."""
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

    ``on_wait`` is called once, with one line for the user, when the lock is not free within a second.

    Raises:
        LockTimeoutError: it was not free within ``timeout_seconds``; it names owner, file and remedy.
        OSError: the directory cannot be written (PermissionError, EROFS, ENOSPC…).
    """
    lock = path + LOCK_SUFFIX
    owner = current_owner()
    _acquire(lock, owner, timeout_seconds, on_wait)
    try:
        _remove_stale_guard(lock + _GUARD_SUFFIX)
        yield
    finally:
        if read_owner(lock) == owner:  # not somebody else's, after a user removed ours by hand
            with contextlib.suppress(FileNotFoundError):
                os.unlink(lock)


def _acquire(lock: str, owner: Owner, timeout_seconds: float, on_wait: Callable[[str], None]) -> None:
    begin = time.monotonic()
    pause = _FIRST_PAUSE_SECONDS
    said = False
    while not _create(lock, owner):
        if _remove_if_dead(lock):
            continue
        waited = time.monotonic() - begin
        if waited >= timeout_seconds:
            raise LockTimeoutError(_describe(lock, waited))
        if waited >= _SAY_AFTER_SECONDS and not said:
            said = True
            on_wait(f"waiting for {_holder(lock)} (lock {lock})")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _create(path: str, owner: Owner) -> bool:
    """True if the file did not exist and is now ours."""
    return create_exclusively(path, json.dumps(asdict(owner)), 0o644)


def read_owner(lock: str) -> Owner | None:
    """The owner that a lock file names; None if there is no such file, or its text names nobody."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, encoding="utf-8") as file:
            return Owner(**json.loads(file.read(_LONGEST_TEXT)))
    except (OSError, ValueError, TypeError):
        return None


def owner_is_dead(owner: Owner) -> bool:
    """True only when it is certain: the same machine since the same boot, and no such process there.

    A process number that now belongs to a process with another start time counts as dead. After a reboot nothing is
    certain: another machine can have the same name.
    """
    return life_of(owner.process) is Life.ended


def _remove_if_dead(lock: str) -> bool:
    """Remove a lock of a dead process. Only the holder of the guard file removes, so no live lock is taken by mistake.

    The processes of one user and host take turns here by a lock of the kernel's, which a killed process cannot leave
    behind; the guard file is for those of other users. A guard whose process has died is removed as the lock is.
    """
    owner = read_owner(lock)
    if owner is None or not owner_is_dead(owner):
        return False
    guard = lock + _GUARD_SUFFIX
    try:
        turn = take_lock(guard, wait_seconds=0.0)
    except OSError:
        return False  # another process takes it over just now
    try:
        if _guard_is_stale(guard):
            os.unlink(guard)
        if not _create(guard, current_owner()):
            return False
        try:
            if read_owner(lock) != owner:
                return False
            os.unlink(lock)
            return True
        finally:
            os.unlink(guard)
    finally:
        release_lock(guard, turn)


def _remove_stale_guard(guard: str) -> None:
    """What a process left that was killed when it had removed the lock and not yet its guard."""
    if not os.path.lexists(guard) or not _guard_is_stale(guard):
        return
    with contextlib.suppress(OSError):  # another process takes a lock over just now
        turn = take_lock(guard, wait_seconds=0.0)
        try:
            if _guard_is_stale(guard):
                os.unlink(guard)
        finally:
            release_lock(guard, turn)


def _guard_is_stale(guard: str) -> bool:
    """Whether the process that made the guard has died; one without a name was left by a process killed as it wrote."""
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
