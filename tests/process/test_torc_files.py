"""Workflow files as the Rust torc documents them, run here: every key with a meaning has its documented effect."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import Here, kill_quietly, wrappers_below

from torc_slurm.spec.load import load_workflow

SPECS = Path(__file__).resolve().parents[1] / "specs"
FILES = sorted(path.name for path in SPECS.iterdir() if path.name[0].isdigit())
NOT_COMPLETED = {
    "03_failure_handlers.yaml": {"never": "failed", "other": "failed", "after": "cancelled"},
    "20_missing_output.yaml": {"forgets": "failed", "needs": "cancelled"},
}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    for path in SPECS.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "source.txt").write_text("c a b\n")
    yield Here(tmp_path)
    kill_quietly(wrappers_below(tmp_path))


def text(here: Here, name: str) -> str:
    return (here.directory / name).read_text()


@pytest.mark.parametrize("name", FILES)
def test_each_file_runs_as_it_says(here: Here, name: str) -> None:
    done = here.torc("run", name)
    wrong = NOT_COMPLETED.get(name, {})
    assert done.returncode == (1 if wrong else 0), done.stderr
    statuses = here.statuses()
    assert {job: status for job, status in statuses.items() if status != "completed"} == wrong
    assert len(statuses) > 0
    assert sum("without effect" in line for line in done.stderr.splitlines()) <= 1


def test_a_diamond_of_files_has_its_order(here: Here) -> None:
    workflow = load_workflow(str(SPECS / "01_files_diamond.yaml"))
    assert [job.depends_on for job in workflow.jobs] == [(), (0,), (0,), (1, 2)]
    assert workflow.required_paths == ("source.txt",)
    assert here.torc("run", "01_files_diamond.yaml").returncode == 0
    assert text(here, "report.txt").split() == ["3", "a", "b", "c"]


@pytest.mark.parametrize("command", [("run",), ("submit", "--dry-run")])
def test_an_input_file_that_no_job_makes_must_exist(here: Here, command: tuple[str, ...]) -> None:
    (here.directory / "source.txt").unlink()
    done = here.torc(*command, "01_files_diamond.yaml")
    assert done.returncode == 2
    assert "source.txt" in done.stderr
    assert "output_files" in done.stderr
    assert not here.output_dir.exists()


def test_an_action_may_make_an_input_file(here: Here) -> None:
    spec = {
        "name": "a",
        "files": [{"name": "in", "path": "in.txt"}],
        "jobs": [{"name": "reads", "command": "cat ${files.input.in}"}],
        "actions": [
            {"trigger_type": "on_workflow_start", "action_type": "run_commands", "commands": ["echo x > ../in.txt"]}
        ],
    }
    (here.directory / "w.json").write_text(json.dumps(spec))
    done = here.torc("run", "w.json")
    assert done.returncode == 0, done.stderr
    assert "no job makes these files, which do not exist: in.txt" in done.stderr


def test_a_missing_output_is_a_failure_everywhere(here: Here) -> None:
    here.torc("run", "20_missing_output.yaml")
    results = here.results()
    assert results["forgets"]["status"] == "failed"
    assert results["forgets"]["return_code"] == 0
    assert "did not create promised.txt" in str(results["forgets"]["status_evidence"])
    (here.directory / "promised.txt").touch()  # checked when the job ends, not before
    assert here.torc("run", "1").returncode == 0


def test_attempts_and_their_recovery(here: Here) -> None:
    here.torc("run", "03_failure_handlers.yaml")
    assert text(here, "recovered").split("\n") == ["heals 10 1", ""]
    attempts = [(row["job_name"], row["attempt_id"], row["state"]) for row in here.journal()]
    assert {each for each in attempts if each[0] == "heals"} == {("heals", 1, "failed"), ("heals", 2, "completed")}
    assert {each for each in attempts if each[0] == "never"} == {("never", 1, "failed"), ("never", 2, "failed")}
    assert {each for each in attempts if each[0] == "other"} == {("other", 1, "failed")}
    assert (here.output_dir / "job_stdio" / "job_wf1_j1_r1_a2.o").exists()


def test_a_recovery_script_that_fails_ends_the_trying(here: Here) -> None:
    rules = [{"exit_codes": [1], "recovery_script": "echo no; exit 9", "max_retries": 5}]
    spec = {
        "name": "a",
        "failure_handlers": [{"name": "h", "rules": rules}],
        "jobs": [{"name": "x", "command": "echo x >> tries; exit 1", "failure_handler": "h"}],
    }
    (here.directory / "w.json").write_text(json.dumps(spec))
    done = here.torc("run", "w.json")
    assert done.returncode == 1
    assert text(here, "tries") == "x\n"
    assert "the recovery script failed with exit code 9" in done.stderr
    assert text(here, "torc_output/job_stdio/recovery_wf1_j1_r1_a1.log") == "no\n"


def test_the_order_of_actions(here: Here) -> None:
    assert here.torc("run", "04_actions.yaml").returncode == 0
    assert text(here, "torc_output/moments/log").split() == ["start", "worker", "done", "ready", "end", "bye"]


def test_a_later_run_does_not_start_again(here: Here) -> None:
    spec = {
        "name": "a",
        "jobs": [{"name": "x", "command": "test -e now"}],
        "actions": [
            {"trigger_type": f"on_{event}", "action_type": "run_commands", "commands": [f"echo {event} >> log"]}
            for event in ("workflow_start", "workflow_complete")
        ],
    }
    (here.directory / "w.json").write_text(json.dumps(spec))
    assert here.torc("run", "w.json").returncode == 1
    (here.directory / "now").touch()
    assert here.torc("run", "1").returncode == 0
    said = text(here, "torc_output/log").split()
    assert said == ["workflow_start", "workflow_complete", "workflow_complete"]


def test_where_output_goes(here: Here) -> None:
    assert here.torc("run", "09_stdio_priority.yaml").returncode == 0
    assert text(here, "order").split() == ["high", "low"]
    left = {path.name: path.read_text() for path in (here.output_dir / "job_stdio").iterdir()}
    assert left == {
        "job_wf1_j3_r1_a1.o": "out\n",
        "job_wf1_j3_r1_a1.e": "err\n",
        "job_wf1_j4_r1_a1.e": "err\n",
        "job_wf1_j6_r1_a1.log": "out\nerr\n",
    }


def test_user_data_is_passed_on_listed_and_removed(here: Here) -> None:
    assert here.torc("run", "02_user_data.yaml").returncode == 0
    items = json.loads(here.torc("user-data", "list", "-f", "json").stdout)["items"]
    assert [(item["name"], item["data"]) for item in items] == [
        ("settings", {"rate": 0.25}),
        ("fixed", {"seed": 7, "names": ["a", "1", True]}),
    ]
    written = here.output_dir / "user_data" / "wf1_d1.json"
    assert written.exists()
    assert here.torc("user-data", "update", "1", "--data", "{rate").returncode == 2
    assert here.torc("user-data", "get", "99").returncode == 2
    assert here.torc("workflows", "delete", "1").returncode == 0
    assert not written.exists()


def test_at_most_so_many_jobs_at_a_time(here: Here) -> None:
    jobs = [{"name": f"j{i}", "command": "echo + >> log; sleep 0.1; echo - >> log"} for i in range(4)]
    here.spec(jobs)
    assert here.torc("run", "w.json", "--max-parallel-jobs", "1").returncode == 0
    assert text(here, "log").split() == ["+", "-"] * 4


def test_the_newer_names_of_commands(here: Here) -> None:
    assert here.torc("create", "03_failure_handlers.yaml").returncode == 0
    here.torc("run", "1")
    document = json.loads(here.torc("workflows", "check-resources", "1", "--include-failed", "-f", "json").stdout)
    assert document["resource_violations_count"] == len(document["resource_violations"])
    for words in (("status", "1"), ("workflows", "get", "1"), ("delete", "1")):
        assert here.torc(*words).returncode == 0
