"""Prepares a workflow for right-sizing: collects node files, asks for late accounting, updates its runs, finds hung
jobs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torc_slurm.common.errors import InputError
from torc_slurm.database.idle_spans import hung_attempts
from torc_slurm.database.main import MainDatabase, open_main, transaction
from torc_slurm.database.runs import run_rows
from torc_slurm.database.selection import Selection
from torc_slurm.database.sizing import facts_of
from torc_slurm.database.workflows import workflow_row
from torc_slurm.records.workflows import WorkflowRow
from torc_slurm.sizing.facts import Facts
from torc_slurm.usecases.late_accounting import UpToDate, up_to_date
from torc_slurm.usecases.run_states import RunState, refresh_workflow


@dataclass(frozen=True)
class SizingFacts:
    """The open database, the workflow's row, its runs that have not ended, and the facts about its jobs."""

    database: MainDatabase
    workflow: WorkflowRow
    runs: tuple[RunState, ...]
    facts: Facts
    collected: UpToDate

    @property
    def workflow_id(self) -> int:
        assert self.facts.workflow_id is not None
        return self.facts.workflow_id

    @property
    def active_run(self) -> RunState | None:
        """The run that may still start jobs; None if there is none."""
        return next((run for run in reversed(self.runs) if run.is_active), None)

    def require_run(self, run_id: int | None) -> None:
        """Refuse a run id that does not exist.

        Raises:
            InputError: the workflow has no such run; the message names its runs.
        """
        known = {each.run_id for job in self.facts.jobs for each in job.attempts}
        known |= {row["run_id"] for row in run_rows(self.database.connection, self.workflow_id)}
        if run_id is not None and run_id not in known:
            there_are = ", ".join(map(str, sorted(known))) or "none"
            raise InputError(f"workflow {self.workflow_id} has no run {run_id}; there are: {there_are}")


@contextlib.contextmanager
def sizing_facts(
    output_dir: str,
    workflow_id: int | None,
    *,
    ask_accounting: bool = True,
    backend: str | None = None,
    on_wait: Callable[[str], None] = lambda _message: None,
) -> Iterator[SizingFacts]:
    """Bring a workflow (None: the latest) up to date, then run the body while the database is locked.

    Args:
        ask_accounting: ask Slurm for what is missing, once per allocation; ``backend``: how.

    Raises:
        InputError: there is no such workflow, or no output directory.
        DatabaseError: as `open_main`.
    """
    with open_main(output_dir, on_wait=on_wait) as database:
        known = workflow_row(database.connection, workflow_id)["workflow_id"]
    selection = Selection(workflow_id=known)
    with up_to_date(
        output_dir, selection, ask_accounting=ask_accounting, backend=backend, on_wait=on_wait
    ) as collected:
        database = collected.database
        connection = database.connection
        with transaction(connection):
            runs = refresh_workflow(database, known)
        hung = hung_attempts(connection, output_dir, known)
        row = workflow_row(connection, known)
        yield SizingFacts(database, row, tuple(runs), facts_of(connection, known, hung), collected)
