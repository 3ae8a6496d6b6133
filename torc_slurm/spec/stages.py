"""Divides jobs into allocations if jobs name their own schedulers: one stage after another; pure.

A workflow's jobs with scheduler A, and then those with B that wait for them, are two stages: each is an allocation that
Slurm starts after the one before has ended. A stage takes all jobs of its scheduler that can run by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torc_slurm.common.errors import InputError

MOST_STAGES = 100


class Stage(NamedTuple):
    """One allocation: its scheduler (None: the default), and the jobs that run in it."""

    scheduler: str | None
    jobs: Sequence[int]


def stages_of(
    schedulers: Mapping[int, str | None], waits_for: Mapping[int, Iterable[int]], default: str | None
) -> list[Stage]:
    """The stages of a workflow, in order.

    A job without a scheduler runs in the default's stage, or as soon as another stage reaches it.

    Args:
        schedulers: of each job, in the order of the workflow.
        waits_for: the jobs that each waits for; those not in ``schedulers`` have completed.

    Raises:
        InputError: the schedulers change too often.
    """
    missing = {job: {other for other in waits_for.get(job, ()) if other in schedulers} for job in schedulers}
    dependents: dict[int, list[int]] = {}
    for job, others in missing.items():
        for other in others:
            dependents.setdefault(other, []).append(job)
    ready = [job for job in schedulers if not missing[job]]
    stages: list[Stage] = []
    while ready:
        if len(stages) == MOST_STAGES:
            raise InputError(
                f"the jobs' schedulers alternate so often that more than {MOST_STAGES} allocations would be needed; "
                "give --scheduler NAME to run all jobs in one allocation"
            )
        first = next((job for job in ready if schedulers[job] in (None, default)), ready[0])
        chosen = schedulers[first] or default
        taken, ready = _one_stage(chosen, ready, schedulers, missing, dependents)
        stages.append(Stage(chosen, taken))
    return stages


def _one_stage(
    chosen: str | None,
    ready: Sequence[int],
    schedulers: Mapping[int, str | None],
    missing: dict[int, set[int]],
    dependents: Mapping[int, Sequence[int]],
) -> tuple[list[int], list[int]]:
    """The jobs that run in the allocation of this scheduler, and those that are ready for another one."""
    todo, taken, left = deque(ready), [], []
    while todo:
        job = todo.popleft()
        if schedulers[job] not in (None, chosen):
            left.append(job)
            continue
        taken.append(job)
        for dependent in dependents.get(job, ()):
            missing[dependent].discard(job)
            if not missing[dependent]:
                todo.append(dependent)
    return taken, left
