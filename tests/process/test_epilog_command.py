"""``torc slurm epilog`` never disturbs the script that it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from node_files import batch, write

SLURM = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1"}


def epilog(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return epilog_of(None, *words, **variables)


def epilog_of(user: int | None, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORC_", "SLURM"))}
    command = [sys.executable, "-m", "torc_slurm.cli.main", "slurm", "epilog", *words]
    environment = kept | {"PATH": "/nowhere"} | variables
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, user=user)


def test_without_sacct_every_step_is_noted_as_unavailable(tmp_path: Path) -> None:
    write(tmp_path, batch(), batch(job_id=1, step_id="1", invocation="2"))
    done = epilog("--output-dir", str(tmp_path), **SLURM)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "torc: Slurm's accounting of 2 steps: 2 unavailable; see: torc stats --slurm-job-id 7\n"
    rows = json.loads(epilog("-f", "json", "--output-dir", str(tmp_path), **SLURM).stdout)["items"]
    assert [(row["step_id"], row["status"]) for row in rows] == [("0", "unavailable"), ("1", "unavailable")]
    assert not (tmp_path / "torc.db").exists()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "SLURM_JOB_ID is not set"),
        (SLURM, "no record of job 7"),
        (SLURM | {"TORC_SACCT_TIMEOUT_SECONDS": "soon"}, "TORC_SACCT_TIMEOUT_SECONDS"),
    ],
)
def test_failure_is_one_line_and_exits_0_or_1_with_strict(
    variables: dict[str, str], message: str, tmp_path: Path
) -> None:
    done = epilog("--output-dir", str(tmp_path / "none"), **variables)
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    assert message in line
    assert epilog("--strict", "--output-dir", str(tmp_path / "none"), **variables).returncode == 1


def test_an_output_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = epilog("--output-dir", str(tmp_path / "file"), **SLURM)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        f"torc: epilog: {tmp_path}/file is a file, not an output directory; give your job's own --output-dir\n"
    )


@pytest.mark.parametrize(
    ("mode", "says"),
    [(0o000, "cannot be used: Permission denied; give your job's own --output-dir"), (0o555, "cannot ")],
)
def test_an_output_directory_without_permission(mode: int, says: str, tmp_path: Path) -> None:
    path = Path(write(tmp_path / "output", batch()))
    for above in (path, *list(path.parents)[:4]):
        above.chmod(0o755)
    path.parent.chmod(mode)
    ordinary = 65534 if os.geteuid() == 0 else None  # root may write anywhere
    done = epilog_of(ordinary, TORC_OUTPUT_DIR=str(tmp_path / "output"), **SLURM)
    path.parent.chmod(0o755)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / "output") in line
    assert says in line


def test_a_broken_node_file_is_a_line_and_0(tmp_path: Path) -> None:
    path = write(tmp_path, batch())
    broken = path.replace("n1", "n2")
    Path(broken).write_text("not a database\n")
    done = epilog("--output-dir", str(tmp_path), **SLURM)
    assert done.returncode == 0
    assert broken in done.stderr
    assert "1 steps" in done.stdout
