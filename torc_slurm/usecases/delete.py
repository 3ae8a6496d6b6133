"""Deletes a workflow with all its records: its rows at once, its files afterwards.

The note of the deletion is kept, so the next collect or delete removes what a killed command leaves, or what arrives
later (another node's spool).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable

from torc_slurm.common.errors import TorcError
from torc_slurm.database.main import MainDatabase, open_main, transaction
from torc_slurm.database.runs import GENERATED
from torc_slurm.database.workflows import delete_workflow, is_recorded, note_deletion, workflow_exists
from torc_slurm.files.output_names import PLOTS_DIR, workflow_of_run_plots
from torc_slurm.usecases.activity import active_run_text
from torc_slurm.usecases.claims import supersede
from torc_slurm.usecases.collect import remove_deleted
from torc_slurm.usecases.current import Current, current_workflow


def delete(
    output_dir: str,
    workflow_id: int,
    *,
    confirm: Callable[[str], None] = lambda _name: None,
    on_wait: Callable[[str], None] = lambda _message: None,
) -> None:
    """Delete a workflow with all its records. The files that its jobs wrote stay.

    Also works if only records are left: its node files were collected without its ``torc.db``, or an earlier delete was
    killed.

    Args:
        confirm: is called with the workflow's name, and raises an error to keep it.

    Raises:
        InputError: there is no such workflow.
        TorcError: a run of it is active, the database cannot be written, or a file cannot be removed.
    """
    with open_main(output_dir, on_wait=on_wait) as database:
        is_leftover = not workflow_exists(database.connection, workflow_id)
        is_leftover = is_leftover and is_recorded(database.connection, workflow_id)
        if is_leftover:
            _delete(database, workflow_id)
            return
    with current_workflow(output_dir, workflow_id, on_wait=on_wait) as current:
        confirm(str(current.workflow["name"]))
        _refuse_if_active(current)
        _delete(current.database, workflow_id)


def _refuse_if_active(current: Current) -> None:
    active = current.active_run
    if active is not None:
        raise TorcError(active_run_text(current.workflow_id, active.run_id, active.reason))
    for run in current.runs:
        if run.status == GENERATED and not supersede(current.database.output_dir, current.workflow_id, run.run_id):
            raise TorcError(f"run {run.run_id} of workflow {current.workflow_id} has just begun")


def _delete(database: MainDatabase, workflow_id: int) -> None:
    if database.read_only_reason is not None:
        raise TorcError(database.read_only_reason)
    with transaction(database.connection):
        delete_workflow(database.connection, workflow_id)
        note_deletion(database.connection, workflow_id, time.time())
    left = remove_deleted(database)
    if left:
        names = ", ".join(os.path.relpath(path, database.output_dir) for path, _ in left)
        raise TorcError(
            f"workflow {workflow_id} is deleted, but {names} cannot be removed ({left[0][1]}); the next torc slurm "
            "collect tries again"
        )


def plots_of(output_dir: str, workflow_id: int) -> list[str]:
    """The directories of pages that torc made by itself for a workflow's runs."""
    directory = os.path.join(output_dir, PLOTS_DIR)
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted(os.path.join(directory, name) for name in names if workflow_of_run_plots(name) == workflow_id)


def size_of(directory: str) -> int:
    """The bytes of the files in a directory."""
    return sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(directory) if entry.is_file())


def remove_plots(directories: list[str]) -> None:
    """Delete them with their contents.

    Raises:
        OSError: one cannot be deleted.
    """
    for directory in directories:
        shutil.rmtree(directory)
