"""The runner in real allocations: where steps run and with what, all kinds of end, stops, crashes, storms."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cluster_head import on_cluster_head
from real_slurm import Lab
from slurm_jobs import PATIENCE_SECONDS

from torc_slurm.common.errors import NodeFileBusy
from torc_slurm.database.snapshot import snapshot

pytestmark = pytest.mark.slurm

SMALL = {"name": "small", "num_cpus": 1, "memory": "100m", "runtime": "PT20M"}
FOR_EVER = "while true; do sleep 0.1; done"  # its sleep may get a signal before the shell does
WHOLE_NODES = ("-N2", "--exclusive", "--mem=0")


@contextlib.contextmanager
def copied(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy of a node file: opening the original would disturb its writer."""
    with snapshot(str(path)) as (copy, _), contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


class Work:
    """A directory of the lab's ordinary user with a workflow."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.output_dir = directory / "out"
        self.slurm_jobs: list[int] = []
        directory.mkdir()
        shutil.chown(directory, lab.user)

    def spec(
        self, *jobs: Mapping[str, object], requirements: tuple[Mapping[str, object], ...] = (), **more: object
    ) -> None:
        listed = [{"resource_requirements": "small", **job} for job in jobs]
        document = {"name": "w", "resource_requirements": [SMALL, *requirements], "jobs": listed, **more}
        (self.directory / "w.json").write_text(json.dumps(document))

    def torc(self, *words: object, check: bool = True) -> str:
        argv = ["torc", "--output-dir", self.output_dir, *words]
        return self.lab.run([*map(str, argv)], user=self.lab.user, cwd=self.directory, check=check).stdout

    def items(self, *words: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.torc("-f", "json", *words))["items"]
        return found

    def statuses(self) -> dict[str, str]:
        return {job["name"]: job["status"] for job in self.items("jobs", "list", 1)}

    def batch(self, command: str, *options: str) -> int:
        """Submit a user's own script that runs a command in the directory."""
        self.slurm_jobs.append(self.lab.submit(f"cd {self.directory}\n{command}\n", *(options or WHOLE_NODES)))
        return self.slurm_jobs[-1]

    def submit(self, what: str = "w.json") -> dict[str, Any]:
        """Submit the workflow with ``torc submit``; returns its answer."""
        submitted: dict[str, Any] = json.loads(self.torc("-f", "json", "submit", what))
        self.slurm_jobs.append(submitted["slurm_job_id"])
        return submitted

    def cancel(self) -> None:
        """Cancel what a failed test has left."""
        self.lab.run(["scancel", *map(str, self.slurm_jobs)], check=False)

    def run(self, *options: str, seconds: float = PATIENCE_SECONDS) -> int:
        """Run the workflow with ``torc run`` in an allocation, to its end; returns the allocation's job id."""
        job = self.batch("torc run w.json --output-dir out; echo status=$?", *options)
        self.lab.wait_ended(job, seconds=seconds)
        return job

    def plan(self) -> Path:
        """The plan of run 1, made by ``torc slurm generate``."""
        self.torc("slurm", "generate", "w.json", "-o", "run.sh")
        return self.output_dir / "plans" / "wf1_r1.json"

    def wait_for_file(self, name: str) -> None:
        self.lab.wait_for((self.directory / name).exists, name)

    def journal(self, run_id: int = 1) -> dict[str, dict[str, Any]]:
        """The journal's rows by job name, from the node file that has them; a file may have no tables yet."""
        found: dict[str, dict[str, Any]] = {}
        for path in (self.output_dir / "resource_utilization").glob(f"*_1_{run_id}.db"):
            unfinished = (NodeFileBusy, FileNotFoundError, sqlite3.OperationalError)
            with contextlib.suppress(*unfinished), copied(path) as connection:
                found |= {row["job_name"]: dict(row) for row in connection.execute("SELECT * FROM job_states")}
        return found

    def stdio(self, job_id: int, kind: str = "o") -> str:
        return (self.output_dir / "job_stdio" / f"job_wf1_j{job_id}_r1_a1.{kind}").read_text()


@pytest.fixture
def work(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Work]:
    yield from _work(lab, request)


def _work(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Work]:
    lab.activate()
    work = Work(lab, lab.directory / f"runner-{abs(hash(request.node.name))}")
    yield work
    work.cancel()


@pytest.fixture(scope="module")
def linuxproc_lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab("--cgroup", "off")


@pytest.fixture(params=["session_lab", "linuxproc_lab"], ids=["cgroup", "linuxproc"])
def either(request: pytest.FixtureRequest) -> Iterator[Work]:
    """With cgroups, and with linuxproc, where Slurm finds the processes of a step by their parents."""
    yield from _work(request.getfixturevalue(request.param), request)


@pytest.fixture(scope="module", autouse=True)
def begin_at_limits(request: pytest.FixtureRequest) -> None:
    """Slurm counts time limits in minutes: with several labs the wait for them begins with the first test."""
    if not on_cluster_head():
        request.getfixturevalue("at_limits")


@pytest.fixture(scope="module")
def at_limits(linuxproc_lab: Lab) -> tuple[Work, Work]:
    """A job over its run time, and an allocation over its time limit; both take less than a node."""
    linuxproc_lab.activate()
    short = {"name": "short", "num_cpus": 1, "memory": "100m", "runtime": "PT1S"}
    enforced = Work(linuxproc_lab, linuxproc_lab.directory / "enforced")
    enforced.spec(
        {"name": "too_long", "command": "sleep 300", "resource_requirements": "short"},
        requirements=(short,),
        execution_config={"enforce_runtime": True},
    )
    enforced.batch("torc run w.json --output-dir out", "-N1", "-n1", "--mem=1G")
    limited = Work(linuxproc_lab, linuxproc_lab.directory / "limited")
    limited.spec(
        {"name": "done", "command": "true"},
        {"name": "saves", "command": f"trap 'sleep 1; echo > saved; exit 0' TERM; {FOR_EVER}"},
        {"name": "never", "command": "true", "depends_on": "saves"},
        slurm_schedulers=[{"name": "s", "nodes": 1, "cpus_per_task": 2, "mem": "1g", "walltime": "00:01:00"}],
    )
    limited.submit()
    return enforced, limited


# --- where and with what steps run -----------------------------------------------------------------------------


@pytest.mark.cluster_in_ci
def test_jobs_fill_both_nodes_at_once_and_no_node_is_overfull(work: Work) -> None:
    # The first jobs wait for a fifth: more than one node's four CPUs can run. A step may take seconds to start.
    wait = 'for _ in $(seq 300); do [ "$(ls | grep -c ^began_)" -gt 4 ] && break; sleep 0.2; done; sleep 1'
    command = f'echo "$SLURMD_NODENAME $SLURM_CPUS_ON_NODE"; touch began_{{i}}; {wait}'
    work.spec({"name": "j_{i}", "command": command, "parameters": {"i": "1:16"}})
    job = work.run()
    assert "status=0" in work.lab.output(job)
    rows = work.items("results", "list", 1)
    spans = [(row["start_time"], row["end_time"], work.stdio(row["job_id"]).split()[0]) for row in rows]
    for node in work.lab.nodes:
        here = [(begin, end) for begin, end, where in spans if where == node]
        assert len(here) >= 4
        assert max(sum(b <= begin < e for b, e in here) for begin, _ in here) <= 4
    everywhere = [(begin, end) for begin, end, _ in spans]
    assert max(sum(b <= begin < e for b, e in everywhere) for begin, _ in everywhere) > 4


def test_a_step_gets_what_its_job_asks_for(work: Work) -> None:
    wide = {"name": "wide", "num_nodes": 2, "num_cpus": 4, "ntasks_per_node": 2, "memory": "1g", "runtime": "PT1M"}
    work.spec(
        {
            "name": "wide",
            "command": 'echo "$SLURM_PROCID/$SLURM_NTASKS on $SLURMD_NODENAME"',
            "resource_requirements": "wide",
        },
        {"name": "one", "command": "nproc"},
        requirements=(wide,),
    )
    # variables that sbatch sets for the allocation must not apply to the steps
    job = work.run("-N2", "--ntasks-per-node=2", "--cpus-per-task=2", "--mem=4G")
    assert "status=0" in work.lab.output(job)
    lines = sorted(work.stdio(1).splitlines())
    assert [line.split()[0] for line in lines] == ["0/4", "1/4", "2/4", "3/4"]
    assert {line.split()[2] for line in lines} == set(work.lab.nodes)
    fields = ["sacct", "-nPj", str(job), "-o", "JobName,AllocTRES"]
    tres = dict(line.split("|", 1) for line in work.lab.run(fields).stdout.splitlines())
    assert tres["wf1_j1_r1_a1"] == "cpu=8,mem=2G,node=2"
    assert tres["wf1_j2_r1_a1"] == "cpu=1,mem=116M,node=1"  # 16 MiB of it for the monitor


def test_what_cannot_fit_the_allocation_fails_at_once_with_both_sizes(work: Work) -> None:
    big = {"name": "big", "num_cpus": 3, "memory": "100m", "runtime": "PT1M"}
    work.spec(
        {"name": "big", "command": "true", "resource_requirements": "big"},
        {"name": "after", "command": "true", "depends_on": "big"},
        {"name": "small", "command": "true"},
        requirements=(big,),
    )
    job = work.run("-N1", "-n2", "--mem=1G")
    assert "status=1" in work.lab.output(job)
    assert work.statuses() == {"big": "failed", "after": "cancelled", "small": "completed"}
    reason = "it requests 3 CPUs and 0.10 GB; this allocation has 2 CPUs and 1.07 GB"
    assert work.journal()["big"]["reason"] == reason


def test_a_large_job_is_not_starved_by_small_ones(work: Work) -> None:
    wide = {"name": "wide", "num_nodes": 2, "num_cpus": 4, "memory": "1g", "runtime": "PT1M"}
    work.spec(
        {"name": "early_{i}", "command": "sleep 0.5", "parameters": {"i": "1:8"}},
        {"name": "wide", "command": "true", "resource_requirements": "wide"},
        {"name": "late_{i}", "command": "sleep 0.5", "parameters": {"i": "1:24"}},
        requirements=(wide,),
    )
    work.run()
    rows = {row["job_name"]: row for row in work.items("results", "list", 1)}
    before = [name for name, row in rows.items() if row["start_time"] < rows["wide"]["start_time"]]
    assert set(before) <= {name for name in rows if name.startswith("early")}


def test_without_limits_a_step_sees_all_that_the_allocation_has(work: Work) -> None:
    command = 'sleep 1; echo "$SLURM_CPUS_PER_TASK"; python3 -c "x = bytearray(150_000_000)" && echo held'
    work.spec(
        {"name": "j_{i}", "command": command, "parameters": {"i": "1:4"}},
        execution_config={"limit_resources": False},
    )
    job = work.run("-N1", "--exclusive", "--mem=4G")
    assert "status=0" in work.lab.output(job)
    assert [work.stdio(number) for number in (1, 2, 3, 4)] == ["4\nheld\n"] * 4
    rows = work.items("results", "list", 1)
    assert max(row["start_time"] for row in rows) < min(row["end_time"] for row in rows)


def test_inside_salloc_jobs_are_steps_and_inside_a_step_plain_processes(work: Work) -> None:
    work.spec({"name": "j", "command": 'echo "${SLURM_STEP_ID-none}"'})
    words = ["bash", "-c", f"cd {work.directory} && salloc -Q -N1 --mem=1G torc run w.json --output-dir out"]
    said = work.lab.run_as_user(words).stderr
    assert "job 'j' has a runtime of 20m 0s, and this allocation ends in " in said
    assert work.stdio(1) == "0\n"
    assert work.items("slurm", "stats", 1)[0]["step_id"] == "0"
    inside = ["bash", "-c", f"cd {work.directory} && salloc -Q -N1 --mem=1G srun torc run w.json --output-dir in"]
    work.lab.run_as_user(inside)
    work.output_dir = work.directory / "in"
    assert work.items("results", "list", 1)[0]["slurm_job_id"] is None


# --- ends of every kind ----------------------------------------------------------------------------------------


def test_the_journal_distinguishes_ends_at_once(work: Work) -> None:
    """From the journal, which decides what dependents do; accounting comes later."""
    hog = "python3 -c 'x = bytearray(400_000_000)'"
    work.spec(
        {"name": "exits_3", "command": "exit 3"},
        {"name": "after_3", "command": "true", "depends_on": "exits_3"},
        {"name": "terminates_itself", "command": "kill -TERM $$"},
        {"name": "oom", "command": f"exec {hog}"},
        {"name": "survives_oom", "command": f"{hog}; exit 0"},
        {"name": "after_survivor", "command": "true", "depends_on": "survives_oom"},
        {"name": "no_plugin", "command": "true", "srun_options": ["--mpi=nope"]},
        {"name": "lost", "command": "true", "working_dir": "/no/such/place"},
        {"name": "leaves_a_daemon", "command": "setsid sleep 300 & disown"},
        {"name": "loud", "command": "head -c 50000000 /dev/zero"},
        {"name": "quiet_srun", "command": "true", "srun_options": ["--quiet"]},
    )
    work.run()
    journal = work.journal()
    assert {name: (row["state"], row["return_code"]) for name, row in journal.items()} == {
        "exits_3": ("failed", 3),
        "after_3": ("cancelled", None),
        "terminates_itself": ("failed", 143),
        "oom": ("oom", 137),
        "survives_oom": ("completed", 0),
        "after_survivor": ("completed", 0),
        "no_plugin": ("failed", None),
        "lost": ("failed", None),
        "leaves_a_daemon": ("completed", 0),
        "loud": ("completed", 0),
        "quiet_srun": ("completed", 0),
    }
    assert "Invalid MPI type 'nope'" in journal["no_plugin"]["reason"]
    assert (work.output_dir / "job_stdio" / "job_wf1_j10_r1_a1.o").stat().st_size == 50_000_000
    steps = {
        row["step_id"] for name, row in journal.items() if name not in ("after_3", "no_plugin", "lost", "quiet_srun")
    }
    assert None not in steps


def test_a_step_that_is_cancelled_alone(work: Work) -> None:
    work.spec(
        {"name": "victim", "command": "echo > begun; sleep 300"},
        {"name": "after", "command": "true", "depends_on": "victim"},
        {"name": "free", "command": "true"},
    )
    job = work.batch("torc run w.json --output-dir out")
    work.wait_for_file("begun")
    work.lab.wait_for(lambda: work.journal().get("victim"), "the journal")
    steps = work.lab.run(["squeue", "-hs", "-j", str(job), "-o", "%i %j"]).stdout.split("\n")
    work.lab.run_as_user(["scancel", next(line.split()[0] for line in steps if line.endswith("wf1_j1_r1_a1"))])
    work.lab.wait_ended(job)
    assert {name: row["state"] for name, row in work.journal().items()} == {
        "victim": "cancelled",
        "after": "cancelled",
        "free": "completed",
    }


# --- stops and crashes -----------------------------------------------------------------------------------------

LONG = (
    {"name": "done", "command": "echo >> done"},
    {
        "name": "polite",
        "command": f"trap 'echo asked >> asked; exit 0' TERM; echo > begun; {FOR_EVER}",
        "depends_on": "done",
    },
    {"name": "plain", "command": "echo > plain; sleep 300", "depends_on": "done"},
    {"name": "deaf", "command": f"trap '' TERM; echo > deaf; {FOR_EVER}", "depends_on": "done"},
    {"name": "after", "command": "true", "depends_on": "plain"},
)


def _begin(work: Work) -> int:
    work.spec(*LONG)
    job: int = work.submit()["slurm_job_id"]
    for name in ("begun", "plain", "deaf"):
        work.wait_for_file(name)
    return job


@pytest.mark.parametrize("how", ["scancel", "warning"])
def test_a_stop_asks_every_job_once_keeps_the_results_and_ends_in_time(either: Work, how: str) -> None:
    job = _begin(either)
    # Slurm's clock has whole seconds: a scancel may have ended anything that ends in the same second
    either.lab.wait_for(lambda: time.time() - (either.directory / "done").stat().st_mtime > 2, "some time to pass")
    either.lab.run_as_user(["scancel", *(["-b", "-s", "TERM"] if how == "warning" else []), str(job)])
    either.lab.wait_ended(job)
    assert either.statuses() == {
        "done": "completed",
        "polite": "cancelled",
        "plain": "cancelled",
        "deaf": "cancelled",
        "after": "blocked",
    }
    assert (either.directory / "asked").read_text() == "asked\n"
    said = (either.output_dir / f"slurm_output_wf1_sl{job}.o").read_text()
    assert "ends the running jobs (3)" in said
    assert "has ended: 3 cancelled, 1 completed, 1 not started" in said, said


def test_a_runner_that_is_killed_leaves_its_jobs_to_slurm_and_the_next_run_goes_on(work: Work) -> None:
    job = _begin(work)
    work.lab.wait_for(lambda: work.journal().get("deaf"), "the journal")
    work.lab.on_nodes(["pkill", "-KILL", "-u", work.lab.user, "-f", "^torc run --plan"])
    work.lab.wait_ended(job)
    assert work.statuses()["done"] == "completed"
    work.spec(*({**row, "command": "true"} for row in LONG))
    assert work.submit("1")["run_id"] == 2
    assert work.statuses()["done"] == "completed"
    assert (work.directory / "done").read_text() == "\n"


def test_a_script_submitted_twice_runs_its_jobs_once(work: Work) -> None:
    work.spec({"name": "j", "command": "echo >> ran; sleep 2"})
    plan = work.plan()
    jobs = [work.batch(f"torc run --plan {plan}; echo status=$?", "-N1", "-n1", "--mem=1G") for _ in range(2)]
    for job in jobs:
        work.lab.wait_ended(job)
    assert (work.directory / "ran").read_text() == "\n"
    said = sorted((work.lab.output(job) for job in jobs), key=len)
    assert any("status=0" in text for text in said)
    refused = [text for text in said if "status=1" in text]
    assert all("run 1 of workflow 1 is active: Slurm job" in text for text in refused)


def test_a_requeued_job_goes_on_as_the_next_run(work: Work) -> None:
    work.spec(
        {"name": "once", "command": "echo >> once"},
        {"name": "twice", "command": "echo >> twice; test $(wc -l < twice) = 2 || sleep 300", "depends_on": "once"},
    )
    job = work.batch(f"torc run --plan {work.plan()}; echo status=$?", "-N1", "-n1", "--mem=1G", "--requeue")
    twice = work.directory / "twice"
    work.lab.wait_for(lambda: twice.exists() and twice.read_text() == "\n", "the first life")
    work.lab.run(["scontrol", "requeue", str(job)])
    work.lab.wait_for(lambda: twice.read_text() == "\n\n", "the second life")
    work.lab.wait_ended(job, accounted=False)
    assert work.statuses() == {"once": "completed", "twice": "completed"}
    assert (work.directory / "once").read_text() == "\n"
    assert (work.output_dir / "plans" / "wf1_r2.json").exists()


# --- many ------------------------------------------------------------------------------------------------------


def test_three_hundred_tiny_jobs_make_no_storm(work: Work) -> None:
    log = Path(work.lab.env["TORC_LAB_LOG_DIR"]) / "slurmctld.log"
    before = log.stat().st_size
    work.spec({"name": "j_{i}", "command": "sleep 0.1", "parameters": {"i": "1:300"}})
    job = work.run(seconds=600)  # on virtual machines of one CPU a step takes a second
    assert "status=0" in work.lab.output(job)
    with log.open("rb") as file:
        file.seek(before)
        said = file.read().decode()
    errors = [line for line in said.splitlines() if "error" in line.lower()]
    assert [line for line in errors if "job state file" not in line] == []  # a new cluster has no such file yet
    journal = work.journal()
    assert {row["state"] for row in journal.values()} == {"completed"}
    assert len({row["step_id"] for row in journal.values()}) == 300


# --- limits (begun by the first test) --------------------------------------------------------------------------


def test_the_run_time_is_enforced(at_limits: tuple[Work, Work]) -> None:
    work, _ = at_limits
    work.lab.wait_ended(work.slurm_jobs[0], seconds=150)
    assert work.journal()["too_long"]["state"] == "timeout"
    assert work.statuses() == {"too_long": "timeout"}


def test_the_time_limit_is_warned_of(at_limits: tuple[Work, Work]) -> None:
    _, work = at_limits
    work.lab.wait_ended(work.slurm_jobs[0], seconds=150)
    assert work.statuses() == {"done": "completed", "saves": "cancelled", "never": "blocked"}
    assert (work.directory / "saved").exists()
    assert work.items("results", "list", 1)[1]["end_time"] is not None
