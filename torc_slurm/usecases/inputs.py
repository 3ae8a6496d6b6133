"""The files that a workflow's jobs read and no job makes: they must exist before anything starts."""

from __future__ import annotations

import os

from torc_slurm.common.errors import InputError
from torc_slurm.spec.plan import Plan

_MOST_NAMED = 5


def on_disk(path: str, working_dir: str) -> str:
    """A file's path with ``~`` and ``$VARIABLE`` expanded; a relative path is relative to the given directory."""
    return os.path.join(working_dir, os.path.expandvars(os.path.expanduser(path)))


def check_inputs(plan: Plan) -> tuple[str, ...]:
    """Check that they exist. Returns a line for the user if some are missing that an action may still make.

    Raises:
        InputError: some are missing, and nothing makes them.
    """
    missing = [path for path in plan.required_paths if not os.path.exists(on_disk(path, plan.working_dir))]
    if not missing:
        return ()
    more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    named = ", ".join(missing[:_MOST_NAMED]) + more
    if any(action.trigger in ("workflow_start", "worker_start") for action in plan.actions):
        return (
            f"no job makes these files, which do not exist: {named}; an action must make them before the jobs that "
            "read them start",
        )
    raise InputError(
        f"input files that no job makes do not exist in {plan.working_dir}: {named}; make them first, or name them "
        "among the output_files of the job that makes them"
    )
