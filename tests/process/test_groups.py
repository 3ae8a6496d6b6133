"""``group:`` outside Slurm: many jobs under one torc-step, each judged by itself; nothing lost at a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import Here, environment, kill_quietly, wait_until, wrappers_below


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    yield Here(tmp_path)
    kill_quietly(wrappers_below(tmp_path))


def grouped(*commands: str, **more: object) -> list[dict[str, Any]]:
    return [{"name": f"j{number}", "command": text, "group": 10, **more} for number, text in enumerate(commands, 1)]


# All CPUs of the machine: one group at a time.
WHOLE = {"name": "whole", "num_cpus": os.cpu_count() or 1, "memory": "50m", "runtime": "PT1S"}


def spec(here: Here, jobs: list[dict[str, Any]], **more: object) -> None:
    here.spec([{"resource_requirements": "whole", **job} for job in jobs], resource_requirements=[WHOLE], **more)


def test_each_job_of_a_group_has_its_own_end_output_and_record(here: Here) -> None:
    jobs = grouped("echo $PPID $TORC_JOB_NAME; pwd", "echo no >&2; exit 3", "kill -9 $$", "echo $PPID $OWN; sleep 0.3")
    jobs[3] |= {"env": {"OWN": "mine"}, "working_dir": "/"}
    jobs += [
        {"name": "nowhere", "command": "true", "group": 10, "working_dir": "/nonexistent"},
        {"name": "child", "command": "true", "depends_on": "j2"},
        {"name": "after", "command": "true", "depends_on": "j1", "group": 10},
    ]
    spec(here, jobs)
    done = here.torc("run", "w.json")
    assert done.returncode == 1
    assert here.statuses() == {
        "j1": "completed",
        "j2": "failed",
        "j3": "failed",
        "j4": "completed",
        "nowhere": "failed",
        "child": "cancelled",
        "after": "completed",
    }
    first, fourth = here.stdio(1).split(), here.stdio(4).split()
    assert first[0] == fourth[0]  # the same wrapper
    assert (first[1:], fourth[1:]) == (["j1", str(here.directory)], ["mine"])
    assert here.stdio(2, "e") == "no\n"
    results = here.results()
    assert [results[f"j{number}"]["return_code"] for number in (1, 2, 3, 4)] == [0, 3, 137, 0]
    assert results["j4"]["num_processes_peak"] > 0  # long enough to be sampled
    assert results["j1"]["cpu_seconds"] > 0
    assert "lost" not in done.stderr + here.stdio(1, "e")
    assert "working directory /nonexistent" in done.stderr


def test_a_job_over_its_run_time_ends_and_the_next_begins(here: Here) -> None:
    spec(
        here,
        grouped("trap 'echo told; exit 5' TERM; while :; do sleep 0.1; done", "echo next"),
        execution_config={"enforce_runtime": True},
    )
    here.torc("run", "w.json")
    assert here.statuses() == {"j1": "timeout", "j2": "completed"}
    assert (here.stdio(1), here.stdio(2)) == ("told\n", "next\n")


def test_what_a_job_leaves_behind_ends_before_the_next_begins(here: Here) -> None:
    spec(here, grouped("setsid sleep 300 & echo $! > left", "kill -0 $(cat left)"))
    here.torc("run", "w.json")
    assert here.statuses() == {"j1": "completed", "j2": "failed"}


def test_a_retry_is_a_new_attempt(here: Here) -> None:
    handler = {"name": "again", "rules": [{"exit_codes": [7], "max_retries": 1}]}
    spec(here, grouped("echo >> tries; exit 7", "true", failure_handler="again"), failure_handlers=[handler])
    here.torc("run", "w.json")
    assert (here.directory / "tries").read_text() == "\n\n"
    assert here.results()["j1"]["attempt_id"] == 2


def test_a_group_whose_wrapper_is_killed_loses_the_job_that_ran_and_no_other(here: Here) -> None:
    spec(here, grouped("echo once >> once", "echo $PPID > wrapper; exec sleep 300", "echo third"))
    run = here.start("w.json")
    wait_until(lambda: (here.directory / "wrapper").exists() and (here.directory / "wrapper").read_text(), "j2")
    os.kill(int((here.directory / "wrapper").read_text()), signal.SIGKILL)
    run.communicate()
    assert here.statuses() == {"j1": "completed", "j2": "failed", "j3": "completed"}
    assert (here.directory / "once").read_text() == "once\n"
    assert here.results()["j1"]["return_code"] == 0


def test_a_job_whose_recorder_is_killed_has_its_own_end_all_the_same(here: Here) -> None:
    spec(here, grouped("true", "pkill -KILL -P $PPID -x torc-sampler; echo twice >> two; exit 3", "true"))
    here.torc("run", "w.json")
    assert here.statuses() == {"j1": "completed", "j2": "failed", "j3": "completed"}
    assert (here.directory / "two").read_text() == "twice\n"


def test_no_job_begins_where_the_runner_does_not_answer(here: Here) -> None:
    job = {"job_id": 1, "job_name": "j", "attempt_id": 1, "command": "echo > begun", "seconds": None}
    job |= {"working_dir": str(here.directory), "environment": {}, "stdout": "/dev/null", "stderr": "/dev/null"}
    words = ["--workflow-id=1", "--run-id=1", f"--output-dir={here.output_dir}", "--group"]
    done = subprocess.run(
        [sys.executable, "-m", "torc_slurm.step.main", *words],
        input=json.dumps({"grace_seconds": 1, "launcher": None, "jobs": [job]}) + "\n",
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "torc-group ready\n")
    assert not (here.directory / "begun").exists()


def test_what_is_no_group_is_refused(here: Here) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torc_slurm.step.main", "--group"],
        input="none\n",
        capture_output=True,
        text=True,
        env=environment(),
        cwd=here.directory,
        check=False,
    )
    assert (done.returncode, "--group is for the runner of torc" in done.stderr) == (2, True)


def test_a_run_that_is_told_to_end_leaves_what_had_not_begun_to_the_next(here: Here) -> None:
    spec(here, grouped("true", "trap 'echo told; exit' TERM; echo > begun; while :; do sleep 0.1; done", "echo third"))
    run = here.start("w.json")
    here.wait_for("begun")
    run.send_signal(signal.SIGTERM)
    run.communicate()
    assert here.stdio(2) == "told\n"
    states = {row["job_name"]: row["state"] for row in here.journal()}
    assert states == {"j1": "completed", "j2": "cancelled"}


def test_a_group_starts_nothing_more_once_its_runner_is_gone(here: Here) -> None:
    spec(here, grouped("echo > begun; while [ ! -e go ]; do sleep 0.1; done", "echo > second"))
    run = here.start("w.json")
    here.wait_for("begun")
    wrappers = wrappers_below(here.directory)
    assert wrappers
    run.kill()
    run.communicate()
    next_run = here.torc("run", "1")
    assert "its jobs still run" in next_run.stderr
    (here.directory / "go").touch()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in wrappers), "the group's end")
    assert not (here.directory / "second").exists()
    here.torc("run", "1")
    assert here.statuses() == {"j1": "completed", "j2": "completed"}
    assert (here.directory / "second").exists()


def test_a_group_that_is_killed_together_with_its_runner_is_done_by_the_next_run(here: Here) -> None:
    spec(here, grouped("echo >> first", "echo >> begun; test -e again || exec sleep 300", "echo >> third"))
    run = here.start("w.json")
    here.wait_for("begun")
    wait_until(lambda: {row["job_name"]: row["state"] for row in here.journal()}.get("j1") == "completed", "j1's end")
    ours = wrappers_below(here.directory)  # the recorder has this command line too
    children = [Path(f"/proc/{pid}/task/{pid}/children").read_text().split() for pid in ours]
    assert max(map(len, children)) == 3  # the job, its monitor or sentinel, and the recorder
    kill_quietly([run.pid, *ours, *(int(pid) for pids in children for pid in pids)])
    run.communicate()
    (here.directory / "again").touch()
    here.torc("run", "1")
    assert set(here.statuses().values()) == {"completed"}
    assert [(here.directory / name).read_text() for name in ("first", "begun", "third")] == ["\n", "\n\n", "\n"]


def test_auto_groups_once_run_times_are_known(here: Here) -> None:
    jobs = [{"name": f"j{number}", "command": "echo $PPID", "group": "auto"} for number in range(5)]
    spec(here, jobs)
    here.torc("run", "w.json")
    wrappers = [here.stdio(number + 1) for number in range(5)]
    assert len(set(wrappers[1:])) == 1
    assert wrappers[0] != wrappers[1]


@pytest.mark.parametrize("group", [0, -1, "many", 1.5])
def test_a_group_of_no_size_is_refused(here: Here, group: object) -> None:
    here.spec([{"name": "j", "command": "true", "group": group}])
    done = here.torc("run", "w.json")
    assert (done.returncode, "must be auto, or a whole number from 1" in done.stderr) == (2, True)
