"""Where and when a run was made: without that a figure has no meaning."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

from bench.environments import Environments


def facts(environments: Environments, place: str, quick: bool) -> dict[str, str]:
    """The facts in words, in the order of printing; ``load`` is that from before the run."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "cores": str(os.cpu_count()),
        "processor": _after_colon("/proc/cpuinfo", "model name"),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "node files on": _file_system(place),
        "versions": ", ".join(environments.versions),
        "interval": "1 s",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "mode": "quick: for checking the bench, not for quoting" if quick else "full",
    }


def _after_colon(path: str, name: str) -> str:
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _file_system(place: str) -> str:
    """The type of a directory's file system: of the mount point that is the longest part of its path."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    above = [mount for mount in mounts if (place + "/").startswith(mount[1].rstrip("/") + "/")]
    return max(above, key=lambda mount: len(mount[1]))[2]
