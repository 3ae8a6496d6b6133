"""The faults of a cluster on request, and how to undo them: `ci/cluster fault NAME[:MACHINE]`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from slurm_lab.errors import LabError, UsageError

from .config import HEAD
from .inside import argv, enter
from .state import Cluster

BOOT = Path(__file__).with_name("boot")
CRASH = "node-crash"
BOOT_NODE = "node-boot"
# Commands that root runs on the head.
ON_HEAD = {
    "nfs-stop": "exportfs -ua; rpc.nfsd 0",
    "nfs-start": "exportfs -ra; rpc.nfsd --no-nfs-version 3 8",
    "slurmdbd-down": "pkill -x slurmdbd; while pgrep -x slurmdbd; do sleep 0.1; done",
    "slurmdbd-up": "MYSQL_UNIX_PORT=/run/mysqld/cluster.sock slurmdbd",
    "slurmctld-down": "pkill -x slurmctld; while pgrep -x slurmctld; do sleep 0.1; done",
    "slurmctld-up": "slurmctld",
    "slurmctld-restart": "pkill -x slurmctld; while pgrep -x slurmctld; do sleep 0.1; done; slurmctld",
}
NAMES = (*ON_HEAD, CRASH, BOOT_NODE)


@dataclass(frozen=True)
class Fault:
    """One fault, with a machine if it needs one; with `run`, `after` this many seconds."""

    name: str
    machine: str = HEAD
    after_seconds: float = 0.0


def parse(text: str, machines: tuple[str, ...]) -> Fault:
    """`NAME[:MACHINE][@SECONDS]`; raises UsageError."""
    rest, _, seconds = text.partition("@")
    name, _, machine = rest.partition(":")
    if name not in NAMES:
        raise UsageError(f"fault {text!r}: {name!r} is none of {', '.join(NAMES)}")
    if name in ON_HEAD and machine not in ("", HEAD):
        raise UsageError(f"fault {text!r}: {name} happens on {HEAD}; leave {machine} out")
    if name not in ON_HEAD and machine not in machines[1:]:
        raise UsageError(f"fault {text!r}: name a node, as in {name}:{machines[1]}")
    try:
        after = float(seconds or 0)
    except ValueError:
        raise UsageError(f"fault {text!r}: {seconds!r} is not a number of seconds") from None
    return Fault(name, machine or HEAD, after)


def make(cluster: Cluster, fault: Fault) -> None:
    """Make it happen; raises LabError if that fails."""
    if fault.name == CRASH:
        pid = (cluster.share / "pids" / fault.machine).read_text().strip()
        command = [*enter(cluster), "kill", "-KILL", pid]
    elif fault.name == BOOT_NODE:
        command = [*enter(cluster), str(BOOT), str(cluster.dir), str(cluster.image.kernel), fault.machine]
    else:
        command = argv(cluster, ["sh", "-c", ON_HEAD[fault.name]], cwd="/")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"fault {fault.name} on {fault.machine}: {done.returncode}: {done.stderr.strip()}")
