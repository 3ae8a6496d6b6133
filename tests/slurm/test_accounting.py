"""Slurm's accounting on a real Slurm: late, cut short, absent, stopped, refused; and the hooks that ask for it.

Compared with sacct's own output for one field, and with what the commands are known to do.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from real_slurm import Lab

pytestmark = pytest.mark.slurm

STEP = "srun --exact --nodes=1 --ntasks=1 --mem=60"
EAT = "python3 -c 'x = bytearray({bytes}); import time; time.sleep({seconds})'"
FETCH = """
import dataclasses, json, sys
from torc_slurm.slurm.accounting import AllocationKey, fetch_allocation
given = json.loads(sys.argv[1])
found = fetch_allocation(AllocationKey(**given["key"]), given["steps"], timeout_seconds=given["timeout"])
print(json.dumps([[row.as_row() for row in rows] for rows in (found.rows, found.other_rows)]))
"""
Row = dict[str, object]
FINAL = ("found", "partial")  # depends on whether Slurm happened to poll a short step


def fetch(lab: Lab, job: int, *steps: str, timeout: float = 30, path: str | None = None, **key: object) -> list[Row]:
    """The rows of these steps, then those of the others, fetched as the ordinary user."""
    given = json.dumps({"key": {"slurm_job_id": job, **key}, "steps": steps, "timeout": timeout})
    command = ["env", f"PATH={path or lab.path}", sys.executable, "-c", FETCH, given]
    rows, others = json.loads(lab.run_as_user(command).stdout)
    return [*rows, *others]


def named(rows: list[Row]) -> dict[object, Row]:
    return {row["step_name"]: row for row in rows}


def oracle(lab: Lab, job: int, field: str) -> dict[str, str]:
    """Step to sacct's value for one field."""
    out = lab.run(["sacct", "-nP", "--noconvert", "-j", str(job), "-o", f"JobIDRaw,{field}"]).stdout
    cells = dict(line.split("|") for line in out.splitlines())
    return {step.partition(".")[2]: value for step, value in cells.items()}


def stats(lab: Lab, job: int, *options: str) -> list[Row]:
    """``torc slurm stats`` of the job, as the user, on the login node."""
    done = lab.run_as_user(["torc", "slurm", "stats", "--slurm-job-id", str(job), "-f", "json", *options])
    items: list[Row] = json.loads(done.stdout)["items"]
    return items


def program(lab: Lab, name: str, script: str) -> str:
    """Write an executable; returns a PATH on which it is first."""
    directory = lab.directory / f"bin-{abs(hash(script))}"
    directory.mkdir(exist_ok=True)
    (directory / name).write_text("#!/bin/sh\n" + script + "\n")
    (directory / name).chmod(0o755)
    directory.chmod(0o755)
    return f"{directory}:{lab.path}"


# --- rows and figures


def test_figures_are_what_sacct_has_and_what_was_used(lab: Lab) -> None:
    body = f"""
    {STEP} -J sleeps {EAT.format(bytes=30_000_000, seconds=2.5)}
    {STEP} -J short true
    {STEP} -J exits_3 sh -c 'exit 3'
    srun --nodes=2 --ntasks=4 --ntasks-per-node=2 --mem=100 -J two_nodes {EAT.format(bytes=20_000_000, seconds=3)}
    """
    job = lab.submit(body, "--nodes=2", "--ntasks-per-node=2", "--mem=300")
    lab.wait_ended(job)
    rows = named(fetch(lab, job, "0", "1", "2", "3"))
    max_rss = oracle(lab, job, "MaxRSS")
    for name, step in (("sleeps", "0"), ("two_nodes", "3")):
        assert rows[name]["status"] == "found", rows[name]["reason"]
        assert rows[name]["max_rss_bytes"] == int(max_rss[step])
    assert 30_000_000 < int(str(rows["sleeps"]["max_rss_bytes"])) < 60_000_000
    assert (rows["two_nodes"]["task_count"], rows["two_nodes"]["exit_code"]) == (4, 0)
    known = max_rss["1"] not in ("", "0")  # from 24.11 a cgroup has its peak even without a poll
    assert rows["short"]["status"] == ("found" if known else "partial")
    assert (rows["exits_3"]["state"], rows["exits_3"]["exit_code"]) == ("FAILED", 3)
    assert rows["batch"]["job_state"] == "COMPLETED"
    assert str(rows["sleeps"]["slurm_version"]) in lab.run(["sacct", "--version"]).stdout
    assert str(rows["sleeps"]["gather_type"]).startswith("jobacct_gather/")


def test_a_step_that_was_killed_for_memory(lab: Lab) -> None:
    job = lab.submit(f"srun -n1 --mem=60M -J at_once {EAT.format(bytes=400_000_000, seconds=0)}", "--mem=200M")
    lab.wait_ended(job)
    (row, *_) = fetch(lab, job, "0")
    assert row["state"] == "OUT_OF_MEMORY"
    assert row["status"] in ("partial", "found")
    assert "killed for memory" in str(row["reason"])
    assert row["max_rss_bytes"] != 0


def test_a_running_step_is_pending_and_a_finished_one_is_final(lab: Lab) -> None:
    job = lab.submit(f"{STEP} -J first true; {STEP} -J second sleep 600")
    lab.wait_running(job, "1")
    lab.wait_for(lambda: lab.states(job).get(f"{job}.1") == "RUNNING", "the running step in accounting")
    lab.wait_for(lambda: oracle(lab, job, "ReqTRES")[""], "the job's own record to be whole")
    first, second, *_ = fetch(lab, job, "0", "1")
    assert first["status"] in FINAL
    assert first["state"] == "COMPLETED"
    assert (second["status"], second["exit_code"], second["end_time"]) == ("pending", None, None)
    lab.run(["scancel", str(job)])
    lab.wait_ended(job)
    (second, *_) = fetch(lab, job, "1")
    assert second["status"] in FINAL
    assert (second["job_state"], second["exit_signal"]) == ("CANCELLED", 15)


def test_names_of_every_kind(lab: Lab) -> None:
    names = ["new\nline", "pi|pe", "'quote\" $HOME `id`", "unit\x1fseparator", "\nfirst", "last\n"]
    lines = "\n".join(f"{STEP} -J {shlex.quote(name)} true" for name in names)
    job = lab.submit(lines, "--job-name=job\nname")
    lab.wait_ended(job)
    rows = fetch(lab, job, *(str(number) for number in range(len(names))))
    assert [row["step_name"] for row in rows[: len(names)]] == names


def test_an_array_task_by_its_own_id(lab: Lab) -> None:
    body = f"{STEP} -J task sh -c 'exit '$SLURM_ARRAY_TASK_ID; echo $SLURM_JOB_ID > task.$SLURM_ARRAY_TASK_ID"
    array = lab.submit(body, "--array=1-3")
    files = [lab.directory / f"task.{number}" for number in (1, 2, 3)]
    lab.wait_for(lambda: all(file.exists() and file.read_text() for file in files), "the array's tasks")
    lab.wait_for(
        lambda: set(lab.states(array).values()) <= {"COMPLETED", "FAILED"} and len(lab.states(array)) == 9, "rows"
    )
    for number, file in enumerate(files, start=1):
        job = int(file.read_text())
        (row, *_) = fetch(lab, job, "0", slurm_array=f"{array}_{number}")
        assert (row["slurm_job_id"], row["exit_code"]) == (job, number)


def test_a_heterogeneous_job(lab: Lab) -> None:
    done = lab.run_as_user(
        ["sbatch", "--parsable", "--output=%j.out", "-n1", ":", "-n1",
         "--wrap=srun --het-group=0,1 -J both sleep 0.2; srun --het-group=1 -J second sh -c 'exit 4'"]
    )  # fmt: skip
    job = int(done.stdout)
    lab.wait_ended(job)
    lab.wait_for(lambda: f"{job + 1}.1" in lab.states(job), "the second component's records")
    both, second, *_ = fetch(lab, job, "0", "1")
    assert (both["state"], both["task_count"], second["exit_code"]) == ("COMPLETED", 2, 4)
    assert all(node in str(both["node_list"]) for node in lab.nodes)


def test_both_runs_of_a_requeued_job(lab: Lab) -> None:
    body = f"echo $(date +%s.%N) > begin.${{SLURM_RESTART_COUNT:-0}}\n{STEP} -J attempt sleep ${{SECONDS_TO_SLEEP:-2}}"
    job = lab.submit(body + "\n[ ${SLURM_RESTART_COUNT:-0} = 1 ] || sleep 600", "--requeue")
    lab.wait_for(lambda: lab.states(job).get(f"{job}.0") == "COMPLETED", "the first run's step")
    lab.run(["scontrol", "requeue", str(job)])
    second = lab.directory / "begin.1"
    lab.wait_for(lambda: second.exists() and second.read_text(), "the second run")
    lab.wait_ended(job)
    for run_id in (1, 2):
        begin = float((lab.directory / f"begin.{run_id - 1}").read_text())
        (row, *_) = fetch(lab, job, "0", run_id=run_id, earliest_begin_time=begin, user_name=lab.user)
        assert (row["run_id"], row["state"]) == (run_id, "COMPLETED")
        assert abs(float(str(row["start_time"])) - begin) < 30


def test_a_job_that_does_not_exist_and_one_of_another_user(lab: Lab) -> None:
    (row, *_) = fetch(lab, 4_000_000, "0")
    assert (row["status"], row["max_rss_bytes"]) == ("pending", None)
    root_job = lab.run(["sbatch", "--parsable", "--output=/dev/null", "--wrap=srun true"]).stdout.strip()
    lab.wait_ended(int(root_job))
    (row, *_) = fetch(lab, int(root_job), "0", user_name=lab.user)
    assert (row["status"], row["state"]) == ("pending", None)
    assert "another user" in str(row["reason"])


# --- accounting that fails


def test_slurmdbd_stopped_and_started_again(lab: Lab) -> None:
    lab.stop("slurmdbd")
    job = lab.submit(f"{STEP} -J measured {EAT.format(bytes=20_000_000, seconds=2.5)}")
    lab.wait_ended(job, accounted=False)
    (row, *_) = fetch(lab, job, "0", timeout=5)
    assert row["status"] == "unavailable"
    assert "sacct" in str(row["reason"])
    lab.start("slurmdbd")
    lab.wait_for(lambda: fetch(lab, job, "0")[0]["status"] == "found", "the step's record after slurmdbd came back")


def test_slurmdbd_killed_during_the_run_and_never_started_again(lab: Lab) -> None:
    """The script ends normally; stats show the wrapper's figures and why there are no others."""
    body = f"""{TRAP}
    {STEP} -J measured torc-step -- {EAT.format(bytes=20_000_000, seconds=6)}
    {STEP} -J after torc-step -- true
    exit 7
    """
    job = lab.submit(body, env={"TORC_SACCT_TIMEOUT_SECONDS": "3"})
    lab.wait_running(job, "0")
    lab.kill("slurmdbd")
    lab.wait_ended(job, accounted=False)
    for _ in range(2):
        words = ["torc", "slurm", "stats", "--slurm-job-id", str(job), "-f", "json"]
        done = lab.run_as_user(words, env={"TORC_SACCT_TIMEOUT_SECONDS": "3"})
        items = json.loads(done.stdout)["items"]
        assert [(item["status"], item["max_rss_bytes"], item["return_code"]) for item in items] == [
            ("unavailable", None, 0),
            ("unavailable", None, 0),
        ]
        assert 20_000_000 < items[0]["peak_memory_bytes"] < 60_000_000
        assert "sacct" in items[0]["reason"]
    lab.start("slurmdbd")
    lab.wait_for(lambda: {item["status"] for item in stats(lab, job)} <= set(FINAL), "the records that were queued")
    assert oracle(lab, job, "ExitCode")["batch"] == "7:0"


def test_suspended_time_does_not_count_as_run_time(lab: Lab) -> None:
    begun = lab.directory / "begun"
    busy = f"open({str(begun)!r}, 'w'); import time\nwhile time.process_time() < 2: pass"
    job = lab.submit(f"{STEP} -J paused torc-step -- python3 -c {shlex.quote(busy)}")
    lab.wait_for(begun.exists, "the job to begin")
    lab.run(["scontrol", "suspend", str(job)])
    time.sleep(15)  # must not count
    lab.run(["scontrol", "resume", str(job)])
    lab.wait_ended(job)
    (item,) = stats(lab, job)
    assert float(str(item["suspended_seconds"])) >= 14
    wall = float(str(item["end_time"])) - float(str(item["start_time"]))
    assert abs(float(str(item["exec_time_seconds"])) - (wall - float(str(item["suspended_seconds"])))) < 1
    assert float(str(item["exec_time_seconds"])) - float(str(item["elapsed_seconds"])) < 2
    assert "in which it was suspended" in str(item["job_status_evidence"])


def test_without_sacct_on_path(lab: Lab) -> None:
    (row, *_) = fetch(lab, 1, "0", path="/nowhere")
    assert row["status"] == "unavailable"
    assert "not found on PATH" in str(row["reason"])


def test_a_slow_sacct_is_given_up(lab: Lab) -> None:
    slow = program(lab, "sacct", "sleep 1000")
    (row, *_) = fetch(lab, 1, "0", timeout=0.5, path=slow)
    assert row["status"] == "unavailable"
    assert "did not answer within 0.5 s" in str(row["reason"])


def test_disk_figures_of_the_first_process_alone_and_of_the_tree(lab: Lab, make_lab: Callable[..., Lab]) -> None:
    """With cgroups 22.05 reads only the task's first process and what that has reaped: torc-step has reaped nothing."""
    write = "sh -c 'dd if=/dev/zero of=30M bs=1M count=30 2>/dev/null; sleep 2.5; rm 30M'"
    for options in ((), ("--cgroup", "off", "--jobacct-gather", "linux")):
        place = make_lab(*options) if options else lab
        job = place.submit(f"{STEP} -J bare {write}; {STEP} -J wrapped torc-step -- {write}")
        place.wait_ended(job)
        bare, wrapped, *_ = fetch(place, job, "0", "1")
        assert int(str(bare["max_disk_write_bytes"])) > 30_000_000
        is_tree = str(bare["gather_type"]).endswith("linux") or not str(bare["slurm_version"]).startswith("22.")
        assert (int(str(wrapped["max_disk_write_bytes"])) > 30_000_000) is is_tree
        shown = place.run_as_user(["torc", "slurm", "stats", "--explain", "--slurm-job-id", str(job)]).stdout
        assert ("are torc-step's own" in shown) is not is_tree
        (item,) = stats(place, job)
        assert int(str(item["all_nodes_written_chars"])) > 30_000_000


@pytest.mark.parametrize("gather", ["none", "linux", "cgroup"])
def test_other_gather_plugins(gather: str, make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("--cgroup", "on" if gather == "cgroup" else "off", "--jobacct-gather", gather)
    job = lab.submit(f"{STEP} -J sleeps {EAT.format(bytes=30_000_000, seconds=2.5)}")
    lab.wait_ended(job)
    (row, *_) = fetch(lab, job, "0")
    assert row["gather_type"] == f"jobacct_gather/{gather}"
    if gather == "none":
        assert (row["status"], row["max_rss_bytes"], row["total_cpu_seconds"]) == ("partial", None, None)
        assert "jobacct_gather/none" in str(row["reason"])
    else:
        assert row["status"] == "found"
        assert int(str(row["max_rss_bytes"])) > 30_000_000


# --- the hooks

TEMPLATES = Path(__file__).resolve().parents[2] / "sbatch_templates"
TRAP = (TEMPLATES / "epilog_trap.sh").read_text().splitlines()[-1]


def template(lab: Lab, name: str) -> Path:
    """A copy of a template where the lab's user can read it."""
    return Path(shutil.copy(TEMPLATES / name, lab.directory / name))


@pytest.mark.cluster_in_ci
def test_the_trap_brings_accounting_home_and_keeps_the_exit_status(lab: Lab) -> None:
    body = f"""{TRAP}
    {STEP} -J measured torc-step -- {EAT.format(bytes=20_000_000, seconds=6)}
    {STEP} -J bare true
    exit 7
    """
    job = lab.submit(body)
    lab.wait_ended(job)
    assert lab.states(job)[str(job)] == "FAILED"
    assert oracle(lab, job, "ExitCode")["batch"] == "7:0"
    (item,) = stats(lab, job, "--no-accounting")
    assert item["status"] == "found", (item["reason"], lab.output(job))
    assert int(str(item["max_rss_bytes"])) > 20_000_000


def test_the_trap_after_scancel(lab: Lab) -> None:
    """bash runs it on SIGTERM too, and then dies of the signal, as Slurm's record of the batch step shows."""
    job = lab.submit(f"{TRAP}\n{STEP} -J measured torc-step -- sleep 600")
    lab.wait_running(job, "0")
    lab.wait_for(lambda: list((lab.directory / "torc_output").rglob(f"*slurm{job}_1.db")), "the step's first flush")
    lab.run(["scancel", str(job)])
    lab.wait_ended(job)
    assert oracle(lab, job, "ExitCode")["batch"] == "0:15"
    (item,) = stats(lab, job, "--no-accounting")
    assert item["status"] in ("pending", *FINAL), lab.output(job)
    (item,) = stats(lab, job)
    assert item["status"] in FINAL
    assert item["job_status"] == "cancelled"


@pytest.mark.parametrize("trouble", ["no sacct", "slow sacct", "slurmdbd down"])
def test_the_trap_in_trouble_leaves_the_script_alone_and_is_made_good_later(trouble: str, lab: Lab) -> None:
    path = lab.path
    if trouble == "no sacct":
        path = program(lab, "sacct", "exit 127")
    elif trouble == "slow sacct":
        path = program(lab, "sacct", "sleep 1000")
    else:
        lab.stop("slurmdbd")
    body = f"""{TRAP}
    {STEP} -J measured torc-step -- {EAT.format(bytes=20_000_000, seconds=2.5)}
    exit 7
    """
    job = lab.submit(body, env={"PATH": path, "TORC_SACCT_TIMEOUT_SECONDS": "2"})
    lab.wait_ended(job, accounted=False)
    (item,) = stats(lab, job, "--no-accounting")
    assert item["status"] == "unavailable", lab.output(job)
    lab.start_all()
    lab.wait_for(lambda: stats(lab, job)[0]["status"] == "found", "the record, asked for from the login node")
    assert oracle(lab, job, "ExitCode")["batch"] == "7:0"


def test_500_steps_are_one_query(lab: Lab) -> None:
    """Sixty of them are measured: a step under torc-step is slow on a small machine."""
    real = lab.run(["sh", "-c", "command -v sacct"]).stdout.strip()
    calls = lab.directory / "calls"
    path = program(lab, "sacct", f'echo "$*" >> {calls}; exec {real} "$@"')
    body = f"""{TRAP}
    for i in $(seq 500); do
        [ "$i" -le 60 ] && wrapper="torc-step --" || wrapper=
        {STEP} $wrapper true &
        [ $((i % 8)) = 0 ] && wait
    done
    wait
    """
    job = lab.submit(body, "--ntasks=4", "--mem=2000", "--time=20", env={"PATH": path})
    lab.wait_for(lambda: calls.exists() and "-j" in calls.read_text(), "the epilog's query", seconds=400)
    lab.wait_ended(job)
    queries = [line for line in calls.read_text().splitlines() if line != "-e"]
    assert len(queries) == 1, queries
    items = stats(lab, job, "--no-accounting")
    assert len(items) == 60
    assert {item["status"] for item in items} <= {*FINAL, "pending"}
    assert {item["status"] for item in stats(lab, job)} <= set(FINAL)
    rows = fetch(lab, job, *(str(number) for number in range(500)))
    assert len(rows) == 501  # and the batch step
    assert {row["status"] for row in rows} <= set(FINAL)


def test_srun_epilog_collects_a_step_of_its_own(lab: Lab) -> None:
    script = template(lab, "srun_epilog.sh")
    done = lab.run_as_user(["srun", "-n1", f"--epilog={script}", "torc-step", "--", "sh", "-c", "echo $SLURM_JOB_ID"])
    job = int(done.stdout)
    assert "epilog" not in done.stderr
    (item,) = stats(lab, job, "--no-accounting")
    assert item["job_status"] == "completed"


def test_afterany_collector(lab: Lab) -> None:
    job = lab.submit(f"{STEP} torc-step -- {EAT.format(bytes=20_000_000, seconds=2.5)}")
    options = ["--parsable", f"--dependency=afterany:{job}", "--output=%j.out"]
    script = template(lab, "afterany_collect.sh")
    collector = int(lab.run_as_user(["sbatch", *options, script, str(job)]).stdout)
    lab.wait_ended(collector)
    assert lab.states(collector)[str(collector)] == "COMPLETED", lab.output(collector)
    (item,) = stats(lab, job, "--no-accounting")
    assert item["status"] == "found", lab.output(collector)


def test_a_workflow_asks_for_its_collector(lab: Lab) -> None:
    """The batch step ends after the epilog's query: only a later query has its record."""
    spec = {
        "name": "collected",
        "slurm_schedulers": [{"name": "here", "partition": "debug", "mem": "500", "collect_afterwards": "true"}],
        "jobs": [{"name": "work", "command": "sleep 2"}],
    }
    directory = lab.directory / "collected"
    lab.run_as_user(["mkdir", directory])
    (lab.directory / "collected.json").write_text(json.dumps(spec))
    where = ["--output-dir", str(directory), "-f", "json"]
    submitted = json.loads(lab.run_as_user(["torc", "submit", "collected.json", *where]).stdout)
    collector = submitted["collector_slurm_job_id"]
    lab.wait_ended(collector)
    output = (directory / f"slurm_output_wf1_sl{collector}.o").read_text()
    assert lab.states(collector)[str(collector)] == "COMPLETED", output
    assert "work" in output
    words = ["torc", "slurm", "stats", "1", "--all-steps", "--no-accounting", *where]
    shown = {item["step_id"]: item for item in json.loads(lab.run_as_user(words).stdout)["items"]}
    assert shown["batch"]["state"] == "COMPLETED"
    assert shown["0"]["status"] in FINAL
    told = lab.run_as_user(["torc", "slurm", "generate", "collected.json", "-o", "c.sh", *where]).stderr
    assert "sbatch --dependency=afterany:JOB" in told


def test_a_collector_that_is_refused_takes_nothing_back(lab: Lab) -> None:
    """Its sbatch is the second call; Slurm refuses the dependency."""
    real = lab.run(["sh", "-c", "command -v sbatch"]).stdout.strip()
    path = program(lab, "sbatch", f'case "$*" in *afterany*) echo no >&2; exit 1;; esac; exec {real} "$@"')
    schedulers = [{"name": "here", "mem": "500", "collect_afterwards": "true"}]
    spec = {"name": "alone", "slurm_schedulers": schedulers, "jobs": [{"name": "work", "command": "true"}]}
    directory = lab.directory / "alone"
    lab.run_as_user(["mkdir", directory])
    (lab.directory / "alone.json").write_text(json.dumps(spec))
    words = ["torc", "submit", "alone.json", "--output-dir", str(directory), "-f", "json"]
    done = lab.run_as_user(words, env={"PATH": path})
    submitted = json.loads(done.stdout)
    assert submitted["collector_slurm_job_id"] is None
    assert "no collector was submitted" in done.stderr
    lab.wait_ended(submitted["slurm_job_id"])
