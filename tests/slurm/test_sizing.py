"""Right-sizing on a real Slurm: wrong requests of every kind are found, corrected and recovered, and then suffice."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from real_slurm import Lab

from torc_slurm.common.units import parse_iso_duration, parse_memory

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).resolve().parents[2]
RUN_SECONDS = 300.0  # a job ended at a time limit of a minute, which Slurm checks every half minute


class User:
    """The lab's ordinary user in a directory of his own."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.directory = lab.directory / name
        self.directory.mkdir()
        shutil.chown(self.directory, lab.user)

    def torc(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        argv = ["torc", *map(str, words)]
        return self.lab.run(argv, user=self.lab.user, check=check, cwd=self.directory)

    def answer(self, *words: object, schema: str | None = None) -> Any:  # noqa: ANN401 - a JSON document
        document = json.loads(self.torc("-f", "json", *words).stdout)
        if schema is not None:
            Draft202012Validator(json.loads((ROOT / "schemas" / f"{schema}.json").read_text())).validate(document)
        return document

    def wait(self) -> dict[str, str]:
        """Wait until the run has ended; returns the jobs' statuses. Uses squeue, which costs a tenth of torc."""
        queue = ["squeue", "-h", "-u", self.lab.user, "-o", "%i"]
        self.lab.wait_for(lambda: not self.lab.run(queue).stdout, "the run's end", RUN_SECONDS)
        assert self.answer("workflows", "status")["run_status"] == "ended"
        return {job["name"]: job["status"] for job in self.answer("jobs", "list")["items"]}

    def asked(self) -> tuple[float, float]:
        """The requests of all jobs: CPU-seconds and byte-seconds."""
        found = {each["name"]: each for each in self.answer("workflows", "show")["resource_requirements"]}
        cpus = memory = 0.0
        for job in self.answer("jobs", "list")["items"]:
            request = found[job["resource_requirements"]]
            seconds = parse_iso_duration(request["runtime"])
            cpus += seconds * request["num_cpus"]
            memory += seconds * parse_memory(request["memory"])
        return cpus, memory


def test_requests_that_are_wrong_in_every_way(lab: Lab) -> None:
    user = User(lab, "wrong")
    spec = user.directory / "wrong.yaml"
    shutil.copy(ROOT / "examples" / "wrong.yaml", spec)
    shutil.chown(spec, lab.user)
    user.torc("submit", "wrong.yaml")
    statuses = user.wait()
    assert statuses == {
        "killed_for_memory": "oom",
        "mostly_empty_100": "completed",
        "mostly_empty_300": "completed",
        "one_thread": "completed",
        "out_of_time": "timeout",
        "soon_done": "completed",
        "last": "cancelled",
    }

    checked = user.answer("check", schema="check-resource-utilization")
    assert [(each["job_name"], each["resource_type"]) for each in checked["violations"]] == [
        ("killed_for_memory", "Memory"),
        ("out_of_time", "Runtime"),
    ]
    assert user.torc("check", "--fail-on-violation", check=False).returncode == 3

    before = user.asked()
    made = user.answer("correct", "--write-spec", "--explain", schema="correct-resources")
    changed = {(each["name"], each["resource_type"]): each["direction"] for each in made["explanations"]}
    assert {key for key, direction in changed.items() if direction == "upscale"} == {
        ("too_little_memory", "Memory"),
        ("too_little_time", "Runtime"),
    }
    assert {key for key, direction in changed.items() if direction == "downscale"} == {
        ("too_much_memory", "Memory"),
        ("too_many_cpus", "CPU"),
        ("too_much_time", "Runtime"),
    }
    after = user.asked()
    assert after[0] < before[0] / 2
    assert after[1] < before[1] / 2
    kept = spec.read_text()
    assert "# needs 190 MB: killed" in kept
    assert "runtime: PT8H" not in kept

    recovered = user.answer("recover", schema="recover")
    assert (recovered["status"], recovered["run_id"], len(recovered["unfinished"])) == ("submitted", 2, 3)
    assert set(user.wait().values()) == {"completed"}

    user.answer("correct")
    assert user.answer("correct", schema="correct-resources")["adjustments"] == []
    assert user.answer("check")["over_utilization_count"] == 0
    assert user.answer("recover", schema="recover")["status"] == "nothing_to_do"
    user.answer("reports", "savings", schema="savings")


SMALL = """\
name: small
resource_requirements: [{name: r, num_cpus: 1, memory: 100m, runtime: PT2M}]
jobs: [{name: eater, resource_requirements: r, command: "python3 -c 'x = bytearray(400_000_000)'"}]
"""


def test_a_correction_is_bounded_by_what_the_nodes_have_and_recovery_by_its_runs(lab: Lab) -> None:
    user = User(lab, "bounded")
    spec = user.directory / "small.yaml"
    spec.write_text(SMALL)
    user.torc("submit", "small.yaml")
    assert user.wait() == {"eater": "oom"}
    refused = user.torc("recover", "--max-attempts", "1", check=False)
    assert (refused.returncode, "--max-attempts is 1" in refused.stderr) == (1, True)
    huge = ("correct", "--dry-run", "--explain", "--memory-multiplier", "100", "--largest-factor", "1000")
    (told,) = [
        each
        for each in user.answer(*huge, "--max-memory", "100g", schema="correct-resources")["explanations"]
        if each["resource_type"] == "Memory"
    ]
    assert told["direction"] == "upscale"
    node_mib = min(int(line) for line in lab.run(["sinfo", "-h", "-e", "-o", "%m"]).stdout.split())
    assert parse_memory(str(told["new"])) <= node_mib * 2**20
    wrong = user.torc("correct", "--partition", "nowhere", check=False)
    assert (wrong.returncode, "no partition 'nowhere'" in wrong.stderr) == (2, True)


MIXED = """\
name: mixed
resource_requirements: [{name: r, num_cpus: 1, memory: 100m, runtime: PT2M}]
jobs:
  - {name: eater, resource_requirements: r, command: "python3 -c 'x = bytearray(150_000_000)'"}
  - {name: bug, resource_requirements: r, command: exit 3}
  - {name: after_bug, resource_requirements: r, command: "true", depends_on: [bug]}
"""


def test_recovery_runs_only_what_another_run_helps(lab: Lab) -> None:
    user = User(lab, "mixed")
    spec = user.directory / "mixed.yaml"
    spec.write_text(MIXED)
    shutil.chown(spec, lab.user)
    user.torc("submit", "mixed.yaml")
    assert user.wait() == {"eater": "oom", "bug": "failed", "after_bug": "cancelled"}
    user.answer("recover", "--write-spec", schema="recover")
    assert user.wait() == {"eater": "completed", "bug": "failed", "after_bug": "cancelled"}
    written = re.search(r"memory: (\d+)m", spec.read_text())
    assert written is not None
    assert 200 <= int(written[1]) <= 250  # twice what it had when it was killed: 100m, and room for the monitor
    ran = {each["job_name"]: each["run_id"] for each in user.answer("results", "list")["items"]}
    assert ran == {"eater": 2, "bug": 1}
    assert user.torc("recover", check=False).returncode == 1
    user.answer("recover", "--retry-failed", schema="recover")
    user.wait()
    ran = {each["job_name"]: each["run_id"] for each in user.answer("results", "list")["items"]}
    assert ran == {"eater": 2, "bug": 3}


SIZED = """\
#!/bin/bash
#SBATCH --job-name=sized --array=1-8 --mem=600M
size=$((SLURM_ARRAY_TASK_ID * 7 % 11))
srun torc-step --note size=$size -- python3 -c "x = bytearray($size * 40_000_000)"
"""


def test_memory_of_an_array_follows_its_note(lab: Lab) -> None:
    user = User(lab, "sized")
    script = user.directory / "sized.sh"
    script.write_text(SIZED)
    job = int(lab.run(["sbatch", "--parsable", str(script)], user=lab.user, cwd=user.directory).stdout)
    lab.wait_ended(job)
    items = user.answer("stats", "--slurm-job-id", job)["items"]
    noted = {item["slurm_array"]: json.loads(item["user_notes"]) for item in items}
    assert noted == {f"{job}_{task}": {"size": task * 7 % 11} for task in range(1, 9)}

    def trends() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = user.answer("check", "--slurm-job-id", job, "--explain")["trends"]
        return found

    lab.wait_for(trends, "Slurm's accounting of the array")
    (found,) = trends()
    assert (found["resource_type"], found["key"], found["number"]) == ("Memory", "size", 8)
    assert 38_000_000 < found["slope"] < 42_000_000
    assert "memory ≈" in user.torc("correct", "--slurm-job-id", job, "--explain", "--dry-run").stdout
