"""What root runs at a job's end follows no link that a user put in its way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from node_files import batch, write

pytestmark = pytest.mark.root

TEMPLATE = Path(__file__).resolve().parents[2] / "sbatch_templates" / "admin_epilog.sh"
USER = 64_321
JOB = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "SLURM_JOB_UID": str(USER), "SLURM_JOB_USER": "ann"}


def note(place: Path, shell: str) -> list[str]:
    """Run the administrator's Epilog with its directory here; what is there afterwards."""
    script = TEMPLATE.read_text().replace("/var/spool/torc-slurm", str(place))
    done = subprocess.run(
        [shell, "-c", script], env={"PATH": os.environ["PATH"], **JOB}, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return sorted(path.name for path in place.iterdir())


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_administrators_epilog_writes_where_only_root_can(shell: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o755)
    assert note(spool, shell) == ["7.n1"]
    assert (spool / "7.n1").read_text().split()[:4] == ["7", str(USER), "ann", "n1"]
    assert note(spool, shell) == ["7.n1"]


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("whose", ["a user's", "everybody's", "its group's", "a link"])
def test_the_administrators_epilog_leaves_others_directories_alone(whose: str, shell: str, tmp_path: Path) -> None:
    spool, real = tmp_path / "spool", tmp_path / "real"
    real.mkdir()
    if whose == "a link":
        os.symlink(real, spool)
    else:
        spool.mkdir()
        spool.chmod({"everybody's": 0o1777, "its group's": 0o775}.get(whose, 0o755))
        if whose == "a user's":
            os.chown(spool, USER, USER)
    assert note(spool, shell) == []


def test_the_administrators_epilog_follows_no_link_at_its_notes_name(tmp_path: Path) -> None:
    spool, victim = tmp_path / "spool", tmp_path / "victim"
    spool.mkdir(mode=0o755)
    victim.mkdir()
    os.symlink(victim, spool / "7.n1")
    assert note(spool, "sh") == ["7.n1"]
    assert not (spool / "7.n1").is_symlink()
    assert list(victim.iterdir()) == []


def epilog(output_dir: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORC_", "SLURM"))}
    words = [sys.executable, "-m", "torc_slurm.cli.main", "slurm", "epilog", "--output-dir", str(output_dir)]
    env = kept | JOB | {"PATH": "/nowhere", "SLURMD_NODENAME": "n2"}
    return subprocess.run(words, env=env, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("link", ["the node file", "the directory of records", "the output directory"])
def test_torcs_epilog_as_root_writes_nothing_where_a_user_can_put_links(link: str, tmp_path: Path) -> None:
    """The user's record of another node is there; this node's file would be root's, wherever a link leads."""
    victim, home = tmp_path / "victim", tmp_path / "home"
    victim.mkdir()
    home.mkdir()
    output = home / "out"
    record = Path(write(output, batch()))
    planted = Path(str(record).replace("n1", "n2"))
    if link == "the node file":
        os.symlink(victim / "made", planted)
    else:
        moved = record.parent if link == "the directory of records" else output
        moved.rename(victim / "moved")
        os.symlink(victim / "moved", moved)
    for path in [home, *home.rglob("*")]:
        os.lchown(path, USER, USER)
    before = sorted(victim.rglob("*"))
    done = epilog(output)
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    assert "run this as the job's user" in line
    assert sorted(victim.rglob("*")) == before


def test_torcs_epilog_of_roots_own_job(tmp_path: Path) -> None:
    write(tmp_path / "out", batch())
    done = epilog(tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 steps" in done.stdout
