"""The wrapper exits as its job exited, and uses 127 and 126 like a shell."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from measured import job_of_a_workflow, node_files, program, records, run, start, the_record

DEADLY = sorted(
    set(range(1, signal.SIGRTMAX + 1))
    - {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
    - {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
)


def return_codes(tmp_path: Path, commands: Iterable[Sequence[str]]) -> Iterator[int]:
    """The return codes of the commands under torc-step, eight at a time, all with one node file."""
    waiting = enumerate(commands, start=1)
    while some := [
        start(tmp_path, command, *job_of_a_workflow(number), stdout=subprocess.DEVNULL)
        for number, command in islice(waiting, 8)
    ]:
        yield from (process.wait() for process in some)


def exits_in_order(tmp_path: Path) -> list[dict[str, Any]]:
    (path,) = node_files(tmp_path)
    return [record.exit for record in sorted(records(path), key=lambda record: int(record.step["job_id"]))]


def test_every_exit_status_is_passed_on_and_recorded(tmp_path: Path) -> None:
    statuses = list(return_codes(tmp_path, (["sh", "-c", f"exit {status}"] for status in range(256))))
    assert statuses == list(range(256))
    recorded = exits_in_order(tmp_path)
    assert [row["return_code"] for row in recorded] == list(range(256))
    assert {row["signal"] for row in recorded} == {None}


def test_it_dies_of_every_signal_that_its_job_died_of(tmp_path: Path) -> None:
    statuses = list(return_codes(tmp_path, (program("die_of", number) for number in DEADLY)))
    assert statuses == [-number for number in DEADLY]
    recorded = exits_in_order(tmp_path)
    assert [row["signal"] for row in recorded] == DEADLY
    assert all(row["return_code"] == 128 + row["signal"] for row in recorded)


def test_no_core_file_of_the_wrapper(tmp_path: Path) -> None:
    """The job may leave a core; the wrapper dies of the same signal and leaves none."""

    def allow_cores() -> None:
        limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))

    forbid_own = ["sh", "-c", "ulimit -c 0; kill -SEGV $$"]
    done = run(tmp_path / "out", forbid_own, cwd=tmp_path, prepare=allow_cores)
    assert done.returncode == -signal.SIGSEGV
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_job_may_still_leave_a_core(tmp_path: Path) -> None:
    """Its limit is unchanged: the job writes the core that the user wants."""
    shown = run(tmp_path, ["sh", "-c", "ulimit -c"]).stdout
    assert shown == subprocess.run(["sh", "-c", "ulimit -c"], stdout=subprocess.PIPE, check=True).stdout


# --- what cannot be started -----------------------------------------------------------------------------------


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    done = run(tmp_path, ["no-such-command-anywhere"])
    assert done.returncode == 127
    assert done.stderr.splitlines()[0] == b"torc-step: no-such-command-anywhere: not found on PATH"
    assert the_record(tmp_path).exit["return_code"] == 127


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    done = run(tmp_path, ["./nowhere/a.out"])
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        127,
        b"torc-step: ./nowhere/a.out: No such file or directory",
    )


def test_an_empty_command(tmp_path: Path) -> None:
    assert run(tmp_path, [""]).returncode == 127


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_that_may_not_be_executed(mode: int, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(mode)
    done = run(tmp_path / "out", [str(script)])
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        126,
        f"torc-step: {script}: Permission denied".encode(),
    )
    assert the_record(tmp_path / "out").exit["return_code"] == 126


def test_a_directory(tmp_path: Path) -> None:
    done = run(tmp_path / "out", [str(tmp_path)])
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        126,
        f"torc-step: {tmp_path}: Permission denied".encode(),
    )


def test_a_script_whose_interpreter_does_not_exist(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = run(tmp_path / "out", [str(script)])
    assert done.returncode == 126
    assert b"interpreter" in done.stderr.splitlines()[0]


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    done = run(tmp_path, [b"no-such-\xff\n"])
    assert done.returncode == 127
    assert done.stderr.startswith(b"torc-step: no-such-")


def test_the_path_that_decides_is_the_jobs(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "torc-test-command").symlink_to("/bin/echo")
    found = run(tmp_path / "out", ["torc-test-command", "hello"], env={"PATH": str(tmp_path / "bin")})
    assert (found.returncode, found.stdout) == (0, b"hello\n")


def test_the_record_holds_the_notes(tmp_path: Path) -> None:
    done = run(tmp_path / "out", ["true"], "--note", "size=123", "--note=mesh=fine grid")
    assert done.returncode == 0
    assert json.loads(str(the_record(tmp_path / "out").step["user_notes"])) == {"size": 123, "mesh": "fine grid"}


def test_the_record_holds_command_directory_and_node(tmp_path: Path) -> None:
    run(tmp_path / "out", ["sh", "-c", ": a b"], cwd=tmp_path)
    step = the_record(tmp_path / "out").step
    assert step["command"] == "sh -c : a b"
    assert step["working_dir"] == str(tmp_path)
    assert step["node"] == os.uname().nodename.partition(".")[0]
    assert (step["job_name"], step["attempt_id"], step["run_id"], step["slurm_job_id"]) == ("sh", 1, 1, None)
