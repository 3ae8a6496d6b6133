"""``torc recover``: raises the requests of jobs that were killed for memory or time, and submits the next run."""

from __future__ import annotations

import dataclasses
import shutil
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torc_slurm.cli.accounting_options import BackendOption, NoAccountingOption, backend_of
from torc_slurm.cli.options import FormatOption, OutputDirOption, resolve, say
from torc_slurm.cli.sizing_options import (
    LargestFactorOption,
    MaxMemoryOption,
    MaxRuntimeOption,
    MemoryMultiplierOption,
    RuntimeMultiplierOption,
    SpecOutputOption,
    WriteSpecOption,
    check_output,
    guards_of,
    options_of,
    say_what_is_missing,
)
from torc_slurm.cli.workflow_options import (
    AccountOption,
    NodesOption,
    PartitionOption,
    QosOption,
    SchedulerOption,
    TimeOption,
    WorkflowIdArgument,
    request_for,
)
from torc_slurm.common.errors import TorcError

if TYPE_CHECKING:
    from torc_slurm.cli.answer import Answer
    from torc_slurm.usecases.correct import SpecEdit
    from torc_slurm.usecases.prepare_submit import Request
    from torc_slurm.usecases.recover import RecoveryPlan
    from torc_slurm.usecases.submit import Launched

RECOVER_EXAMPLE = """\b
Examples:
  torc recover 3 --dry-run                     which jobs it would submit, and with which requests
  torc recover 3 --max-attempts 5 --max-memory 128g
"""
_DEFAULT_MULTIPLIER = 1.5
_DEFAULT_ATTEMPTS = 3


def recover(
    context: typer.Context,
    workflow_id: WorkflowIdArgument = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the decision; change and submit nothing.")] = False,
    max_attempts: Annotated[
        int,
        typer.Option(
            "--max-attempts", metavar="N", help="Refuse if the workflow has had N runs (not attempts).", min=1
        ),
    ] = _DEFAULT_ATTEMPTS,
    max_memory: MaxMemoryOption = None,
    max_runtime: MaxRuntimeOption = None,
    memory_multiplier: MemoryMultiplierOption = _DEFAULT_MULTIPLIER,
    runtime_multiplier: RuntimeMultiplierOption = _DEFAULT_MULTIPLIER,
    largest_factor: LargestFactorOption = 10,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Submit all unfinished jobs, also those that torc would leave out.")
    ] = False,
    no_submit: Annotated[bool, typer.Option("--no-submit", help="Only correct; do not submit the next run.")] = False,
    write_spec: WriteSpecOption = False,
    output: SpecOutputOption = None,
    account: AccountOption = None,
    partition: PartitionOption = None,
    qos: QosOption = None,
    nodes: NodesOption = None,
    walltime: TimeOption = None,
    scheduler: SchedulerOption = None,
    no_accounting: NoAccountingOption = False,
    accounting_backend: BackendOption = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Raise requests of killed jobs; submit unfinished jobs.

    torc at least doubles the memory of a job that was killed for memory, and raises the run time of a job that ended at
    its time limit. It does not change a request that was already corrected after the job failed. Then torc submits the
    unfinished jobs as the next run. It leaves out jobs that another run would not help: their command failed, they
    hung, or their request cannot grow any more.
    """
    from torc_slurm.cli.answer import write
    from torc_slurm.usecases.correct import apply, spec_edit
    from torc_slurm.usecases.recover import plan
    from torc_slurm.usecases.sizing_facts import sizing_facts

    chosen_format, directory = resolve(context, format_, output_dir)
    check_output(output, write_spec=write_spec)
    guards = guards_of(max_memory=max_memory, max_runtime=max_runtime, largest_factor=largest_factor)
    options = options_of(memory_multiplier, 1.2, runtime_multiplier, guards=guards, downsize=False, answer_once=True)
    with sizing_facts(
        directory, workflow_id, ask_accounting=not no_accounting, backend=backend_of(accounting_backend), on_wait=say
    ) as found:
        planned = plan(
            found,
            options,
            max_attempts=max_attempts,
            retry_failed=retry_failed,
            scheduler=scheduler,
            partition=partition,
        )
        chosen, corrections = found.workflow_id, planned.recovery.corrections
        will_submit = planned.is_needed and not dry_run and not no_submit
        if will_submit:
            _require_sbatch(chosen)
        edit = spec_edit(found, corrections, output) if write_spec else None
        if (corrections.adjustments or edit is not None) and not dry_run:
            apply(found, corrections, changed_by=context.command_path, now=time.time(), edit=edit)
    say_what_is_missing(found)
    request = request_for(
        str(chosen),
        scheduler=scheduler,
        account=account,
        partition=partition,
        qos=qos,
        nodes=nodes,
        time=walltime or planned.walltime,
    )
    request = dataclasses.replace(request, leave_out=planned.left_out)
    launched = _submit(directory, request, is_corrected=bool(corrections.adjustments)) if will_submit else None
    write(_answer(chosen, planned, launched, dry_run=dry_run, edit=edit), chosen_format)


def _require_sbatch(workflow_id: int) -> None:
    """Check before anything is changed.

    Raises:
        TorcError: there is no Slurm here.
    """
    if shutil.which("sbatch") is None:
        raise TorcError(
            f"sbatch was not found on PATH; correct with torc recover {workflow_id} --no-submit, then run the jobs "
            f"here with torc run {workflow_id}"
        )


def _submit(directory: str, request: Request, *, is_corrected: bool) -> Launched:
    """Submit the next run. If that fails, the corrections stay, and the error says so."""
    from torc_slurm.usecases import submit as submission

    try:
        return submission.submit(directory, request, on_wait=say)
    except TorcError:
        if is_corrected:
            say("the corrections are saved, but the next run was not submitted:")
        raise


def _answer(
    workflow_id: int, planned: RecoveryPlan, launched: Launched | None, *, dry_run: bool, edit: SpecEdit | None
) -> Answer:
    from torc_slurm.cli.answer import Answer
    from torc_slurm.cli.sizing_view import decisions_table, edit_lines, unfinished_table
    from torc_slurm.sizing.decision import KEPT

    document = _document(workflow_id, planned, launched, dry_run=dry_run)
    changes = [each for each in planned.recovery.corrections.decisions if each.direction != KEPT]
    return Answer(
        keys=("job_id", "job_name", "cause", "is_helped", "reason"),
        document=document,
        csv_items=document["unfinished"],
        tables=[unfinished_table(planned.recovery.unfinished if planned.is_needed else ()), decisions_table(changes)],
        notes=_outcome_note(workflow_id, planned, launched, dry_run=dry_run).splitlines(),
        aside=[] if edit is None else edit_lines(edit, dry_run=dry_run),
    )


def _document(workflow_id: int, planned: RecoveryPlan, launched: Launched | None, *, dry_run: bool) -> dict[str, Any]:
    from torc_slurm.sizing.documents import adjustment_document, unfinished_document

    return {
        "status": _status(planned, launched, dry_run=dry_run),
        "workflow_id": workflow_id,
        "dry_run": dry_run,
        "runs_so_far": planned.runs_so_far,
        "max_attempts": planned.max_attempts,
        "run_id": None if launched is None else launched.run_id,
        "slurm_job_id": None if launched is None else launched.slurm_job_id,
        "walltime": planned.walltime,
        "unfinished": [unfinished_document(each) for each in planned.recovery.unfinished],
        "adjustments": [adjustment_document(each) for each in planned.recovery.corrections.adjustments],
    }


def _status(planned: RecoveryPlan, launched: Launched | None, *, dry_run: bool) -> str:
    if not planned.is_needed:
        return "nothing_to_do"
    if dry_run:
        return "dry_run"
    return "corrected" if launched is None else "submitted"


def _outcome_note(workflow_id: int, planned: RecoveryPlan, launched: Launched | None, *, dry_run: bool) -> str:
    if not planned.is_needed:
        return f"Nothing to recover: every job of workflow {workflow_id} is completed."
    if dry_run:
        walltime = f" in an allocation of {planned.walltime}" if planned.walltime else ""
        return f"Run {planned.runs_so_far + 1} would be submitted{walltime}. Nothing was changed (--dry-run)."
    if launched is None:
        if shutil.which("sbatch") is None:
            return f"Corrected. Run the unfinished jobs here: torc run {workflow_id}"
        return f"Corrected. Submit the next run: torc recover {workflow_id} (without --no-submit)"
    others = len(planned.left_out)
    jobs = "1 job" if others == 1 else f"{others} jobs"
    again = f"Left out: {jobs} that another run would not help (--retry-failed runs them too).\n" if others else ""
    return (
        f"Run {launched.run_id} of at most {planned.max_attempts}: {launched.job_count} jobs in "
        f"{launched.allocation}\n{again}Watch it: torc status {workflow_id} --wait"
    )
