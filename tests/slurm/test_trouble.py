"""A daemon that is gone in the middle of a step, preemption with a grace, two runs at once, and hostile names."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plot_files import HOSTILE
from real_slurm import Lab

pytestmark = pytest.mark.slurm

PREEMPTION = [
    "PreemptType=preempt/partition_prio",
    "PreemptMode=REQUEUE",
    "PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=4 DefaultTime=10 MaxTime=60 State=UP",
    "PartitionName=urgent Nodes=ALL PriorityTier=100 DefaultTime=10 MaxTime=60 State=UP",
]
SMALL = {"name": "small", "num_cpus": 1, "memory": "100m", "runtime": "PT20M"}


class Place:
    """A directory of the lab's ordinary user."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.jobs: list[int] = []
        directory.mkdir()
        shutil.chown(directory, lab.user)

    def spec(self, *jobs: dict[str, Any], name: str = "w") -> None:
        listed = [{"resource_requirements": "small", **job} for job in jobs]
        text = json.dumps({"name": name, "resource_requirements": [SMALL], "jobs": listed})
        (self.directory / "w.json").write_text(text)

    def torc(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        argv = ["torc", *map(str, words)]
        return self.lab.run(argv, user=self.lab.user, cwd=self.directory, check=check, env={"TORC_OUTPUT_DIR": "out"})

    def items(self, *words: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.torc("-f", "json", *words).stdout)["items"]
        return found

    def statuses(self) -> dict[str, str]:
        return {job["name"]: job["status"] for job in self.items("jobs", "list", 1)}

    def batch(self, body: str, *options: str) -> int:
        lines = f"cd {self.directory}\nexport TORC_OUTPUT_DIR=out\n{body}\n"
        self.jobs.append(self.lab.submit(lines, *options))
        return self.jobs[-1]

    def count(self, name: str) -> int:
        """The lines of a file; 0 while it is not there."""
        path = self.directory / name
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def place(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Place]:
    place = Place(lab, lab.directory / f"trouble-{abs(hash(request.node.name))}")
    yield place
    if place.jobs:
        lab.run(["scancel", *map(str, place.jobs)], check=False)


def test_two_runs_of_a_workflow_at_once(place: Place) -> None:
    """In two allocations, and once more where it was typed: one of the three does the work."""
    place.spec({"name": "j", "command": "echo >> ran; until [ -e go ]; do sleep 0.1; done"})
    place.torc("workflows", "create", "w.json")
    run = "torc run 1 > said.$SLURM_JOB_ID 2>&1; echo $? > status.$SLURM_JOB_ID"
    jobs = [place.batch(run, "-N1", "-n1", "--mem=1G") for _ in range(2)]
    place.lab.wait_for(lambda: place.count("ran"), "the job")
    statuses = [place.directory / f"status.{job}" for job in jobs]
    place.lab.wait_for(lambda: any(path.exists() for path in statuses), "one to be refused")
    here = place.torc("run", "1", check=False)
    assert here.returncode == 1
    assert "is active: Slurm job" in here.stderr
    (place.directory / "go").touch()
    for job in jobs:
        place.lab.wait_ended(job, accounted=False)
    assert sorted(path.read_text() for path in statuses) == ["0\n", "1\n"]
    (refused,) = [job for job, path in zip(jobs, statuses, strict=True) if path.read_text() == "1\n"]
    assert "is active: Slurm job" in (place.directory / f"said.{refused}").read_text()
    assert place.count("ran") == 1
    assert place.statuses() == {"j": "completed"}


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_slurmd_is_gone_in_the_middle_of_a_step(place: Place, how: str) -> None:
    """Steps that run go on, and what ends meanwhile is recorded; the next step comes when slurmd does."""
    node = place.lab.nodes[0]
    place.spec(
        {"name": "first", "command": "echo >> begun; until [ -e go ]; do sleep 0.1; done; exit 0"},
        {"name": "second", "command": "echo >> second", "depends_on": ["first"]},
    )
    until_told = "echo >> held; until [ -e go ]; do sleep 0.1; done; exit 3"
    held = f"srun --exact -n1 --mem=60M -J held torc-step -- sh -c {shlex.quote(until_told)}"
    job = place.batch(f"{held} &\ntorc run w.json\nwait", "-N1", f"--nodelist={node}", "--exclusive", "--mem=1G")
    place.lab.wait_for(lambda: place.count("begun") and place.count("held"), "both steps")
    end = place.lab.stop if how == "SIGTERM" else place.lab.kill
    end(f"slurmd-{node}")
    (place.directory / "go").touch()

    def recorded() -> bool:
        stats = place.torc("-f", "json", "slurm", "stats", "--slurm-job-id", job, "--no-accounting", check=False)
        items = json.loads(stats.stdout)["items"] if stats.returncode == 0 else []
        return [item["return_code"] for item in items if item["job_name"] == "held"] == [3]

    place.lab.wait_for(recorded, "the exit of the step")
    place.lab.start(f"slurmd-{node}")
    place.lab.wait_ended(job)
    assert place.count("begun") == 1
    assert place.statuses()["first"] == "completed"
    if place.statuses()["second"] != "completed":  # its step was refused meanwhile: the next run does it
        assert place.statuses() == {"first": "completed", "second": "failed"}
        place.torc("run", 1)
    assert place.statuses() == {"first": "completed", "second": "completed"}
    assert place.count("second") == 1


@pytest.fixture(scope="module")
def preempting(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(*(word for line in PREEMPTION for word in ("--slurm-conf-line", line)))


def test_preemption_with_a_grace_and_a_requeue(preempting: Lab) -> None:
    """The job gets SIGTERM when the grace begins and, as without torc, when it ends; the next life does the rest.

    At the end, srun gets it too and passes it on: the job may have time to see both.
    """
    place = Place(preempting, preempting.directory / "preempted")
    saves = "trap 'echo >> saved' TERM; echo >> lives; [ -e saved ] || while :; do sleep 0.1; done"
    place.spec({"name": "once", "command": "echo >> once"}, {"name": "saves", "command": saves, "depends_on": ["once"]})
    place.torc("slurm", "generate", "w.json", "-o", "run.sh")
    options = ["--partition=low", "--requeue", "--exclusive", f"--nodelist={preempting.nodes[0]}", "--open-mode=append"]
    job = place.batch(f"torc run --plan {place.directory}/out/plans/wf1_r1.json", *options)
    place.lab.wait_for(lambda: place.count("lives"), "the first life")
    urgent = place.lab.submit("true", "--partition=urgent", "--exclusive", f"--nodelist={preempting.nodes[0]}")
    place.lab.wait_ended(urgent, accounted=False)
    assert 1 <= place.count("saved") <= 3
    place.lab.wait_for(lambda: place.count("lives") == 2, "the second life", 150)
    place.lab.wait_ended(job, accounted=False)
    assert place.count("once") == 1
    assert place.statuses() == {"once": "completed", "saves": "completed"}
    assert {row["run_id"] for row in place.items("results", "list", 1)} == {1, 2}


def test_hostile_names_in_submit_stats_and_the_report(place: Place) -> None:
    hostile = [HOSTILE, "=1+1", "100%j %N", 'it\'s "quoted"', "</textarea><img src=x onerror=alert(1)>"]
    place.spec(*({"name": name, "command": "true"} for name in hostile), name=HOSTILE)
    submitted = json.loads(place.torc("-f", "json", "submit", "w.json").stdout)
    place.jobs.append(submitted["slurm_job_id"])
    place.lab.wait_ended(submitted["slurm_job_id"])
    assert place.statuses() == dict.fromkeys(hostile, "completed")
    own = place.batch(f"srun -n1 -J {shlex.quote(HOSTILE)} torc-step -- true", "-J", HOSTILE.replace("\n", " "))
    place.lab.wait_ended(own)
    for words in (["1"], ["--slurm-job-id", str(own)]):
        shown = place.torc("slurm", "stats", *words).stdout
        assert all(line.isprintable() for line in shown.splitlines()), shown
        page = place.directory / f"{len(words)}.html"
        place.torc("reports", "html", *words, "-o", page)
        text = page.read_text()
        assert "<script>window.hacked" not in text
        assert "<img src=x" not in text
        assert "<b onmouseover" not in text
    (item,) = place.items("slurm", "stats", "--slurm-job-id", own)
    assert item["return_code"] == 0
    assert "window.hacked" in item["job_name"]
