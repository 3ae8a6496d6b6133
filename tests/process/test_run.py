"""``torc run`` outside Slurm: plain processes in order, as many as fit, ended in order; nothing lost or harmed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import Here, kill_quietly, wait_until, wrappers_below

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SLEEPS = "echo > begun; exec sleep 300"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    yield Here(tmp_path)
    kill_quietly(wrappers_below(tmp_path))


def test_the_quick_example(here: Here) -> None:
    done = here.torc("run", EXAMPLES / "quick.yaml")
    assert done.returncode == 0, done.stderr
    assert set(here.statuses().values()) == {"completed"}
    assert "5 jobs on this machine" in done.stderr
    assert done.stdout.startswith("workflow 1 (quick), run 1: 5 jobs: 5 completed\n")
    results = here.results()
    assert results["prepare_3"]["peak_memory_bytes"] > 30_000_000
    assert {row["slurm_job_id"] for row in results.values()} == {None}
    assert max(results[f"prepare_{i}"]["end_time"] for i in (1, 2, 3)) <= results["compute"]["start_time"]


def test_a_failed_job_cancels_its_dependents_and_the_rest_goes_on(here: Here) -> None:
    here.spec(
        [
            {"name": "fails", "command": "echo out; echo err >&2; exit 3"},
            {"name": "child", "command": "echo never", "depends_on": "fails"},
            {"name": "grandchild", "command": "echo never", "depends_on": "child"},
            {"name": "free", "command": "echo free"},
            {"name": "after_free", "command": "echo too", "depends_on": "free"},
        ]
    )
    done = here.torc("run", "w.json")
    assert done.returncode == 1
    assert here.statuses() == {
        "fails": "failed",
        "child": "cancelled",
        "grandchild": "cancelled",
        "free": "completed",
        "after_free": "completed",
    }
    assert "job fails: failed (exit code 3)" in done.stderr
    assert (here.stdio(1), here.stdio(1, "e")) == ("out\n", "err\n")
    rows = {row["job_name"]: row for row in here.journal()}
    assert rows["fails"]["return_code"] == 3
    assert rows["child"]["start_time"] is None
    assert "fails" in rows["grandchild"]["reason"]


def test_again_only_what_is_not_completed_runs(here: Here) -> None:
    here.spec(
        [
            {"name": "once", "command": "echo once >> once"},
            {"name": "late", "command": "test -e now", "depends_on": "once"},
        ]
    )
    assert here.torc("run", "w.json").returncode == 1
    (here.directory / "now").touch()
    assert here.torc("run", "1").returncode == 0
    assert (here.directory / "once").read_text() == "once\n"
    assert here.statuses() == {"once": "completed", "late": "completed"}
    done = here.torc("run", "1")
    assert (done.returncode, done.stderr.count("nothing is left to run")) == (0, 1)
    assert not here.node_file(3).exists()


def test_what_a_job_is_started_with(here: Here, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    command = 'pwd; readlink /proc/self/fd/0; echo "$GREETING"; env | grep ^TORC_ | sort'
    here.spec(
        [
            {
                "name": 'it\'s a "name"',
                "command": command,
                "working_dir": str(tmp_path / "elsewhere"),
                "env": {"GREETING": "two\nlines; and $(no) more", "TORC_RUN_ID": "99"},
            }
        ]
    )
    done = here.torc("run", "w.json", TORC_STEP_ACTIVE="workflow 1.1.1.1", TORC_JOB_ID="77")
    assert done.returncode == 0, done.stderr
    lines = here.stdio(1).splitlines()
    assert lines[:4] == [str(tmp_path / "elsewhere"), "/dev/null", "two", "lines; and $(no) more"]
    assert lines[4:-1] == [
        "TORC_ATTEMPT_ID=1",
        "TORC_JOB_ID=1",
        'TORC_JOB_NAME=it\'s a "name"',
        f"TORC_OUTPUT_DIR={here.output_dir}",
        "TORC_RUN_ID=1",
    ] or lines[4:] == [
        "TORC_ATTEMPT_ID=1",
        "TORC_JOB_ID=1",
        'TORC_JOB_NAME=it\'s a "name"',
        f"TORC_OUTPUT_DIR={here.output_dir}",
        "TORC_RUN_ID=1",
        "TORC_STEP_ACTIVE=workflow 1.1.1.1",
        "TORC_WORKFLOW_ID=1",
    ]
    assert here.results()['it\'s a "name"']["status"] == "completed"


def test_no_more_run_at_once_than_fit(here: Here) -> None:
    here.spec(
        [
            {"name": f"j{i}", "command": "mkdir running && sleep 0.05 && rmdir running", "resource_requirements": "all"}
            for i in range(4)
        ],
        resource_requirements=[{"name": "all", "num_cpus": os.cpu_count(), "memory": "50m", "runtime": "PT1M"}],
    )
    assert here.torc("run", "w.json").returncode == 0


def test_a_job_larger_than_the_machine_runs_alone_with_a_warning(here: Here) -> None:
    huge = {"name": "huge", "num_cpus": 10_000, "memory": "900t", "runtime": "PT1M"}
    jobs = [
        {"name": "huge", "command": "mkdir running && sleep 0.2 && rmdir running", "resource_requirements": "huge"},
        {"name": "small", "command": "mkdir running && sleep 0.2 && rmdir running"},
    ]
    here.spec(jobs, resource_requirements=[huge])
    done = here.torc("run", "w.json")
    assert done.returncode == 0, done.stderr
    assert "job huge runs alone: it requests 10000 CPUs and 900000.00 GB; this machine has" in done.stderr


def test_several_nodes_are_refused_before_anything_is_created(here: Here) -> None:
    wide = {"name": "wide", "num_nodes": 2, "num_cpus": 1, "memory": "50m", "runtime": "PT1M"}
    here.spec(
        [{"name": "first", "command": "echo > begun"}, {"name": "w", "command": "x", "resource_requirements": "wide"}],
        resource_requirements=[wide],
    )
    done = here.torc("run", "w.json")
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "job w needs 2 nodes" in done.stderr
    assert sorted(os.listdir(here.directory)) == ["w.json"]


def test_a_missing_working_directory_fails_that_job_alone(here: Here) -> None:
    here.spec(
        [
            {"name": "lost", "command": "echo here > wrong", "working_dir": "/no/such/place"},
            {"name": "fine", "command": "echo fine"},
        ]
    )
    assert here.torc("run", "w.json").returncode == 1
    assert here.statuses() == {"lost": "failed", "fine": "completed"}
    assert "/no/such/place cannot be entered" in here.journal()[0]["reason"]


def test_three_hundred_tiny_jobs(here: Here) -> None:
    here.spec([{"name": "j_{i}", "command": "true", "parameters": {"i": "1:300"}}], resource_monitor={"enabled": False})
    done = here.torc("run", "w.json", "-f", "json")
    assert json.loads(done.stdout)["jobs"] == {"completed": 300}
    assert len(here.journal()) == 300
    assert {row["state"] for row in here.journal()} == {"completed"}


def test_fifty_megabytes_of_output_and_a_command_that_reads_its_stdin(here: Here) -> None:
    here.spec(
        [{"name": "loud", "command": "head -c 50000000 /dev/zero"}, {"name": "asks", "command": "cat; read x; echo $?"}]
    )
    assert here.torc("run", "w.json").returncode == 0
    assert (here.output_dir / "job_stdio" / "job_wf1_j1_r1_a1.o").stat().st_size == 50_000_000
    assert here.stdio(2) == "1\n"


def test_what_a_job_leaves_behind_in_its_group_ends_with_it(here: Here) -> None:
    here.spec([{"name": "leaves", "command": "sleep 300 & echo $! > left"}])
    assert here.torc("run", "w.json").returncode == 0
    wait_until(lambda: not _lives(int((here.directory / "left").read_text())), "the end of what the job left")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- ended by signals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_jobs_in_order_and_keeps_the_results(here: Here, number: signal.Signals) -> None:
    here.spec(
        [
            {"name": "done", "command": "echo done"},
            {
                "name": "sleeps",
                "command": "trap 'echo asked; exit 0' TERM; echo > begun; sleep 300 & wait",
                "depends_on": "done",
            },
            {"name": "after", "command": "echo after", "depends_on": "sleeps"},
            *({"name": f"waits{i}", "command": "sleep 300", "depends_on": "after"} for i in range(3)),
        ]
    )
    run = here.start("w.json")
    here.wait_for("begun")
    run.send_signal(number)
    assert run.wait(60) == 1
    assert here.stdio(2) == "asked\n"
    statuses = here.statuses()
    assert (statuses["done"], statuses["sleeps"]) == ("completed", "cancelled")
    assert statuses["after"] in ("blocked", "ready")
    assert here.journal(table="runs")[0]["end_time"] is not None
    assert not wrappers_below(here.directory)
    assert here.results()["sleeps"]["peak_memory_bytes"]


def test_a_second_ctrl_c_kills_what_ignores_the_first(here: Here) -> None:
    here.spec([{"name": "deaf", "command": "trap '' TERM INT; echo > begun; while true; do sleep 0.1; done"}])
    run = here.start("w.json")
    here.wait_for("begun")
    run.send_signal(signal.SIGINT)
    wait_until(lambda: [row["state"] for row in here.journal()] == ["cancelled"], "the first signal to be heeded")
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 1
    assert not wrappers_below(here.directory)
    assert here.statuses() == {"deaf": "cancelled"}


def test_a_runner_that_was_killed_loses_no_finished_result_and_its_jobs_are_not_started_twice(here: Here) -> None:
    here.spec(
        [
            {"name": "done", "command": "echo done >> done"},
            {
                "name": "goes_on",
                "command": "echo >> begun; while [ ! -e stop ]; do sleep 0.05; done",
                "depends_on": "done",
            },
        ]
    )
    run = here.start("w.json")
    here.wait_for("begun")
    run.kill()
    run.wait()
    refused = here.torc("run", "1")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    (here.directory / "stop").touch()
    wait_until(lambda: not wrappers_below(here.directory), "the end of the job that was left alone")
    again = here.torc("run", "1")
    assert again.returncode == 0, again.stderr
    assert "nothing is left to run" in again.stderr
    assert (here.directory / "done").read_text() == "done\n"
    assert (here.directory / "begun").read_text() == "\n"
    assert here.statuses() == {"done": "completed", "goes_on": "completed"}


def test_enforce_runtime_ends_a_job_at_its_run_time(here: Here) -> None:
    here.spec(
        [{"name": "long", "command": SLEEPS, "resource_requirements": "short"}, {"name": "ok", "command": "true"}],
        resource_requirements=[{"name": "short", "num_cpus": 1, "memory": "50m", "runtime": "PT1S"}],
        execution_config={"enforce_runtime": True},
    )
    assert here.torc("run", "w.json").returncode == 1
    assert here.statuses() == {"long": "timeout", "ok": "completed"}


# --- places that cannot be written -----------------------------------------------------------------------------


def test_a_node_file_that_cannot_be_written_loses_no_result(here: Here) -> None:
    """Journal and exit records wait on the node's own disk. Root may write anywhere: a file in the way stops it too."""
    here.spec(
        [{"name": "j", "command": "rm -rf torc_output/resource_utilization; echo > torc_output/resource_utilization"}]
    )
    done = here.torc("run", "w.json")
    assert done.returncode == 1
    assert "the run's own log (which jobs ended, and when) is kept in" in done.stderr
    (here.output_dir / "resource_utilization").unlink()
    assert here.torc("slurm", "collect").returncode == 0
    assert here.results()["j"]["status"] == "completed"
    assert here.journal()[0]["state"] == "completed"


def test_an_output_directory_that_cannot_be_written_is_one_clear_line(here: Here) -> None:
    here.spec([{"name": "j", "command": "true"}])
    (here.directory / "file").touch()
    done = here.torc("run", "w.json", "--output-dir", "file/out")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "file/out" in done.stderr


@pytest.mark.parametrize(
    ("words", "status"), [(["--plan", "no.json"], 2), (["99"], 2), (["no.yaml"], 2), (["1", "--plan", "x"], 2)]
)
def test_wrong_input(here: Here, words: list[str], status: int) -> None:
    here.spec([{"name": "j", "command": "true"}])
    assert here.torc("workflows", "create", "w.json").returncode == 0
    done = here.torc("run", *words)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr


def test_output_of_a_job_that_cannot_be_written(here: Here) -> None:
    here.spec([{"name": "j", "command": "true"}])
    here.output_dir.mkdir()
    (here.output_dir / "job_stdio").touch()
    assert here.torc("run", "w.json").returncode == 1
    assert "cannot be written" in here.journal()[0]["reason"]


def test_a_terminal_shows_a_bar_and_no_escape_of_a_jobs_name(here: Here) -> None:
    here.spec([{"name": "e\x1b[31mvil", "command": "exit 1"}])
    script = ["script", "-qec", f"{' '.join(_quoted())} run w.json", "/dev/null"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=here.directory, check=False, env=_terminal())
    assert done.returncode == 1
    assert "\x1b[31mvil" not in done.stdout
    assert "e\\x1b[31mvil: failed" in done.stdout.replace("\n", "").replace("\r", "")


def _quoted() -> list[str]:
    from shlex import quote

    from runs import TORC

    return list(map(quote, TORC))


def _terminal() -> dict[str, str]:
    from runs import environment

    return environment(TERM="xterm-256color", COLUMNS="100")


def test_the_list_of_workflows_may_be_the_first_to_look(here: Here) -> None:
    here.spec([{"name": "j", "command": "true"}, {"name": "fails", "command": "exit 1"}])
    assert here.torc("slurm", "generate", "w.json", "-o", "run.sh").returncode == 0
    assert here.torc("run", "--plan", here.output_dir / "plans" / "wf1_r1.json").returncode == 1
    (row,) = here.items("workflows", "list")
    assert (row["status"], row["completed"], row["failed"]) == ("failed", 1, 1)
