"""Writes files whole or not at all: a draft in the same directory is renamed when it is complete.

A draft's name says which process writes it, so that the next command removes the drafts of killed ones. Drafts are
opened with O_EXCL at an unpredictable name, so no other user's link is followed. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time

from torc_slurm.common.errors import InputError
from torc_slurm.common.liveness import Life, Process, life_of, this_process
from torc_slurm.files.shared_directory import make_shared_directory

MODE_VARIABLE = "TORC_FILE_MODE"
_PRIVATE_MODE = 0o600
_DRAFT = re.compile(r"\.torc-draft~(?P<host>[^~]*)~(?P<pid>[0-9]{1,10})~(?P<start>[0-9]*)~.*", re.DOTALL)
_DRAFT_OF_LOCK = re.compile(r"torc\.db\.lock\.(?P<host>.+)\.(?P<pid>[0-9]{1,10})(?P<start>)", re.DOTALL)  # until 0.9
_FORGOTTEN_AFTER_SECONDS = 24 * 3600.0


def private_mode() -> int:
    """The mode of a file with values that a user may want to hide, such as ``env:``: 0600.

    ``$TORC_FILE_MODE`` sets another, in octal (``640``).

    Raises:
        InputError: it is not a mode that lets the owner read and write.
    """
    given = os.environ.get(MODE_VARIABLE, "")
    if not given:
        return _PRIVATE_MODE
    mode = int(given, 8) if re.fullmatch("[0-7]{3,4}", given) else 0
    if mode & 0o600 != 0o600 or mode > 0o777:
        raise InputError(f"{MODE_VARIABLE} is {given!r}; give a mode in octal under which you can read and write: 640")
    return mode


def create_exclusively(path: str, text: str, mode: int = _PRIVATE_MODE) -> bool:
    """Write a file, whole or not at all, if there is none of that name. Returns False if there is one.

    If several processes try at once, on any host, exactly one succeeds. The umask reduces ``mode``.

    Raises:
        OSError: it cannot be written.
    """
    directory = os.path.dirname(path)
    make_shared_directory(directory)
    draft = _write_draft(directory, text.encode("ascii"), mode & ~_umask())
    try:
        return _link(draft, path, mode)
    finally:
        os.unlink(draft)


def replace_file(path: str, content: bytes, mode: int = 0o666) -> None:
    """Replace the file of that name; an existing one keeps its mode.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    try:
        kept = os.stat(path).st_mode & 0o7777
    except OSError:
        kept = mode & ~_umask()
    draft = _write_draft(os.path.dirname(path) or ".", content, kept)
    try:
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def remove_abandoned_drafts(directory: str) -> None:
    """Remove the drafts that killed processes left there; those of other hosts once they are a day old."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            match = _DRAFT.fullmatch(name) or _DRAFT_OF_LOCK.fullmatch(name)
            if match is not None:
                path = os.path.join(directory, name)
                with contextlib.suppress(OSError):
                    if _is_abandoned(match, os.lstat(path).st_mtime):
                        os.unlink(path)


def new_draft(directory: str) -> tuple[int, str]:
    """A new empty file (0600) there, open for writing, and its path; to be renamed when it is complete.

    Raises:
        OSError: it cannot be made.
    """
    me = this_process()
    return tempfile.mkstemp(prefix=f".torc-draft~{me.host}~{me.pid}~{me.start_ticks}~", dir=directory)


def _is_abandoned(match: re.Match[str], written_at: float) -> bool:
    if time.time() - written_at > _FORGOTTEN_AFTER_SECONDS:
        return True
    writer = Process(match["host"], int(match["pid"]), start_ticks=match["start"], seen_at=written_at)
    return life_of(writer) is Life.ended


def _write_draft(directory: str, content: bytes, mode: int) -> str:
    """A new file with that content; returns its path.

    Raises:
        OSError: it cannot be written; nothing stays.
    """
    descriptor, draft = new_draft(directory)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
    except BaseException:
        os.unlink(draft)
        raise
    return draft


def _link(draft: str, path: str, mode: int) -> bool:
    """Give the draft its name: link(2) is exclusive and atomic on NFS too."""
    try:
        os.link(draft, path)
    except FileExistsError:
        # An NFS server can repeat a request whose answer was lost: a second link to our draft means success.
        return os.stat(draft).st_nlink == 2
    except OSError:
        return _copy(draft, path, mode)
    return True


def _copy(draft: str, path: str, mode: int) -> bool:
    """For file systems without hard links: create the name exclusively, then write the text."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError:
        return False
    try:
        with open(descriptor, "wb") as file, open(draft, "rb") as content:
            file.write(content.read())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return True


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
