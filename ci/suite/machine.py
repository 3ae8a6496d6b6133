"""The parts' requirements on the machine: programs from apt, and the checkout's environment with its PATH."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from slurm_lab import install

from .parts import CHECKOUT

BROWSER = {
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "fc-list": "fontconfig",
}
COMPILER = {
    "cc": "gcc",
    "nm": "binutils",
    "/usr/include/stdio.h": "libc6-dev",
    "/usr/include/slurm/spank.h": "libslurm-dev",
}
OTHERS = {"ps": "procps", "mkfs.ext4": "e2fsprogs"}
GROUPS = ("test", "docs")


def install_programs() -> None:
    """Install missing programs if this process may; else the tests that need them fail and say so."""
    if os.geteuid() == 0:
        install.ensure_installed(install.PROGRAMS | BROWSER | COMPILER | OTHERS)


def environment() -> dict[str, str]:
    """This process's variables with those of the checkout's environment, which is made or updated."""
    made = subprocess.run(
        [CHECKOUT / "ci" / "environment", *GROUPS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    binaries = Path(made.stdout.strip()) / "bin"
    return {
        **os.environ,
        "PATH": f"{binaries}:{os.environ.get('PATH', os.defpath)}",
        "TORC_TEST_ALL": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
