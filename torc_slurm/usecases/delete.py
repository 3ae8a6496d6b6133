"""Deletes a workflow with all that is recorded of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator

from torc_slurm.claims import supersede
from torc_slurm.database.main import transaction
from torc_slurm.database.runs import GENERATED
from torc_slurm.database.snapshot import JOURNAL_SUFFIX
from torc_slurm.database.workflows import delete_workflow
from torc_slurm.errors import TorcError
from torc_slurm.identity import PLOTS_DIR
from torc_slurm.plan import PLANS_DIR
from torc_slurm.usecases.collect import node_file_paths
from torc_slurm.usecases.current import Current
from torc_slurm.usecases.user_data import delete_user_data


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
    of_workflow = re.compile(rf"wf{current.workflow_id}_r[0-9]+(?:_s[0-9]+)?\.(?:json|claim|sbatch)")
    if os.path.isdir(directory):
        yield from (os.path.join(directory, name) for name in os.listdir(directory) if of_workflow.fullmatch(name))


def plots_of(output_dir: str, workflow_id: int) -> list[str]:
    """The directories of pages that torc drew of a workflow's runs by itself."""
    directory = os.path.join(output_dir, PLOTS_DIR)
    of_workflow = re.compile(rf"wf{workflow_id}_r[0-9]+")
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted(os.path.join(directory, name) for name in names if of_workflow.fullmatch(name))


def size_of(directory: str) -> int:
    """The bytes of the files in a directory."""
    return sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(directory) if entry.is_file())


def remove_plots(directories: list[str]) -> None:
    """Delete them with what is in them.

    Raises:
        OSError: one cannot be deleted.
    """
    for directory in directories:
        shutil.rmtree(directory)
