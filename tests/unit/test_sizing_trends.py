"""Memory and run time that follow a number are reported only if the evidence is clear."""

from __future__ import annotations

import random
import sys

import pytest
from sizing_cases import attempt, facts, job

from torc_slurm.database.own_records import OwnRecord
from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.sizing.facts import Facts
from torc_slurm.sizing.trends import NEEDS_NUMPY, fit, numbers_in, trends_of
from torc_slurm.slurm.configuration import SlurmFacts
from torc_slurm.slurm.max_rss import max_rss_meaning
from torc_slurm.usecases.job_uses import job_use

MEGABYTE = 10**6


def sized(*sizes: float, base: int = 400, slope: int = 1900) -> Facts:
    """A job of each size; memory follows it, and run time does not."""
    attempts = (
        attempt(numbers={"size": size}, peak_memory_bytes=int((base + slope * size) * MEGABYTE)) for size in sizes
    )
    return facts(*(job(number, each) for number, each in enumerate(attempts, 1)))


def test_memory_that_follows_a_number_is_said_with_what_it_predicts() -> None:
    assert trends_of(sized(*range(1, 13))).sentences == [
        "train: memory ≈ 400.00 MB + 1.90 GB × size (12 attempts, R² 1.00): times 1.2 that is 2.76 GB at size 1 and "
        "27.84 GB at size 12; one request for all of them needs 27.84 GB"
    ]


def test_a_line_that_falls_and_one_that_starts_below_zero() -> None:
    falling, below = sized(*range(1, 13), base=20_000, slope=-1000), sized(*range(1, 13), base=-500)
    assert "memory ≈ 20.00 GB − 1.00 GB × size" in trends_of(falling).sentences[0]
    assert "memory ≈ 1.90 GB × size − 500.00 MB" in trends_of(below).sentences[0]


@pytest.mark.parametrize(
    "found",
    [
        sized(*range(1, 8)),  # seven attempts
        sized(*(1, 2, 3) * 5),  # three different sizes
        sized(*range(1, 13), base=50_000, slope=10),  # 0.2 % of the use
        sized(*range(1, 13), slope=0),
    ],
    ids=["few", "three sizes", "next to nothing", "constant"],
)
def test_too_little_evidence_says_nothing(found: Facts) -> None:
    assert trends_of(found).sentences == []


def test_one_far_point_is_no_line() -> None:
    cluster = [(1.0 + number / 100, 10.0 + number % 3) for number in range(10)]
    assert fit("size", [*cluster, (100.0, 500.0)]) is None


def test_noise_is_no_line() -> None:
    chance = random.Random(14)  # noqa: S311 - the same noise every time
    for _ in range(200):
        assert fit("size", [(float(size), chance.uniform(1, 10)) for size in range(12)]) is None


def test_only_completed_attempts_with_complete_figures_count() -> None:
    good = sized(*range(1, 9))
    assert len(trends_of(good).found) == 1
    for changed in ({"status": "failed", "return_code": 1}, {"is_lower_bound": True}):
        bad = attempt(numbers={"size": 8}, peak_memory_bytes=15_600 * MEGABYTE, **changed)
        assert trends_of(facts(*good.jobs[:-1], job(8, bad))).found == ()


def test_without_numpy_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert trends_of(sized(*range(1, 13))).sentences == [NEEDS_NUMPY]
    assert trends_of(sized(*range(1, 5))).sentences == []  # there is nothing to fit


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (None, {}),
        ('{"size": 3, "mesh": "fine", "is": true}', {"size": 3.0}),
        ("[1]", {}),
        ("{", {}),
        ('{"a": NaN, "b": 1e999, "c": 2}', {"c": 2.0}),
        ('{"a": 1' + "0" * 400 + "}", {}),
    ],
)
def test_the_numbers_of_a_json_object(text: str | None, numbers: dict[str, float]) -> None:
    assert numbers_in(text) == numbers


def test_a_jobs_numbers_are_its_notes_and_its_place_in_the_array() -> None:
    row = AccountingRecord(9, name="job", shown_job_id="7_12", state="COMPLETED")
    meaning = max_rss_meaning(SlurmFacts("slurm 22.05.8", "jobacct_gather/linux", None, "30"))
    records = [own('{"size": 5, "part": 1}'), own('{"size": 5, "part": 2}'), own(None)]
    assert job_use(row, [], records, meaning).numbers == {"array index": 12.0, "size": 5.0}


def own(notes: str | None) -> OwnRecord:
    values = dict.fromkeys(OwnRecord._fields) | {"slurm_job_id": 9, "step_id": "0", "user_notes": notes}
    return OwnRecord(**values)  # type: ignore[arg-type] # fields by name
