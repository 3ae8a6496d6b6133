"""The lock file beside the main database: writers on several login nodes take turns, also where the file
system has no locks.

``torc.db.lock`` is created exclusively and names its owner: host, process and since when. A lock whose owner
has died on this host is taken over; one of another host cannot be judged from here, so the error names the
file and what to check.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from torc_slurm.errors import DatabaseError

LOCK_SUFFIX = ".lock"
_GUARD_SUFFIX = ".takeover"
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.5
_SAY_AFTER_SECONDS = 1.0
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


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


def current_owner() -> Owner:
    """This process, as it stands in its lock file."""
    return Owner(
        host=socket.gethostname(),
        boot_id=_first_line("/proc/sys/kernel/random/boot_id"),
        pid_namespace=_pid_namespace(),
        pid=os.getpid(),
        process_start=_process_start(os.getpid()),
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


def _create(lock: str, owner: Owner) -> bool:
    """True if the lock file did not exist and is now ours. A link brings its text with it and is atomic on
    NFS too.
    """
    draft = f"{lock}.{owner.host}.{owner.pid}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _write_owner(descriptor, owner)
        return _link(draft, lock, owner)
    finally:
        os.unlink(draft)


def _link(draft: str, lock: str, owner: Owner) -> bool:
    try:
        os.link(draft, lock)
    except FileExistsError:
        return os.stat(draft).st_nlink == 2  # NFS can lose the answer to a link that was made
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return _create_exclusively(lock, owner)
    return True


def _create_exclusively(path: str, owner: Owner) -> bool:
    try:
        _write_owner(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), owner)
    except FileExistsError:
        return False
    return True


def _write_owner(descriptor: int, owner: Owner) -> None:
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(owner), file)


def read_owner(lock: str) -> Owner | None:
    """The owner that a lock file names; None if there is no such file, or its text names nobody."""
    try:
        with open(lock, encoding="utf-8") as file:
            return Owner(**json.load(file))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def owner_is_dead(owner: Owner, here: Owner) -> bool:
    """True only when it is certain: the same machine since the same boot, and no such process there.

    A process number that now belongs to a process with another start time counts as dead.
    """
    if (owner.host, owner.boot_id, owner.pid_namespace) != (here.host, here.boot_id, here.pid_namespace):
        return False
    if not _process_exists(owner.pid):
        return True
    start = _process_start(owner.pid)
    return bool(start and owner.process_start and start != owner.process_start)


def _remove_if_dead(lock: str) -> bool:
    """Remove a lock of a dead process. Only the holder of the guard file removes, so no live lock is taken by
    mistake.
    """
    owner = read_owner(lock)
    if owner is None or not owner_is_dead(owner, current_owner()):
        return False
    guard = lock + _GUARD_SUFFIX
    if not _create_exclusively(guard, current_owner()):
        return False
    try:
        if read_owner(lock) != owner:
            return False
        os.unlink(lock)
        return True
    finally:
        os.unlink(guard)


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


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _process_start(pid: int) -> str:
    """Ticks since boot at which the process began (field 22 of /proc/PID/stat); empty where that is not to be
    read.
    """
    stat = _first_line(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else ""


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # an account without a passwd entry, as in a container
        return str(os.getuid())
