"""The allocations of a run: one, or several in sequence if jobs name their own schedulers.

With several, each stage has a file ``plans/wf<W>_r<R>_s<K>.json`` next to the plan: it names the plan and the stage
that the script runs, and the run's number. ``torc run --plan`` accepts it like a plan.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import NamedTuple

from torc_slurm.common.errors import ParseError
from torc_slurm.files.output_names import is_stage_file, plan_path, run_of_stage_script
from torc_slurm.files.whole_files import create_exclusively, private_mode
from torc_slurm.spec.plan import PLAN_FORMAT, JobPlan, Plan, read_plan
from torc_slurm.spec.stages import stages_of
from torc_slurm.spec.workflow import Pool


class PlannedStage(NamedTuple):
    """One allocation: its number from 1, the scheduler's name (None: the default), and its jobs."""

    number: int
    scheduler: str | None
    jobs: tuple[JobPlan, ...]


class StageOfPlan(NamedTuple):
    """What a script runs: a plan, the stage of it (None: all), and the run's number."""

    plan: Plan
    stage: int | None
    run_id: int | None


def staged(plan: Plan, pools: Mapping[str, Pool], default: str | None) -> tuple[Plan, list[PlannedStage]]:
    """The plan with the stage of each job, and the stages in their order.

    Args:
        pools: by scheduler, the settings that actions give its allocation.
        default: the scheduler of jobs that name none.

    Raises:
        InputError: see `torc_slurm.spec.stages.stages_of`.
    """
    found = stages_of(
        {job.job_id: job.settings.scheduler for job in plan.jobs},
        {job.job_id: job.depends_on for job in plan.jobs},
        default,
    )
    number_of = {job: number for number, stage in enumerate(found, 1) for job in stage.jobs}
    jobs = tuple(
        job if number_of[job.job_id] == job.stage else dataclasses.replace(job, stage=number_of[job.job_id])
        for job in plan.jobs
    )
    most = tuple(_most(pools, stage.scheduler) for stage in found)
    planned = [
        PlannedStage(number, stage.scheduler, tuple(job for job in jobs if job.stage == number))
        for number, stage in enumerate(found, 1)
    ]
    return dataclasses.replace(plan, jobs=jobs, most_jobs=most if any(most) else ()), planned


def _most(pools: Mapping[str, Pool], scheduler: str | None) -> int | None:
    pool = None if scheduler is None else pools.get(scheduler)
    return None if pool is None else pool.max_parallel_jobs


def write_stage(plan: Plan, number: int, run_id: int) -> str:
    """Write the file that names what the script of a stage runs; returns its path.

    Raises:
        OSError: it cannot be written.
    """
    path = plan_path(plan.output_dir, plan.workflow_id, plan.run_id, number)
    content = {"format": PLAN_FORMAT, "plan": plan.path, "stage": number, "run_id": run_id}
    create_exclusively(path, json.dumps(content) + "\n", private_mode())
    return path


def read_stage(path: str) -> StageOfPlan:
    """Read the argument of ``torc run --plan``: a plan, or a stage of one.

    Raises:
        ParseError: it is neither.
        OSError: it cannot be read.
    """
    if not is_stage_file(path):
        return StageOfPlan(read_plan(path), None, None)
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            found = json.load(file)
        if found["format"] != PLAN_FORMAT:
            raise ParseError(f"{path} was written by another version of torc; submit the workflow once more")
        return StageOfPlan(read_plan(str(found["plan"])), int(found["stage"]), int(found["run_id"]))
    except (ValueError, KeyError, TypeError) as error:
        words = f"{path} is damaged: it does not name a part of the plan; submit the workflow once more"
        raise ParseError(words) from error


def first_run_of(run_id: int, script: object) -> int:
    """The first run of the run that this is a later stage of, from its script's name; else the run itself."""
    found = run_of_stage_script(str(script or ""))
    return run_id if found is None else found
