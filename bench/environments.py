"""The two virtual environments of a run: ci/environment's with this checkout, and one next to it with the peers."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

PEERS = ("con-duct", "psrecord", "psutil")
BENCH_PID = "BENCH_PID"
_VERSIONS = "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep='\\n')"
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TERM")


class Environments(NamedTuple):
    """Paths of the two; ``versions`` in words, as ``con-duct 0.23.0``."""

    ours: str
    peers: str
    versions: tuple[str, ...]

    @property
    def python(self) -> str:
        """The interpreter that torc-step itself runs with."""
        return f"{self.ours}/bin/python"


def find_or_make() -> Environments:
    """This Python's own environment (bench/run sees to that), and the peers', which is made if it is missing.

    Raises:
        subprocess.CalledProcessError: pip could not install the peers; its message is on stderr.
    """
    ours, peers = sys.prefix, f"{sys.prefix}-peers"
    if not all(os.path.exists(f"{peers}/bin/{name}") for name in ("con-duct", "psrecord")):
        _make_peers(peers)
    found = (*_versions(f"{ours}/bin/python", "torc-slurm"), *_versions(f"{peers}/bin/python", *PEERS))
    return Environments(ours, peers, found)


def _make_peers(place: str) -> None:
    sys.stderr.write(f"bench: making {place} with {', '.join(PEERS)}\n")
    run = [f"{place}/bin/python", "-m", "pip", "install", "--quiet"]
    base = getattr(sys, "_base_executable", sys.executable)
    for command in ([base, "-m", "venv", "--clear", place], [*run, "--upgrade", "pip"], [*run, *PEERS]):
        subprocess.run(command, check=True, stdout=sys.stderr)


def _versions(python: str, *names: str) -> list[str]:
    done = subprocess.run([python, "-c", _VERSIONS, *names], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def for_jobs() -> dict[str, str]:
    """The environment of the tools: without variables of Slurm, torc or Python from this shell.

    One variable is added: the bench's pid, so that a tree ends if the bench is killed.
    """
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | {BENCH_PID: str(os.getpid())}
