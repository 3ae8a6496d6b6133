"""Figures of one process from its files below /proc, each opened, read and closed: they are not part of each sample."""

from __future__ import annotations

import os

_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


class ProcessFiles:
    """``proc``: where procfs is mounted."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc

    def children_of(self, pid: int) -> list[int]:
        """The children of all threads of a process: each thread has its own list."""
        try:
            threads = os.listdir(f"{self._proc}/{pid}/task")
        except OSError:
            return []
        children: list[int] = []
        for thread in threads:
            children += [int(child) for child in self._read_list(f"{pid}/task/{thread}/children").split()]
        return children

    def high_water_bytes(self, pid: int) -> int:
        """VmHWM plus VmSwap: the most memory the process ever had; 0 if it has none (a zombie) or has exited."""
        high_water = swap = 0
        for line in self._read_file(f"{pid}/status", 8192).splitlines():
            if line.startswith(b"VmHWM:"):
                high_water = int(line.split()[1]) * 1024
            elif line.startswith(b"VmSwap:"):
                swap = int(line.split()[1]) * 1024
        return high_water + swap

    def proportional_bytes(self, pid: int | str) -> int:
        """PSS plus SwapPss: a shared page is divided among the processes that share it."""
        total = 0
        for line in self._read_file(f"{pid}/smaps_rollup", 8192).splitlines():
            if line.startswith((b"Pss:", b"SwapPss:")):
                total += int(line.split()[1]) * 1024
        return total

    def anonymous_bytes(self, pid: int | str) -> int:
        """PSS of anonymous memory: what a cgroup charges for a process. A page shared by a fork is divided too."""
        for line in self._read_file(f"{pid}/smaps_rollup", 8192).splitlines():
            if line.startswith(b"Pss_Anon:"):
                return int(line.split()[1]) * 1024
        return 0

    def unshared_bytes(self, pid: int) -> int:
        """Resident memory without files and shared memory: closest to anonymous memory for another user's process."""
        words = self._read_file(f"{pid}/statm", 256).split()
        return (int(words[1]) - int(words[2])) * _PAGE_BYTES if len(words) > 2 else 0

    def io_counters(self, pid: int) -> tuple[int, int, int, int] | None:
        """Bytes from storage, to storage, read and written in total (cache and pipes too), with reaped children.

        None if it cannot be read: the process belongs to another user, or has exited.
        """
        values = {}
        for line in self._read_file(f"{pid}/io", 512).splitlines():
            name, _, value = line.partition(b": ")
            values[name] = int(value)
        if b"write_bytes" not in values:
            return None
        return values[b"read_bytes"], values[b"write_bytes"], values[b"rchar"], values[b"wchar"]

    def _read_list(self, path: str) -> bytes:
        """The whole of a list that the kernel returns one page at a time."""
        text = b""
        try:
            with open(f"{self._proc}/{path}", "rb", buffering=0) as file:
                while part := file.read(65536):
                    text += part
        except OSError:
            pass  # the thread has exited
        return text

    def _read_file(self, path: str, most_bytes: int) -> bytes:
        try:
            descriptor = os.open(f"{self._proc}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.read(descriptor, most_bytes)
        except OSError:
            return b""
        finally:
            os.close(descriptor)
