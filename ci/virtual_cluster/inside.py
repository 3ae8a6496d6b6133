"""Commands on the machines of a cluster, by ssh through its own network."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from .config import HEAD, address
from .state import Cluster

PATH = "/opt/torc-slurm/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SSH_OPTIONS = (
    *("-i", "/cluster/ssh/key"),
    "-oStrictHostKeyChecking=no",
    "-oUserKnownHostsFile=/dev/null",
    "-oLogLevel=ERROR",
    "-oBatchMode=yes",
    "-oConnectTimeout=20",
    "-oServerAliveInterval=15",  # detects a machine that was switched off
    "-oServerAliveCountMax=4",
    # one connection for each machine, kept open: a command takes about 20 ms
    "-oControlMaster=auto",
    "-oControlPath=/run/ssh-%h",
    "-oControlPersist=yes",
)


def argv(
    cluster: Cluster,
    command: Sequence[str | Path],
    *,
    machine: str = HEAD,
    user: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    terminal: bool = False,
) -> list[str]:
    """The words that run a command on a machine, by default as root; they exit like the command."""
    home = f"/home/{user}" if user else "/root"
    name = user or "root"
    variables = {"PATH": PATH, "HOME": home, "USER": name, "LOGNAME": name, "LC_ALL": "C.UTF-8", **(env or {})}
    words = ["env", *(f"{name}={value}" for name, value in variables.items()), *map(str, command)]
    if user:
        words = ["runuser", "-u", user, "--", *words]
    remote = f"cd {shlex.quote(cwd or home)} && exec {shlex.join(words)}"
    ssh = ["ssh", *SSH_OPTIONS, *(["-t"] if terminal else []), f"root@{address(cluster.settings, machine)}", remote]
    return [*enter(cluster), "chroot", str(cluster.tree), "env", "-i", f"TERM={os.environ.get('TERM', 'dumb')}", *ssh]


def enter(cluster: Cluster) -> list[str]:
    """The words before a command that runs in the cluster's namespaces."""
    return ["nsenter", f"--target={cluster.init}", "--mount", "--root", "--pid", "--net", "--ipc", "--"]
