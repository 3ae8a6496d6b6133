"""`ci/cluster` itself: two at once, every way to end one, what it refuses; nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import CI_CLUSTER, ci_cluster
from slurm_lab.waiting import wait_until
from virtual_cluster import state

pytestmark = pytest.mark.cluster

UP_SECONDS = 200.0
GONE_SECONDS = 30.0


class Place:
    """The directory of a test's cluster, and what was found in it while it ran."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.network = ""

    def look(self) -> None:
        """Wait until the cluster is up, and note its network namespace, which all its processes share."""
        assert wait_until(self._is_up, UP_SECONDS), f"no cluster in {self.directory}"
        self.network = os.readlink(f"/proc/{state.load(self.directory).init}/ns/net")

    def _is_up(self) -> bool:
        if not state.exists(self.directory):
            return False
        cluster = state.load(self.directory)
        return all((cluster.share / "ready" / machine).exists() for machine in cluster.settings.machines)

    def leftovers(self) -> list[str]:
        """Processes of the cluster, its mounts, its files."""
        found = [f"process {pid}" for pid in filter(str.isdigit, os.listdir("/proc")) if self._is_of_cluster(pid)]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [line for line in mounts if str(self.directory) in line]
        return found + [str(self.directory)] * self.directory.exists()

    def _is_of_cluster(self, pid: str) -> bool:
        try:
            network = os.readlink(f"/proc/{pid}/ns/net")
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False  # it has just ended
        return network == self.network or str(self.directory).encode() in words

    def check_nothing_is_left(self) -> None:
        assert self.network
        wait_until(lambda: not self.leftovers(), GONE_SECONDS)
        assert self.leftovers() == []


@pytest.fixture
def places(tmp_path: Path) -> Iterator[list[Place]]:
    made = [Place(tmp_path / name) for name in ("one", "other")]
    yield made
    for place in made:
        ci_cluster("down", "--dir", str(place.directory))


def run(place: Path, *words: str) -> subprocess.Popen[str]:
    """`ci/cluster run` of a small cluster, its standard input a pipe."""
    argv = [str(CI_CLUSTER), "run", "--dir", str(place), "--nodes", "1", *words]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_runs_at_once_with_a_fault_in_one(places: list[Place]) -> None:
    """Each has its own Slurm and exit status; a node's power loss does not affect the other cluster."""
    one, other = places
    until_down = "until sinfo -h -t down -o %D | grep -qx 1; do sleep 0.2; done; echo lost; read -r line; exit 7"
    both = [
        run(one.directory, "--fault", "node-crash:c1@0", "--", "sh", "-c", until_down),
        run(other.directory, "--proc", "hidepid=2", "--", "sh", "-c", "read -r line; srun -n1 hostname"),
    ]
    one.look()
    other.look()
    assert one.network != other.network
    first = both[0].stdout
    assert first is not None
    assert first.readline() == "lost\n"
    said = [process.communicate("go on\n", timeout=120) for process in both]
    assert ([process.returncode for process in both], said[1][0]) == ([7, 0], "c1\n"), said
    assert "fault: node-crash on c1" in said[0][1]
    for place in places:
        place.check_nothing_is_left()


def test_a_run_that_is_killed_leaves_nothing(places: list[Place]) -> None:
    place, _ = places
    process = run(place.directory, "--", "sleep", "600")
    place.look()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    place.check_nothing_is_left()


def test_up_status_shell_exec_down(places: list[Place]) -> None:
    place, _ = places
    there = ("--dir", str(place.directory))
    ci_cluster("up", "--nodes", "1", "--user", "somebody", *there)
    place.look()
    assert "c1          10.77.0.2 up" in ci_cluster("status", *there)
    shell = [str(CI_CLUSTER), "shell", *there, "c1", "--user", "somebody"]
    said = subprocess.run(shell, input="id -un; hostname; pwd\n", capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["somebody", "c1", "/home/somebody"]
    assert ci_cluster("exec", "c1", *there, "--", "cat", "/proc/sys/kernel/hostname") == "c1\n"
    ci_cluster("down", *there)
    place.check_nothing_is_left()
    assert subprocess.run([str(CI_CLUSTER), "status", *there], capture_output=True, check=False).returncode == 1


@pytest.mark.cluster_in_ci
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "run: no command; write it after --, as in `ci/cluster run -- sinfo`"),
        (["run", "--nodes", "0", "--", "true"], "--nodes 0: a number from 1 to 16"),
        (["run", "--fault", "flood", "--", "true"], "'flood' is none of"),
        (["run", "--proc", "a b", "--", "true"], "--proc 'a b': not mount options of proc, such as hidepid=2"),
        (["exec", "--dir", "/nowhere", "c1", "--", "true"], "no cluster is up in /nowhere"),
    ],
)
def test_wrong_input_is_one_line(words: list[str], said: str) -> None:
    done = subprocess.run([str(CI_CLUSTER), *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1 if words[0] == "exec" else 2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("cluster: ")
    assert said in line
