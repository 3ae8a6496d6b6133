"""Real failures of Slurm's commands: missing, refusing, hanging, noisy. Small executables are first on PATH."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from recordings import sacct_text

from torc_slurm.common.errors import CommandError, CommandNotFound, CommandTimeout, InputError
from torc_slurm.slurm import commands, sacct
from torc_slurm.slurm.accounting import fetch_accounting, fetch_allocation, fetch_runs
from torc_slurm.slurm.configuration import slurm_facts
from torc_slurm.slurm.job_records import AllocationKey


class Bin:
    """A directory that is first on PATH, or alone on it; it notes each call of its commands."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "calls"

    def put(self, name: str, script: str) -> None:
        path = self.directory / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{script}\n')
        path.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.startswith(name + " ")]

    def queries(self) -> list[str]:
        """Calls that reach Slurm's database: `sacct -e` only lists sacct's own fields."""
        return [line for line in self.calls("sacct") if line != "sacct -e"]


@pytest.fixture
def slurm_bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bin]:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.delenv("TORC_SACCT_TIMEOUT_SECONDS", raising=False)
    made = Bin(directory)
    made.put("scontrol", "echo 'SLURM_VERSION = 22.05.8'; echo 'JobAcctGatherFrequency = task=30'")
    _forget()
    yield made
    _forget()


def _forget() -> None:
    slurm_facts.cache_clear()
    sacct.known_columns.cache_clear()


def answering(slurm_bin: Bin, tmp_path: Path, text: str) -> None:
    """A sacct that prints this text for every query."""
    (tmp_path / "answer").write_text(text, newline="")
    slurm_bin.put("sacct", f"""[ "$1" = -e ] && {{ echo "JobID Restarts"; exit; }}; cat {tmp_path / "answer"}""")


def gone(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


# --- running


def test_a_command_that_is_not_there(slurm_bin: Bin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(slurm_bin.directory))
    with pytest.raises(CommandNotFound, match="sacct was not found on PATH; load the module"):
        commands.sacct(["-j", "1"], timeout_seconds=5)


def test_a_command_that_may_not_be_run(slurm_bin: Bin, monkeypatch: pytest.MonkeyPatch) -> None:
    (slurm_bin.directory / "sacct").write_bytes(b"\x00\x01 not a program")
    (slurm_bin.directory / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", str(slurm_bin.directory))
    with pytest.raises(CommandError, match="sacct failed"):
        commands.sacct([], timeout_seconds=5)


def test_a_command_that_refuses_keeps_its_words(slurm_bin: Bin) -> None:
    slurm_bin.put("sacct", "echo 'sacct: error: Access denied' >&2; echo and more >&2; exit 3")
    with pytest.raises(CommandError) as refused:
        commands.sacct(["-j", "1"], timeout_seconds=5)
    assert refused.value.returncode == 3
    assert refused.value.argv == ["sacct", "-j", "1"]
    assert "sacct: error: Access denied and more" in str(refused.value)


def test_a_command_that_hangs_ends_with_its_children(slurm_bin: Bin, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    slurm_bin.put("sacct", f"trap '' TERM; sleep 1000 & echo $! $$ > {pids}; wait")
    with pytest.raises(CommandTimeout, match=r"sacct did not answer within 0\.5 s"):
        commands.sacct([], timeout_seconds=0.5)
    for pid in pids.read_text().split():
        wait_until_gone(int(pid))


def test_a_child_outside_the_group_that_keeps_the_pipe_open_delays_no_command(slurm_bin: Bin, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    slurm_bin.put("sacct", f"setsid sleep 1000 & echo $! > {pid_file}; sleep 1000")
    with pytest.raises(CommandTimeout):
        commands.sacct([], timeout_seconds=0.5)
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_stdin_is_closed_and_settings_of_the_user_do_not_count(slurm_bin: Bin, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SACCT_FORMAT", "SLURM_TIME_FORMAT", "TZ", "LC_ALL"):
        monkeypatch.setenv(name, "of the user")
    slurm_bin.put("sacct", "cat; env")
    environment = dict(line.split("=", 1) for line in commands.sacct([], timeout_seconds=5).splitlines() if "=" in line)
    assert "SACCT_FORMAT" not in environment
    assert (environment["LC_ALL"], environment["TZ"], environment["SLURM_TIME_FORMAT"]) == ("C", "UTC0", "standard")


def test_bytes_that_are_no_text_are_shown_as_such(slurm_bin: Bin) -> None:
    slurm_bin.put("sacct", r"printf 'a\377b'")
    assert commands.sacct([], timeout_seconds=5) == "a\\xffb"


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", "1e9"])
def test_an_invalid_time_limit_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORC_SACCT_TIMEOUT_SECONDS", text)
    with pytest.raises(InputError, match=f"TORC_SACCT_TIMEOUT_SECONDS='{text}'"):
        commands.sacct_timeout_seconds(60)


def test_the_time_limit_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORC_SACCT_TIMEOUT_SECONDS", raising=False)
    assert commands.sacct_timeout_seconds(60) == 60
    monkeypatch.setenv("TORC_SACCT_TIMEOUT_SECONDS", "2.5")
    assert commands.sacct_timeout_seconds(60) == 2.5


# --- accounting through them

ANYTHING = AllocationKey(12)
STEPS = ["0", "1", "batch"]


def statuses(slurm_bin: Bin) -> list[tuple[str, str]]:
    rows = fetch_accounting(ANYTHING, STEPS, timeout_seconds=0.5)
    assert [row.step_id for row in rows] == STEPS
    assert len(slurm_bin.queries()) <= 1
    return [(row.status, row.reason or "") for row in rows]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("sleep 1000", "did not answer within 0.5 s"),
        ("echo 'sacct: error: Problem talking to the database: Connection refused' >&2; exit 1", "Connection refused"),
        ("echo 'Slurm accounting storage is disabled' >&2; exit 1", "accounting storage is disabled"),
        ("echo hello", "does not begin with the names of its columns"),
        ("true", "does not begin with the names of its columns"),
        ("printf 'JobIDRaw|JobID|'", "cut off"),
    ],
)
def test_every_step_is_unavailable_with_the_reason_where_sacct_fails(slurm_bin: Bin, script: str, says: str) -> None:
    slurm_bin.put("sacct", f'[ "$1" = -e ] && exit; {script}')
    for status, reason in statuses(slurm_bin):
        assert status == "unavailable"
        assert says in reason
        assert "\n" not in reason


def test_every_step_is_unavailable_without_sacct(slurm_bin: Bin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for status, reason in statuses(slurm_bin):
        assert status == "unavailable"
        assert "sacct was not found on PATH" in reason
        assert "torc slurm collect" in reason


def test_rows_come_also_where_scontrol_does_not_answer(slurm_bin: Bin, tmp_path: Path) -> None:
    answering(slurm_bin, tmp_path, sacct_text("22.05-linux", "ends"))
    slurm_bin.put("scontrol", "exit 1")
    (row,) = fetch_accounting(AllocationKey(2), ["0"], timeout_seconds=5)
    assert (row.status, row.slurm_version, row.gather_type) == ("found", None, None)


def test_one_query_for_an_allocation_however_many_steps_and_runs(slurm_bin: Bin, tmp_path: Path) -> None:
    answering(slurm_bin, tmp_path, sacct_text("24.11-linux", "ends"))
    key = AllocationKey(2)
    found = fetch_allocation(key, [str(number) for number in range(10_000)], timeout_seconds=30)
    assert len(found.rows) == 10_000
    assert len(slurm_bin.queries()) == 1
    fetch_runs([(key, ["0"]), (AllocationKey(2, run_id=2), ["1"])], timeout_seconds=30)
    assert len(slurm_bin.queries()) == 2
    assert len(slurm_bin.calls("scontrol")) == 1
    assert "Restarts" in slurm_bin.queries()[0]


@pytest.mark.parametrize(
    ("job", "array", "asked"),
    [(12, None, "12"), (6, "4_2", "4_2,6"), (4, "4_3", "4_3")],  # the bare 4 would mean the whole array
)
def test_an_array_task_is_queried_as_a_task(
    job: int, array: str | None, asked: str, slurm_bin: Bin, tmp_path: Path
) -> None:
    answering(slurm_bin, tmp_path, sacct_text("22.05-linux", "array_task_2"))
    fetch_accounting(AllocationKey(job, slurm_array=array), ["0"], timeout_seconds=5)
    assert slurm_bin.queries()[0].startswith(f"sacct -j {asked} ")


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(InputError, match="'slurmrestd' is unknown; use one of auto, sacct, pyslurm"):
        fetch_accounting(ANYTHING, STEPS, backend="slurmrestd")
