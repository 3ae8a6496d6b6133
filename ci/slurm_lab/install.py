"""Installs Slurm and what it needs with apt, if it is missing and this process may; starts no service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import LabError

SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"

# Each program that the lab runs, and its Debian package.
PROGRAMS = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "slurmdbd": "slurmdbd",
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "setsid": "util-linux",
    "useradd": "passwd",
}
POLICY = Path("/usr/sbin/policy-rc.d")
# invoke-rc.d(8): 101 means that the action is not allowed.
POLICY_TEXT = "#!/bin/sh\n# put here by slurm-lab for the length of one installation\nexit 101\n"
APT_OPTIONS = ["-q", "-y", "-o", "DPkg::Lock::Timeout=300"]


def program(name: str) -> str:
    """The path of a program, even if /usr/sbin is not on PATH."""
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        raise LabError(f"{name} is missing: install the package {PROGRAMS.get(name, name)}")
    return path


def ensure_installed(programs: Mapping[str, str] = PROGRAMS) -> None:
    """Install the packages of missing programs, or of missing files (given by their absolute paths)."""
    packages = list(dict.fromkeys(package for name, package in programs.items() if not _is_there(name)))
    if not packages:
        return
    command = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise LabError(f"not installed, and there is no apt-get here: install {', '.join(packages)}")
    if os.geteuid() != 0:
        raise LabError(f"not installed, and only root may install it: `sudo {command}`")
    _say(f"installing {', '.join(packages)} (once, about a minute)")
    with _no_service_starts():
        _apt(["update"])
        _apt(["install", "--no-install-recommends", *packages])


def _is_there(name: str) -> bool:
    return Path(name).exists() if name.startswith("/") else shutil.which(name, path=SEARCH_PATH) is not None


def _apt(arguments: list[str]) -> None:
    command = ["apt-get", *APT_OPTIONS, *arguments]
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C.UTF-8")
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-15:])
        raise LabError(f"`{' '.join(command)}` ended with {result.returncode}:\n{tail}")


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's packages start their daemons on installation, unless this file forbids it."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text(POLICY_TEXT)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _say(text: str) -> None:
    print(f"slurm-lab: {text}", file=sys.stderr, flush=True)
