"""The command of a job, under any launcher: torc-step with its options, the environment, the output files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence

from torc_slurm.files import output_names
from torc_slurm.files.output_names import STDIO_DIR
from torc_slurm.files.shared_directory import make_shared_directory
from torc_slurm.runner.attempts import Attempt
from torc_slurm.runner.launcher import LaunchError
from torc_slurm.spec.plan import Plan

# The mark of a measured step around this process, if any: the steps started here are not part of it.
NOT_INHERITED = ("TORC_STEP_ACTIVE",)


def attempt_name(plan: Plan, attempt: Attempt) -> str:
    """``wf<W>_j<J>_r<R>_a<A>``: the step's name, and the prefix of its output files."""
    return output_names.attempt_name(plan.workflow_id, attempt.job.job_id, plan.run_id, attempt.attempt_id)


def output_paths(plan: Plan, attempt: Attempt) -> tuple[str, str]:
    """The files for the job's stdout and stderr: two, one for both, or none (see ``stdio``)."""
    stem = output_names.stdio_stem(plan.output_dir, attempt_name(plan, attempt))
    stdout, stderr = _SUFFIXES[attempt.job.settings.stdio]
    return stem + stdout if stdout else os.devnull, stem + stderr if stderr else os.devnull


def delete_outputs(plan: Plan, attempt: Attempt) -> None:
    """Delete the output files of a job that completed, if ``delete_on_success`` is set."""
    for path in set(output_paths(plan, attempt)) - {os.devnull}:
        with contextlib.suppress(OSError):
            os.unlink(path)


def open_outputs(plan: Plan, attempt: Attempt) -> tuple[int, int]:
    """Create the output files; returns their descriptors.

    Raises:
        LaunchError: one of them cannot be written.
    """
    paths = output_paths(plan, attempt)
    make_stdio_directory(plan)
    try:
        stdout = os.open(paths[0], _FLAGS | (os.O_APPEND if paths[0] == paths[1] else 0), 0o666)
    except OSError as error:
        raise LaunchError(f"its output cannot be written to {paths[0]}: {error.strerror}") from error
    try:
        return stdout, os.open(paths[1], _FLAGS | (os.O_APPEND if paths[0] == paths[1] else 0), 0o666)
    except OSError as error:
        os.close(stdout)
        raise LaunchError(f"its output cannot be written to {paths[1]}: {error.strerror}") from error


def make_stdio_directory(plan: Plan) -> None:
    """Where all output files are.

    Raises:
        LaunchError: it cannot be made.
    """
    place = os.path.join(plan.output_dir, STDIO_DIR)
    try:
        make_shared_directory(place)
    except OSError as error:
        raise LaunchError(f"its output cannot be written to {place}: {error.strerror}") from error


_SUFFIXES = {
    "separate": (".o", ".e"),
    "combined": (".log", ".log"),
    "no_stdout": ("", ".e"),
    "no_stderr": (".o", ""),
    "none": ("", ""),
}
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def step_command(plan: Plan, attempt: Attempt) -> list[str]:
    """torc-step with all its options, and the job's command for ``bash -c``."""
    job = attempt.job
    words = [f"--job-id={job.job_id}", f"--job-name={job.name}", f"--attempt-id={attempt.attempt_id}"]
    return [*_of_run(plan), *words, "--", "bash", "-c", job.command]


def group_command(plan: Plan) -> list[str]:
    """torc-step for a group, whose jobs come on its stdin (see `group_text`)."""
    return [*_of_run(plan), "--group"]


def launcher_of(plan: Plan) -> str | None:
    """The compiled torc-step; None if torc-step runs as a module of Python."""
    return plan.torc_step[0] if len(plan.torc_step) == 1 else None


def fork_server_command(plan: Plan) -> list[str]:
    """torc-step as the server that forks other torc-steps. Their command lines need the room of its options."""
    return [*_of_run(plan), "--fork-server"]


def _of_run(plan: Plan) -> list[str]:
    monitor = plan.resource_monitor
    words = [
        *plan.torc_step,
        f"--workflow-id={plan.workflow_id}",
        f"--run-id={plan.run_id}",
        f"--output-dir={plan.output_dir}",
        f"--granularity={monitor.granularity}",
        f"--sample-interval-seconds={monitor.sample_interval_seconds}",
        f"--flush-interval-seconds={monitor.flush_interval_seconds}",
    ]
    if not monitor.enabled:
        words.append("--no-sampling")
    return words


def group_text(plan: Plan, attempts: Sequence[Attempt], grace_seconds: float) -> bytes:
    """What a group's torc-step is told of its jobs: one line of JSON."""
    jobs = []
    for attempt in attempts:
        job = attempt.job
        stdout, stderr = output_paths(plan, attempt)
        jobs.append(
            {
                "job_id": job.job_id,
                "job_name": job.name,
                "attempt_id": attempt.attempt_id,
                "command": job.command,
                "working_dir": job.working_dir,
                "environment": _job_variables(plan, attempt),
                "stdout": stdout,
                "stderr": stderr,
                "seconds": job.runtime_seconds if plan.execution.enforce_runtime else None,
            }
        )
    return json.dumps({"grace_seconds": grace_seconds, "launcher": launcher_of(plan), "jobs": jobs}).encode() + b"\n"


def step_environment(plan: Plan, attempt: Attempt, inherited: Mapping[str, str]) -> dict[str, str]:
    """The inherited variables, the job's own, and its ids."""
    return group_environment(plan, inherited) | _job_variables(plan, attempt)


def group_environment(plan: Plan, inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables that every job inherits."""
    kept = {name: value for name, value in inherited.items() if name not in NOT_INHERITED}
    if plan.user_data:  # so that its command can call torc user-data
        kept["PATH"] = f"{kept.get('PATH', os.defpath)}:{os.path.dirname(plan.python)}"
    return kept


def _job_variables(plan: Plan, attempt: Attempt) -> dict[str, str]:
    return dict(attempt.job.env) | {
        "TORC_WORKFLOW_ID": str(plan.workflow_id),
        "TORC_RUN_ID": str(plan.run_id),
        "TORC_JOB_ID": str(attempt.job.job_id),
        "TORC_JOB_NAME": attempt.job.name,
        "TORC_ATTEMPT_ID": str(attempt.attempt_id),
        "TORC_OUTPUT_DIR": plan.output_dir,
    }
