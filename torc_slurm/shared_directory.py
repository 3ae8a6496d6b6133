"""Directories on a file system that several hosts use. Standard library only: the monitor loads it."""

from __future__ import annotations

import os


def make_shared_directory(path: str) -> None:
    """Make a directory and its parents, or find them, also where another host has made them a moment ago.

    An NFS client that has looked a name up in vain believes so for as long as it caches attributes (acdirmax: 60 s by
    default, 30 s seen): mkdir, stat and open then fail for a directory that is there. Reading the directory above asks
    the server.

    Raises:
        OSError: it cannot be made, or is not a directory.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except (FileNotFoundError, FileExistsError):
        _read_parents(os.path.abspath(path))
        os.makedirs(path, exist_ok=True)


def _read_parents(path: str) -> None:
    """From the outermost on: each may be what makes the next one seen."""
    parent = os.path.dirname(path)
    if parent != path:
        _read_parents(parent)
        try:
            with os.scandir(parent) as entries:
                next(entries, None)
        except OSError:
            pass  # not there, or closed to this user; makedirs says which
