"""A node whose /tmp takes nothing more, in bytes or in files: records, meetings and commands find another place."""

# ruff: noqa: S108 - /tmp and /dev/shm are the namespace's own

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from measured import job_of_a_workflow, node_files, records, under_torc_step
from namespaces import Namespace, own_namespace

pytestmark = pytest.mark.root

JOB = ["sh", "-c", "exit 7"]
MAKE_OURS = "mkdir -m 700 /tmp/torc-0; cd /tmp/torc-0; mkdir -m 700 $1; "
FILL = {
    "bytes": MAKE_OURS + "dd if=/dev/zero of=/tmp/filler bs=4k 2> /dev/null",
    "files": MAKE_OURS + "i=0; while : > /tmp/filler$i; do i=$((i + 1)); done 2> /dev/null",
    "files from the start": "i=0; while : > /tmp/filler$i; do i=$((i + 1)); done 2> /dev/null",
}


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with own_namespace() as made:
        yield made


def fill(namespace: Namespace, how: str, *ours: str) -> None:
    """Make directories of ours in /tmp, and fill it up."""
    namespace.do("mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20,mode=1777", "none", "/tmp")
    namespace.run(["sh", "-c", FILL[how].replace("$1", " ".join(ours))])


@pytest.mark.parametrize("how", FILL)
def test_a_record_is_kept_elsewhere_on_the_node(how: str, namespace: Namespace) -> None:
    disk = namespace.place / "disk"
    disk.mkdir()
    namespace.do("mount", "-t", "tmpfs", "-o", "size=8k", "none", str(disk))
    fill(namespace, how, "spool", "locks")
    status, _, stderr = namespace.run(under_torc_step(disk, JOB, *job_of_a_workflow(1)))
    assert status == 7
    assert "/dev/shm/torc-0/spool" in stderr
    namespace.do("mount", "-o", "remount,size=1m", str(disk))
    (path,) = namespace.bring_over()
    namespace.do("cp", path, str(namespace.place / "copy.db"))
    (record,) = records(namespace.place / "copy.db")
    assert record.exit["return_code"] == 7
    left = namespace.do("sh", "-c", "find /tmp/torc-0 /dev/shm/torc-0 -type f || :").split()
    assert [name for name in left if "spool" in name] == []


@pytest.mark.parametrize("how", FILL)
def test_a_node_file_is_written_all_the_same(how: str, namespace: Namespace) -> None:
    """Its lock is a file in /tmp where there is room for one."""
    fill(namespace, how, "spool", "locks")
    status, _, stderr = namespace.run(under_torc_step(namespace.place / "out", JOB, *job_of_a_workflow(1)))
    assert (status, stderr) == (7, "")
    (path,) = node_files(namespace.place / "out")
    (record,) = records(path)
    assert record.exit["return_code"] == 7


@pytest.mark.parametrize("how", FILL)
def test_the_tasks_of_a_step_meet(how: str, namespace: Namespace) -> None:
    fill(namespace, how, "steps", "locks")
    step = (
        "SLURM_JOB_ID=4242 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_TASKS_PER_NODE=2 SLURM_NODEID=0"
        " SLURMD_NODENAME=n1"
    )
    wrapped = " ".join(str(word) for word in under_torc_step(namespace.place / "out", ["sleep", "0.5"]))
    both = f"export {step}; for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i {wrapped} & done; wait"
    status, _, stderr = namespace.run(["sh", "-c", both])
    assert (status, stderr) == (0, "")
    (path,) = node_files(namespace.place / "out")
    (record,) = records(path)
    assert [row["task"] for row in record.exits] == [0, 1]
    assert record.figures["num_processes_peak"] == 2


@pytest.mark.parametrize("how", FILL)
def test_commands_do_their_work(how: str, namespace: Namespace) -> None:
    fill(namespace, how, "spool", "locks")
    torc = [sys.executable, "-m", "torc_slurm.cli.main"]
    place = namespace.place
    (place / "w.yaml").write_text("name: w\njobs: [{name: a, command: 'echo done'}]\n")
    out = ["--output-dir", str(place / "out")]
    for words in (
        ["run", str(place / "w.yaml"), *out],
        ["slurm", "stats", "1", *out],
        ["jobs", "list", "1", *out],
    ):
        status, stdout, stderr = namespace.run([*torc, *words])
        assert status == 0, (words, stderr)
        assert "1" in stdout


def test_what_a_spool_is_meant_for_is_not_lost_to_a_disk_that_fills_up(namespace: Namespace) -> None:
    disk, spool = namespace.place / "disk", "/tmp/torc-0/spool"
    disk.mkdir()
    namespace.do("mount", "-t", "tmpfs", "-o", "size=8k", "none", str(disk))
    namespace.do("mount", "-t", "tmpfs", "-o", "size=300k,mode=1777", "none", "/tmp")
    code = (
        "from torc_slurm.database.spool import write_to_spool; from torc_slurm.common.errors import DatabaseError\n"
        "from torc_slurm.database.batch import Batch; import sys; sys.path.append(sys.argv[1]); import node_files\n"
        "import os\n"
        f"first = write_to_spool('{disk}/x.db', 'a', node_files.batch())\n"
        "os.system('dd if=/dev/zero of=/tmp/filler bs=4k 2> /dev/null')\n"
        f"second = write_to_spool('{disk}/x.db', 'a', node_files.batch(job_id=2, invocation='2'))\n"
        "print(first, second)"
    )
    said = namespace.do(sys.executable, "-c", code, str(Path(__file__).parents[1]))
    assert said.split() == [f"{spool}/a.db", "/dev/shm/torc-0/spool/a.db"]
    assert namespace.do("cat", f"{spool}/a.target") == f"{disk}/x.db"
    namespace.do("mount", "-o", "remount,size=1m", str(disk))
    assert namespace.bring_over() == [f"{disk}/x.db"] * 2
