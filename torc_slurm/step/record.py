"""Turns identity, figures and exits into the rows of a node file's batch."""

from __future__ import annotations

import os
import time

from torc_slurm.common.text import storable
from torc_slurm.database.batch import Batch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.common.identity import StepIdentity
    from torc_slurm.step.link import Begin, Exit
    from torc_slurm.step.options import Options

_MOST_COMMAND_CHARACTERS = 1000


def step_row(options: Options, identity: StepIdentity, invocation: str, begin_time: float) -> dict[str, object]:
    """The columns of ``steps`` at a flush; ``end_time`` is set if the step has ended on this node."""
    return {
        "invocation": invocation,
        "workflow_id": identity.workflow_id,
        "run_id": identity.run_id,
        "job_id": identity.job_id,
        "attempt_id": identity.attempt_id,
        "job_name": identity.job_name or os.path.basename(options.command[0]),
        "slurm_job_id": identity.slurm_job_id,
        "slurm_array": identity.slurm_array,
        "step_id": None if identity.is_grouped else identity.step_id,  # Slurm's figures are of all jobs of a group
        "user_name": _user_name(),
        "node": identity.node,
        "node_index": identity.node_index,
        "node_count": identity.node_count,
        "local_task_count": identity.local_task_count,
        "task_count": identity.task_count,
        "command": " ".join(options.command)[:_MOST_COMMAND_CHARACTERS],
        "working_dir": _working_dir(),
        "user_notes": _user_notes(options),
        "granularity": options.granularity,
        "sample_interval_seconds": options.sample_interval_seconds if options.sampling else None,
        "begin_time": begin_time,
        "end_time": None,
        "last_flush_time": time.time(),
    }


def exit_row(end: Exit, local_task: int, wrapper_rss_bytes: int) -> dict[str, object]:
    """The columns of ``task_exits``; ``max_rss_bytes`` only if it exceeds the wrapper's own at the fork."""
    return {
        "task": end.task,
        "local_task": local_task,
        "pid": end.job_pid,
        "begin_time": end.begin_time,
        "end_time": end.end_time,
        "elapsed_seconds": end.elapsed_seconds,
        "return_code": end.return_code,
        "signal": end.signal or None,
        "user_cpu_seconds": end.user_cpu_seconds,
        "system_cpu_seconds": end.system_cpu_seconds,
        "max_rss_bytes": end.max_rss_bytes if end.max_rss_bytes > wrapper_rss_bytes + (1 << 20) else None,
        "major_faults": end.major_faults,
    }


def new_batch(options: Options, identity: StepIdentity, invocation: str, begin_time: float) -> Batch:
    return Batch(step_row(options, identity, invocation, begin_time))


def own_invocation(identity: StepIdentity, begin: Begin) -> str:
    """Identifies this use of torc-step by one task."""
    name = f"{identity.node}.{begin.wrapper_pid}.{int(begin.begin_time * 1000)}"
    return f"{name}.{identity.job_id}" if identity.is_grouped else name


def _user_notes(options: Options) -> str | None:
    """The values of ``--note`` as a JSON object."""
    if not options.notes:
        return None
    import json  # rarely needed

    return json.dumps({key: storable(value) for key, value in options.notes.items()})


def _working_dir() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _user_name() -> str:
    """The user who runs the step. The variable first, because the password database may be a network service."""
    name = os.environ.get("USER") or os.environ.get("LOGNAME")
    if name:
        return name
    if not _names:
        import pwd

        try:
            _names.append(pwd.getpwuid(os.getuid()).pw_name)
        except KeyError:
            _names.append(str(os.getuid()))
    return _names[0]


_names: list[str] = []  # the recorder of a group writes many rows
