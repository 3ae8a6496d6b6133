"""Crowds and storms of processes, and bombs up to a limit: the job is unharmed, and what is recorded is right."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_groups import ControlGroup, control_group
from fault_harness import IS_LONG
from measured import (
    PROGRAMS,
    WAIT_LIMIT_SECONDS,
    Record,
    await_that,
    job_of_a_workflow,
    node_files,
    records,
    run,
    start,
    the_record,
    under_torc_step,
)
from namespaces import Namespace, own_namespace

USERS = itertools.count(64_400)  # nobody's numbers, one for each test that counts a user's processes
ROOM = 40  # processes at once, where they are limited


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, where everybody can run it."""
    path = tmp_path_factory.mktemp("crowd") / "crowd"
    subprocess.run(["cc", "-O1", "-o", path, PROGRAMS / "crowd.c"], check=True)
    return path


def current(place: Path) -> list[Record]:
    return [record for path in node_files(place) for record in records(path)]


def test_five_thousand_processes(crowd: Path, tmp_path: Path) -> None:
    """All are counted, and the monitor looks less often, so that it costs no more than with few."""
    pipe = subprocess.PIPE
    options = ("--flush-interval-seconds=1", "--sample-interval-seconds=0.1")
    job = start(tmp_path, [str(crowd), "hold", "5000"], *options, stdin=pipe, stdout=pipe)
    assert job.stdout is not None
    assert job.stdout.readline() == b"5000\n"

    def looks_less_often() -> bool:
        return any("backed off" in note for record in current(tmp_path) for note in record.notes)

    await_that(looks_less_often, "a longer interval")
    job.communicate(timeout=WAIT_LIMIT_SECONDS)
    assert job.returncode == 7
    record = the_record(tmp_path)
    assert record.exit["return_code"] == 7
    assert record.figures["num_processes_peak"] == 5001
    assert record.monitor[0]["final_interval_seconds"] > 0.1


@pytest.mark.parametrize("how", ["storm", "orphans"])
def test_a_storm_of_processes(how: str, crowd: Path, tmp_path: Path) -> None:
    """As many as the machine can start; those that are left behind are the wrapper's to wait for."""
    done = run(tmp_path, [str(crowd), how, "6000"], "--sample-interval-seconds=0.1", "--granularity=time_series")
    assert (done.returncode, done.stdout, done.stderr[:9]) == (7, b"6000\n", b"torc-step")
    record = the_record(tmp_path)
    figures = record.figures
    assert record.exit["return_code"] == 7
    assert figures["cpu_seconds"] == pytest.approx(figures["elapsed_seconds"], rel=0.9)
    most = len(os.sched_getaffinity(0)) * 100
    assert 0 < figures["avg_cpu_percent"] <= figures["peak_cpu_percent"] <= most
    assert record.series_cpu_seconds <= figures["cpu_seconds"] + 0.001


@pytest.mark.parametrize("seconds", [60 if IS_LONG else 2])
def test_two_thousand_forks_a_second(seconds: int, crowd: Path, tmp_path: Path) -> None:
    """The CPU time of all, which the job says itself, is recorded; the series does not have more."""
    count, pipe = 2000 * seconds, subprocess.PIPE
    command = [str(crowd), "paced", str(count), "2000"]
    options = ("--sample-interval-seconds=0.1", "--granularity=time_series", "--flush-interval-seconds=1")
    job = start(tmp_path, command, *options, stdin=subprocess.DEVNULL, stdout=pipe)
    said = job.communicate(timeout=WAIT_LIMIT_SECONDS + 10 * seconds)[0].split()
    assert (job.returncode, int(said[0])) == (7, count)
    record = the_record(tmp_path)
    figures, (monitor,) = record.figures, record.monitor
    print("forks, seconds and CPU seconds of the job:", *map(float, said), "and of the monitor:", monitor)
    assert record.exit["return_code"] == 7
    assert figures["elapsed_seconds"] >= float(said[1])
    assert float(said[2]) <= figures["cpu_seconds"] == pytest.approx(float(said[2]), rel=0.02, abs=0.05)
    assert record.series_cpu_seconds <= figures["cpu_seconds"] + 0.001
    assert figures["peak_cpu_percent"] <= len(os.sched_getaffinity(0)) * 100
    if IS_LONG:  # else its start counts for most
        assert monitor["cpu_seconds"] < figures["cpu_seconds"] / 4


def expect_its_end(bomb: subprocess.Popen[bytes]) -> None:
    """It says how many there could be, and ends although they are all still there."""
    assert bomb.stdin is not None
    assert bomb.stdout is not None
    assert bomb.stderr is not None
    assert 0 < int(bomb.stdout.readline()) < ROOM
    assert bomb.wait(WAIT_LIMIT_SECONDS) == 7
    bomb.stdin.close()  # at which the rest end, and let go of stderr
    assert b"Traceback" not in bomb.stderr.read()
    bomb.stdout.close()
    bomb.stderr.close()


@pytest.mark.root
@pytest.mark.parametrize("how", ["hold", "leave"])
def test_a_bomb_under_a_limit_of_the_user(how: str, crowd: Path, namespace: Namespace) -> None:
    user = next(USERS)
    os.chown(namespace.place, user, user)
    program = namespace.place / "crowd"
    program.write_bytes(crowd.read_bytes())
    program.chmod(0o755)
    command = under_torc_step(namespace.place, [str(program), how, "1000"], *job_of_a_workflow(1))
    bomb = namespace.start(command, user, (resource.RLIMIT_NPROC, ROOM))
    if how == "hold":
        stdout, stderr = bomb.communicate(timeout=WAIT_LIMIT_SECONDS)
        assert (bomb.returncode, b"Traceback" in stderr) == (7, False)
        assert 0 < int(stdout) < ROOM
    else:
        expect_its_end(bomb)
    assert the_record(namespace.place).exit["return_code"] == 7


@pytest.mark.root
def test_a_bomb_under_a_limit_of_its_control_group(crowd: Path, tmp_path: Path, pids: ControlGroup) -> None:
    pids.limit(pids__max=str(ROOM))
    pipe = subprocess.PIPE
    command = [str(crowd), "leave", "1000"]
    bomb = start(tmp_path, command, *job_of_a_workflow(1), stdin=pipe, stdout=pipe, stderr=pipe, prepare=pids.enter)
    expect_its_end(bomb)
    assert the_record(tmp_path).exit["return_code"] == 7


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with own_namespace() as made:
        yield made


@pytest.fixture
def pids() -> Iterator[ControlGroup]:
    with control_group("pids") as group:
        yield group
