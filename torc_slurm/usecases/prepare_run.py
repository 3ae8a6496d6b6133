"""Makes the next run of a workflow for this very process: its rows in the main database, and its plan."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from torc_slurm.database.main import open_copy, open_to_write, transaction
from torc_slurm.database.runs import RUNNING, insert_run
from torc_slurm.database.workflows import create_workflow, workflow_row
from torc_slurm.errors import TorcError
from torc_slurm.plan import Plan, create_plan_file
from torc_slurm.spec.workflow import Workflow
from torc_slurm.usecases.collect import collect_node_files
from torc_slurm.usecases.inputs import check_inputs
from torc_slurm.usecases.installation import interpreter
from torc_slurm.usecases.next_run import plan_of
from torc_slurm.usecases.run_states import next_run_id, refresh_workflow


@dataclass(frozen=True)
class Source:
    """What is to be run: a checked file to be created first, or the id of a workflow; None: the latest one."""

    workflow: Workflow | int | None
    working_dir: str
    spec_file: str | None = None
    user_name: str | None = None


def prepare_run(
    output_dir: str,
    source: Source,
    *,
    check: Callable[[Plan], None],
    on_wait: Callable[[str], None] = lambda _message: None,
) -> Plan:
    """The plan of the next run, written down with it; its jobs are those that are not completed, maybe none.

    Nothing is created where there are none.

    Args:
        check: raises where the plan cannot run here; nothing is created then.

    Raises:
        InputError: there is no such workflow.
        TorcError: a run of it is active.
        DatabaseError: the output directory cannot be written.
    """
    if not os.path.isdir(output_dir):  # what is wrong is found before the directory is made
        with open_copy(output_dir, "a first look") as database:
            first = _next_plan(database.connection, output_dir, source)
            check(first)
            check_inputs(first)
    with open_to_write(output_dir, on_wait=on_wait) as database:
        if not isinstance(source.workflow, Workflow):
            collect_node_files(database)
        with contextlib.ExitStack() as undo:
            with transaction(database.connection):
                plan = _next_plan(database.connection, output_dir, source)
                check(plan)
                for message in check_inputs(plan):
                    on_wait(message)
                if plan.jobs:
                    _write_down(database.connection, plan)
                    undo.callback(os.unlink, create_plan_file(plan))
            undo.pop_all()
    return plan


def _write_down(connection: sqlite3.Connection, plan: Plan) -> None:
    insert_run(connection, plan.workflow_id, plan.run_id, status=RUNNING, created_at=time.time())


def _next_plan(connection: sqlite3.Connection, output_dir: str, source: Source) -> Plan:
    wanted = _create(connection, output_dir, source) if isinstance(source.workflow, Workflow) else source.workflow
    row = workflow_row(connection, wanted)
    workflow_id = row["workflow_id"]
    if not isinstance(source.workflow, Workflow):
        _refuse_if_active(connection, output_dir, workflow_id)
    run_id = next_run_id(connection, output_dir, workflow_id)
    return plan_of(connection, row, run_id=run_id, output_dir=output_dir, python=interpreter())


def _create(connection: sqlite3.Connection, output_dir: str, source: Source) -> int:
    assert isinstance(source.workflow, Workflow)
    return create_workflow(
        connection,
        source.workflow,
        output_dir=output_dir,
        working_dir=source.working_dir,
        spec_file=source.spec_file,
        user_name=source.user_name,
        now=time.time(),
    )


def _refuse_if_active(connection: sqlite3.Connection, output_dir: str, workflow_id: int) -> None:
    for state in refresh_workflow(connection, output_dir, workflow_id):
        if state.is_active:
            raise TorcError(
                f"run {state.run_id} of workflow {workflow_id} is active ({state.reason}); wait for its end, "
                f"or end it with torc workflows cancel {workflow_id}"
            )
