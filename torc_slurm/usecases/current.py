"""A workflow as it is now: what its nodes wrote is collected, its runs are settled, its jobs have their status."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torc_slurm.database.job_states import unfinished_workflows
from torc_slurm.database.main import MainDatabase, open_main, transaction
from torc_slurm.database.node_records import Row
from torc_slurm.database.runs import ENDED, GENERATED, update_run
from torc_slurm.database.snapshot import JOURNAL_SUFFIX
from torc_slurm.database.workflows import delete_workflow, workflow_row, workflow_rows
from torc_slurm.errors import TorcError
from torc_slurm.plan import PLANS_DIR
from torc_slurm.slurm import submission
from torc_slurm.usecases.collect import FileOutcome, collect_node_files, node_file_paths
from torc_slurm.usecases.run_states import RunState, refresh_workflow, supersede
from torc_slurm.usecases.user_data import delete_user_data


@dataclass(frozen=True)
class Current:
    """An open database, the workflow's row, and its runs that have not ended."""

    database: MainDatabase
    workflow: Row
    runs: list[RunState]
    files: list[FileOutcome]

    @property
    def workflow_id(self) -> int:
        return int(self.workflow["workflow_id"] or 0)

    @property
    def active_run(self) -> RunState | None:
        """The run that may start jobs; None where there is none."""
        return next((run for run in reversed(self.runs) if run.is_active), None)


@contextlib.contextmanager
def current_workflow(
    output_dir: str, workflow_id: int | None, *, on_wait: Callable[[str], None] = lambda _message: None
) -> Iterator[Current]:
    """Bring one workflow (None: the latest) up to date; then the body runs, under the database's lock.

    Raises:
        InputError: there is no such workflow, or no output directory.
        DatabaseError: as `open_main`.
    """
    with open_main(output_dir, on_wait=on_wait) as database:
        workflow = workflow_row(database.connection, workflow_id)
        files = collect_node_files(database)
        with transaction(database.connection):
            runs = refresh_workflow(database.connection, output_dir, int(workflow["workflow_id"] or 0))
        yield Current(database, workflow, runs, files)


@contextlib.contextmanager
def current_workflows(
    output_dir: str, *, on_wait: Callable[[str], None] = lambda _message: None
) -> Iterator[MainDatabase]:
    """Bring all workflows of an output directory up to date; then the body runs.

    Raises:
        InputError, DatabaseError: as `open_main`.
    """
    with open_main(output_dir, on_wait=on_wait) as database:
        collect_node_files(database)
        unfinished = set(unfinished_workflows(database.connection))  # also where the run is known to have ended by now
        for row in workflow_rows(database.connection):
            if row["run_status"] not in (None, ENDED) or row["workflow_id"] in unfinished:
                with transaction(database.connection):
                    refresh_workflow(database.connection, output_dir, int(row["workflow_id"] or 0))
        yield database


def cancel_runs(current: Current) -> list[str]:
    """End what is active of a workflow, and take back what was only generated; returns a line for each.

    Raises:
        CommandError: Slurm refused.
        TorcError: a run's process is on another host.
    """
    return [_cancel(current, run) for run in current.runs if run.status != ENDED]


def _cancel(current: Current, run: RunState) -> str:
    what = f"run {run.run_id} of workflow {current.workflow_id}"
    if run.slurm_job_id is not None:
        submission.cancel(run.slurm_job_id)
        return f"{what}: Slurm job {run.slurm_job_id} was told to end"
    if run.claim is not None:
        return f"{what}: {_end_process(run)}"
    if not supersede(current.database.output_dir, current.workflow_id, run.run_id):
        raise TorcError(f"{what} has begun in this very moment; try again")
    with transaction(current.database.connection):
        update_run(current.database.connection, current.workflow_id, run.run_id, status=ENDED, note="taken back")
    return f"{what}: taken back; its script will start nothing"


def _end_process(run: RunState) -> str:
    """Tell a run outside Slurm to end.

    Raises:
        TorcError: it runs on another host, or belongs to another user.
    """
    assert run.claim is not None
    pid, host = run.claim.pid, run.claim.host
    if host != os.uname().nodename:
        raise TorcError(f"it is process {pid} on {host}; cancel it there")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return f"process {pid} has just ended"
    except PermissionError:
        raise TorcError(f"process {pid} belongs to another user, who alone can end it") from None
    return f"process {pid} was told to end"


def remove_workflow(current: Current) -> None:
    """Delete a workflow with all that is recorded of it; what its jobs wrote stays.

    Raises:
        TorcError: a run of it is active, or the database cannot be written.
    """
    if current.database.read_only_reason is not None:
        raise TorcError(current.database.read_only_reason)
    active = current.active_run
    if active is not None:
        raise TorcError(
            f"run {active.run_id} of workflow {current.workflow_id} is active ({active.reason}); "
            f"end it first: torc workflows cancel {current.workflow_id}"
        )
    for run in current.runs:
        if run.status == GENERATED and not supersede(current.database.output_dir, current.workflow_id, run.run_id):
            raise TorcError(f"run {run.run_id} of workflow {current.workflow_id} has begun in this very moment")
    node_files = list(_node_files(current))
    names = [os.path.relpath(path, current.database.output_dir) for path in node_files]
    with transaction(current.database.connection):
        delete_workflow(current.database.connection, current.workflow_id, names)
    delete_user_data(current.database.output_dir, current.workflow_id)
    journals = [path + JOURNAL_SUFFIX for path in node_files]
    for path in [*node_files, *journals, *_plan_files(current)]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _node_files(current: Current) -> Iterator[str]:
    ending = re.compile(rf".*_{current.workflow_id}_[0-9]+\.db", re.DOTALL)
    return (path for path in node_file_paths(current.database.output_dir) if ending.fullmatch(path))


def _plan_files(current: Current) -> Iterator[str]:
    directory = os.path.join(current.database.output_dir, PLANS_DIR)
    of_workflow = re.compile(rf"wf{current.workflow_id}_r[0-9]+\.(?:json|claim|sbatch)")
    if os.path.isdir(directory):
        yield from (os.path.join(directory, name) for name in os.listdir(directory) if of_workflow.fullmatch(name))
