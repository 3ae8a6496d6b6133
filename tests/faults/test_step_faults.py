"""torc-step while its monitor, its writers or the disk fail: the job is unharmed, and "recorded" is true."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fault_harness import ALWAYS, ONCE, TORC_STEP, Fault, compile_fault, places, with_fault
from measured import WAIT_LIMIT_SECONDS, job_of_a_workflow, node_files, records

from torc_slurm.database.spool import bring_over

JOB = ["sh", "-c", "echo ran; exit 7"]
WRITER_CALLS, MONITOR_CALLS = 40, 4


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_fault(tmp_path_factory.mktemp("fault"))


def run_with(library: Path, fault: Fault, at: int, place: Path, *options: str) -> str:
    """torc-step's messages; asserts that the job ran and its exit status came through."""
    done = subprocess.run(
        [*TORC_STEP, "--output-dir", str(place), *options, "--", *JOB],
        env=with_fault(library, fault, at, place.with_suffix(".mark")),
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_LIMIT_SECONDS,
    )
    assert (done.returncode, done.stdout) == (7, "ran\n"), done.stderr
    assert "Traceback" not in done.stderr
    if at == 1 and fault.how_often == ONCE:
        assert place.with_suffix(".mark").exists(), "the fault did not happen"
    return done.stderr


def recorded(place: Path) -> list[int]:
    """The exit codes in intact node files, after bringing over the node's spools."""
    bring_over(str(place))
    return [row["return_code"] for path in node_files(place) for record in records(path) for row in record.exits]


@pytest.mark.parametrize("at", places(WRITER_CALLS))
@pytest.mark.parametrize(
    "fault",
    [
        Fault("torc-sampler", is_forked=True),
        Fault("torc-sampler", is_forked=True, error="ENOSPC"),
        Fault("torc-sampler", is_forked=True, error="EIO"),
    ],
    ids=str,
)
def test_one_fault_loses_nothing(library: Path, fault: Fault, at: int, tmp_path: Path) -> None:
    """A writer that is killed, or meets a full or broken disk, at any of its calls."""
    run_with(library, fault, at, tmp_path / "out", *job_of_a_workflow(1))
    assert recorded(tmp_path / "out") == [7]


@pytest.mark.parametrize("at", places(WRITER_CALLS))
@pytest.mark.parametrize(
    "fault",
    [
        Fault("torc-sampler", is_forked=True, how_often=ALWAYS),
        Fault("torc-sampler", is_forked=True, error="ENOSPC", how_often=ALWAYS),
    ],
    ids=str,
)
def test_what_is_called_recorded_is_recorded(library: Path, fault: Fault, at: int, tmp_path: Path) -> None:
    said = run_with(library, fault, at, tmp_path / "out")
    found = recorded(tmp_path / "out")
    if "recorded in" in said:
        assert found == [7]
    else:
        assert "lost" in said or "kept in" in said or "incomplete" in said
        assert found == [7] or "kept in" not in said


@pytest.mark.parametrize("at", places(MONITOR_CALLS))
@pytest.mark.parametrize("how_often", [ONCE, ALWAYS])
def test_the_monitor_killed_at_a_call(library: Path, how_often: str, at: int, tmp_path: Path) -> None:
    fault = Fault("torc-sampler", is_forked=False, how_often=how_often)
    said = run_with(library, fault, at, tmp_path / "out", *job_of_a_workflow(1))
    assert recorded(tmp_path / "out") == [7] or "lost" in said
