"""One query for many jobs: sacct's arguments, the records it returns while it still writes, and its failures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from recordings import sacct_text

from torc_slurm.common.errors import CommandError, CommandNotFound, CommandTimeout, ParseError
from torc_slurm.slurm import sacct
from torc_slurm.slurm.job_query import JobQuestion, job_rows


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    sacct.known_columns.cache_clear()
    yield directory
    sacct.known_columns.cache_clear()


def put(directory: Path, script: str, *, knows: str = "", before: str = "") -> None:
    path = directory / "sacct"
    path.write_text(f'#!/bin/bash\n[ "$1" = -e ] && {{ echo "{knows}"; exit; }}\n{before}\n{script}\n')
    path.chmod(0o755)


def answering(directory: Path, cluster: str, scenario: str, after: str = "") -> None:
    (directory / "answer").write_text(sacct_text(cluster, scenario), newline="")
    put(
        directory,
        f'printf "%s\\n" "$@" >{directory}/asked; echo x >>{directory}/count; cat {directory}/answer; {after}',
    )


def test_many_jobs_are_one_query(bin_dir: Path) -> None:
    answering(bin_dir, "22.05-cgroup", "array_whole")
    records = list(job_rows(JobQuestion(jobs=tuple(map(str, range(1, 2001))))))
    jobs = [record for record in records if record.step_id is None]
    assert len(jobs) == 3
    assert records[0].step_id is None
    assert (bin_dir / "count").read_text() == "x\n"
    assert ",".join(map(str, range(1, 2001))) in (bin_dir / "asked").read_text().splitlines()


def test_all_columns_are_requested_at_once(bin_dir: Path) -> None:
    answering(bin_dir, "22.05-cgroup", "ends")
    put(bin_dir, (bin_dir / "sacct").read_text().partition("\n")[2], before=f"echo $1 >>{bin_dir}/calls")
    assert len(list(job_rows(JobQuestion(jobs=("1",))))) == 11
    columns = (bin_dir / "asked").read_text().splitlines()[-1].split(",")
    assert {"Partition", "Suspended", "SubmitLine"} <= set(columns)
    assert columns[-1] == "JobName"
    assert (bin_dir / "calls").read_text() == "-j\n"


def test_columns_that_an_older_sacct_refuses_are_left_out(bin_dir: Path) -> None:
    answering(bin_dir, "22.05-cgroup", "ends")
    refuse = "case \"$*\" in *SubmitLine*) echo 'sacct: fatal: Invalid field requested: SubmitLine' >&2; exit 1; esac"
    put(
        bin_dir,
        (bin_dir / "sacct").read_text().partition("\n[")[2].partition("\n")[2],
        knows="Partition Suspended",
        before=refuse,
    )
    assert len(list(job_rows(JobQuestion(jobs=("1",))))) == 11
    columns = (bin_dir / "asked").read_text().splitlines()[-1].split(",")
    assert {"Partition", "Suspended"} <= set(columns)
    assert "SubmitLine" not in columns
    assert (bin_dir / "count").read_text() == "x\n"


def test_sacct_runs_before_its_answer_is_read(bin_dir: Path) -> None:
    """A caller that has other work meanwhile does not wait for Slurm's database afterwards."""
    started = bin_dir / "started"
    os.mkfifo(started)
    answering(bin_dir, "22.05-cgroup", "ends")
    put(bin_dir, (bin_dir / "sacct").read_text().partition("\n[")[2].partition("\n")[2], before=f"echo x >{started}")
    records = job_rows(JobQuestion(jobs=("1",)))
    assert started.read_text() == "x\n"
    assert len(list(records)) == 11


def test_records_come_while_sacct_still_writes(bin_dir: Path) -> None:
    """A pipe holds back the rest of the answer until the first record was read."""
    gate = bin_dir / "gate"
    os.mkfifo(gate)
    answering(bin_dir, "22.05-cgroup", "ends")
    put(bin_dir, f"head -c 4000 {bin_dir}/answer; read -r _ <{gate}; tail -c +4001 {bin_dir}/answer")
    records = job_rows(JobQuestion(jobs=("1",)))
    first = next(records)
    assert first.step_id is None
    gate.write_text("go on\n")
    assert len(list(records)) == 10


def test_a_caller_that_stops_ends_sacct(bin_dir: Path) -> None:
    answering(bin_dir, "22.05-cgroup", "ends", f"echo $$ >{bin_dir}/pid; exec sleep 1000")
    put(bin_dir, f"echo $$ >{bin_dir}/pid; cat {bin_dir}/answer; exec sleep 1000")
    records = job_rows(JobQuestion(jobs=("1",)))
    next(records)
    records.close()  # type: ignore[attr-defined] # a generator
    assert not Path(f"/proc/{(bin_dir / 'pid').read_text().strip()}").exists()


def test_without_sacct_the_error_says_so(bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(bin_dir))
    with pytest.raises(CommandNotFound):
        list(job_rows(JobQuestion(jobs=("1",))))


def test_failures_are_reported(bin_dir: Path) -> None:
    selection = JobQuestion(jobs=("1",))
    put(bin_dir, "echo 'Connection refused' >&2; exit 1")
    with pytest.raises(CommandError, match="Connection refused"):
        list(job_rows(selection))
    put(bin_dir, "exec sleep 1000")
    with pytest.raises(CommandTimeout):
        list(job_rows(selection, timeout_seconds=0.3))
    answering(bin_dir, "22.05-cgroup", "ends", "exit 3")
    with pytest.raises(CommandError):
        list(job_rows(selection))
    answering(bin_dir, "22.05-cgroup", "ends")
    put(bin_dir, f"head -c 9000 {bin_dir}/answer")
    with pytest.raises(ParseError, match="cut off"):
        list(job_rows(selection))
