"""torc-step in real steps of an ordinary user: a step ends as it does without it, every task's exit is recorded, and
after any kill the record has what was known by then.

Compared with the same command without torc-step in the same allocation, and with sacct's record of both.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_head import on_cluster_head
from real_slurm import Lab

from torc_slurm.database.snapshot import snapshot

pytestmark = pytest.mark.slurm

WHOLE_NODES = ("-N2", "--exclusive", "--mem=0")
ONE = "srun --exact -N1 -n1 -c1 --mem=60M"  # a step with its own CPUs and memory
SHARED = "srun --overlap --mem=0"  # any number at once
SERIES = "torc-step --granularity time_series --sample-interval-seconds 0.1 --flush-interval-seconds 1 --"
HELD_BYTES = 30_000_000
COUNT_TERMS = """
import signal, sys
asked = {signal.SIGTERM, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, asked)
open(f"ready_{sys.argv[1]}", "w").close()
terms = 0
while signal.sigwait(asked) == signal.SIGTERM:
    terms += 1
    open(f"asked_{sys.argv[1]}", "w").close()
while signal.sigtimedwait({signal.SIGTERM}, 0.3):
    terms += 1
print(terms)
"""
HOLD = f"""
import pathlib, signal, sys
held = bytearray({HELD_BYTES})
pathlib.Path(f"ready_{{sys.argv[1]}}").touch()
signal.pause()
"""
KILL_SAMPLERS = """
import contextlib, os, pathlib, signal, time
def read(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""
while not (wrapper := read("pid").strip()):
    time.sleep(0.01)
while read(f"/proc/{wrapper}/stat").rpartition(") ")[2][:1] not in ("", "Z", "X"):
    pass
for pid in filter(str.isdigit, os.listdir("/proc")):
    if read(f"/proc/{pid}/comm") == "torc-sampler\\n":
        with contextlib.suppress(OSError):
            os.kill(int(pid), signal.SIGKILL)
"""


class Place:
    """A directory of the lab's ordinary user, in which scripts run and write records."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        directory.mkdir()
        shutil.chown(directory, lab.user)

    def program(self, name: str, text: str) -> str:
        """Write a Python program; returns the command that runs it."""
        (self.directory / name).write_text(text)
        return f"{shlex.quote(sys.executable)} -IS {name}"

    def submit(self, *lines: str) -> int:
        """Submit a script that runs here, on two whole nodes."""
        return self.lab.submit("\n".join([f"cd {self.directory}", *lines, ""]), *WHOLE_NODES)

    def run(self, *lines: str, accounted: bool = True) -> int:
        """Run a script in an allocation, to its end."""
        job = self.submit(*lines)
        self.lab.wait_ended(job, accounted=accounted)
        return job

    def text(self, name: str) -> str:
        return (self.directory / name).read_text()

    def wait_for_files(self, *names: str) -> None:
        self.lab.wait_for(lambda: all((self.directory / name).exists() for name in names), " ".join(names))

    def step_numbers(self, job: int) -> dict[str, str]:
        """The running steps by name."""
        lines = self.lab.run(["squeue", "-h", "-s", "-j", str(job), "-o", "%j %i"]).stdout.splitlines()
        return dict(line.split() for line in lines)

    def stats(self, job: int, *options: str) -> dict[str, dict[str, Any]]:
        """``torc slurm stats`` by the steps' names; nothing before the first record."""
        words = ["torc", "slurm", "stats", "--output-dir", str(self.directory / "torc_output"), "-f", "json"]
        done = self.lab.run_as_user([*words, "--slurm-job-id", str(job), *options], check=False)
        return {item["job_name"]: item for item in json.loads(done.stdout)["items"]} if done.returncode == 0 else {}

    def wait_for_record(self, job: int, *names: str) -> None:
        """Wait until the steps' figures have been flushed."""

        def recorded() -> bool:
            items = self.stats(job, "--no-accounting")
            peaks = [items[name]["peak_memory_bytes"] or 0 for name in names if name in items]
            return len(peaks) == len(names) and min(peaks) >= HELD_BYTES

        self.lab.wait_for(recorded, f"a first record of {names}")

    def rows(self, job: int, query: str) -> list[tuple[Any, ...]]:
        """Rows of all nodes' files, from copies."""
        found: list[tuple[Any, ...]] = []
        for path in sorted((self.directory / "torc_output" / "resource_utilization").glob(f"*_slurm{job}_1.db")):
            with snapshot(str(path)) as (copy, _), contextlib.closing(sqlite3.connect(copy)) as connection:
                found += connection.execute(query).fetchall()
        return found


@pytest.fixture(scope="module", params=["cgroup", "linuxproc"])
def chosen(request: pytest.FixtureRequest, session_lab: Lab, make_lab: Callable[..., Lab]) -> Lab:
    """With cgroups, and with linuxproc, where Slurm finds the processes of a step by their parents."""
    return session_lab if request.param == "cgroup" else make_lab("--cgroup", "off")


@pytest.fixture
def place(request: pytest.FixtureRequest, chosen: Lab) -> Iterator[Place]:
    chosen.activate()
    yield Place(chosen, chosen.directory / f"step-{abs(hash(request.node.name))}")
    chosen.run(["scancel", "-u", chosen.user], check=False)


def both(name: str, command: str) -> str:
    """A command as a bare step and as a wrapped one, at the same time; both write srun's exit status to a file."""
    steps = (("bare", ""), ("wrapped", "torc-step -- "))
    return "\n".join(
        f"( kind={kind}; {ONE} -J {kind}_{name} {wrapper}{command} > {kind}_{name}.o; echo $? > {kind}_{name} ) &"
        for kind, wrapper in steps
    )


# --- as without the wrapper ------------------------------------------------------------------------------------


def test_a_wrapped_step_ends_as_a_bare_one(place: Place) -> None:
    commands = {
        "exits_0": "true",
        "exits_3": "bash -c 'exit 3'",
        "terminates": "bash -c 'kill -TERM $$'",
        "segfaults": "bash -c 'ulimit -c 0; kill -SEGV $$'",
        "not_found": "./no-such-command",
        "not_executable": "./not-executable",
    }
    if place.lab.env["TORC_LAB_CGROUP"] == "on":
        commands["hog"] = f"{sys.executable} -c 'x = bytearray(400_000_000)'"
    (place.directory / "not-executable").write_text("#!/bin/sh\n")
    job = place.run(*(both(name, command) for name, command in commands.items()), "wait")
    out = place.lab.run(["sacct", "-nPj", str(job), "-o", "JobName,State,ExitCode"]).stdout
    said = dict(line.split("|", 1) for line in out.splitlines())
    bare = {name: (said[f"bare_{name}"], place.text(f"bare_{name}")) for name in commands}
    wrapped = {name: (said[f"wrapped_{name}"], place.text(f"wrapped_{name}")) for name in commands}
    # a shell's status for a command that cannot be started; slurmstepd gives the number of the error
    assert [bare.pop("not_found"), wrapped.pop("not_found")] == [("FAILED|2:0", "2\n"), ("FAILED|127:0", "127\n")]
    assert [bare.pop("not_executable"), wrapped.pop("not_executable")] == [
        ("FAILED|13:0", "13\n"),
        ("FAILED|126:0", "126\n"),
    ]
    assert wrapped == bare
    assert bare["exits_3"] == ("FAILED|3:0", "3\n")
    assert bare["terminates"][0] == "CANCELLED|0:15"
    assert bare.get("hog", ("OUT_OF_MEMORY|0:125",))[0] == "OUT_OF_MEMORY|0:125"


def test_a_signal_of_scancel_comes_once(place: Place) -> None:
    kinds = ("bare", "wrapped")
    job = place.submit(both("count", f"{place.program('count.py', COUNT_TERMS)} $kind"), "wait")
    place.wait_for_files(*(f"ready_{kind}" for kind in kinds))
    place.lab.wait_for(lambda: len(place.step_numbers(job)) >= 2, "the steps")
    steps = [step for name, step in place.step_numbers(job).items() if name.endswith("count")]
    place.lab.run_as_user(["scancel", "--ctld", "-s", "TERM", *steps])
    place.wait_for_files(*(f"asked_{kind}" for kind in kinds))
    place.lab.run_as_user(["scancel", "--ctld", "-s", "USR1", *steps])
    place.lab.wait_ended(job, accounted=False)
    assert [place.text(f"{kind}_count.o") for kind in kinds] == ["1\n", "1\n"]


# --- every exit and every sample -------------------------------------------------------------------------------


def test_many_steps_of_two_nodes_and_four_tasks_leave_every_exit(place: Place) -> None:
    count = 5 if on_cluster_head() else 20  # on one CPU 40 tasks at once do not get their exits written in time
    step = f"{SHARED} -N2 -n4 --ntasks-per-node=2 -J s$i torc-step -- sh -c 'exit $SLURM_PROCID'"
    job = place.run(f"for i in $(seq {count}); do {step} & done", "wait", accounted=False)
    place.lab.empty_spools(place.directory / "torc_output")
    items = place.stats(job, "--no-accounting")
    query = "SELECT s.job_name, e.task, e.return_code FROM steps s JOIN task_exits e ON e.step = s.id"
    exits = sorted(place.rows(job, query))
    assert exits == sorted((f"s{step}", task, task) for step in range(1, count + 1) for task in range(4))
    assert {name: item["return_code"] for name, item in items.items()} == {
        f"s{step}": 3 for step in range(1, count + 1)
    }


def test_an_exit_is_written_before_a_task_without_a_wrapper_ends_the_step(place: Place) -> None:
    """slurmstepd kills the monitor when that task ends; to save time, the monitor does it itself here."""
    first = "echo $$ > pid.new; mv pid.new pid; exec torc-step -- sh -c 'exit 5'"
    second = f"exec {place.program('kill.py', KILL_SAMPLERS)}"
    tasks = f"if [ $SLURM_PROCID = 0 ]; then {first}; else {second}; fi"
    job = place.run(f"srun -N1 -n2 sh -c {shlex.quote(tasks)}", accounted=False)
    assert place.rows(job, "SELECT task, return_code FROM task_exits") == [(0, 5)]


def test_eight_steps_at_once_on_one_node_lose_no_record(place: Place) -> None:
    together = "touch at_$1; until [ $(ls | grep -c ^at_) = 8 ]; do sleep 0.1; done; sleep 1; exit $1"
    step = f"{SHARED} -N1 -n1 -w {place.lab.nodes[0]} -J s$i {SERIES} sh -c {shlex.quote(together)} job $i"
    job = place.run(f"for i in $(seq 8); do {step} & done", "wait", accounted=False)
    place.lab.empty_spools(place.directory / "torc_output")
    exits = "SELECT s.job_name, e.return_code FROM steps s JOIN task_exits e ON e.step = s.id"
    assert sorted(place.rows(job, exits)) == [(f"s{number}", number) for number in range(1, 9)]
    ended = """
        SELECT s.job_name, (SELECT count(*) FROM job_resource_samples r WHERE r.job_id = s.job_id) FROM steps s
        JOIN step_usage u ON u.step = s.id WHERE s.end_time IS NOT NULL
    """
    samples = dict(place.rows(job, ended))
    assert len(samples) == 8
    assert min(samples.values()) > 1, samples
    assert "lost" not in place.lab.output(job)


# --- kills -----------------------------------------------------------------------------------------------------


def test_what_was_sampled_outlives_a_scancel_of_the_step_and_of_the_job(place: Place) -> None:
    hold = place.program("hold.py", HOLD)
    job = place.submit(*(f"{ONE} -J {name} {SERIES} {hold} {name} &" for name in ("one", "other")), "wait")
    place.wait_for_files("ready_one", "ready_other")
    place.wait_for_record(job, "one", "other")
    place.lab.run_as_user(["scancel", place.step_numbers(job)["one"]])
    place.lab.wait_for(lambda: "one" not in place.step_numbers(job), "the step to end")
    assert place.stats(job)["other"]["job_status"] == "running"
    place.lab.run_as_user(["scancel", str(job)])
    place.lab.wait_ended(job)
    items = place.stats(job)
    assert {name: (item["state"], item["job_status"]) for name, item in items.items()} == {
        "one": ("CANCELLED", "cancelled"),
        "other": ("CANCELLED", "cancelled"),
    }
    assert min(item["peak_memory_bytes"] for item in items.values()) >= HELD_BYTES
    series = "SELECT s.job_name, max(r.memory_bytes) FROM steps s JOIN job_resource_samples r USING (job_id) GROUP BY 1"
    assert {name for name, peak in place.rows(job, series) if peak >= HELD_BYTES} == {"one", "other"}


def test_a_killed_monitor_changes_nothing_for_the_job(place: Place) -> None:
    hold = "touch ready_$SLURM_PROCID; until [ -e go ]; do sleep 0.1; done; echo out; echo err >&2; exit $SLURM_PROCID"
    step = f"srun -N1 -n2 --mem=200M -J held {SERIES} sh -c {shlex.quote(hold)} > o 2> e"
    job = place.submit(step, "echo $? > status")
    place.wait_for_files("ready_0", "ready_1")
    place.lab.wait_for(lambda: place.stats(job, "--no-accounting"), "a first record")
    place.lab.on_nodes(["pkill", "-KILL", "-u", place.lab.user, "-x", "torc-sampler"])
    (place.directory / "go").touch()
    place.lab.wait_ended(job)
    assert (place.text("status"), place.text("o")) == ("1\n", "out\nout\n")
    said = place.text("e").splitlines()
    assert said.count("err") == 2
    assert any("the monitor was killed by signal 9; its unwritten measurements are lost" in line for line in said)
    exits = place.rows(job, "SELECT task, return_code FROM task_exits ORDER BY task")
    assert exits == [(0, 0), (1, 1)]
    notes = place.rows(job, "SELECT note FROM step_notes")
    assert any("killed by signal 9: unwritten measurements of task 0 are lost" in note for (note,) in notes), notes
    item = place.stats(job)["held"]
    assert (item["state"], item["return_code"], item["job_status"]) == ("FAILED", 1, "failed")


RANK_SCRIPTS = {
    "a script that does not exec": 'export MY_GPU=$SLURM_LOCALID\ntorc-step -- "$@"\nexit $?',
    "only some ranks": '[ "$SLURM_LOCALID" = 0 ] && exec "$@"\nexec torc-step -- "$@"',
    "only the last rank": '[ "$SLURM_LOCALID" = 3 ] || exec "$@"\ntorc-step -- "$@"',
}


@pytest.mark.parametrize("script", RANK_SCRIPTS)
def test_the_tasks_of_a_step_are_one_attempt(place: Place, script: str) -> None:
    """Whatever torc-step's parent is, and whichever tasks run it: one record, of all tasks that did."""
    rank = place.directory / "rank.sh"
    rank.write_text(f"#!/bin/bash\n{RANK_SCRIPTS[script]}\n")
    rank.chmod(0o755)
    holding = shlex.quote(sys.executable) + f" -ISc 'import time; held = bytearray({HELD_BYTES}); time.sleep(1.5)'"
    job = place.run(
        f"srun --exact -N1 -n4 --mem=400M -J long ./rank.sh {holding}",
        "srun --exact -N1 -n4 --mem=400M -J short ./rank.sh true",
    )
    words = ["torc", "slurm", "stats", "--output-dir", str(place.directory / "torc_output"), "-f", "json"]
    items = json.loads(place.lab.run_as_user([*words, "--slurm-job-id", str(job)]).stdout)["items"]
    assert sorted(item["job_name"] for item in items) == ["long", "short"]
    measured = {"a script that does not exec": 4, "only some ranks": 3, "only the last rank": 1}[script]
    for item in items:
        assert (item["recorded_task_count"], item["return_code"]) == (measured, 0)
    (long,) = (item for item in items if item["job_name"] == "long")
    assert long["peak_memory_bytes"] > measured * HELD_BYTES
