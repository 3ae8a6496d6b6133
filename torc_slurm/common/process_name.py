"""The names of torc's processes for ps, pkill and killall: a job's ``pkill python`` must not hit torc.

Standard library only, and of that only ``os``: ``torc-step`` loads this before the job starts.
"""

from __future__ import annotations

import os

# Fields 48 and 49 of /proc/PID/stat (proc(5)), counted from the state, which is field 3.
_ARG_START, _ARG_END = 45, 46


def set_process_name(name: str) -> None:
    """Set the name that ``pkill NAME`` and ``killall`` match; at most 15 characters; best effort."""
    try:
        with open("/proc/self/comm", "wb", buffering=0) as file:
            file.write(name.encode())
    except OSError:
        pass  # no procfs: keep the name


def set_command_line(words: list[str]) -> None:
    """Set the words that ``ps`` shows and ``pkill -f`` matches, cut to the room of the present ones; best effort.

    They overwrite the process's own arguments in memory, where the kernel reads them (proc(5), cmdline). If the last of
    their bytes is not NUL, the kernel reads one text instead of words, as after setproctitle(3).
    """
    try:
        with open("/proc/self/stat", "rb", buffering=0) as file:
            fields = file.read(4096).rpartition(b")")[2].split()
        begin, end = int(fields[_ARG_START]), int(fields[_ARG_END])
        room = end - begin
        text = b" ".join(os.fsencode(word) for word in words)[: max(0, room - 2)]
        memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            if text:
                os.pwrite(memory, text.ljust(room - 1, b"\0") + b"*", begin)
        finally:
            os.close(memory)
    except (OSError, ValueError, IndexError):
        pass  # no procfs, or a kernel that forbids it
