"""Properties of corrections for any set of results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sizing_cases import facts

from torc_slurm.common.units import MIB
from torc_slurm.sizing.corrections import Corrections, correct
from torc_slurm.sizing.decision import DOWN, KEPT, UP, Options
from torc_slurm.sizing.documents import corrections_document, savings_document, utilization_document
from torc_slurm.sizing.evidence import Resource, asked, is_over, measured
from torc_slurm.sizing.facts import Attempt, AttemptEnd, Facts, Job, Request
from torc_slurm.sizing.guards import Guards, NodeSize
from torc_slurm.sizing.savings import savings
from torc_slurm.sizing.utilization import check

# A slow machine must not fail these tests.
thorough = settings(max_examples=60)

SCHEMAS = Path(__file__).parents[2] / "schemas"
STATUSES = ("completed", "failed", "oom", "timeout", "cancelled", "preempted", "node_fail", "running")
FIELDS = {Resource.memory: "memory", Resource.runtime: "runtime", Resource.cpu: "num_cpus"}

memory_texts = st.sampled_from(("200k", "1m", "64m", "100m", "999m", "1g", "1.5g", "8Gi", "32g", "2t")) | st.integers(
    1, 10**6
).map(lambda count: f"{count}m")
runtimes = st.sampled_from(("PT1S", "PT1M", "PT90S", "PT4H", "P1DT2H", "PT0.5S")) | st.integers(1, 10**5).map(
    lambda minutes: f"PT{minutes}M"
)
seconds = st.floats(0, 1e6, allow_nan=False)
percents = st.floats(0, 20_000, allow_nan=False)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    tasks = draw(st.integers(1, 4))
    return Request(
        memory=draw(st.none() | memory_texts),
        num_cpus=tasks * draw(st.integers(1, 16)),
        runtime=draw(st.none() | runtimes),
        num_nodes=draw(st.integers(1, 3)),
        ntasks_per_node=tasks,
    )


@st.composite
def attempts(draw: st.DrawFn, run_id: int, attempt_id: int, request: Request) -> Attempt:
    code, peak = draw(st.sampled_from((None, 0, 1, 137, 143))), draw(percents)
    return Attempt(
        run_id=run_id,
        attempt_id=attempt_id,
        status=draw(st.sampled_from(STATUSES)),
        request=request,
        return_code=code,
        return_signal=None if code is None or code < 128 else code - 128,
        exec_time_seconds=draw(st.none() | seconds),
        peak_memory_bytes=draw(st.none() | st.integers(0, 10**13)),
        memory_limit_bytes=draw(st.none() | st.integers(1, 10**7).map(lambda mib: mib * MIB)),
        oom_kills=draw(st.none() | st.integers(0, 3)),
        peak_cpu_percent=draw(st.none() | st.just(peak)),
        avg_cpu_percent=draw(st.none() | st.floats(0, peak)),
        hung=draw(st.none() | st.booleans()),
        is_lower_bound=draw(st.booleans()),
        runtime_enforced=draw(st.booleans()),
    )


@st.composite
def jobs(draw: st.DrawFn, job_id: int, tasks: int) -> Job:
    made = []
    for run_id in range(1, draw(st.integers(0, 3)) + 1):
        request = dataclasses.replace(draw(requests()), num_cpus=tasks * draw(st.integers(1, 8)), ntasks_per_node=tasks)
        made += [draw(attempts(run_id, number, request)) for number in range(1, draw(st.integers(0, 2)) + 1)]
    return Job(job_id, f"job {job_id}", 10, tuple(made))


@st.composite
def workflows(draw: st.DrawFn) -> Facts:
    request = draw(requests())
    return facts(
        *[draw(jobs(number, request.ntasks_per_node)) for number in range(1, draw(st.integers(0, 4)) + 1)],
        asked=request,
    )


@st.composite
def options(draw: st.DrawFn, *, bounded: bool = True) -> Options:
    multipliers = st.decimals(1, 3, places=2)
    nodes = st.lists(st.builds(NodeSize, st.integers(1, 128), st.integers(256, 10**6)), max_size=3)
    guards = Guards(
        largest_factor=draw(st.decimals(1, 20, places=1)),
        nodes=tuple(draw(nodes)) if bounded else (),
        time_limit_seconds=draw(st.none() | st.integers(60, 10**6)) if bounded else None,
        partition="p",
    )
    return Options(draw(multipliers), draw(multipliers), draw(multipliers), downsize=draw(st.booleans()), guards=guards)


def applied(known: Facts, made: Corrections) -> Facts:
    """The workflow with its corrections saved."""
    (requirement,) = known.requirements
    changes: dict[str, Any] = {FIELDS[each.resource]: each.new for each in made.decisions if each.direction != KEPT}
    changed = dataclasses.replace(requirement, request=dataclasses.replace(requirement.request, **changes))
    return dataclasses.replace(known, requirements=(changed,))


def completed(known: Facts) -> list[Attempt]:
    return [each for job in known.jobs for each in job.attempts if each.end is AttemptEnd.completed]


@thorough
@given(workflows(), options())
def test_the_request_covers_every_completed_attempt(known: Facts, chosen: Options) -> None:
    made = correct(known, chosen)
    (requirement,) = applied(known, made).requirements
    for each in made.decisions:
        allowed = asked(requirement.request, each.resource)
        if each.direction == KEPT or allowed is None:
            continue
        for attempt in completed(known):
            used = measured(attempt, each.resource)
            assert used is None or not is_over(used, allowed, each.resource)


@thorough
@given(workflows(), options(bounded=False))
def test_without_bounds_nothing_stays_below_what_a_completed_attempt_used(known: Facts, chosen: Options) -> None:
    (requirement,) = applied(known, correct(known, chosen)).requirements
    for resource in Resource:
        allowed = asked(requirement.request, resource)
        for attempt in completed(known) if allowed is not None else ():
            used = measured(attempt, resource)
            assert used is None or not is_over(used, allowed or 0, resource)


@thorough
@given(workflows(), options())
def test_correcting_twice_is_correcting_once(known: Facts, chosen: Options) -> None:
    once = applied(known, correct(known, chosen))
    again = correct(once, chosen)
    assert {each.direction for each in again.decisions} <= {KEPT}


@thorough
@given(workflows(), options())
def test_no_request_grows_without_a_failure_or_a_violation(known: Facts, chosen: Options) -> None:
    (requirement,) = known.requirements
    for each in correct(known, chosen).decisions:
        if each.direction == UP:
            told = [attempt for job in known.jobs for attempt in job.informative_attempts]
            killed = any(attempt.end in (AttemptEnd.out_of_memory, AttemptEnd.out_of_time) for attempt in told)
            over = check(known, show_all=False).violations or any(
                is_over(used, asked(requirement.request, each.resource) or 0, each.resource)
                for attempt in completed(known)
                if (used := measured(attempt, each.resource)) is not None
            )
            assert killed or over


@thorough
@given(workflows(), options())
def test_nothing_shrinks_unless_every_job_completed(known: Facts, chosen: Options) -> None:
    made = correct(known, chosen)
    if any(each.direction == DOWN for each in made.decisions):
        last = [job.last_informative() for job in known.jobs]
        assert all(attempt is not None and attempt.end is AttemptEnd.completed for attempt in last)
        assert chosen.downsize


@thorough
@given(workflows(), options())
def test_what_comes_out_is_valid_input_and_within_the_bounds(known: Facts, chosen: Options) -> None:
    (before,) = known.requirements
    made = correct(known, chosen)
    (after,) = applied(known, made).requirements
    assert after.request.memory is None or (after.request.memory_bytes or 0) > 0
    assert after.request.runtime is None or (after.request.runtime_seconds or 0) > 0
    assert after.request.num_cpus % after.request.ntasks_per_node == 0
    most_cpus = max((node.cpus for node in chosen.guards.nodes), default=None)
    if most_cpus is not None and after.request.num_cpus > before.request.num_cpus:
        assert after.request.num_cpus <= most_cpus
    limit = chosen.guards.time_limit_seconds
    if limit is not None and (after.request.runtime_seconds or 0) > (before.request.runtime_seconds or 0):
        assert (after.request.runtime_seconds or 0) <= limit


@thorough
@given(workflows(), options(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(known: Facts, chosen: Options, shuffle: Random) -> None:
    mixed = [job._replace(attempts=tuple(reversed(job.attempts))) for job in known.jobs]
    shuffle.shuffle(mixed)
    other = dataclasses.replace(known, jobs=tuple(mixed))
    assert corrections_document(correct(other, chosen), dry_run=True, explain=True) == corrections_document(
        correct(known, chosen), dry_run=True, explain=True
    )
    assert utilization_document(check(other, show_all=True)) == utilization_document(check(known, show_all=True))


def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))


CORRECTIONS, UTILIZATION, SAVINGS = map(schema, ("correct-resources", "check-resource-utilization", "savings"))


@thorough
@given(workflows(), options(), st.booleans())
def test_every_document_is_json_that_its_schema_allows(known: Facts, chosen: Options, yes: bool) -> None:
    made = correct(known, chosen)
    for validator, document in (
        (CORRECTIONS, corrections_document(made, dry_run=yes, explain=not yes)),
        (UTILIZATION, utilization_document(check(known, show_all=yes, include_failed=yes))),
        (SAVINGS, savings_document(known.workflow_id, None, savings(known, made))),
    ):
        validator.validate(json.loads(json.dumps(document, allow_nan=False)))
