"""A plan is read as written, exactly one of many creates its file, the next run leaves out completed jobs."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.common.errors import ParseError
from torc_slurm.files.output_names import claim_path
from torc_slurm.spec.plan import (
    ExecutionPlan,
    JobPlan,
    MonitorPlan,
    Plan,
    PlanExistsError,
    create_plan_file,
    next_plan,
    plan_from_json,
    plan_to_json,
    read_plan,
    without,
)
from torc_slurm.spec.workflow import Action
from torc_slurm.usecases.claims import Claim, claim_run, read_claim

MONITOR = MonitorPlan(enabled=True, granularity="summary", sample_interval_seconds=10.0, flush_interval_seconds=60.0)


def make_plan(output_dir: str = "/out", *, run_id: int = 1, jobs: tuple[JobPlan, ...] = ()) -> Plan:
    return Plan(
        workflow_id=3,
        workflow_name="demo",
        run_id=run_id,
        output_dir=output_dir,
        working_dir="/work",
        python="/usr/bin/python3",
        torc_step=("/usr/bin/python3", "-I", "-m", "torc_slurm.step.main"),
        resource_monitor=MONITOR,
        execution=ExecutionPlan(srun_options=("--mpi=pmix",)),
        jobs=jobs,
    )


@st.composite
def job_plans(draw: st.DrawFn) -> JobPlan:
    text = st.text("a'\"\n\\é\U0001f40d\x7f{}", max_size=8)
    return JobPlan(
        job_id=draw(st.integers(1, 99)),
        name=draw(text),
        command=draw(text),
        working_dir=draw(text),
        env=draw(st.dictionaries(text, text, max_size=3)),
        depends_on=tuple(draw(st.lists(st.integers(1, 99), max_size=3))),
        memory_bytes=draw(st.none() | st.integers(1, 2**63 - 1)),
        srun_options=tuple(draw(st.lists(text, max_size=2))),
    )


@given(st.lists(job_plans(), max_size=3))
def test_a_plan_is_read_as_it_was_written(jobs: list[JobPlan]) -> None:
    plan = make_plan(jobs=tuple(jobs))
    assert plan_from_json(plan_to_json(plan)) == plan


def test_a_path_that_is_not_utf8_survives(tmp_path: Path) -> None:
    plan = make_plan(str(tmp_path), jobs=(JobPlan(1, "a", "true", "/caf\udce9"),))
    assert read_plan(create_plan_file(plan)) == plan


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1}', '{"format": 1, "jobs": [1]}'])
def test_what_is_no_plan_is_refused_by_name(text: str) -> None:
    with pytest.raises(ParseError, match="here"):
        plan_from_json(text, "here")


@pytest.mark.parametrize(
    ("change", "odd"),
    [
        ({"jobs": None}, "plan; make it again"),
        ({"jobs": [{}]}, "plan; make it again"),
        ({"resource_monitor": {"no": 1}}, "plan; make it again"),
        ({"execution": {}}, "plan; make it again"),
    ],
)
def test_a_damaged_plan_is_named_without_pythons_words(change: dict[str, object], odd: str) -> None:
    found = json.loads(plan_to_json(make_plan()))
    with pytest.raises(ParseError) as damaged:
        plan_from_json(json.dumps(found | change), "wf1_r1.json")
    assert str(damaged.value).startswith(f"wf1_r1.json is not a complete {odd}")
    del found["python"]
    with pytest.raises(ParseError, match="it has no python; make it again"):
        plan_from_json(json.dumps(found))


def test_an_unknown_key_is_refused() -> None:
    found = json.loads(plan_to_json(make_plan())) | {"surprise": 1}
    with pytest.raises(ParseError, match="surprise"):
        plan_from_json(json.dumps(found))


def test_one_of_many_makes_the_file(tmp_path: Path) -> None:
    def attempt(number: int) -> int | None:
        try:
            create_plan_file(make_plan(str(tmp_path), jobs=(JobPlan(number, "a", "true", "/"),)))
        except PlanExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(attempt, range(8)) if number is not None]
    assert len(winners) == 1
    plans = list((tmp_path / "plans").iterdir())
    assert [path.name for path in plans] == ["wf3_r1.json"]
    assert [job.job_id for job in read_plan(str(plans[0])).jobs] == winners


def test_the_next_run_leaves_out_what_is_completed() -> None:
    jobs = (
        JobPlan(1, "a", "true", "/"),
        JobPlan(2, "b", "true", "/", depends_on=(1,)),
        JobPlan(3, "c", "true", "/", depends_on=(1, 2)),
    )
    following = next_plan(make_plan(jobs=jobs), {1})
    assert following.run_id == 2
    assert [(job.job_id, job.depends_on) for job in following.jobs] == [(2, ()), (3, (2,))]


def test_jobs_are_left_out_with_those_that_wait_for_them() -> None:
    waits_for = {1: (3,), 2: (), 3: (2,), 4: (), 5: (4,)}
    jobs = tuple(
        JobPlan(number, f"job_{number}", "true", "/", depends_on=others) for number, others in waits_for.items()
    )
    actions = (Action("jobs_complete", ("a",), (1, 5)), Action("jobs_complete", ("b",), (4, 5)))
    plan = dataclasses.replace(make_plan(jobs=jobs), actions=actions)
    found = without(plan, {2})
    assert [job.job_id for job in found.jobs] == [4, 5]
    assert found.actions == actions[1:]
    assert without(plan, ()) == plan


def test_one_of_many_takes_a_run_and_is_named(tmp_path: Path) -> None:
    def attempt(pid: int) -> bool:
        return claim_run(str(tmp_path), 3, 1, Claim(claimed_at=1.5, host="n1", pid=pid, slurm_job_id=7))

    assert read_claim(str(tmp_path), 3, 1) is None
    with ThreadPoolExecutor(8) as pool:
        won = [pid for pid, success in enumerate(pool.map(attempt, range(8))) if success]
    assert len(won) == 1
    assert read_claim(str(tmp_path), 3, 1) == Claim(claimed_at=1.5, host="n1", pid=won[0], slurm_job_id=7)
    assert read_claim(str(tmp_path), 3, 2) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"surprise": 1}'])
def test_a_claim_that_says_nothing_is_an_error(tmp_path: Path, text: str) -> None:
    path = Path(claim_path(str(tmp_path), 3, 1))
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ParseError, match=r"is damaged: .*; if this run is not active, remove the file"):
        read_claim(str(tmp_path), 3, 1)
