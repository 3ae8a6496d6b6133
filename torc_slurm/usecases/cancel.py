"""Cancels a workflow's runs: ends what is active, withdraws scripts that were only generated."""

from __future__ import annotations

from torc_slurm.common.errors import TorcError
from torc_slurm.common.liveness import Process, signal_process
from torc_slurm.database.main import transaction
from torc_slurm.database.runs import ENDED, GENERATED, SUBMITTED, update_run
from torc_slurm.slurm import submission
from torc_slurm.usecases.claims import Claim, supersede
from torc_slurm.usecases.current import Current
from torc_slurm.usecases.run_states import RunState


def cancel_runs(current: Current) -> list[str]:
    """End what is active of a workflow and withdraw what was only generated. Returns a line for each.

    Raises:
        CommandError: Slurm refused.
        TorcError: a run's process is on another host.
    """
    return [_cancel(current, run) for run in reversed(current.runs) if run.status != ENDED]


def _cancel(current: Current, run: RunState) -> str:
    what = f"run {run.run_id} of workflow {current.workflow_id}"
    if run.job is not None:
        submission.cancel(run.job)
        return f"{what}: {run.job} was asked to end"
    if run.claim is not None:
        return f"{what}: {_end_processes(run, run.claim)}"
    if run.status not in (GENERATED, SUBMITTED):
        raise TorcError(f"{what} cannot be cancelled: {run.reason}")
    if not supersede(current.database.output_dir, current.workflow_id, run.run_id):
        raise TorcError(f"{what} has just begun; try again")
    with transaction(current.database.connection):
        update_run(current.database.connection, current.workflow_id, run.run_id, status=ENDED, note="withdrawn")
    return f"{what}: withdrawn; its script will start nothing"


def _end_processes(run: RunState, claim: Claim) -> str:
    """Ask a run outside Slurm to end.

    Raises:
        TorcError: it runs on another host, or belongs to another user.
    """
    if not run.processes:
        raise TorcError(f"it is process {claim.pid} on {claim.host}; cancel it there")
    signalled = [process.pid for process in run.processes if _end(process)]
    if not signalled:
        return f"process {run.processes[0].pid} has just ended"
    if len(signalled) == 1:
        return f"process {signalled[0]} was asked to end"
    return f"processes {', '.join(map(str, signalled))} were asked to end"


def _end(process: Process) -> bool:
    try:
        return signal_process(process)
    except PermissionError:
        raise TorcError(f"process {process.pid} belongs to another user; only that user can end it") from None
