"""Prepares the next run of a workflow for this process: its rows in the main database, and its plan."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from torc_slurm.database.main import MainDatabase, open_copy, open_to_write, transaction
from torc_slurm.database.runs import RUNNING, insert_run
from torc_slurm.spec.plan import Plan, create_plan_file
from torc_slurm.spec.workflow import Workflow
from torc_slurm.usecases.collect import collect_node_files
from torc_slurm.usecases.inputs import check_inputs
from torc_slurm.usecases.next_run import Source, find_or_create, plan_next_run


def prepare_run(
    output_dir: str,
    source: Source,
    *,
    check: Callable[[Plan], None],
    on_wait: Callable[[str], None] = lambda _message: None,
) -> Plan:
    """Write down the next run and return its plan. Its jobs are those that are not completed; there may be none.

    Without jobs, nothing is created.

    Args:
        check: raises an error if the plan cannot run here; nothing is created then.

    Raises:
        InputError: there is no such workflow.
        TorcError: a run of it is active.
        DatabaseError: the output directory cannot be written.
    """
    if not os.path.isdir(output_dir):  # find errors before the directory is made
        with open_copy(output_dir, "a first look") as database:
            first = _next_plan(database, source)
            check(first)
            check_inputs(first)
    with open_to_write(output_dir, on_wait=on_wait) as database:
        if not isinstance(source.workflow, Workflow):
            collect_node_files(database)
        with contextlib.ExitStack() as undo:
            with transaction(database.connection):
                plan = _next_plan(database, source)
                check(plan)
                for message in check_inputs(plan):
                    on_wait(message)
                if plan.jobs:
                    insert_run(
                        database.connection, plan.workflow_id, plan.run_id, status=RUNNING, created_at=time.time()
                    )
                    undo.callback(os.unlink, create_plan_file(plan))
            undo.pop_all()
    return plan


def _next_plan(database: MainDatabase, source: Source) -> Plan:
    return plan_next_run(database.connection, database.output_dir, find_or_create(database, source).row)
