"""Workflow files of the Rust torc on a real Slurm: allocations of several schedulers, retries, files, user data."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from real_slurm import Lab

pytestmark = pytest.mark.slurm

SPECS = Path(__file__).resolve().parents[1] / "specs"


class User:
    """The lab's ordinary user in a directory of his own, with the files."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        directory.mkdir()
        for path in SPECS.iterdir():
            shutil.copy(path, directory)
        (directory / "source.txt").write_text("c a b\n")
        shutil.chown(directory, lab.user)

    def torc(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.lab.run(["torc", *map(str, words)], user=self.lab.user, check=check, cwd=self.directory)

    def answer(self, *words: object) -> Any:  # noqa: ANN401 - a JSON document
        return json.loads(self.torc("-f", "json", *words).stdout)

    def submitted(self, name: str) -> tuple[dict[str, Any], dict[str, str]]:
        """The answer of submit, and the statuses of the jobs at the end."""
        answer = self.answer("submit", name)
        waited = self.torc("workflows", "status", answer["workflow_id"], "--wait", check=False)
        status = self.answer("workflows", "status", answer["workflow_id"])
        assert status["run_status"] == "ended", f"{waited.returncode}\n{waited.stdout}\n{waited.stderr}"
        jobs = self.answer("jobs", "list", answer["workflow_id"])["items"]
        return answer, {job["name"]: job["status"] for job in jobs}


@pytest.fixture
def user(lab: Lab, request: pytest.FixtureRequest) -> User:
    return User(lab, lab.directory / f"torc_files_{abs(hash(request.node.name)) % 10**8}")


@pytest.mark.cluster_in_ci
def test_two_schedulers_are_two_allocations_one_after_the_other(user: User) -> None:
    answer, statuses = user.submitted("18_schedulers.yaml")
    assert set(statuses.values()) == {"completed"}
    assert len(answer["later_slurm_job_ids"]) == 1
    assert (user.directory / "nodes").read_text() == "2\n"  # num_allocations: 2 of one node
    results = {row["job_name"]: row for row in user.answer("results", "list", answer["workflow_id"])["items"]}
    assert [results[name]["run_id"] for name in ("part_1", "part_2", "all")] == [1, 1, 2]
    assert results["all"]["slurm_job_id"] == answer["later_slurm_job_ids"][0]
    assert results["part_1"]["slurm_job_id"] == answer["slurm_job_id"]


def test_one_scheduler_at_the_start_is_one_allocation(user: User) -> None:
    answer, statuses = user.submitted("19_one_scheduler.yaml")
    assert set(statuses.values()) == {"completed"}
    assert "later_slurm_job_ids" not in answer


def test_a_failed_job_of_the_first_stage_cancels_those_of_the_second(user: User) -> None:
    text = (SPECS / "18_schedulers.yaml").read_text().replace("hostname > part_{i}", "exit {i}")
    (user.directory / "w.yaml").write_text(text)
    _, statuses = user.submitted("w.yaml")
    assert statuses == {"part_1": "failed", "part_2": "failed", "all": "cancelled"}


def test_a_stage_that_is_cancelled_does_not_start_the_next(user: User) -> None:
    text = (SPECS / "18_schedulers.yaml").read_text().replace("hostname > part_{i}", "sleep 300")
    (user.directory / "w.yaml").write_text(text)
    answer = user.answer("submit", "w.yaml")
    user.torc("cancel", answer["workflow_id"])
    user.torc("status", answer["workflow_id"], "--wait", check=False)
    assert not (user.directory / "nodes").exists()
    user.torc("delete", answer["workflow_id"])


def test_attempts_outputs_and_those_who_do_not_mind(user: User) -> None:
    answer, statuses = user.submitted("03_failure_handlers.yaml")
    assert statuses == {
        "heals": "completed",
        "never": "failed",
        "other": "failed",
        "after": "cancelled",
        "anyway": "completed",
    }
    rows = user.answer("results", "list", answer["workflow_id"])["items"]
    assert sorted((row["job_name"], row["attempt_id"]) for row in rows if row["job_name"] in ("heals", "never")) == [
        ("heals", 1),
        ("heals", 2),
        ("never", 1),
        ("never", 2),
    ]


@pytest.mark.parametrize(
    "name", ["01_files_diamond.yaml", "02_user_data.yaml", "04_actions.yaml", "10_datasets.yaml", "16_pipeline.kdl"]
)
def test_files_that_run_here_run_there(user: User, name: str) -> None:
    _, statuses = user.submitted(name)
    assert set(statuses.values()) == {"completed"}


def test_a_missing_output_is_a_failure(user: User) -> None:
    _, statuses = user.submitted("20_missing_output.yaml")
    assert {name: status for name, status in statuses.items() if status != "completed"} == {
        "forgets": "failed",
        "needs": "cancelled",
    }
