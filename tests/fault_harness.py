"""Runs commands in which a process is killed, or a call fails, at its n-th call on files (fault.c, preloaded).

The short form tries a few positions, ``TORC_FAULTS_ALL=1`` all of them: docs/reliability.md has the results.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from measured import environment

IS_LONG = bool(os.environ.get("TORC_FAULTS_ALL"))
ALWAYS, ONCE = "always", "once"


class Fault(NamedTuple):
    """The fault and its process: ``error`` is an errno's name, or empty for SIGKILL."""

    process: str
    is_forked: bool
    error: str = ""
    how_often: str = ONCE

    def __str__(self) -> str:
        which = f"{self.process}{' writer' if self.is_forked else ''}"
        return f"{which} {self.error or 'killed'} {self.how_often}"


def places(most: int) -> list[int]:
    """The calls to try: all of them in the long form, else a dozen, closer together at the beginning."""
    if IS_LONG:
        return list(range(1, most + 1))
    return sorted({1, 2, 3, 5, 8, 12, 18, 27, 40, 60, most} & set(range(1, most + 1)))


def compile_fault(directory: Path) -> Path:
    library = directory / "fault.so"
    words = [
        "cc",
        "-shared",
        "-fPIC",
        "-O1",
        str(Path(__file__).parent / "faults" / "fault.c"),
        "-o",
        str(library),
        "-ldl",
    ]
    subprocess.run(words, check=True)
    return library


def with_fault(library: Path, fault: Fault, at: int, mark: Path) -> dict[str, str]:
    """The environment of a command with the fault; ``mark`` exists afterwards if the fault happened (once)."""
    env = environment(LD_PRELOAD=str(library), FAULT_PROCESS=fault.process, FAULT_AT=str(at))
    if fault.is_forked:
        env["FAULT_FORKED"] = "1"
    if fault.error:
        env["FAULT_ERRNO"] = str(getattr(errno, fault.error))
    if fault.how_often == ONCE:
        env["FAULT_ONCE"] = str(mark)
    return env


# Without the launcher, which would remove LD_PRELOAD.
TORC_STEP = [sys.executable, "-I", "-m", "torc_slurm.step.main"]
