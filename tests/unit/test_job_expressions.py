"""What people type for a Slurm job."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.common.errors import InputError
from torc_slurm.slurm.job_expressions import MOST_JOBS, JobName, parse_jobs


def named(*expressions: str) -> list[str]:
    return [str(job) for job in parse_jobs(expressions)]


@pytest.mark.parametrize(
    ("expression", "jobs"),
    [
        ("123", ["123"]),
        ("123_4", ["123_4"]),
        ("123_0", ["123_0"]),
        ("123_[1-5,9]", ["123_1", "123_2", "123_3", "123_4", "123_5", "123_9"]),
        ("123_[0-9:3%2]", ["123_0", "123_3", "123_6", "123_9"]),
        ("123_*", ["123"]),
        ("120-122", ["120", "121", "122"]),
        ("1,2,1", ["1", "2"]),
        ("7,123_[1,2],9", ["7", "123_1", "123_2", "9"]),
        ("123.0", ["123"]),
        ("123.batch", ["123"]),
        ("123+1", ["123"]),
        ("slurm-123.out", ["123"]),
        ("slurm-123_4.out", ["123_4"]),
        ("logs/slurm-123-n7.out", ["123"]),
        ("logs/train2-55.err", ["55"]),
        ("out/slurm_output_wf1_sl123.o", ["123"]),
    ],
)
def test_expressions(expression: str, jobs: list[str]) -> None:
    assert named(expression) == jobs


@pytest.mark.parametrize(
    "expression", ["", "abc", "0", "5-1", "1_[a]", "1_[3-1]", "99999999999", "-5", "1;ls", "x.out"]
)
def test_what_names_no_job_is_refused_by_its_text(expression: str) -> None:
    with pytest.raises(InputError, match=r"job|counts down|task"):
        named(expression)


@pytest.mark.parametrize("expression", ["1-100000", f"5_[0-{MOST_JOBS}]"])
def test_too_many_are_counted_before_they_are_made(expression: str) -> None:
    with pytest.raises(InputError, match=r"10,000"):
        named(expression)


def test_several_expressions_together_are_bounded_too() -> None:
    with pytest.raises(InputError, match=r"more than 10,000"):
        named("1-6000", "7001-13000")


def test_a_directory_stands_for_its_output_files(tmp_path: Path) -> None:
    for name in ("slurm-12.out", "slurm-12.err", "slurm-13_2.out", "job_wf1_j1_r1_a1.o", "notes.md"):
        (tmp_path / name).touch()
    assert named(str(tmp_path)) == ["12", "13_2"]


def test_a_directory_without_output_files_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no output file"):
        named(str(tmp_path))


@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        jobs = parse_jobs([text])
    except InputError as error:
        refusal = str(error)
        jobs = []
    else:
        refusal = ""
    assert bool(jobs) != bool(refusal)
    assert "\n" not in refusal


@given(
    st.lists(st.builds(JobName, st.integers(1, 2**32 - 1), st.none() | st.integers(0, 10**6)), min_size=1, max_size=20)
)
def test_what_sacct_is_asked_reads_back(jobs: list[JobName]) -> None:
    assert parse_jobs([",".join(map(str, jobs))]) == list(dict.fromkeys(jobs))
