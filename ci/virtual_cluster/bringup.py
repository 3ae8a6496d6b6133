"""Starts a cluster until it accepts jobs, and ends it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

from slurm_lab import alive_lock, processes
from slurm_lab.errors import LabError, UsageError
from slurm_lab.places import Running, last_lines, save, stale
from slurm_lab.waiting import wait_until

from . import config, keeper, state
from .config import Settings
from .state import Cluster, Image

BUILD = Path(__file__).resolve().parents[1] / "suite_root" / "build"
NEEDED = {"unshare": "util-linux", "nsenter": "util-linux", "mkfs.ext4": "e2fsprogs", "setsid": "util-linux"}
# An overlay's options and the kernel's command line are split at other characters.
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+-]+")
HOME_BYTES = 1 << 30
UP_LIMIT_SECONDS = 300.0  # 10 s on an idle machine
DOWN_LIMIT_SECONDS = 30.0


class BootError(LabError):
    """The cluster did not start and no longer exists; `tails` are the ends of the logs that show why."""

    def __init__(self, message: str, tails: tuple[str, ...]) -> None:
        super().__init__(message)
        self.tails = tails


def check_request(settings: Settings) -> None:
    """Refuse an impossible request before anything is made."""
    directory = settings.dir
    if os.geteuid() != 0:
        raise LabError("a cluster needs root, for namespaces, mounts and a network: use sudo")
    for name, package in NEEDED.items():
        if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin") is None:
            raise LabError(f"{name} is missing: install the package {package}")
    if not PLAIN_PATH.fullmatch(str(directory)):
        raise UsageError(f"--dir {str(directory)!r}: use letters, digits and . _ + -")
    if not directory.parent.is_dir():
        raise UsageError(f"--dir {directory}: {directory.parent} is not a directory; make it first")
    if directory.exists() and not _is_usable(directory):
        raise UsageError(f"--dir {directory}: not a cluster and not empty; name one that is empty or not there")
    available = _available_mib()
    if available < settings.memory_mib:
        raise LabError(
            f"--nodes {settings.node_count}: the machines may need {settings.memory_mib} MiB, {available} MiB are "
            f"available; each node takes {config.NODE_MEMORY_MIB} MiB"
        )


def _is_usable(directory: Path) -> bool:
    if not directory.is_dir() or directory.stat().st_uid != os.geteuid():
        return False
    return state.exists(directory) or {path.name for path in directory.iterdir()} <= {alive_lock.ALIVE}


def _available_mib() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise LabError("/proc/meminfo has no MemAvailable")


def build_image(suite: str) -> Image:
    """The folders that machines of this suite boot from; made if they are missing, which takes minutes."""
    folders = _build("kernel")
    kernel = folders["root"]
    return Image(kernel=kernel, **_build(suite))


def _build(what: str) -> dict[str, Path]:
    done = subprocess.run([BUILD, what], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise LabError(
            f"the image of {what} could not be made: `ci/suite_root/build {what}` ended with {done.returncode}"
        )
    pairs = (line.split("=", 1) for line in done.stdout.splitlines())
    return {name: Path(path) for name, path in pairs}


def bring_up(settings: Settings, image: Image) -> Running[Cluster]:
    umask = os.umask(0o022)
    try:
        if state.exists(settings.dir) and not alive_lock.is_held(settings.dir):
            sweep(settings.dir)
        running = _start(settings, image)
        try:
            running = replace(running, lab=_wait_up(running.lab))
        except LabError as error:
            failed = BootError(str(error), tuple(last_lines(path) for path in error.logs))
            running.end()
            raise failed from error
        except BaseException:
            running.end()
            raise
        return running
    finally:
        os.umask(umask)


def _start(settings: Settings, image: Image) -> Running[Cluster]:
    """A cluster with its keeper: from here on it is always removed."""
    cluster = Cluster(settings, image, made_dir=not settings.dir.exists())
    settings.dir.mkdir(exist_ok=True)
    alive = alive_lock.hold(settings.dir, f"a cluster is up or coming up in {settings.dir}: see `ci/cluster status`")
    _furnish(cluster)
    save(cluster, cluster.dir / state.STATE)
    read_end, write_end = os.pipe()
    pid = keeper.start(cluster, read_end, alive)
    os.close(read_end)
    os.close(alive)
    return Running(replace(cluster, keeper=pid), write_end, wait_gone)


def _furnish(cluster: Cluster) -> None:
    """Write all files that the machines need to boot."""
    settings, share = cluster.settings, cluster.share
    for name in ("conf", "ssh", "log", "pids", "ready", "failed"):
        (share / name).mkdir(parents=True)
    (share / "settings").write_text(config.machine_environment(settings))
    conf = share / "conf"
    (conf / "slurm.conf").write_text(config.slurm_conf(settings))
    (conf / "cgroup.conf").write_text(config.cgroup_conf(settings))
    (conf / "job_container.conf").write_text(config.JOB_CONTAINER_CONF)
    (conf / "hosts").write_text(config.hosts(settings))
    for name, text in (("slurmdbd.conf", config.slurmdbd_conf(settings)), ("munge.key", secrets.token_hex(64))):
        (conf / name).touch(mode=0o600)
        (conf / name).write_text(text)
    disk = share / "home.img"
    with open(disk, "wb") as file:
        file.truncate(HOME_BYTES)
    _command("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", disk)


def _command(*words: str | Path) -> None:
    environment = dict(os.environ, PATH=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        text = " ".join(map(str, words))
        raise LabError(f"`{text}` ended with {done.returncode}: {done.stderr.strip()}")


def _wait_up(cluster: Cluster) -> Cluster:
    """Wait until every machine reports that it is ready, or one that it failed."""
    settings = cluster.settings

    def settled() -> bool:
        ready = all((cluster.share / "ready" / machine).exists() for machine in settings.machines)
        return ready or _failures(cluster) != {} or not processes.is_running(cluster.keeper)

    wait_until(settled, UP_LIMIT_SECONDS)
    failures = _failures(cluster)
    if failures:
        machine, reason = next(iter(failures.items()))
        raise LabError(f"{machine}: {reason}", cluster.logs(machine))
    if not processes.is_running(cluster.keeper):
        raise LabError("the namespaces of the cluster ended", (cluster.dir / state.KEEPER_LOG,))
    late = [machine for machine in settings.machines if not (cluster.share / "ready" / machine).exists()]
    if late:
        raise LabError(f"{', '.join(late)}: not up within {UP_LIMIT_SECONDS:g} s", cluster.logs(late[0]))
    return state.load(settings.dir)


def _failures(cluster: Cluster) -> dict[str, str]:
    """The machines' messages on why they did not start."""
    return {path.name: path.read_text().strip() for path in (cluster.share / "failed").glob("*")}


def sweep(directory: Path) -> None:
    """Remove the directory of a cluster whose keeper was killed."""
    keeper.take_away(directory, state.load(directory).made_dir)


def sweep_stale(base: Path, prefix: str) -> list[Path]:
    """Sweep the clusters under `base` that lost their keeper; return their directories."""
    found = stale(base, prefix, state.STATE)
    for path in found:
        sweep(path)
    return found


def take_down(directory: Path) -> None:
    """End the cluster in `directory`, alive or stale; does nothing if there is none."""
    if not state.exists(directory):
        return
    if alive_lock.is_held(directory):
        cluster = state.load(directory)
        processes.kill([cluster.keeper], signal.SIGTERM)
        wait_gone(cluster)
    if state.exists(directory):
        sweep(directory)


def wait_gone(cluster: Cluster) -> None:
    """Wait until the keeper has ended; it removes the directory before it does."""
    if not wait_until(lambda: not alive_lock.is_held(cluster.dir), DOWN_LIMIT_SECONDS):
        raise LabError(f"the cluster in {cluster.dir} did not go within {DOWN_LIMIT_SECONDS:.0f} s")
