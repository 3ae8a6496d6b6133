"""The commands about the user's own Slurm jobs, with a sacct that prints recorded text."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest
from plot_files import batch, data_of, write
from recordings import sacct_rows, sacct_text

from torc_slurm.cli import own_jobs
from torc_slurm.cli.main import main
from torc_slurm.slurm import sacct
from torc_slurm.slurm.sacct import parse


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sacct that knows a recorded job and notes its arguments."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "answer").write_text(sacct_text("22.05-cgroup", "array_whole"), newline="")
    script = f'#!/bin/bash\n[ "$1" = -e ] && exit\nprintf "%s\\n" "$@" >{directory}/asked\ncat {directory}/answer\n'
    (directory / "sacct").write_text(script)
    (directory / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    sacct.known_columns.cache_clear()
    return directory / "asked"


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account without a passwd entry, as in many containers."""
    monkeypatch.setattr(own_jobs, "user_name", lambda: None)


@pytest.mark.usefixtures("nameless")
@pytest.mark.parametrize(
    "words", [["seff", "1"], ["check", "--slurm-job-id", "1"], ["correct", "--slurm-job-id", "1", "--dry-run"]], ids=str
)
def test_named_jobs_need_no_name_of_the_account(words: list[str], asked: Path) -> None:
    assert main(words) == 0
    assert "-u" not in asked.read_text().splitlines()


@pytest.mark.usefixtures("nameless")
@pytest.mark.parametrize("words", [["seff"], ["check", "--since", "1d"]], ids=str)
def test_without_jobs_the_account_needs_a_name(
    words: list[str], asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"torc: user id {os.getuid()} has no name here; give the ids of jobs\n"
    assert not asked.exists()


def test_jobs_of_this_user_are_selected_by_name(asked: Path) -> None:
    assert main(["seff"]) == 0
    words = asked.read_text().splitlines()
    assert words[words.index("-u") + 1] == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("name", ["suggested", "ask"])
def test_the_column_of_suggestions_has_its_heading_as_a_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seff", "1", "-f", f"jobid,{name}"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["JobID", "Suggested"]


def test_what_no_job_fits_is_named(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = sacct_text("22.05-cgroup", "array_whole").partition("\n")[0]
    (asked.parent / "answer").write_text(header + "\n", newline="")
    assert main(["seff", "77"]) == 2
    assert main(["check", "--slurm-job-id", "77", "--name", "x+"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("torc: Slurm's accounting has no job 77 (")
    assert second == "torc: none of the jobs 77 matches --name, or accounting has none of them; see torc seff 77"


def with_column(text: str, name: str, cell: str) -> str:
    """sacct's output with one more column, the same in all rows."""
    head = text.partition("\n")[0]
    delimiter = head.removeprefix("JobIDRaw").partition("JobID")[0]
    cells = [name, *[cell] * text.count("\n")]
    lines = (line.split(delimiter, 2) for line in text.splitlines())
    return "".join(
        f"{delimiter.join([first, second, new, rest])}\n"
        for (first, second, rest), new in zip(lines, cells, strict=False)
    )


def selected(capsys: pytest.CaptureFixture[str], *words: str) -> set[str]:
    """The ids of the jobs that `torc seff` shows."""
    assert main(["seff", *words, "-f", "json"]) in (0, 2)
    return {item["job_id"] for item in json.loads(capsys.readouterr().out)["items"]}


def test_options_also_narrow_jobs_named_by_their_ids(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in reportseff; sacct itself ignores them."""
    text = with_column((asked.parent / "answer").read_text(), "Partition", "debug")
    (asked.parent / "answer").write_text(text, newline="")
    jobs = {row.shown_job_id: row for row in parse(text) if row.step_id is None}
    every, (first, *_) = set(jobs), jobs.values()
    assert len(every) == 3
    assert selected(capsys, "1", "-p", f"{first.partition}x") == set()
    assert selected(capsys, "1", "-p", f"gpu,{first.partition}") == every
    assert selected(capsys, "1", "--user", f"{first.user_name}x") == set()
    assert selected(capsys, "1", "--user", str(first.user_name)) == selected(capsys, "1", "--user", "*") == every
    assert selected(capsys, "1", "--state", "FAILED") == set()
    assert selected(capsys, "1", "--state", str(first.state)) == every
    assert selected(capsys, "1", "--since", "2020-01-01") == selected(capsys, "1") == every
    assert selected(capsys, "1", "--since", "1h") == selected(capsys, "1", "--until", "2020-01-01") == set()
    assert "-S" not in (words := asked.read_text().splitlines())
    assert words[words.index("-j") + 1] == "1"


# --- pages ------------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path) -> list[int]:
    """Records of two of the recorded Slurm jobs, each with a step 0 and a time series."""
    jobs = sorted({row.slurm_job_id for row in sacct_rows("22.05-cgroup", "array_whole")})[:2]
    for number in jobs:
        write(
            tmp_path / "torc_output", batch(job_id=0, workflow_id=None, slurm_job_id=number, step_id="0", seconds=5.0)
        )
    return jobs


def test_each_of_several_slurm_jobs_has_its_pages(
    asked: Path, recorded: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked
    first, second = recorded
    assert main(["plot-resources", "--slurm-job-id", f"{first},{second},77", "-o", "plots"]) == 0
    assert "no record of Slurm job 77" in capsys.readouterr().err
    names = {path.name for path in (tmp_path / "plots").glob("*_job_*.html")}
    assert names == {f"resource_plot_{number}_job_0.html" for number in recorded}
    assert main(["plot-resources", "--slurm-job-id", str(first), "-o", "one"]) == 0
    assert (tmp_path / "one" / "resource_plot_job_0.html").exists()
    assert main(["plot-resources", "--slurm-job-id", "77"]) == 2
    assert main(["plot-resources", "--slurm-job-id", str(first), "--workflow", "1"]) == 2
    assert "only one of these" in capsys.readouterr().err


def test_one_page_about_own_jobs(
    asked: Path, recorded: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["reports", "html", "--since", "1w", "--name", ".*", "-o", str(page)]) == 0, capsys.readouterr().err
    assert "-u" in asked.read_text().splitlines()
    text = page.read_text()
    for title in ("What 2 Slurm jobs used", "Jobs over their request", "What to request instead", "Cost, before"):
        assert title in text
    cells = [row[0][1] for row in data_of(text)["tables"]["jobs"]["rows"]]
    assert cells == [f"{number}.0" for number in recorded]
    assert main(["reports", "html", "--slurm-job-id", str(recorded[0]), "-o", str(page)]) == 0
    assert f"What Slurm job {recorded[0]} used" in page.read_text()
    assert "What to request instead" in page.read_text()
    assert main(["reports", "html", "1", "--since", "1w"]) == 2
    assert "cannot be combined" in capsys.readouterr().err
