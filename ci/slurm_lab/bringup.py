"""Starts a lab until it accepts jobs, and ends it."""

from __future__ import annotations

import os
import re
import secrets
import signal
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from . import alive_lock, cgroups, config, daemons, keeper, ports, processes, users
from . import lab as labs
from .config import Settings
from .errors import LabError, UsageError
from .lab import Lab
from .places import Running, last_lines, save, stale
from .sweep import sweep
from .waiting import wait_until

# The longest Unix socket path is 107 bytes (unix(7)); the lab's longest is DIR/run/mariadb.sock.
LONGEST_DIRECTORY = 107 - len("/run/mariadb.sock")
# `#`, `%`, `,`, `=` and blanks have a meaning in slurm.conf, `:` in passwd(5).
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+-]+")
ATTEMPTS = 3
TAKEN = "Address already in use"
DOWN_LIMIT_SECONDS = 40.0


@dataclass(frozen=True)
class Wishes:
    """The options of `up` or `run`."""

    dir: Path
    cgroup: str = "auto"
    gather: str | None = None
    user: str | None = None
    extra_lines: tuple[str, ...] = ()


def bring_up(wishes: Wishes) -> Running[Lab]:
    """Start a lab. If a daemon fails because its port is taken, another block of ports is tried."""
    # Ordinary users must be able to enter, whatever the caller's umask; the command of `run` gets it back.
    umask = os.umask(0o022)
    try:
        return _bring_up(wishes)
    finally:
        os.umask(umask)


def _bring_up(wishes: Wishes) -> Running[Lab]:
    check_directory(wishes.dir)
    if labs.exists(wishes.dir) and not alive_lock.is_held(wishes.dir):
        sweep(wishes.dir)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _bring_up_once(wishes)
        except LabError as error:
            if attempt == ATTEMPTS or not _port_was_taken(error):
                raise
    raise AssertionError("unreachable")


def check_directory(directory: Path) -> None:
    """Refuse an unusable directory before anything is made."""
    if len(os.fsencode(directory)) > LONGEST_DIRECTORY:
        raise UsageError(f"--dir {directory}: too long for sockets in it; at most {LONGEST_DIRECTORY} bytes")
    if not PLAIN_PATH.fullmatch(str(directory)):
        raise UsageError(f"--dir {str(directory)!r}: not for Slurm's files; use letters, digits and . _ + -")
    if not directory.parent.is_dir():
        raise UsageError(f"--dir {directory}: {directory.parent} is not a directory; make it first")
    if directory.exists() and not _is_usable(directory):
        raise UsageError(f"--dir {directory}: not a lab and not empty; name one that is empty or not there")
    for part in [directory, *directory.parents]:
        if part.exists() and not part.stat().st_mode & stat.S_IXOTH:
            raise UsageError(f"--dir {directory}: ordinary users cannot pass {part}; `chmod o+x` it")


def _is_usable(directory: Path) -> bool:
    """The directory is ours, and a lab or empty. A lock alone is left of one that was killed at its start."""
    if not directory.is_dir() or directory.stat().st_uid != os.geteuid():
        return False
    return labs.exists(directory) or {path.name for path in directory.iterdir()} <= {alive_lock.ALIVE}


def _bring_up_once(wishes: Wishes) -> Running[Lab]:
    running = _found(wishes)
    try:
        _furnish(running.lab)
        _start_daemons(running.lab)
    except LabError as error:
        failed = LateLabError(error)
        running.end()
        raise failed from error
    except BaseException:
        running.end()
        raise
    return running


def _found(wishes: Wishes) -> Running[Lab]:
    """An empty lab with its keepers: from here on it is always removed."""
    reservation = ports.reserve()
    lab = Lab(_settle(wishes, reservation.first_port), made_dir=not wishes.dir.exists())
    lab.dir.mkdir(exist_ok=True)
    alive = alive_lock.hold(lab.dir, f"a lab is up or coming up in {lab.dir}: see `ci/slurm-lab status`")
    save(lab, lab.dir / labs.STATE)
    for name in labs.SUBDIRECTORIES:
        (lab.dir / name).mkdir()
    kept = keeper.start(lab.dir, lab.settings.id, [alive, reservation.socket.fileno()])
    os.close(alive)
    reservation.socket.close()
    lab = replace(lab, keepers=kept.pids)
    save(lab, lab.dir / labs.STATE)
    return Running(lab, kept.caller, wait_gone)


def _settle(wishes: Wishes, first_port: int) -> Settings:
    on = _cgroups_on(wishes.cgroup)
    identity = secrets.token_hex(3)
    return Settings(
        dir=wishes.dir,
        id=identity,
        loopback_only=ports.host_name_is_loopback(),
        first_port=first_port,
        port_count=ports.BLOCK,
        cgroups=on,
        few_cores=(os.cpu_count() or 1) < config.CPUS_PER_NODE,
        gather=_gather(wishes.gather, on),
        user=wishes.user or f"torclab-{identity}",
        extra_lines=wishes.extra_lines,
    )


def _cgroups_on(wish: str) -> bool:
    missing = cgroups.missing_for_slurm() if wish != "off" else []
    if wish == "on" and missing:
        raise LabError(f"--cgroup on: no writable cgroup v1 for {', '.join(missing)}; use --cgroup off")
    return wish != "off" and not missing


def _gather(wish: str | None, cgroups_on: bool) -> str:
    if wish == "cgroup" and not cgroups_on:
        raise UsageError("--jobacct-gather cgroup: there are no cgroups in this lab; use linux or none")
    return wish or ("cgroup" if cgroups_on else "linux")


def _furnish(lab: Lab) -> None:
    """Write all files that the daemons need at their start."""
    for node in lab.settings.nodes:
        (lab.dir / "spool" / node).mkdir()
    _write(lab.conf, config.slurm_conf(lab.settings), 0o644)
    _write(lab.conf.with_name("cgroup.conf"), config.cgroup_conf(lab.settings), 0o644)
    # slurmdbd refuses its configuration, and munged its key, if others can read them.
    _write(lab.conf.with_name("slurmdbd.conf"), config.slurmdbd_conf(lab.settings), 0o600)
    _write(lab.run / "munge.key", secrets.token_hex(64), 0o600)
    own = cgroups.of_lab(lab.settings.id)
    if own is not None:
        own.mkdir()


def _write(path: Path, text: str, mode: int) -> None:
    path.touch(mode=mode)
    path.write_text(text)
    path.chmod(mode)


def _start_daemons(lab: Lab) -> None:
    installing = daemons.install_database(lab)
    try:
        daemons.start(lab, "munged")
        users.acquire(lab)
        daemons.wait_ready(lab, "munged")
        daemons.check_configuration(lab)  # newer slurmds call munge while they read it
    finally:
        code = installing.wait()
    if code:
        raise LabError(f"mariadb-install-db ended with {code}", (lab.log / "mariadb-install-db.out",))
    _start_and_wait(lab, "mariadbd")
    _start_and_wait(lab, "slurmdbd")
    daemons.register_cluster(lab)
    _start_and_wait(lab, "slurmctld")
    nodes = [f"slurmd-{node}" for node in lab.settings.nodes]
    for node in nodes:
        daemons.start(lab, node)
    for node in nodes:
        daemons.wait_ready(lab, node)


def _start_and_wait(lab: Lab, daemon: str) -> None:
    daemons.start(lab, daemon)
    daemons.wait_ready(lab, daemon)


class LateLabError(LabError):
    """Like LabError, for a lab that no longer exists: with the ends of its logs instead of their names."""

    def __init__(self, error: LabError) -> None:
        super().__init__(str(error))
        self.exit_status = error.exit_status
        self.tails = tuple(last_lines(path) for path in error.logs)


def _port_was_taken(error: LabError) -> bool:
    return isinstance(error, LateLabError) and any(TAKEN in text for text in error.tails)


def sweep_stale(base: Path, prefix: str) -> list[Path]:
    """Remove the labs under `base` that lost their keepers; return their directories."""
    found = stale(base, prefix, labs.STATE)
    for path in found:
        sweep(path)
    return found


def take_down(directory: Path) -> None:
    """End the lab in `directory`, alive or stale; does nothing if there is none."""
    if not labs.exists(directory):
        return
    lab = labs.load(directory)
    if alive_lock.is_held(directory):
        processes.kill(lab.keepers, signal.SIGTERM)
        wait_gone(lab)
    sweep(directory, lab.settings.id)


def wait_gone(lab: Lab) -> None:
    """Wait until both keepers have ended; they sweep before they do."""
    if not wait_until(lambda: not _is_kept(lab), DOWN_LIMIT_SECONDS):
        raise LabError(f"the lab in {lab.dir} did not go within {DOWN_LIMIT_SECONDS:.0f} s", _keeper_log(lab))
    if labs.exists(lab.dir) and labs.load(lab.dir).settings.id == lab.settings.id:
        raise LabError(f"the lab in {lab.dir} could not be taken away", _keeper_log(lab))


def _is_kept(lab: Lab) -> bool:
    return any(processes.is_running(pid) and _is_keeper(pid, lab) for pid in lab.keepers)


def _is_keeper(pid: int, lab: Lab) -> bool:
    """True also for a process without a command line: it is in its exec, like a keeper that was just started."""
    try:
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return not command_line or lab.settings.id.encode() in command_line.split(b"\0")


def _keeper_log(lab: Lab) -> tuple[Path, ...]:
    return (lab.log / "keeper.log",)
