"""Directories on a file system that several hosts use. Standard library only: the monitor loads it."""

from __future__ import annotations

import errno
import os
import stat


def make_shared_directory(path: str) -> None:
    """Make a directory and its parents, or find them, even if another host has just made them.

    An NFS client caches that a name does not exist (acdirmax: 60 s by default, 30 s seen): mkdir, stat and open then
    fail for an existing directory. Reading the parent directory asks the server again.

    Raises:
        OSError: it cannot be made, or is not a directory.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except (FileNotFoundError, FileExistsError):
        _read_parents(os.path.abspath(path))
        os.makedirs(path, exist_ok=True)


def is_directory(path: str) -> bool:
    """Whether there is such a directory, even if another host has made it since somebody here looked for it."""
    if os.path.isdir(path):
        return True
    _read_parents(os.path.abspath(path))
    return os.path.isdir(path)


def refuse_foreign_link(path: str) -> None:
    """Follow no link that another user made: root, and users who share a directory, would write where that one wants.

    Raises:
        OSError: it is such a link.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return  # not there
    if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
        raise OSError(errno.ELOOP, "it is a symbolic link that another user made", path)


def _read_parents(path: str) -> None:
    """From the outermost on: each may make the next one visible."""
    parent = os.path.dirname(path)
    if parent != path:
        _read_parents(parent)
        try:
            with os.scandir(parent) as entries:
                next(entries, None)
        except OSError:
            pass  # missing, or not readable; makedirs reports which
