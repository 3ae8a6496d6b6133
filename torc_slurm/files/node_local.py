"""The node's own directory of this user, for the locks, sockets and spools of the node's processes.

It is under /tmp (else /dev/shm, /var/tmp), never under $TMPDIR: all steps on the node must find the same one.
Standard library only: the wrapper uses it if a step has several tasks on a node.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PARENTS = ("/tmp", "/dev/shm", "/var/tmp")  # noqa: S108 - the directory made here is 0700 and its owner is checked


def directory() -> str | None:
    """Make or find the directory; None if no parent allows a safe one."""
    return next(_directories(), None)


def _directories() -> Iterator[str]:
    """Make or find one below each parent that allows a safe one, in order.

    Skips a directory of this name that another user made, or a link: its owner could swap files.
    """
    for path in _candidates():
        if not _is_private_and_ours(path):
            try:
                os.mkdir(path, 0o700)
            except OSError:
                pass  # another process of ours made it just now, or it cannot be made
            if not _is_private_and_ours(path):
                continue
        yield path


def _candidates() -> list[str]:
    return [os.path.join(parent, f"torc-{os.getuid()}") for parent in _PARENTS]


def make_own_directory(path: str) -> None:
    """Make or find a directory of this user in a place that other users share, such as /tmp.

    Below a setgid directory its group may read it, for a site that collects its users' records; else nobody else may.

    Raises:
        OSError: it cannot be made; or it is another user's, a link, or writable for others.
    """
    try:
        is_collected = os.stat(os.path.dirname(path)).st_mode & stat.S_ISGID
        os.mkdir(path, 0o2750 if is_collected else 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise PermissionError(errno.EPERM, "not a directory of this user that nobody else can write to", path)


def _is_private_and_ours(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o077 == 0
    return private and found.st_uid == os.getuid()


def subdirectory(name: str) -> str | None:
    """A directory below it, made if it does not exist."""
    return next(subdirectories(name), None)


def subdirectories(name: str) -> Iterator[str]:
    """One below each parent that allows it: if the first is full, the next may have room."""
    for above in _directories():
        path = os.path.join(above, name)
        if not os.path.isdir(path):
            try:
                os.makedirs(path, 0o700, exist_ok=True)
            except OSError:
                continue
        yield path


def existing_subdirectories(name: str) -> list[str]:
    """The existing ones below each parent: the parent that was used may have been full at another time."""
    below = [os.path.join(path, name) for path in _candidates() if _is_private_and_ours(path)]
    return [path for path in below if os.path.isdir(path)]


def file_name_of(text: str) -> str:
    """A file name for a text of any length in any alphabet: the plain part of its end, and a digest of all of it."""
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in text)
    return f"{plain[-120:]}.{digest(text)}"


def digest(text: str) -> str:
    """A short name that is the same in every process (unlike ``hash``): 16 hex digits of FNV-1a."""
    value = 0xCBF29CE484222325
    for byte in os.fsencode(text):
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"
