"""Records the output of a real sacct for jobs of every kind, as fixtures for the tests of the parsers.

Run it as root where Slurm's commands reach a cluster of two nodes that may be disturbed (a lab's): it sets one node
down for a moment. It takes about four minutes, most of it for one job that must reach its time limit.

    python tests/recorded/record_sacct.py DIRECTORY [--oom]

Each ``.txt`` is the text that `torc_slurm.slurm.sacct.query` returned, unchanged; each ``.pyslurm.json`` the output of
`torc_slurm.slurm.pyslurm_child` for the same job.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from torc_slurm.common.errors import CommandError
from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.slurm import commands, pyslurm_backend, sacct

STEP = "srun --exact --nodes=1 --ntasks=1 --mem=60"
LOOP = "while :; do sleep 0.2; done"

ENDS = rf"""
{STEP} -J completed sleep 2.5
{STEP} -J short true
{STEP} -J exits_3 sh -c 'exit 3'
{STEP} -J exits_200 sh -c 'exit 200'
{STEP} -J sigterm sh -c 'kill -TERM $$'
{STEP} -J sigsegv sh -c 'kill -SEGV $$'
srun --nodes=2 --ntasks=4 --ntasks-per-node=2 --mem=100 -J two_nodes sh -c '
  x=$(head -c $(( (SLURM_PROCID + 1) * 4000000 )) /dev/zero | tr "\0" x); sleep 3'
srun --nodes=2 --ntasks=2 --mem=60 -K -J kill_on_bad_exit sh -c '[ $SLURM_PROCID = 0 ] && exit 7; sleep 60'
{STEP} -J writes sh -c 'dd if=/dev/zero of=/tmp/torc-30M bs=1M count=30 2>/dev/null; sleep 2; rm /tmp/torc-30M'
exit 5
"""
NAMES = rf"""
{STEP} -J $'new\nline' true
{STEP} -J $'1.9|\n1.9|root|COMPLETED|0:0\n' true
{STEP} -J 'pi|pe "quote" '"'"' \ %s ;' true
{STEP} -J $'unit\x1fseparator\ttab' true
{STEP} -J 'ümläut ☃' true
{STEP} -J '' true
"""
LIMIT = rf"""
{STEP} -J early sleep 1
{STEP} -J exits_0_on_term bash -c 'trap "exit 0" TERM; {LOOP}' &
{STEP} -J dies_of_term sleep 500 &
{STEP} -J exits_7_on_term bash -c 'trap "exit 7" TERM; {LOOP}' &
trap 'wait; wait' TERM
wait; wait
"""
CANCELLED = LIMIT
OOM = r"""
srun --ntasks=1 --mem=60M -J at_once python3 -c 'x = bytearray(200_000_000)'
srun --ntasks=1 --mem=60M -J slowly python3 -c '
import time
blocks = []
while True:
    blocks.append(bytearray(5_000_000)); time.sleep(0.3)'
srun --ntasks=1 --mem=60M -J child_only sh -c 'python3 -c "x = bytearray(200_000_000)"; exit 0'
srun --ntasks=1 --mem=60M -J beside_it sleep 2.5
"""


def slurm(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def submit(body: str, *options: str) -> str:
    command = ["sbatch", "--parsable", "--output=/dev/null", *options]
    job = subprocess.run(command, input="#!/bin/bash\n" + body, check=True, capture_output=True, text=True)
    return job.stdout.strip()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"record_sacct: waited {seconds:g} s for {what}")
        time.sleep(0.2)


def answer(job: str) -> str:
    return b"".join(sacct.query(["-j", job], timeout_seconds=60)).decode("utf-8", "backslashreplace")


def rows(job: str) -> list[AccountingRecord]:
    return sacct.parse(answer(job))


def wait_running(job: str, steps: int) -> None:
    def running() -> bool:
        return sum(row.state == "RUNNING" and row.step_id is not None for row in rows(job)) >= steps + 1

    wait_for(running, f"{steps} running steps of job {job}")


def wait_ended(job: str, jobs: int = 1) -> None:
    """Wait until the job's records are complete: at first one can lack its name, its request and its array."""

    def recorded() -> bool:
        own = [row for row in rows(job) if row.step_id is None]
        return len(own) >= jobs and all(row.end_time is not None and row.requested_tres for row in own)

    wait_for(recorded, f"the records of job {job}")
    wait_for(lambda: all(row.end_time is not None for row in rows(job)), f"the steps' records of job {job}")
    time.sleep(1)


class Recorder:
    """Keeps one text per scenario in the directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def keep(self, name: str, job: str) -> None:
        """Also record pyslurm's answer for the same job, if this interpreter has pyslurm."""
        self._write(f"{name}.txt", answer(job))
        if pyslurm_backend.is_installed() and job.isdecimal():
            self._keep_pyslurm(name, job)

    def _keep_pyslurm(self, name: str, job: str) -> None:
        argv = [sys.executable, "-m", "torc_slurm.slurm.pyslurm_child", job]
        environment = os.environ | {"PYTHONPATH": sys.path[0]}
        try:
            self._write(f"{name}.pyslurm.json", commands.run(argv, timeout_seconds=60, environment=environment))
        except CommandError as error:  # 25.11.2 cannot load a heterogeneous job whose second component was measured
            print(f"{name}: {error}")

    def keep_config(self) -> None:
        """Keep the used settings and some lines next to them; the rest contains hosts and paths."""
        lines = commands.scontrol(["show", "config"]).splitlines(keepends=True)
        self._write(
            "config.txt", "".join(line for line in lines if "Gather" in line or line.startswith("SLURM_VERSION"))
        )

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text, encoding="utf-8", newline="")
        print(f"{name}: {len(text)} characters")


def record(recorder: Recorder, *, oom: bool) -> None:
    recorder.keep_config()
    limit = submit(LIMIT, "--ntasks=4", "--time=1")
    ends = submit(ENDS, "--nodes=2", "--ntasks-per-node=2", "--mem=300")
    wait_ended(ends)
    recorder.keep("ends", ends)
    names = submit(NAMES, "--ntasks=1", "--job-name=job\nname")
    wait_ended(names)
    recorder.keep("names", names)
    record_array_and_het(recorder)
    record_cancelled(recorder)
    record_requeued(recorder)
    if oom:
        job = submit(OOM, "--ntasks=1", "--mem=100M")
        wait_ended(job)
        recorder.keep("oom", job)
    wait_ended(limit)
    recorder.keep("limit", limit)
    record_lone_srun(recorder)
    record_lost(recorder)


def record_array_and_het(recorder: Recorder) -> None:
    array = submit("srun -n1 sleep 0.1", "--array=1-3", "--ntasks=1")
    wait_ended(array, jobs=3)
    recorder.keep("array_task_2", f"{array}_2")
    recorder.keep("array_whole", array)
    het = slurm(
        "sbatch", "--parsable", "--output=/dev/null", "--ntasks=1", ":", "--ntasks=1",
        "--wrap=srun --het-group=0,1 -J both sleep 2.5; srun --het-group=1 -J second sh -c 'exit 4'",
    )  # fmt: skip
    wait_ended(het, jobs=2)
    recorder.keep("het", het)


def record_cancelled(recorder: Recorder) -> None:
    job = submit(CANCELLED, "--ntasks=4", "--mem=300")
    wait_running(job, 3)
    time.sleep(2.5)
    recorder.keep("running", job)
    slurm("scancel", job)
    wait_for(lambda: rows(job)[0].state == "CANCELLED", "the cancelled job's state")
    recorder.keep("just_cancelled", job)
    wait_ended(job)
    recorder.keep("cancelled", job)
    job = submit(f"{STEP} -J cancelled_alone sleep 100; {STEP} -J after true", "--ntasks=1")
    wait_running(job, 1)
    slurm("scancel", f"{job}.0")
    wait_ended(job)
    recorder.keep("cancelled_step", job)


def record_requeued(recorder: Recorder) -> None:
    body = f'{STEP} -J attempt sh -c "sleep 2.5; exit $SLURM_RESTART_COUNT"'
    job = submit("SLURM_RESTART_COUNT=${SLURM_RESTART_COUNT:-0}\n" + body, "--ntasks=1", "--requeue")
    wait_running(job, 1)
    slurm("scontrol", "requeue", job)
    wait_for(lambda: len([row for row in rows(job) if row.step_id is None]) > 1, "a second record")
    recorder.keep("requeued_waiting", job)
    wait_ended(job, jobs=2)
    recorder.keep("requeued", job)


def record_lone_srun(recorder: Recorder) -> None:
    job = slurm("srun", "-n1", "-J", "alone", "sh", "-c", "echo $SLURM_JOB_ID; sleep 2.5")
    wait_ended(job)
    recorder.keep("lone_srun", job)


def record_lost(recorder: Recorder) -> None:
    node = slurm("sinfo", "-h", "-N", "-o", "%N").split()[-1]
    body = f"{STEP} -J before sleep 1; {STEP} -J lost sleep 100"
    job = submit(body, "--ntasks=1", "--no-requeue", f"--nodelist={node}")
    wait_for(lambda: any(row.step_id == "1" for row in rows(job)), "the second step")
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=recording")
    time.sleep(2)
    recorder.keep("node_fail", job)
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)  # may be back already


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--oom", action="store_true", help="cgroups kill a step over its memory here")
    given = parser.parse_args()
    record(Recorder(given.directory), oom=given.oom)


if __name__ == "__main__":
    main()
