"""What takes root to set up: an ordinary user's limits and permissions, full and frozen file systems, setuid programs.

Mounts are private to a namespace that ends with its test.
"""

# ruff: noqa: S108 - /tmp and /dev/shm are the namespace's own

from __future__ import annotations

import itertools
import os
import resource
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from measured import (
    WAIT_LIMIT_SECONDS,
    await_that,
    is_alive,
    job_of_a_workflow,
    monitor_of,
    node_files,
    records,
    the_record,
    under_torc_step,
)
from namespaces import USER, Namespace, own_namespace

pytestmark = pytest.mark.root

USERS = itertools.count(USER + 1)  # for tests that count a user's processes: one each


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with own_namespace() as made:
        yield made


def owned(place: Path) -> Path:
    os.chown(place, USER, USER)
    return place


# --- an ordinary user -----------------------------------------------------------------------------------------


def test_a_directory_that_may_not_be_written(namespace: Namespace) -> None:
    out = namespace.place / "out"
    out.mkdir(mode=0o755)
    command = under_torc_step(out, ["sh", "-c", "echo ran; exit 7"], *job_of_a_workflow(1))
    status, stdout, stderr = namespace.run(command, USER)
    assert (status, stdout) == (7, "ran\n")
    (warning,) = stderr.splitlines()
    assert "Permission denied" in warning
    assert "spool" in warning
    owned(out)
    (path,) = namespace.bring_over(USER)
    (record,) = records(Path(path))
    assert record.exit["return_code"] == 7
    assert record.figures["peak_memory_bytes"] is not None


NPROC_CASES = {
    "the job alone": (1, "no other process could be started", False),
    "no monitor": (2, "the monitor could not be started", True),
    "no writer": (3, "", True),
}


@pytest.mark.parametrize("case", NPROC_CASES)
def test_a_limit_on_processes(case: str, namespace: Namespace) -> None:
    """The job has priority: it runs and exits normally, and what could not be measured is reported."""
    limit, said, recorded = NPROC_CASES[case]
    user = next(USERS)
    os.chown(namespace.place, user, user)
    command = under_torc_step(namespace.place, ["cat", "/proc/self/limits"])
    status, stdout, stderr = namespace.run(command, user, (resource.RLIMIT_NPROC, limit))
    assert status == 0
    assert "Max processes" in stdout
    assert said in stderr
    assert "Traceback" not in stderr
    assert len(node_files(namespace.place)) == int(recorded)
    if recorded:
        assert the_record(namespace.place).exit["return_code"] == 0


def test_if_only_the_job_fits_it_runs_as_without_torc_step(namespace: Namespace) -> None:
    """Signals, orphans and all: the wrapper undid its own settings."""
    user, limit = next(USERS), (resource.RLIMIT_NPROC, 1)
    show = ["grep", "-E", "^(SigBlk|SigIgn|SigCgt|Umask):", "/proc/self/status"]
    bare = namespace.run(show, user, limit)
    status, shown, _ = namespace.run(under_torc_step(namespace.place, show), user, limit)
    assert (status, shown) == bare[:2]


@pytest.mark.parametrize("umask", [0o777, 0o137, 0o077, 0o002])
def test_a_umask_that_takes_the_owners_rights(umask: int, namespace: Namespace) -> None:
    """The umask is meant for the job's files; the record is still written, no more open than the umask allows."""
    out = owned(namespace.place)
    status, _, stderr = namespace.run(
        under_torc_step(out, ["sh", "-c", "umask; exit 7"], *job_of_a_workflow(1)), USER, umask=umask
    )
    assert (status, stderr) == (7, "")
    (path,) = node_files(out)
    assert the_record(out).exit["return_code"] == 7
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 & ~(umask & 0o077)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o777 & ~(umask & 0o077)


def test_a_setuid_program_is_measured_as_far_as_it_may_be_read(namespace: Namespace) -> None:
    """/proc/PID/io and smaps belong to root: I/O is unknown, CPU and memory are known."""
    out = owned(namespace.place)
    namespace.do("cp", "/bin/sleep", "/tmp/sleep-as-root")
    namespace.do("chmod", "4755", "/tmp/sleep-as-root")
    status, _, _ = namespace.run(under_torc_step(out, ["/tmp/sleep-as-root", "0.3"]), USER)
    assert status == 0
    record = the_record(out)
    assert record.exit["return_code"] == 0
    assert record.figures["sampled_rss_peak_bytes"] > 0
    assert record.figures["num_processes_peak"] == 1


# --- the user's own directory on the node ---------------------------------------------------------------------

HOSTILE = {
    "somebody else's": f"mkdir /tmp/torc-{USER}",
    "open to others": f"mkdir -m 0777 /tmp/torc-{USER}; chown {USER} /tmp/torc-{USER}",
    "a link": f"mkdir -m 0700 /tmp/x; chown {USER} /tmp/x; ln -s x /tmp/torc-{USER}",
    "a file": f"touch /tmp/torc-{USER}; chmod 600 /tmp/torc-{USER}; chown {USER} /tmp/torc-{USER}",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_directory_that_is_not_surely_ours_is_passed_over(what: str, namespace: Namespace) -> None:
    namespace.do("sh", "-c", HOSTILE[what])
    code = "from torc_slurm.files import node_local; print(node_local.directory(), node_local.subdirectory('locks'))"
    found = namespace.do(sys.executable, "-c", code, user=USER).split()
    assert found == [f"/dev/shm/torc-{USER}", f"/dev/shm/torc-{USER}/locks"]
    assert namespace.do("find", f"/tmp/torc-{USER}", "-mindepth", "1") == ""


def test_a_part_of_it_that_is_a_link_is_not_followed(namespace: Namespace) -> None:
    """Nobody else can write in the directory, so everything in it is ours."""
    code = "from torc_slurm.files import node_local; print(node_local.subdirectory('locks'))"
    namespace.do(sys.executable, "-c", code, user=USER)
    modes = namespace.do("stat", "-c", "%a %u", f"/tmp/torc-{USER}", f"/tmp/torc-{USER}/locks").split("\n")
    assert modes[:2] == [f"700 {USER}"] * 2


# --- disks ----------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full(namespace: Namespace) -> None:
    disk = namespace.place / "disk"
    disk.mkdir()
    namespace.do("mount", "-t", "tmpfs", "-o", "size=8k", "none", str(disk))
    status, _, stderr = namespace.run(under_torc_step(disk, ["sh", "-c", "exit 7"], *job_of_a_workflow(1)))
    assert status == 7
    (warning,) = stderr.splitlines()
    assert "spool" in warning
    namespace.do("mount", "-o", "remount,size=1m", str(disk))
    (path,) = namespace.bring_over()
    namespace.do("cp", path, str(namespace.place / "copy.db"))
    (record,) = records(namespace.place / "copy.db")
    assert record.exit["return_code"] == 7


def test_a_disk_and_a_node_that_are_full(namespace: Namespace) -> None:
    """Nowhere to write: the job runs, and one line reports the loss."""
    disk = namespace.place / "disk"
    disk.mkdir()
    for place in (str(disk), "/tmp", "/dev/shm"):
        namespace.do("mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "none", place)

    status, _, stderr = namespace.run(under_torc_step(disk, ["sh", "-c", "exit 7"], *job_of_a_workflow(1)))
    assert status == 7
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) == 1


class FrozenDisk:
    """A file system that can hang: every write to it waits until it is thawed."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.place = namespace.place / "disk"
        self.place.mkdir()
        image = namespace.place / "image"
        with image.open("wb") as file:
            file.truncate(16 << 20)
        namespace.do("mkfs.ext4", "-q", "-F", str(image))
        namespace.do("mount", "-o", "loop", str(image), str(self.place))

    def freeze(self) -> None:
        self._namespace.do("fsfreeze", "--freeze", str(self.place))

    def thaw(self) -> None:
        self._namespace.do("fsfreeze", "--unfreeze", str(self.place))


@pytest.fixture
def disk(namespace: Namespace) -> Iterator[FrozenDisk]:
    disk = FrozenDisk(namespace)
    yield disk
    namespace.run(["fsfreeze", "--unfreeze", str(disk.place)])  # if the test has not; else its processes never exit
    await_that(lambda: namespace.run(["umount", str(disk.place)])[0] == 0, "the disk released")


def outer_path(namespace: Namespace, path: str) -> Path:
    namespace.do("cp", path, str(namespace.place / "copy.db"))
    return namespace.place / "copy.db"


def test_a_disk_that_hangs_from_the_start(namespace: Namespace, disk: FrozenDisk) -> None:
    disk.freeze()
    command = under_torc_step(disk.place, ["sh", "-c", "echo ran; exit 7"], *job_of_a_workflow(1))
    status, stdout, stderr = namespace.run(command)
    assert (status, stdout) == (7, "ran\n")
    (warning,) = stderr.splitlines()
    assert "nothing could be written for 2.5 s" in warning
    disk.thaw()
    (path,) = namespace.bring_over()
    (record,) = records(outer_path(namespace, path))
    assert record.exit["return_code"] == 7


def test_a_disk_that_hangs_in_the_middle(namespace: Namespace, disk: FrozenDisk) -> None:
    """The writes before, the spool meanwhile and the writes at the end give one record without gaps."""
    options = ["--granularity=time_series", "--sample-interval-seconds=0.1", "--flush-interval-seconds=1"]
    command = under_torc_step(
        disk.place, namespace.program("wait", int(signal.SIGTERM), 7), *job_of_a_workflow(1), *options
    )
    process = namespace.start(command)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"ready")
    wrapper = process.pid
    await_that(lambda: namespace.run(["sh", "-c", f"ls {disk.place}/*/*.db"])[0] == 0, "the first flush")
    disk.freeze()
    spool = namespace.inside(Path("/tmp/torc-0/spool"))
    await_that(lambda: spool.is_dir() and list(spool.glob("*.db")), "the first spool")
    monitor = monitor_of(process)
    os.kill(wrapper, signal.SIGTERM)
    _, said = process.communicate(timeout=WAIT_LIMIT_SECONDS)
    assert process.returncode == 7
    assert b"spool" in said
    disk.thaw()
    await_that(lambda: not is_alive(monitor), "all of it ended")
    (path,) = namespace.bring_over()
    (record,) = records(outer_path(namespace, path))
    assert record.exit["return_code"] == 7
    times = [row["timestamp"] for row in record.samples]
    assert times == sorted(set(times))
    assert max(after - before for before, after in itertools.pairwise(times)) < 1.0  # no flush's rows are missing
    assert record.series_cpu_seconds == pytest.approx(record.figures["cpu_seconds"], abs=0.001)


def test_a_disk_that_hangs_for_a_while(namespace: Namespace, disk: FrozenDisk) -> None:
    """The monitor writes again as soon as it can, and copies its own spool into the node file."""
    command = under_torc_step(
        disk.place,
        namespace.program("wait", int(signal.SIGTERM), 7),
        *job_of_a_workflow(1),
        "--flush-interval-seconds=1",
    )
    process = namespace.start(command)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"ready")
    disk.freeze()
    spool = namespace.inside(Path("/tmp/torc-0/spool"))
    await_that(lambda: spool.is_dir() and list(spool.glob("*.db")), "the first spool")
    disk.thaw()
    await_that(lambda: not list(spool.iterdir()), "the spool brought over")
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=WAIT_LIMIT_SECONDS)
    assert (process.returncode, said) == (7, b"")
    assert namespace.bring_over() == []
    (path,) = (disk_file for disk_file in namespace.do("sh", "-c", f"ls {disk.place}/*/*.db").split())
    (record,) = records(outer_path(namespace, path))
    assert record.exit["return_code"] == 7
    assert record.step["end_time"] is not None
