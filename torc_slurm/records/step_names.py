"""The shown name of a step: its own name, else its command."""

from __future__ import annotations

import os

BATCH = "batch"
_WRAPPER = "torc-step"


def step_name(
    step_id: str | None, job_name: str | None, slurms_name: str | None, command: str | None, *, is_a_job: bool
) -> str | None:
    """The name of a step that torc-step measured: ``python train.py``, not the batch script's name or ``torc-step``.

    Args:
        job_name: the name in the step's environment; without -J it is the batch script's.
        slurms_name: the step's name in Slurm's accounting, if known.
        is_a_job: the step is the job of a workflow, which has its own name.
    """
    if is_a_job or command is None:
        return job_name
    name = job_name if slurms_name is None else slurms_name
    if step_id != BATCH and name is not None and os.path.basename(name) != _WRAPPER:
        return name
    program, space, rest = command.partition(" ")
    return os.path.basename(program) + space + rest
