"""A process is identified by its start, not by its number or name: real processes, signalled or spared."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import TORC, environment, kill_quietly, wrappers_below

from torc_slurm.common.liveness import Life, Process, life_of, process_here, signal_process, this_process
from torc_slurm.usecases.claims import Claim, claim_by, claim_run, read_claim

SPEC = "name: w\njobs: [{name: a, command: sleep 300}]\n"


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another program of the user whose command line contains torc in many places."""
    program = tmp_path / "torchrun"
    program.write_text("#!/bin/bash\nread line\n")
    program.chmod(0o755)
    process = subprocess.Popen([str(program), "torc", "torc-step", "torc run"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_this_process_runs_and_a_reaped_one_has_ended() -> None:
    assert life_of(this_process()) is Life.runs
    child = subprocess.Popen(["sleep", "300"])
    known = process_here(child.pid)
    assert life_of(known) is Life.runs
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert life_of(known) is Life.ended  # a zombie no longer runs
    child.wait()
    assert life_of(known) is Life.ended


@pytest.mark.parametrize(
    ("changes", "life"),
    [
        ({"start_ticks": "1"}, Life.ended),
        ({"host": "login9"}, Life.elsewhere),
        ({"boot_id": "another"}, Life.ended_by_reboot),
        ({"pid_namespace": "pid:[1]"}, Life.elsewhere),
        ({"boot_id": "", "pid_namespace": ""}, Life.runs),
        ({"start_ticks": "", "seen_at": 1e9}, Life.ended),
        ({"start_ticks": "", "seen_at": 1e12}, Life.runs),
        ({"start_ticks": ""}, Life.not_known),
        ({"pid": 2**22 + 1}, Life.ended),
        ({"pid": 2**40}, Life.not_known),
    ],
)
def test_life_of_a_process(changes: dict[str, object], life: Life) -> None:
    assert life_of(dataclasses.replace(this_process(), **changes)) is life  # type: ignore[arg-type]


def test_a_signal_goes_to_the_process_that_was_meant_only(stranger: subprocess.Popen[bytes]) -> None:
    known = process_here(stranger.pid)
    for other in (
        dataclasses.replace(known, start_ticks=str(int(known.start_ticks) - 1)),
        dataclasses.replace(known, start_ticks="", seen_at=time.time() - 3600),
        dataclasses.replace(known, start_ticks=""),
        dataclasses.replace(known, boot_id="another"),
        Process("login9", known.pid),
    ):
        assert not signal_process(other)
    assert stranger.poll() is None
    assert signal_process(known)
    assert stranger.wait() == -signal.SIGTERM
    assert not signal_process(known)


def torc(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORC, *words], cwd=directory, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("start", ["1", ""])
def test_cancel_spares_a_program_that_got_the_number(
    start: str, stranger: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    (tmp_path / "w.yaml").write_text(SPEC)
    assert torc(tmp_path, "slurm", "generate", "w.yaml", "-o", "run.sh").returncode == 0
    mine = claim_by(process_here(stranger.pid))
    claim = dataclasses.replace(mine, process_start=start, claimed_at=mine.claimed_at - 3600)
    assert claim_run(str(tmp_path / "torc_output"), 1, 1, claim)
    assert torc(tmp_path, "workflows", "cancel", "1").returncode == 0
    assert stranger.poll() is None
    assert torc(tmp_path, "workflows", "delete", "1").returncode == 0
    assert stranger.poll() is None


def test_a_claim_of_an_older_torc_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plans" / "wf1_r1.claim"
    path.parent.mkdir()
    path.write_text('{"claimed_at": 5.0, "host": "n1", "pid": 7, "slurm_job_id": null, "restart_count": 0}\n')
    assert read_claim(str(tmp_path), 1, 1) == Claim(5.0, "n1", 7)


def test_jobs_whose_torc_was_killed_are_named_and_can_be_cancelled(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(SPEC)
    run = subprocess.Popen([*TORC, "run", "w.yaml"], cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "torc_output/job_stdio/job_wf1_j1_r1_a1.o").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        while not wrappers_below(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        run.kill()
        run.wait()
        status = torc(tmp_path, "workflows", "delete", "1")
        assert status.returncode == 1
        assert "its jobs still run as process" in status.stderr
        assert torc(tmp_path, "workflows", "cancel", "1").returncode == 0
        while wrappers_below(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert torc(tmp_path, "workflows", "delete", "1").returncode == 0
    finally:
        kill_quietly([*wrappers_below(tmp_path), run.pid])


def test_a_damaged_claim_is_named_and_stops_no_command(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(SPEC)
    torc(tmp_path, "slurm", "generate", "w.yaml", "-o", "run.sh")
    (tmp_path / "torc_output/plans/wf1_r1.claim").write_bytes(b'{"claimed_at": "\xff", "host": 3, "pid": []}')
    shown = torc(tmp_path, "workflows", "list")
    assert (shown.returncode, "unexpected" in shown.stderr) == (0, False)
    refused = torc(tmp_path, "submit", "1")
    assert refused.returncode == 1
    assert "wf1_r1.claim is damaged: " in refused.stderr
