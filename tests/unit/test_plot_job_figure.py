"""A job's figure: lines, labels and crosses are correct and in the right place, and do not hide one another."""

from __future__ import annotations

from typing import Any

import pytest

from torc_slurm.database.node_records import NodeRecords
from torc_slurm.database.series import SeriesFile
from torc_slurm.plots.job_figure import job_figure
from torc_slurm.plots.measured import Measured
from torc_slurm.plots.model import Attempt, Capacity, Figures, Job, Part, Request, Run, Series

FILE = SeriesFile("", NodeRecords("", "", (), ()), None)
MB = 1_000_000


def attempt(
    run_id: int, attempt_id: int, begin: float, status: str = "completed", limit: int = 120 * MB, **more: object
) -> Attempt:
    figures = Figures(peak_cpu_percent=90, peak_memory_bytes=30 * MB, memory_limit_bytes=limit)
    part = Part("n1", 1, begin, begin + 60, True, figures, 1.0, FILE)
    given: dict[str, Any] = {"request": Request(1, 100 * MB, 60), "return_code": 0, "signal": None} | more
    return Attempt(
        run_id=run_id, attempt_id=attempt_id, status=status, evidence="", begin_time=begin, end_time=begin + 60,
        parts=(part,), **given,
    )  # fmt: skip


def figure(*attempts: Attempt) -> dict[str, Any]:
    job = Job(1, "work", attempts)
    memory = [10 * MB, 40 * MB, 20 * MB]
    measured = [
        Measured(
            part, Series([part.begin_time + i for i in range(3)], ([9, 9, 9], memory, [1, 1, 1])), Series([], ([],))
        )
        for part in job.parts
    ]
    return job_figure(job, measured)[0]


def notes(drawn: dict[str, Any]) -> list[str]:
    return [note["text"] for note in drawn["layout"]["annotations"]]


@pytest.mark.parametrize(
    ("status", "signal", "name", "memory"),
    [
        ("oom", 9, "killed: out of memory", 30 * MB),  # the high-water mark counts
        ("timeout", 15, "ended: time limit", 20 * MB),  # its memory at its end
        ("failed", 11, "killed: SIGSEGV", 20 * MB),
        ("failed", 64, "killed: SIGRTMAX", 20 * MB),
        ("failed", 77, "killed: signal 77", 20 * MB),
    ],
)
def test_a_cross_stands_where_the_attempt_was_ended(status: str, signal: int, name: str, memory: int) -> None:
    drawn = figure(attempt(1, 1, 0.0, status, signal=signal))
    (cross,) = [trace for trace in drawn["traces"] if trace["mode"] == "markers"]
    assert (cross["name"], cross["points"], cross["y"]) == (name, [60_000], [memory])
    assert name in notes(drawn)


def test_attempts_have_short_distinct_labels() -> None:
    def labels(*numbers: tuple[int, int]) -> list[str]:
        tries = [attempt(*pair, begin=100.0 * place) for place, pair in enumerate(numbers)]
        job = Job(1, "work", tuple(tries))
        return [job.label(each) for each in tries]

    assert labels((1, 1), (1, 2)) == ["attempt 1", "attempt 2"]
    assert labels((1, 1), (2, 1)) == ["run 1", "run 2"]
    assert labels((1, 1), (1, 2), (2, 1)) == ["run 1, attempt 1", "run 1, attempt 2", "run 2"]


def test_the_same_run_time_is_drawn_once_where_attempts_lie_over_one_another() -> None:
    drawn = figure(attempt(1, 1, 0.0), attempt(1, 2, 100.0))
    asked = [note for note in drawn["layout"]["annotations"] if note["text"] == "requested 1m 0s"]
    assert [note.get("only") for note in asked] == [None, "wall"]


def test_labels_of_ends_do_not_overlap_crosses_or_one_another() -> None:
    drawn = figure(*(attempt(1, number, 100.0 * number, "timeout") for number in (1, 2)))
    tops = [note["y"] for note in drawn["layout"]["annotations"] if note["text"] == "ended: time limit"]
    low, high = drawn["layout"]["yaxis2"]["domain"]
    assert len(set(tops)) == 2
    assert not [top for top in tops if low < top <= high]


def test_request_and_limit_far_above_all_data_are_one_note() -> None:
    near = figure(attempt(1, 1, 0.0))
    assert {"requested 100 %", "requested 100.00 MB", "limit 120.00 MB"} <= set(notes(near))
    far = figure(attempt(1, 1, 0.0, limit=1000 * MB, request=Request(16, 900 * MB, None)))
    assert "↑ requested 1600 %, beyond this view" in notes(far)
    assert [text for text in notes(far) if "MB" in text and "beyond" in text] == [
        "↑ requested 900.00 MB, limit 1.00 GB, beyond this view"
    ]
    assert not [text for text in notes(far) if text.startswith("limit")]


def test_between_two_runs_the_nodes_are_unused() -> None:
    tries = (attempt(1, 1, 0.0), attempt(1, 2, 70.0), attempt(2, 1, 1000.0), attempt(3, 1, 1030.0))
    run = Run("workflow 1", (Job(1, "work", tries),), Capacity())
    assert run.run_ids == [1, 2, 3]
    assert run.spans == [(0.0, 130.0), (1000.0, 1090.0)]
    assert [each.run_id for each in run.of_run(2).jobs[0].attempts] == [2]
    assert run.of_run(9).jobs == ()
