"""Stages: every job is in one, after all jobs that it waits for, in an allocation of its scheduler."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.common.errors import InputError
from torc_slurm.spec.stages import stages_of


@st.composite
def workflows(draw: st.DrawFn) -> tuple[dict[int, str | None], dict[int, list[int]]]:
    count = draw(st.integers(1, 20))
    schedulers = {job: draw(st.sampled_from([None, "a", "b", "c"])) for job in range(count)}
    waits_for = {job: draw(st.lists(st.integers(0, job - 1), max_size=3)) if job else [] for job in range(count)}
    return schedulers, waits_for


@given(workflows(), st.sampled_from([None, "a"]))
def test_each_job_runs_once_after_its_blockers_where_it_belongs(
    workflow: tuple[dict[int, str | None], dict[int, list[int]]], default: str | None
) -> None:
    schedulers, waits_for = workflow
    stages = stages_of(schedulers, waits_for, default)
    stage_of = {job: number for number, stage in enumerate(stages) for job in stage.jobs}
    assert sorted(job for stage in stages for job in stage.jobs) == list(schedulers)
    for job, others in waits_for.items():
        assert all(stage_of[other] <= stage_of[job] for other in others)
        assert schedulers[job] in (None, stages[stage_of[job]].scheduler)
    assert all(one.scheduler != two.scheduler for one, two in itertools.pairwise(stages))


def test_without_schedulers_there_is_one_stage() -> None:
    assert stages_of({1: None, 2: None}, {2: [1]}, "main") == [("main", [1, 2])]


def test_too_many_turns_are_refused() -> None:
    with pytest.raises(InputError, match="--scheduler NAME"):
        stages_of({job: "ab"[job % 2] for job in range(300)}, {job: [job - 1] for job in range(1, 300)}, None)
