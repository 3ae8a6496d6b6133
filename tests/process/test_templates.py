"""The shipped shell templates in real shells: a script ends with them as it would have ended without."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from torc_slurm.common.errors import InputError
from torc_slurm.usecases import templates

TRAP = templates.find("epilog_trap.sh")
TRAP_LINE = Path(TRAP).read_text().splitlines()[-1]
ADMIN = templates.find("admin_epilog.sh")


@pytest.fixture
def torc(tmp_path: Path) -> Path:
    """A directory for PATH with a torc that notes its calls, prints, and fails."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "torc"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho "12 steps"\nexit 5\n')
    program.chmod(0o755)
    return directory


def calls(tmp_path: Path) -> list[str]:
    noted = tmp_path / "calls"
    return noted.read_text().splitlines() if noted.exists() else []


def end_of(shell: str, script: str, path: str, *, term: bool = False) -> int:
    """The return code of a script; negative: the signal that killed it. ``term``: SIGTERM once it prints `ready`."""
    process = subprocess.Popen(
        [shell, "-c", script],
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    if term:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
    process.communicate()
    return process.returncode


ENDS = {
    "falls off its end": ":",
    "fails at its end": "false",
    "exits 3": "exit 3",
    "set -e": "set -e; false; true",
    "set -eu and an unset variable": 'set -eu; echo "$nothing_of_this_name"',
    "kills itself": "kill -KILL $$",
}
ENDS_BY_TERM = {
    "during a command": "echo ready; sleep 0.3",
    "during wait": "sleep 0.3 & echo ready; wait",
    "with a trap of its own": 'trap "exit 9" TERM; sleep 0.3 & echo ready; wait',
}


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("name", [*ENDS, *ENDS_BY_TERM])
@pytest.mark.parametrize("way", ["pasted", "sourced"])
def test_a_script_ends_with_the_trap_as_without(shell: str, name: str, way: str, torc: Path, tmp_path: Path) -> None:
    script = (ENDS | ENDS_BY_TERM)[name]
    trap = TRAP_LINE if way == "pasted" else f". {TRAP}"
    path, term = f"{torc}:/usr/bin:/bin", name in ENDS_BY_TERM
    bare = end_of(shell, script, path, term=term)
    assert end_of(shell, f"{trap}\n{script}", path, term=term) == bare
    assert end_of(shell, f"{trap}\n{script}", "/usr/bin:/bin", term=term) == bare
    killed_at_once = name == "kills itself" or (shell == "dash" and term and bare < 0)
    assert calls(tmp_path) == ([] if killed_at_once else ["slurm epilog"])


def test_the_trap_is_one_line_and_the_rest_is_comment() -> None:
    *comments, line = Path(TRAP).read_text().splitlines()
    assert all(comment.startswith("#") for comment in comments)
    assert line.startswith("trap '")


@pytest.mark.parametrize(
    ("variables", "called"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}, ["slurm collect --slurm-job-id 7"]),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "1"}, []),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURMD_NODENAME": "n1"}, []),  # inside a batch script
        ({}, []),
    ],
)
def test_srun_epilog(variables: dict[str, str], called: list[str], torc: Path, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    for path in (f"{torc}:/usr/bin:/bin", "/usr/bin:/bin"):
        done = subprocess.run(
            [templates.find("srun_epilog.sh")],
            env=kept | variables | {"PATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "")
    assert calls(tmp_path) == called


# --- the administrator's Epilog

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": "1000", "SLURM_JOB_USER": "ann", "SLURMD_NODENAME": "n1"}


def admin_epilog(tmp_path: Path, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it like slurmd, with only the system's programs on PATH, and with its directory replaced by the test's."""
    script = tmp_path / "epilog.sh"
    script.write_text(Path(ADMIN).read_text().replace("/var/spool/torc-slurm", str(directory)))
    environment = {"PATH": "/usr/bin:/bin"} | variables
    return subprocess.run(["sh", str(script)], env=environment, capture_output=True, text=True, check=False)


def test_admin_epilog_notes_the_job(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    before = int(time.time())
    for _ in range(2):  # slurmd may run it again
        done = admin_epilog(tmp_path, spool, **JOB)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (note,) = spool.iterdir()
    assert note.name == "7.n1"
    *words, when = note.read_text().split()
    assert words == ["7", "1000", "ann", "n1"]
    assert before <= int(when) <= time.time()


@pytest.mark.parametrize(
    "variables", [{}, JOB | {"SLURM_JOB_ID": ""}, JOB | {"SLURM_JOB_ID": "7/../8"}, JOB | {"SLURMD_NODENAME": "../n1"}]
)
def test_admin_epilog_writes_nothing_for_what_is_no_job(variables: dict[str, str], tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    assert admin_epilog(tmp_path, spool, **variables).returncode == 0
    assert [path.name for path in spool.rglob("*")] == []


def test_admin_epilog_exits_0_without_its_directory(tmp_path: Path) -> None:
    for directory in (tmp_path / "missing", tmp_path / "file" / "below"):
        (tmp_path / "file").write_text("")
        done = admin_epilog(tmp_path, directory, **JOB)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("program", ["date", "mv", "uname", "rm"])
def test_admin_epilog_exits_0_where_a_program_of_it_fails(program: str, tmp_path: Path) -> None:
    spool, directory = tmp_path / "spool", tmp_path / "bin"
    spool.mkdir()
    directory.mkdir()
    (directory / program).write_text("#!/bin/sh\nexit 1\n")
    (directory / program).chmod(0o755)
    assert admin_epilog(tmp_path, spool, **JOB, PATH=f"{directory}:/usr/bin:/bin").returncode == 0


def test_shell_templates_are_portable() -> None:
    for name in templates.names():
        path = templates.find(name)
        if name.endswith("_epilog.sh"):
            assert Path(path).read_text().startswith("#!/bin/sh\n")
            assert subprocess.run(["dash", "-n", path], check=False).returncode == 0
            assert os.access(path, os.X_OK)


def test_no_slurm_command_in_the_administrators_epilog() -> None:
    code = [line for line in Path(ADMIN).read_text().splitlines() if not line.lstrip().startswith("#")]
    for command in ("sacct", "scontrol", "squeue", "sbatch", "srun", "scancel", "flock", "torc "):
        assert not [line for line in code if command in line]


def test_an_unknown_template_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"there is no template 'x'; there are .*epilog_trap\.sh"):
        templates.find("x")
