"""These tests on the head of a cluster of `ci/cluster`: pytest runs there as root, the jobs on other machines.

`ci/test-cluster` sets TORC_TEST_CLUSTER to the cluster's directory as its machines see it. /home is exported there
without root_squash and not cached, so that a test may read and write the ordinary user's files.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from real_slurm import Lab

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ci"))

from virtual_cluster.config import CGROUP_DISABLED, CGROUP_NONE
from virtual_cluster.faults import ON_HEAD
from virtual_cluster.inside import SSH_OPTIONS

VARIABLE = "TORC_TEST_CLUSTER"
# By the end of a test file's or a test's name; all other tests of this directory run there.
NOT_ON_A_CLUSTER = {
    "test_lab.py": "tests of ci/slurm-lab itself",
    "test_plugin.py": "its site is one machine; tests/cluster/test_plugin.py is the same for several",
    "test_admin_epilog.py": "it puts a bad disk under slurmd, which is on another machine",
}
FOR_OFF = {
    "ProctrackType": "proctrack/linuxproc",
    "TaskPlugin": "task/none",
    "JobAcctGatherType": "jobacct_gather/linux",
}
_numbers = itertools.count(1)


def on_cluster_head() -> bool:
    return VARIABLE in os.environ


@dataclass(frozen=True)
class Configuration:
    """The text of slurm.conf and cgroup.conf, and that of a cgroup.conf without cgroups."""

    slurm: str
    cgroup: str
    without_cgroups: str

    def changed(self, options: Sequence[str]) -> Configuration:
        """Accepts options like `ci/slurm-lab`: --cgroup off, --jobacct-gather TYPE, --slurm-conf-line LINE."""
        slurm, cgroup = self.slurm, self.cgroup
        values: dict[str, str] = {}
        for option, value in zip(options[::2], options[1::2], strict=True):
            if (option, value) == ("--cgroup", "off"):
                values |= FOR_OFF
                cgroup = self.without_cgroups
            elif option == "--jobacct-gather":
                values["JobAcctGatherType"] = f"jobacct_gather/{value}"
            elif option == "--slurm-conf-line":
                slurm += f"{value}\n"
            else:
                assert (option, value) == ("--cgroup", "on"), option
        for name, value in values.items():
            slurm, count = re.subn(f"(?m)^{name}=.*$", f"{name}={value}", slurm)
            assert count == 1, name
        return Configuration(slurm, cgroup, self.without_cgroups)


@dataclass(kw_only=True)
class ClusterHead(Lab):
    """The cluster whose head this machine is, in one of its configurations; call `activate` before use."""

    place: Path
    configuration: Configuration

    @classmethod
    def make(cls) -> ClusterHead:
        place = Path(os.environ[VARIABLE])
        settings = _assignments(place / "settings")
        user = settings["USER_NAME"]
        env = {
            "HOME": f"/home/{user}",
            "TORC_LAB_USER": user,
            "TORC_LAB_NODES": ",".join(f"c{number}" for number in range(1, int(settings["NODE_COUNT"]) + 1)),
            "TORC_LAB_CGROUP": "off" if settings["CGROUP"] == "none" else "on",
            "TORC_LAB_LOG_DIR": str(place / "log" / settings["HEAD"]),
        }
        conf = place / "conf"
        without = CGROUP_NONE.get(settings["SUITE"], CGROUP_DISABLED)
        texts = Configuration((conf / "slurm.conf").read_text(), (conf / "cgroup.conf").read_text(), without)
        return cls(env=env, directory=_new_directory(env), place=place, configuration=texts)

    def with_options(self, options: Sequence[str]) -> ClusterHead:
        """The same machines with another configuration, in another directory."""
        env = self.env | ({"TORC_LAB_CGROUP": "off"} if "off" in options else {})
        made = ClusterHead(
            env=env, directory=_new_directory(env), place=self.place, configuration=self.configuration.changed(options)
        )
        made.activate()
        return made

    def activate(self) -> None:
        conf = self.place / "conf"
        if (conf / "slurm.conf").read_text() == self.configuration.slurm:
            return
        self.wait_for(lambda: not self.run(["squeue", "-h"], cwd="/").stdout, "an empty queue")
        (conf / "slurm.conf").write_text(self.configuration.slurm)
        (conf / "cgroup.conf").write_text(self.configuration.cgroup)
        copy = f"cp {conf}/slurm.conf {conf}/cgroup.conf /etc/slurm/"
        self._quietly(f"{copy}; {ON_HEAD['slurmctld-restart']}")
        self.on_nodes(["sh", "-c", f"{copy}; {_ending('slurmd')}; exec >/dev/null 2>&1; slurmd"])
        count = str(len(self.nodes))
        idle = ["sinfo", "-h", "-p", "debug", "-t", "idle", "-o", "%D"]
        self.wait_for(lambda: self.run(idle, check=False, cwd="/").stdout.strip() == count, "all nodes to be idle")

    def stop(self, daemon: str) -> None:
        """`slurmd-NODE` is on its node, every other daemon on the head."""
        self._end(daemon, "TERM")

    def start(self, daemon: str) -> None:
        name, _, node = daemon.partition("-")
        if node:
            self._on_node(node, ["sh", "-c", f"exec >/dev/null 2>&1; {name}"])
        else:
            self._quietly(ON_HEAD[f"{daemon}-up"])
        self.stopped.discard(daemon)

    def kill(self, daemon: str) -> None:
        self._end(daemon, "KILL")

    def _end(self, daemon: str, signal: str) -> None:
        name, _, node = daemon.partition("-")
        if node:
            self._on_node(node, ["sh", "-c", _ending(name, signal)])
        else:
            self._quietly(_ending(name, signal))
        self.stopped.add(daemon)

    def empty_spools(self, output_dir: Path) -> None:
        torc = Path(sys.executable).with_name("torc")
        self.on_nodes(
            ["runuser", "-u", self.user, "--", str(torc), "slurm", "collect", "--output-dir", str(output_dir)]
        )

    def on_nodes(self, argv: Sequence[str]) -> None:
        for node in self.nodes:
            self._on_node(node, argv)

    def _on_node(self, node: str, argv: Sequence[str]) -> None:
        subprocess.run(["ssh", *SSH_OPTIONS, f"root@{node}", shlex.join(argv)], check=False, capture_output=True)

    def _quietly(self, script: str) -> None:
        """A daemon would keep the test's pipes open."""
        self.run(["sh", "-c", f"exec >/dev/null 2>&1; {script}"], cwd="/")


def _ending(daemon: str, signal: str = "TERM") -> str:
    return f"pkill -{signal} -x {daemon}; while pgrep -x {daemon}; do sleep 0.1; done"


def _new_directory(env: dict[str, str]) -> Path:
    directory = Path(env["HOME"]) / f"work{next(_numbers)}"
    directory.mkdir()
    shutil.chown(directory, env["TORC_LAB_USER"])
    return directory


def _assignments(path: Path) -> dict[str, str]:
    """The words in the file that the machines' shell scripts read."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("declare ")]
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}
