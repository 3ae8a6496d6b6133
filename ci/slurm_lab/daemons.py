"""The lab's daemons: how each starts, when it is ready, how it stops."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

from . import cgroups, processes
from .config import CLUSTER
from .errors import LabError, UsageError
from .install import program
from .lab import MEMBER_VARIABLE, Lab
from .waiting import wait_until

# Generous: a busy machine may have to read each daemon from a slow disk.
START_LIMIT_SECONDS = 120.0
STOP_LIMIT_SECONDS = 15.0
# A query to a daemon that is not there yet can hang: sacctmgr does, without limit.
ASK_LIMIT_SECONDS = 10.0

# The database is temporary, so it need not be durable. Slurm's accounting guide recommends the long lock wait.
MARIADB_OPTIONS = (
    "--no-defaults",
    "--user=root",
    "--innodb-log-file-size=8M",
    "--innodb-flush-method=nosync",
)
MARIADBD_OPTIONS = (
    "--skip-networking",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-lock-wait-timeout=900",
)


def environment(lab: Lab) -> dict[str, str]:
    """The daemons' environment. MYSQL_UNIX_PORT is the path of the database's socket for slurmdbd's client library."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    ours = {
        "SLURM_CONF": str(lab.conf),
        "MYSQL_UNIX_PORT": str(_mariadb_socket(lab)),
        MEMBER_VARIABLE: lab.settings.id,
    }
    return kept | ours


def start(lab: Lab, daemon: str) -> None:
    """Start a daemon in the background, in the lab's cgroup and in its own session.

    A small shell joins the cgroup and writes its pid before it becomes the daemon.
    """
    cgroup = cgroups.of_lab(lab.settings.id)
    join = f"echo $$ > {shlex.quote(str(cgroup))}/cgroup.procs; " if cgroup else ""
    script = f'{join}echo $$ > "$0"; exec "$@"'
    # In a script's background SIGINT is ignored: jobs must not inherit that.
    detached = [program("env"), "--default-signal", program("setsid"), "--fork"]
    command = [*detached, "/bin/sh", "-ec", script, str(_pid_file(lab, daemon))]
    _pid_file(lab, daemon).unlink(missing_ok=True)
    with open(lab.log / f"{daemon}.out", "ab") as out:
        subprocess.run(
            [*command, *_command(lab, daemon)],
            env=environment(lab),
            cwd=lab.run,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            check=True,
        )


def _command(lab: Lab, daemon: str) -> list[str]:
    kind, _, node = daemon.partition("-")
    if kind == "munged":
        return [program(kind), "--foreground", *_munged_options(lab)]
    if kind == "mariadbd":
        return [program(kind), *MARIADB_OPTIONS, *MARIADBD_OPTIONS, *_mariadb_files(lab), *_mariadbd_files(lab)]
    arguments = {"slurmdbd": ["-D"], "slurmctld": ["-D", "-i"], "slurmd": ["-D", "-N", node]}
    return [program(kind), *arguments[kind]]


def _munged_options(lab: Lab) -> list[str]:
    files = {
        "socket": "munge.sock",
        "key-file": "munge.key",
        "pid-file": "munged-own.pid",
        "seed-file": "munge.seed",
    }
    options = [f"--{option}={lab.run / name}" for option, name in files.items()]
    return [*options, f"--log-file={lab.log / 'munged.log'}"]


def _mariadb_files(lab: Lab) -> list[str]:
    """With its own directory for temporary tables: a starting mariadbd deletes all tables in that directory, by default
    /tmp, whoever owns them (seen: labs that started at the same time failed).
    """
    return [f"--datadir={lab.dir / 'db'}", f"--tmpdir={lab.run}"]


def _mariadbd_files(lab: Lab) -> list[str]:
    return [f"--socket={_mariadb_socket(lab)}", f"--pid-file={lab.run}/mariadbd-own.pid"]


def install_database(lab: Lab) -> subprocess.Popen[str]:
    """Start making an empty database directory (0.7 s); other things can be done meanwhile."""
    command = [program("mariadb-install-db"), *MARIADB_OPTIONS, *_mariadb_files(lab)]
    with open(lab.log / "mariadb-install-db.out", "w") as out:
        return subprocess.Popen(
            [*command, "--skip-test-db", "--auth-root-authentication-method=socket"],
            env=environment(lab),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            text=True,
        )


def wait_ready(lab: Lab, daemon: str) -> None:
    """Return when the daemon answers; raise an error with its log if it ended or was too slow."""

    def settled() -> bool:
        return answers(lab, daemon) or _has_ended(lab, daemon)

    in_time = wait_until(settled, START_LIMIT_SECONDS)
    if not answers(lab, daemon):
        what = "ended at its start" if in_time else f"did not answer within {START_LIMIT_SECONDS:.0f} s"
        raise LabError(f"{daemon} {what}", logs_of(lab, daemon))


def check_configuration(lab: Lab) -> None:
    """Make Slurm read slurm.conf: with an invalid line, every command fails with its own obscure message."""
    code, out = ask(lab, ["slurmd", "-G", "-N", lab.settings.nodes[0]], START_LIMIT_SECONDS)
    if code:
        lines = [line for line in out.splitlines() if "error" in line] or [out.strip()]
        kind = UsageError if lab.settings.extra_lines else LabError
        raise kind(f"Slurm refuses its configuration (see --slurm-conf-line): {lines[0]}")


def answers(lab: Lab, daemon: str) -> bool:
    kind, _, node = daemon.partition("-")
    questions = {
        "munged": ["munge", "-n", "-S", str(lab.run / "munge.sock")],
        "mariadbd": _sql(lab, "create database if not exists slurm_acct_db"),
        "slurmdbd": ["sacctmgr", "-n", "show", "cluster"],
        "slurmctld": ["scontrol", "ping"],
        "slurmd": ["sinfo", "-h", "-n", node, "-o", "%t"],
    }
    code, out = ask(lab, questions[kind])
    return code == 0 and (kind != "slurmd" or _is_usable(out))


def _is_usable(node_state: str) -> bool:
    """A trailing * in sinfo's state means that the node does not respond."""
    return node_state.strip() in ("idle", "mix", "alloc", "comp", "drng", "drain")


def ask(lab: Lab, command: list[str], limit_seconds: float = ASK_LIMIT_SECONDS) -> tuple[int, str]:
    """The exit status and the output of a query; 124, as of timeout(1), for one without an answer."""
    try:
        result = subprocess.run(
            [program(command[0]), *command[1:]],
            env=environment(lab),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, ""
    return result.returncode, result.stdout


def _sql(lab: Lab, statement: str) -> list[str]:
    return ["mariadb", "--no-defaults", "--user=root", f"--socket={_mariadb_socket(lab)}", "-e", statement]


def register_cluster(lab: Lab) -> None:
    """slurmctld refuses to start with a database that does not know its cluster."""
    code, out = ask(lab, ["sacctmgr", "-i", "add", "cluster", CLUSTER], START_LIMIT_SECONDS)
    if code:
        raise LabError(f"`sacctmgr add cluster {CLUSTER}` ended with {code}: {out}", logs_of(lab, "slurmdbd"))


def stop(lab: Lab, daemon: str) -> None:
    """End a daemon with SIGTERM, like an administrator; with SIGKILL if that does not help."""
    number = pid(lab, daemon)
    if number is None:
        return
    for how in (signal.SIGTERM, signal.SIGKILL):
        processes.kill([number], how)
        if wait_until(lambda: not processes.is_running(number), STOP_LIMIT_SECONDS):
            return
    raise LabError(f"{daemon} (pid {number}) cannot be ended", logs_of(lab, daemon))


def pid(lab: Lab, daemon: str) -> int | None:
    """The daemon's pid while it runs. The mark in its environment identifies it if the pid was reused."""
    number = _pid_in_file(lab, daemon)
    mark = f"{MEMBER_VARIABLE}={lab.settings.id}"
    return number if number is not None and processes.was_started_with(number, [mark]) else None


def _pid_in_file(lab: Lab, daemon: str) -> int | None:
    """None before the daemon's shell has written it: the file is missing or empty."""
    try:
        return int(_pid_file(lab, daemon).read_text())
    except (OSError, ValueError):
        return None


def _has_ended(lab: Lab, daemon: str) -> bool:
    """Whether it ran and has ended; before its pid is written, it is only late."""
    return _pid_in_file(lab, daemon) is not None and pid(lab, daemon) is None


def logs_of(lab: Lab, daemon: str) -> tuple[Path, ...]:
    """Its own log if it wrote one, else its output (almost the same text)."""
    own, printed = lab.log / f"{daemon}.log", lab.log / f"{daemon}.out"
    return (own,) if own.exists() and own.stat().st_size else (printed,)


def check_name(lab: Lab, daemon: str) -> str:
    if daemon not in lab.daemons:
        raise UsageError(f"{daemon!r} is no daemon of this lab; it has {', '.join(lab.daemons)}")
    return daemon


def _pid_file(lab: Lab, daemon: str) -> Path:
    return lab.run / f"{daemon}.pid"


def _mariadb_socket(lab: Lab) -> Path:
    return lab.run / "mariadb.sock"
