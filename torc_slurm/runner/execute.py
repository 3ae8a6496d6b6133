"""Executes one run that this process has taken: chooses the launcher, writes the journal, handles signals.

Inside an allocation jobs are its steps; elsewhere, and inside a step (``srun --pty bash``), plain processes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence

from torc_slurm.common.errors import CommandError, InputError, TorcError
from torc_slurm.common.identity import identify
from torc_slurm.common.units import MIB, format_gb
from torc_slurm.files.output_names import node_file_path
from torc_slurm.runner.direct import DirectLauncher
from torc_slurm.runner.journal import Journal
from torc_slurm.runner.launcher import Launcher
from torc_slurm.runner.loop import Loop
from torc_slurm.runner.machine import this_machine
from torc_slurm.runner.observer import Observer
from torc_slurm.runner.placement import Node
from torc_slurm.runner.run import Run
from torc_slurm.runner.share import RunResult, Share
from torc_slurm.runner.srun import SrunLauncher
from torc_slurm.slurm.allocation import Allocation, read_allocation
from torc_slurm.spec.plan import Plan
from torc_slurm.usecases.claims import Claim
from torc_slurm.usecases.fit import too_late

_REASONS = {
    signal.SIGTERM: "received SIGTERM (the time limit is near, or scancel)",
    signal.SIGINT: "interrupted (Ctrl-C)",
    signal.SIGHUP: "the terminal was closed (SIGHUP)",
}


def is_in_allocation(environ: Mapping[str, str]) -> bool:
    """Whether jobs would be steps: in a batch script or salloc's shell, and not already inside a step."""
    if not environ.get("SLURM_JOB_ID", "").isdecimal():
        return False
    step = identify(dict(environ), {}).step_id
    return step is None or not step.isdecimal()


def check_here(plan: Plan, environ: Mapping[str, str]) -> None:
    """Refuse a plan that cannot run outside Slurm, before anything starts.

    Raises:
        InputError: a job needs several nodes; the message names it.
    """
    if is_in_allocation(environ):
        return
    for job in plan.jobs:
        if job.num_nodes > 1:
            raise InputError(
                f"job {job.name} needs {job.num_nodes} nodes, and outside Slurm there is one; "
                "run this in an allocation: torc submit, or torc run inside salloc"
            )


def execute(
    plan: Plan, claim: Claim, environ: Mapping[str, str], observer: Observer, share: Share | None = None
) -> RunResult:
    """Run all jobs of the plan, or a share of it.

    Returns when every process that was started has ended and the journal is written. SIGTERM, SIGINT and SIGHUP end the
    jobs and then the run; a second one kills the jobs.

    Raises:
        InputError: see `check_here`.
        TorcError: the allocation cannot be read.
    """
    check_here(plan, environ)
    chosen = Share() if share is None else share
    allocation = _allocation(environ) if is_in_allocation(environ) else None
    with Loop() as loop:
        launcher: Launcher
        if allocation is not None:
            launcher = SrunLauncher(plan, allocation, environ, loop, note=observer.note)
            if allocation.end_time is not None:
                jobs = [job for job in plan.jobs if chosen.holds(job)]
                for warning in too_late(jobs, allocation.end_time - time.time()):
                    observer.note(warning)
        else:
            launcher = _direct(plan, environ, loop, observer)
        journal = Journal(_journal_path(plan, environ), loop, observer.note)
        row = _run_row(plan, claim, launcher)
        journal.put_run(row)
        observer.began(sum(map(chosen.holds, plan.jobs)), place_text(launcher.nodes, launcher.slurm_job_id))
        run = Run(plan, launcher, journal, loop, observer, environ, chosen)
        _handle_signals(loop, run)
        result = run.go()
        launcher.close()
        journal.put_run(row | {"end_time": time.time(), "exit_status": exit_status(result), "reason": result.stopped})
        journal.close()
    return result


def exit_status(result: RunResult) -> int:
    """0 only if every job of the plan completed."""
    return 0 if result.all_completed else 1


def _allocation(environ: Mapping[str, str]) -> Allocation:
    try:
        return read_allocation(environ)
    except CommandError as error:
        raise TorcError(
            f"allocation {environ['SLURM_JOB_ID']} cannot be read: {error}; "
            "if it has ended, unset SLURM_JOB_ID to run the jobs as plain processes"
        ) from error


def _direct(plan: Plan, environ: Mapping[str, str], loop: Loop, observer: Observer) -> DirectLauncher:
    launcher = DirectLauncher(plan, this_machine(), environ, loop)
    for warning in launcher.warnings():
        observer.note(warning)
    return launcher


def _handle_signals(loop: Loop, run: Run) -> None:
    """A signal that was ignored at the start (nohup, a background job's SIGINT) stays ignored."""
    received: list[int] = []

    def handle(number: int) -> None:
        received.append(number)
        if len(received) == 1:
            run.stop(_REASONS[signal.Signals(number)])
        else:
            run.kill()

    for number in _REASONS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.on_signal(number, lambda number=number: handle(number))  # type: ignore[misc]


def _journal_path(plan: Plan, environ: Mapping[str, str]) -> str:
    """The node file of this host, with the name that its wrappers use."""
    in_step = not is_in_allocation(environ)  # or outside Slurm: the wrappers use the host's own name
    node = os.uname().nodename.partition(".")[0] if in_step else identify(dict(environ), {}).node
    return node_file_path(plan.output_dir, node, str(plan.workflow_id), plan.run_id)


def _run_row(plan: Plan, claim: Claim, launcher: Launcher) -> dict[str, int | float | str | None]:
    return {
        "workflow_id": plan.workflow_id,
        "run_id": plan.run_id,
        "slurm_job_id": launcher.slurm_job_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "user_name": os.environ.get("USER") or os.environ.get("LOGNAME"),
        "launcher": launcher.name,
        "nodes": ",".join(node.name for node in launcher.nodes),
        "job_count": len(plan.jobs),
        "claim_time": claim.claimed_at,
        "end_time": None,
        "exit_status": None,
        "reason": None,
        "node_sizes": json.dumps([[node.name, node.cpus, node.memory_mib] for node in launcher.nodes]),
    }


def place_text(nodes: Sequence[Node], slurm_job_id: int | None) -> str:
    """``Slurm job 12: 2 nodes, 8 CPUs, 34.36 GB``."""
    sizes = [f"{len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}", f"{sum(node.cpus for node in nodes)} CPUs"]
    memory = [node.memory_mib for node in nodes if node.memory_mib is not None]
    if len(memory) == len(nodes):
        sizes.append(format_gb(sum(memory) * MIB))
    gpus = sum(node.gpus for node in nodes)
    if gpus:
        sizes.append(f"{gpus} GPUs")
    where = "this machine" if slurm_job_id is None else f"Slurm job {slurm_job_id}"
    return f"{where}: {', '.join(sizes)}"
