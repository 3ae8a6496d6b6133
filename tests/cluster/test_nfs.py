"""The output directory on NFS: what another machine sees and when, and a server that stops, is full, or squashes root.

In all cases the job and its end are unharmed, and the record is in its place or in the node's spool, and a message says
so.
"""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import time
from collections.abc import Iterator

import pytest
from machines import OFTEN, Machines

pytestmark = pytest.mark.cluster

# A step whose job does not use /home and writes its begin and end to its node's own disk.
LOCAL_JOB = "cd /; date +%s.%N > /run/user-{name}.began; sleep {seconds}; date +%s.%N > /run/user-{name}.ended"


@pytest.fixture
def server(machines: Machines) -> Iterator[Machines]:
    """The cluster, whose NFS server is started again after the test."""
    machines.shell("chmod 1777 /run", machine="c1")
    try:
        yield machines
    finally:
        machines.fault("nfs-start")
        machines.run(["ls", "/home"], machine="c1")


def local_job(name: str, seconds: float) -> str:
    return shlex.quote(LOCAL_JOB.format(name=name, seconds=seconds))


def submit_away_from_home(machines: Machines, name: str, seconds: float, *options: str) -> int:
    """A batch script with its own output on the node's disk: only torc-step uses the server."""
    output = f"--output-dir {machines.directory}/torc_output"
    body = (
        f"cd /\nsrun -n1 --mem=100M torc-step {output} {OFTEN} -- bash -c {local_job(name, seconds)}\necho ended $?\n"
    )
    script = [
        "sbatch",
        "--parsable",
        "-n1",
        "-w",
        "c1",
        "--mem=150M",
        "--chdir=/",
        f"--output=/run/{name}.out",
        *options,
    ]
    done = machines.run(script, user=machines.user, stdin="#!/bin/bash\n" + body)
    return int(done.stdout.split(";")[0])


def moment(machines: Machines, name: str, which: str) -> float:
    text = machines.run(["cat", f"/run/user-{name}.{which}"], machine="c1", check=False).stdout.strip()
    return float(text or 0)


def wait_for_moment(machines: Machines, name: str, which: str) -> float:
    machines.wait_for(lambda: moment(machines, name, which), f"the job of {name} to have {which}")
    return moment(machines, name, which)


def clock(machines: Machines) -> float:
    return float(machines.shell("date +%s.%N", machine="c1"))


def bring_over(machines: Machines) -> None:
    """Do what ends every allocation: move spools into their node files."""
    words = ["torc", "slurm", "collect", "--output-dir", f"{machines.directory}/torc_output"]
    machines.run(words, user=machines.user, machine="c1", cwd="/")


def test_another_machine_sees_each_flush_within_the_attribute_cache(machines: Machines) -> None:
    job = machines.submit(f"srun -n1 torc-step {OFTEN} -- sleep 40\n", "-n1", "-w", "c1", "--mem=100M")
    machines.wait_running(job, "0")
    machines.wait_for(lambda: machines.recorded(job), "the first flush to be seen on the head")
    first = machines.stats(job, "--no-accounting")["0"]["sample_count"]
    more = "later flushes to be seen on the head"
    machines.wait_for(
        lambda: machines.stats(job, "--no-accounting")["0"]["sample_count"] > first + 10, more, seconds=45
    )
    machines.run_as_user(["scancel", str(job)])
    machines.wait_ended(job)


def test_who_asks_from_the_start_sees_the_first_record(machines: Machines) -> None:
    """While there is no output directory, the client on the head may remember that for a minute and more."""
    job = machines.submit(f"srun -n1 torc-step {OFTEN} -- sleep 4\n", "-n1", "-w", "c1", "--mem=100M")
    machines.wait_for(lambda: machines.recorded(job), "the first record to be seen on the head")
    machines.wait_ended(job)


def test_collect_during_flushes_and_from_two_machines_at_once(machines: Machines) -> None:
    """Each collect succeeds, and torc.db, which two machines write in turn, is intact."""
    often = "--granularity time_series --sample-interval-seconds 0.1 --flush-interval-seconds 1"
    job = machines.submit(f"srun -N2 -n2 torc-step {often} -- sleep 12\n", "-N2", "--mem=100M")
    machines.wait_running(job, "0")
    machines.wait_for(lambda: machines.recorded(job), "a first record")
    command = ["torc", "slurm", "collect"]
    directory = str(machines.directory)
    for _ in range(3):
        both = [
            subprocess.Popen(
                machines.words(command, machine=machine, user=machines.user, cwd=directory),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for machine in ("head", "c2")
        ]
        answers = [process.communicate(timeout=100)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], answers
    machines.wait_ended(job)
    item = machines.stats(job)["0"]
    assert (item["job_status"], item["measured_node_count"]) == ("completed", 2)
    check = (
        "import sqlite3; print(sqlite3.connect('torc_output/torc.db').execute('PRAGMA integrity_check').fetchone()[0])"
    )
    assert machines.run_as_user(["python3", "-c", check]).stdout.strip() == "ok"


def test_the_server_stops_for_a_minute_in_the_middle_of_a_step(server: Machines) -> None:
    job = submit_away_from_home(server, "middle", 75)
    began = wait_for_moment(server, "middle", "began")
    server.wait_for(lambda: server.recorded(job), "a first record")
    server.fault("nfs-stop")
    time.sleep(60)
    server.fault("nfs-start")
    server.wait_ended(job)
    assert moment(server, "middle", "ended") - began == pytest.approx(75, abs=3)
    bring_over(server)
    item = server.stats(job)["0"]
    assert (item["job_status"], item["return_code"]) == ("completed", 0)
    assert item["exec_time_seconds"] == pytest.approx(75, abs=4)
    times = [row["timestamp"] for row in server.rows("SELECT timestamp FROM job_resource_samples ORDER BY timestamp")]
    assert (
        max(later - earlier for earlier, later in itertools.pairwise(times)) < 10
    )  # nor for the minute without a server


def test_the_server_stops_before_the_end_of_a_step(server: Machines) -> None:
    """The step ends within seconds of its job, and its record is in the node's spool."""
    job = submit_away_from_home(server, "end", 8)
    wait_for_moment(server, "end", "began")
    server.wait_for(lambda: server.recorded(job), "a first record")
    server.fault("nfs-stop")
    ended = wait_for_moment(server, "end", "ended")
    said = "grep -q ended /run/end.out"
    server.wait_for(lambda: server.run(["sh", "-c", said], machine="c1", check=False).returncode == 0, "srun to end")
    assert clock(server) - ended < 12  # 5 s for the flush, and the time of srun and the test
    server.fault("nfs-start")
    server.wait_ended(job)
    bring_over(server)
    item = server.stats(job)["0"]
    assert (item["job_status"], item["return_code"]) == ("completed", 0)
    assert item["exec_time_seconds"] == pytest.approx(8, abs=3)


def test_the_directory_is_replaced_on_the_server(server: Machines) -> None:
    """The node's handle of it becomes invalid (ESTALE): the next flushes make the directory again."""
    job = submit_away_from_home(server, "stale", 12)
    wait_for_moment(server, "stale", "began")
    server.wait_for(lambda: server.recorded(job), "a first record")
    server.shell(f"rm -rf /srv{server.directory}/torc_output")
    server.wait_ended(job)
    assert "ended 0" in server.run(["cat", "/run/stale.out"], machine="c1").stdout
    bring_over(server)
    item = server.stats(job)["0"]
    assert (item["job_status"], item["return_code"]) == ("completed", 0)


@pytest.mark.cluster_in_ci
def test_a_full_export(server: Machines) -> None:
    server.shell("fallocate -l 2G /srv/home/filler || dd if=/dev/zero of=/srv/home/filler bs=1M || true")
    try:
        job = submit_away_from_home(server, "full", 3)
        server.wait_ended(job)
        said = server.run(["cat", "/run/full.out"], machine="c1").stdout
        assert "ended 0" in said
        assert "spool" in said
        assert "torc slurm collect" in said
    finally:
        server.shell("rm -f /srv/home/filler")
    bring_over(server)
    item = server.stats(job)["0"]
    assert (item["job_status"], item["return_code"]) == ("completed", 0)


def test_root_is_nobody_on_the_export(machines: Machines) -> None:
    """A job of root's in a user's directory: it runs, and a message says where its record is."""
    place = f"{machines.directory}/torc_output"
    words = ["srun", "-n1", "-w", "c1", "--mem=100M", "torc-step", "--output-dir", place, "--", "true"]
    done = machines.run(words)
    assert "the record is kept in /tmp/torc-0/spool" in done.stderr
    collect = machines.run(["torc", "slurm", "collect", "--output-dir", place], check=False)
    assert collect.returncode in (1, 2)
    assert len(collect.stderr.splitlines()) == 1, collect.stderr


def test_home_is_not_mounted_on_a_node(machines: Machines) -> None:
    machines.shell("umount -l /home", machine="c2")
    try:
        words = [
            "srun",
            "-n1",
            "-w",
            "c2",
            "--chdir=/",
            "--mem=100M",
            "torc-step",
            "--",
            "sh",
            "-c",
            "echo ran; exit 3",
        ]
        done = machines.run(words, user=machines.user, cwd="/", check=False)
        assert done.returncode == 3
        assert "ran" in done.stdout
        assert "the record is kept in" in done.stderr
    finally:
        machines.shell("mount -t nfs4 -o vers=4.2,hard,actimeo=30 10.77.0.1:/ /home", machine="c2")


def test_a_directory_made_on_one_machine_is_found_on_the_others(machines: Machines) -> None:
    """Seen: c1 had looked for torc_output, c2 then made it, and for 30 s c1 believed that it did not exist."""
    jobs = [machines.run_job(f"mkdir d{n}; cd d{n}; srun -N2 -n2 torc-step -- true\n", "-N2") for n in range(3)]
    for number, job in enumerate(jobs):
        assert "spool" not in machines.output(job)
        words = [
            "torc",
            "slurm",
            "stats",
            "--slurm-job-id",
            str(job),
            "-f",
            "json",
            "--output-dir",
            f"d{number}/torc_output",
        ]
        (item,) = json.loads(machines.run_as_user(words).stdout)["items"]
        assert item["measured_node_count"] == 2
