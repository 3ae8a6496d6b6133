"""The current state of a workflow: node files are collected, runs and jobs are up to date."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torc_slurm.database.job_states import unfinished_workflows
from torc_slurm.database.main import MainDatabase, open_prepared, transaction
from torc_slurm.database.runs import ENDED
from torc_slurm.database.workflows import workflow_row, workflow_rows
from torc_slurm.records.workflows import WorkflowRow
from torc_slurm.usecases.collect import FileOutcome, collect_node_files
from torc_slurm.usecases.run_states import RunState, refresh_workflow


@dataclass(frozen=True)
class Current:
    """An open database, the workflow's row, and its runs that have not ended."""

    database: MainDatabase
    workflow: WorkflowRow
    runs: list[RunState]
    files: list[FileOutcome]

    @property
    def workflow_id(self) -> int:
        return self.workflow["workflow_id"]

    @property
    def active_run(self) -> RunState | None:
        """The run that may start jobs; None if there is none."""
        return next((run for run in reversed(self.runs) if run.is_active), None)


@contextlib.contextmanager
def current_workflow(
    output_dir: str, workflow_id: int | None, *, on_wait: Callable[[str], None] = lambda _message: None
) -> Iterator[Current]:
    """Bring one workflow (None: the latest) up to date, then run the body while the database is locked.

    Raises:
        InputError: there is no such workflow, or no output directory.
        DatabaseError: as `open_main`.
    """

    def refresh(database: MainDatabase) -> tuple[WorkflowRow, list[RunState], list[FileOutcome]]:
        workflow = workflow_row(database.connection, workflow_id)
        files = collect_node_files(database)
        with transaction(database.connection):
            runs = refresh_workflow(database, workflow["workflow_id"])
        return workflow, runs, files

    with open_prepared(output_dir, refresh, on_wait=on_wait) as (database, (workflow, runs, files)):
        yield Current(database, workflow, runs, files)


@contextlib.contextmanager
def current_workflows(
    output_dir: str, *, on_wait: Callable[[str], None] = lambda _message: None
) -> Iterator[MainDatabase]:
    """Bring all workflows of an output directory up to date, then run the body.

    Raises:
        InputError, DatabaseError: as `open_main`.
    """

    def refresh(database: MainDatabase) -> None:
        collect_node_files(database)
        unfinished = set(unfinished_workflows(database.connection))  # even if their runs are now known to have ended
        for row in workflow_rows(database.connection):
            if row["run_status"] not in (None, ENDED) or row["workflow_id"] in unfinished:
                with transaction(database.connection):
                    refresh_workflow(database, row["workflow_id"])

    with open_prepared(output_dir, refresh, on_wait=on_wait) as (database, _):
        yield database
