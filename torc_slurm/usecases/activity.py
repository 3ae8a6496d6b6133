"""Whether a run is active: from its claim, its allocation, its journal and the processes of this host.

At most one run of a workflow is active. A run that was only generated is not active until its script begins. A run
whose allocation has left Slurm's queue has ended, even if it still writes.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from torc_slurm.common.errors import DatabaseError
from torc_slurm.common.liveness import Life, Process, life_of, process_here
from torc_slurm.database.exit_records import run_has_ended
from torc_slurm.files.output_names import claim_path, is_step_of_run, node_files_of_run
from torc_slurm.slurm import steps
from torc_slurm.slurm.clusters import SlurmJob
from torc_slurm.usecases.claims import SUPERSEDED, Claim


class Activity(NamedTuple):
    """The state of a claimed run; ``reason`` is for the user.

    ``is_ending``: it will end soon by itself. ``processes``: signalling these processes of this host ends the run.
    """

    is_active: bool
    reason: str
    is_ending: bool = False
    processes: tuple[Process, ...] = ()


class RunName(NamedTuple):
    """Which run of which workflow, and where it is recorded."""

    output_dir: str
    workflow_id: int
    run_id: int


def active_run_text(workflow_id: int, run_id: int, reason: str) -> str:
    """Why no other run of the workflow can begin, and what to do."""
    return (
        f"run {run_id} of workflow {workflow_id} is active: {reason}; wait for it with "
        f"torc status {workflow_id} --wait, or end it with torc cancel {workflow_id}"
    )


def activity_of_claim(run: RunName, claim: Claim, me: Claim, allocation_state: str | None) -> Activity:
    """The state of a run that a process has claimed.

    Args:
        me: who asks; an allocation can ask about its own earlier runs.
        allocation_state: Slurm's state of the claim's allocation; None: Slurm no longer knows it, or there is none.

    Raises:
        CommandError: Slurm does not list the steps of its own allocation.
    """
    if claim.purpose == SUPERSEDED:
        return Activity(False, "it was withdrawn before its script began")
    if claim.slurm_job_id is None:
        return _without_slurm(run, claim)
    if claim.slurm_job_id == me.slurm_job_id:
        return _in_this_allocation(run, claim, me, claim.slurm_job_id)
    if allocation_state is None:
        return Activity(False, f"{SlurmJob(claim.slurm_job_id, claim.cluster)} has ended")
    where = SlurmJob(claim.slurm_job_id, claim.cluster)
    return Activity(
        True,
        f"{where} is {allocation_state}",
        is_ending=allocation_state == "COMPLETING",
    )


def journal_says_ended(run: RunName) -> bool:
    """Whether the run's journal has its end; False also if the journal cannot be read."""
    try:
        return run_has_ended(node_files_of_run(*run), run.workflow_id, run.run_id)
    except (DatabaseError, OSError):
        return False


def _in_this_allocation(run: RunName, claim: Claim, me: Claim, slurm_job_id: int) -> Activity:
    """The claim is this allocation's: before a requeue, of another process, or of a runner that left steps behind."""
    if claim.restart_count != me.restart_count:
        return Activity(False, f"Slurm job {slurm_job_id} has been requeued since then")
    if claim.process != me.process and life_of(claim.process) in (Life.runs, Life.not_known):
        return Activity(True, f"process {claim.pid} of this allocation runs it", processes=(claim.process,))
    names = steps.running_steps(slurm_job_id)
    left = [name for name in names if is_step_of_run(name, run.workflow_id, run.run_id)]
    if left:
        return Activity(True, f"its runner has died, and {len(left)} of its steps still run")
    return Activity(False, f"process {claim.pid} of this allocation has ended")


def _without_slurm(run: RunName, claim: Claim) -> Activity:
    where, life = f"process {claim.pid} on {claim.host}", life_of(claim.process)
    if life is Life.elsewhere:
        here = f"torc cannot see from this host whether it still runs; if it has ended, remove {claim_path(*run)}"
        return Activity(True, f"{where} ({here})")
    if life in (Life.runs, Life.not_known):
        return Activity(True, f"process {claim.pid} runs it", processes=(claim.process,))
    left = wrappers_of_run(run)
    if left:
        numbers = ", ".join(str(process.pid) for process in left)
        return Activity(True, f"torc has died, and its jobs still run as processes {numbers}", processes=tuple(left))
    return Activity(False, f"{where} {life.value if life is Life.ended_by_reboot else 'has ended'}")


def wrappers_of_run(run: RunName) -> list[Process]:
    """The wrappers of this host that run jobs of that run, found by their command lines."""
    words = (
        f" --workflow-id={run.workflow_id} ".encode(),
        f" --run-id={run.run_id} ".encode(),
        f" --output-dir={run.output_dir} --".encode("utf-8", "surrogateescape"),  # another option follows
    )
    numbers = [int(name) for name in os.listdir("/proc") if name.isdecimal()] if os.path.isdir("/proc/self") else []
    lines = {number: _command_line(number) for number in numbers}
    found = [number for number, line in lines.items() if all(word in line for word in words)]
    # A wrapper's monitor has the same command line. If it got the signal too, that would look like one to the whole
    # group.
    wrappers = [process_here(number) for number in found if _parent_of(number) not in found]
    return [process for process in wrappers if life_of(process) is Life.runs]


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _command_line(pid: int) -> bytes:
    """A torc-step's command line with a space around each word; empty for any other process."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = b" " + file.read().rstrip(b"\0").replace(b"\0", b" ") + b" "
    except OSError:
        return b""
    return line if line.startswith(b" torc-step ") else b""
