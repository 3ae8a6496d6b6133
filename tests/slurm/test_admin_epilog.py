"""The administrator's Epilog, run by slurmd: it notes every job and never drains a node, even with a bad disk."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_slurm import Lab

pytestmark = pytest.mark.slurm

TEMPLATE = Path(__file__).resolve().parents[2] / "sbatch_templates" / "admin_epilog.sh"


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def epilog_lab(make_lab: Callable[..., Lab], spool: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab whose slurm.conf names the template, with the test's directory instead of the real one."""
    script = tmp_path_factory.mktemp("epilog") / "torc.sh"
    script.write_text(TEMPLATE.read_text().replace("/var/spool/torc-slurm", str(spool)))
    script.chmod(0o755)
    return make_lab("--slurm-conf-line", f"Epilog={script}")


@pytest.fixture(params=["full", "read-only"])
def bad_disk(request: pytest.FixtureRequest, spool: Path) -> Iterator[str]:
    """A file system over the spool that accepts no files."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", spool], check=True)
    try:
        if request.param == "full":
            (spool / "filler").write_bytes(b"x" * 4096)
        else:
            subprocess.run(["mount", "-o", "remount,ro", spool], check=True)
        yield request.param
    finally:
        subprocess.run(["umount", spool], check=True)


def run_a_job_on_both_nodes(lab: Lab) -> int:
    job = lab.submit("srun --nodes=2 true", "--nodes=2", "--ntasks-per-node=1")
    lab.wait_ended(job, accounted=False)
    return job


def node_states(lab: Lab) -> list[str]:
    return lab.run(["sinfo", "-h", "-N", "-o", "%T"]).stdout.split()


def test_it_notes_the_job_on_each_node(epilog_lab: Lab, spool: Path) -> None:
    job = run_a_job_on_both_nodes(epilog_lab)
    notes = [spool / f"{job}.{node}" for node in epilog_lab.nodes]
    epilog_lab.wait_for(lambda: all(note.exists() for note in notes), "the notes of both nodes")
    uid = epilog_lab.run(["id", "-u", epilog_lab.user]).stdout.strip()
    for note, node in zip(notes, epilog_lab.nodes, strict=True):
        assert note.read_text().split()[:4] == [str(job), uid, epilog_lab.user, node]
    epilog_lab.wait_for(lambda: node_states(epilog_lab) == ["idle", "idle"], "idle nodes")


def test_a_disk_that_takes_nothing_drains_no_node(bad_disk: str, epilog_lab: Lab, spool: Path) -> None:
    job = run_a_job_on_both_nodes(epilog_lab)
    epilog_lab.wait_for(lambda: node_states(epilog_lab) == ["idle", "idle"], f"idle nodes with a {bad_disk} disk")
    assert {path.name for path in spool.iterdir()} <= {"filler"}
    epilog_lab.wait_for(lambda: epilog_lab.states(job).get(str(job)) == "COMPLETED", "the job's end in accounting")
