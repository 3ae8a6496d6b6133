"""Workflows on a real Slurm: submitted, ended in every way, submitted again, by two at once, and with hostile paths."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from real_slurm import Lab

pytestmark = pytest.mark.slurm

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HOSTILE = ["sp ace", "quo'te\"s", "semi; touch hacked", "$(touch hacked)", "100%j", "größe"]
LONG = """\
name: long
resource_requirements: [{name: small, num_cpus: 1, memory: 100m, runtime: PT20M}]
jobs:
- {name: quick, command: echo done, resource_requirements: small}
- {name: slow, command: "echo begun > begun; sleep 300", resource_requirements: small, depends_on: quick}
- {name: after, command: echo after, resource_requirements: small, depends_on: slow}
"""
# Exits 0 when it is asked to end, but has not completed.
STUBBORN = """\
- name: stubborn
  command: trap 'exit 0' TERM; echo > trapped; sleep 300 & wait
  resource_requirements: small
"""


class User:
    """The lab's ordinary user in a directory of his own."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory

    def torc(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        argv = ["torc", *map(str, words)]
        return self.lab.run(argv, user=self.lab.user, check=check, cwd=self.directory, env={"TORC_OUTPUT_DIR": "out"})

    def answer(self, *words: object) -> Any:  # noqa: ANN401 - a JSON document
        return json.loads(self.torc("-f", "json", *words).stdout)

    def statuses(self, workflow_id: int) -> dict[str, str]:
        return {job["name"]: job["status"] for job in self.answer("jobs", "list", workflow_id)["items"]}

    def wait(self, workflow_id: int) -> dict[str, str]:
        """Wait until its run has ended; returns the jobs' statuses."""
        self.lab.wait_for(
            lambda: self.answer("workflows", "status", workflow_id)["run_status"] == "ended", f"workflow {workflow_id}"
        )
        return self.statuses(workflow_id)

    def spec(self, text: str) -> str:
        (self.directory / "w.yaml").write_text(text)
        return "w.yaml"

    def output_of(self, submitted: dict[str, Any]) -> str:
        name = f"slurm_output_wf{submitted['workflow_id']}_sl{submitted['slurm_job_id']}.o"
        return (self.directory / "out" / name).read_text()


@pytest.fixture
def user(lab: Lab, request: pytest.FixtureRequest) -> Iterator[User]:
    directory = lab.directory / f"submit-{abs(hash(request.node.name))}"
    directory.mkdir()
    shutil.chown(directory, lab.user)
    yield User(lab, directory)
    lab.run(["scancel", "-u", lab.user], check=False)


def test_the_demo_ends_as_its_names_say_and_again_runs_only_the_rest(user: User) -> None:
    shutil.copy(EXAMPLES / "demo.yaml", user.directory)  # a checkout in root's home directory is closed to this user
    submitted = user.answer("submit", "demo.yaml")
    workflow = submitted["workflow_id"]
    statuses = user.wait(workflow)
    expected = dict.fromkeys(statuses, "completed") | {"exits_3": "failed", "needs_exits_3": "cancelled"}
    if user.lab.env["TORC_LAB_CGROUP"] == "on":
        expected["too_much_memory"] = "oom"
    assert statuses == expected
    assert len(statuses) >= 12
    stats = {item["job_name"]: item for item in user.answer("slurm", "stats", workflow)["items"]}
    assert stats["exits_3"]["return_code"] == 3
    assert stats["two_nodes_four_tasks"]["task_count"] == 4
    assert stats["two_nodes_four_tasks"]["measured_node_count"] == 2
    assert stats["four_workers"]["num_processes_peak"] >= 5
    assert stats["five_ms"]["return_code"] == 0
    assert "needs_exits_3" not in stats
    user.lab.wait_ended(submitted["slurm_job_id"])
    summary = user.output_of(submitted).split("has ended")[1].splitlines()[1:]
    assert summary[0].startswith(f"workflow {workflow} (demo), run 1: {len(statuses)} jobs: ")
    assert summary[-1] == f"next: torc submit {workflow}    run the unfinished jobs again"
    assert len(summary) <= 15
    again = user.answer("submit", workflow)
    assert (again["run_id"], again["job_count"]) == (2, sum(status != "completed" for status in expected.values()))
    assert user.wait(workflow) == expected
    runs = {(row["job_name"], row["run_id"]) for row in user.answer("results", "list", workflow)["items"]}
    assert ("exits_3", 2) in runs
    assert ("gather", 2) not in runs


def test_scancel_in_the_middle_keeps_what_is_done_and_the_next_run_goes_on(user: User) -> None:
    user.spec(LONG + STUBBORN)
    submitted = user.answer("submit", "w.yaml")
    workflow = submitted["workflow_id"]
    for mark in ("begun", "trapped"):
        user.lab.wait_for((user.directory / mark).exists, f"the job that writes {mark}")
    assert user.answer("workflows", "status", workflow)["status"] == "running"
    assert user.torc("workflows", "delete", workflow, check=False).returncode == 1
    assert "is active" in user.torc("submit", workflow, check=False).stderr
    user.torc("workflows", "cancel", workflow)
    assert user.wait(workflow) == {
        "quick": "completed",
        "slow": "cancelled",
        "stubborn": "cancelled",
        "after": "blocked",
    }
    user.lab.wait_ended(submitted["slurm_job_id"], accounted=False)
    (user.directory / "w.yaml").unlink()
    again = user.answer("submit", workflow)
    assert again["job_count"] == 3
    user.torc("workflows", "cancel", workflow)


@pytest.mark.cluster_in_ci
def test_two_that_submit_at_once(user: User) -> None:
    def queued() -> set[str]:
        return set(user.lab.run(["squeue", "-h", "-u", user.lab.user, "-o", "%A"]).stdout.split())

    before = queued()  # jobs of other tests that are still completing
    user.spec(LONG)
    workflow = user.answer("workflows", "create", "w.yaml")["workflow_id"]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: user.torc("-f", "json", "submit", workflow, check=False), range(4)))
    won = [json.loads(each.stdout) for each in done if each.returncode == 0]
    assert len(won) == 1, [each.stderr for each in done]
    assert all("is active" in each.stderr for each in done if each.returncode != 0)
    assert queued() - before == {str(won[0]["slurm_job_id"])}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_and_paths(user: User, name: str) -> None:
    directory = user.directory / name
    directory.mkdir()
    shutil.chown(directory, user.lab.user)
    inside = User(user.lab, directory)
    jobs = [{"name": name, "command": 'printf %s "$TORC_JOB_NAME" > seen', "env": {"X": name}}]
    inside.spec(json.dumps({"name": f"{name}\nx", "jobs": jobs}))
    submitted = inside.answer("submit", "w.yaml")
    assert inside.wait(submitted["workflow_id"]) == {name: "completed"}
    assert (directory / "seen").read_text() == name
    assert not list(user.directory.rglob("hacked"))
    assert inside.output_of(submitted)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("-p", "nowhere"), 1, "invalid partition specified: nowhere"),
        (("--", "--mem=lots"), 1, "sbatch failed"),
        (("--template", "nothing"), 2, "no template"),
    ],
)
def test_a_refusal_leaves_nothing(user: User, words: tuple[str, ...], status: int, said: str) -> None:
    user.spec(LONG)
    done = user.torc("submit", "w.yaml", *words, check=False)
    assert done.returncode == status
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    if (user.directory / "out").exists():
        assert user.answer("workflows", "list") == {"items": []}
        assert not list((user.directory / "out" / "plans").iterdir())


def test_a_job_that_can_never_fit_is_refused_with_both_sizes(user: User) -> None:
    user.spec(
        "name: a\nresource_requirements: [{name: r, num_cpus: 5}]\n"
        "jobs: [{name: big, command: x, resource_requirements: r}]\n"
    )
    done = user.torc("submit", "w.yaml", check=False)
    assert done.returncode == 2
    assert "job 'big' needs 5 CPUs on a node, the allocation has 4 CPUs, 16384 MiB" in done.stderr
    assert not (user.directory / "out").exists()


def test_a_generated_script_given_to_sbatch_by_hand_and_again(user: User) -> None:
    user.spec(LONG.replace("sleep 300", "exit 3"))
    user.torc("slurm", "generate", "w.yaml", "-o", "run.sh")
    for run_id in (1, 2):
        job = int(user.lab.run(["sbatch", "--parsable", "run.sh"], user=user.lab.user, cwd=user.directory).stdout)
        user.lab.wait_ended(job)
        assert user.wait(1) == {"quick": "completed", "slow": "failed", "after": "cancelled"}
        assert user.answer("workflows", "status", 1)["run_id"] == run_id
    ran = [(row["job_name"], row["run_id"]) for row in user.answer("results", "list", 1)["items"]]
    assert ran == [("quick", 1), ("slow", 1), ("slow", 2)]
    assert [item["job_name"] for item in user.answer("slurm", "stats", 1, "--run-id", 2)["items"]] == ["slow"]


def test_a_workflow_that_is_cancelled_before_it_begins(user: User) -> None:
    user.spec(LONG)
    submitted = user.answer("submit", "w.yaml", "--", "--hold")
    workflow = submitted["workflow_id"]
    assert user.answer("workflows", "status", workflow)["status"] == "submitted"
    assert user.statuses(workflow) == {"quick": "submitted", "slow": "blocked", "after": "blocked"}
    user.torc("workflows", "cancel", workflow)
    assert user.wait(workflow) == {"quick": "ready", "slow": "blocked", "after": "blocked"}
    user.torc("workflows", "delete", workflow)
    assert user.answer("workflows", "list") == {"items": []}


def test_hostile_job_names_and_values(user: User) -> None:
    names = ["two\nlines", "-x --foo=bar", "../../etc/passwd", "%j \\ | \x1b[31m", "$(touch hacked)`touch hacked`"]
    command = 'printf "%s\\n%s" "$TORC_JOB_NAME" "$X" > "$SEEN"'
    jobs = [{"name": name, "command": command, "env": {"X": name, "SEEN": str(i)}} for i, name in enumerate(names)]
    user.spec(json.dumps({"name": "evil\n#SBATCH --wrap=x '\" $(touch hacked)", "jobs": jobs}))
    submitted = user.answer("submit", "w.yaml")
    assert user.wait(submitted["workflow_id"]) == dict.fromkeys(names, "completed")
    assert [(user.directory / str(i)).read_text() for i in range(len(names))] == [f"{name}\n{name}" for name in names]
    assert not list(user.directory.rglob("hacked"))
    user.lab.wait_ended(submitted["slurm_job_id"])
    stats = user.answer("slurm", "stats", submitted["workflow_id"])["items"]
    assert [(item["job_name"], item["status"] is not None) for item in stats] == [(name, True) for name in names]
