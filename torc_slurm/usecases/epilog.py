"""Implements ``torc slurm epilog``: at an allocation's end, ask Slurm's accounting once and keep the answer.

It runs on the batch host as the user, from a trap in the batch script, in the allocation's remaining time. A failure
here must not change how the batch script ends: it becomes a row's status or a line in the report, and the login node
asks later for what is missing.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torc_slurm.common.errors import InputError, TorcError
from torc_slurm.database.node_records import read_node_file
from torc_slurm.database.rows import Row, number
from torc_slurm.database.slurm_stats import write_slurm_stats
from torc_slurm.database.spool import bring_over
from torc_slurm.files.output_names import RESOURCE_DIR, node_file_path, node_files_of_run
from torc_slurm.records.accounting import FINAL_STATUSES, AccountingRecord
from torc_slurm.slurm.accounting import fetch_runs
from torc_slurm.slurm.commands import EPILOG_TIMEOUT_SECONDS, sacct_timeout_seconds
from torc_slurm.slurm.job_records import AllocationKey
from torc_slurm.spec.plan import plan_run_ids
from torc_slurm.usecases.claims import read_claim

# Read right after 16 steps, 9 to 15 of their rows were final; 0.1 s later all were (22.05).
WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Allocation:
    """The allocation that the epilog runs in, from the environment that Slurm gave the batch script."""

    slurm_job_id: int
    node: str
    slurm_array: str | None = None
    restart_count: int = 0
    workflow_id: int | None = None
    run_id: int | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Allocation:
        """Raises InputError outside an allocation."""
        job = environ.get("SLURM_JOB_ID", "")
        if not job.isdecimal():
            raise InputError(
                "torc slurm epilog must run in a Slurm allocation (SLURM_JOB_ID is not set); "
                "on a login node use `torc slurm collect`"
            )
        array_job, array_task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
        return cls(
            slurm_job_id=int(job),
            node=environ.get("SLURMD_NODENAME") or os.uname().nodename.partition(".")[0],
            slurm_array=f"{array_job}_{array_task}" if array_job and array_task else None,
            restart_count=_number(environ.get("SLURM_RESTART_COUNT")) or 0,
            workflow_id=_number(environ.get("TORC_WORKFLOW_ID")),
            run_id=_number(environ.get("TORC_RUN_ID")),
        )

    def run_parts(self, output_dir: str) -> list[tuple[str, int]]:
        """The (run part, run id) pairs in the names of this allocation's node files: ad hoc, then workflow.

        A workflow's script does not know its run (a second sbatch of it makes the next run), but the claims do.
        """
        parts = [(f"slurm{self.slurm_job_id}", self.restart_count + 1)]
        if self.workflow_id is None:
            return parts
        runs = self._claimed_runs(output_dir) if self.run_id is None else [self.run_id]
        return parts + [(str(self.workflow_id), run_id) for run_id in runs]

    def _claimed_runs(self, output_dir: str) -> list[int]:
        assert self.workflow_id is not None
        run_ids = plan_run_ids(output_dir, self.workflow_id)
        claims = {run_id: read_claim(output_dir, self.workflow_id, run_id) for run_id in run_ids}
        return [run_id for run_id, claim in claims.items() if claim and claim.slurm_job_id == self.slurm_job_id]


@dataclass
class EpilogReport:
    """The rows that were kept; ``problems`` and ``note`` (why another backend was used) are lines for the user."""

    allocation: Allocation
    rows: list[AccountingRecord] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    note: str | None = None


@dataclass(frozen=True)
class _Run:
    """One node file to write into, and the steps of this allocation that any node recorded for that run."""

    node_file: str
    key: AllocationKey
    step_ids: tuple[str, ...]


def closed_to_root(directory: str) -> str | None:
    """Why root writes nothing there: whoever owns a directory above it can put a link in its place; else None."""
    if os.geteuid() != 0:
        return None
    for path in _with_parents(directory):
        try:
            found = os.lstat(path)
        except OSError:
            continue  # not there
        is_sticky = found.st_mode & stat.S_ISVTX and path != directory
        if found.st_uid != 0 or (found.st_mode & 0o022 and not is_sticky and not stat.S_ISLNK(found.st_mode)):
            return f"{path} is not root's alone, and root writes nothing below it; run this as the job's user"
    return None


def _with_parents(directory: str) -> Iterator[str]:
    """The path and those above it, as it is given and where its links lead."""
    for path in (directory, os.path.realpath(directory)):
        while path.strip("/"):
            yield path
            path = os.path.dirname(path)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def record_accounting(
    output_dir: str,
    allocation: Allocation,
    *,
    wait_seconds: float = WAIT_SECONDS,
    timeout_seconds: float | None = None,
    backend: str | None = None,
) -> EpilogReport:
    """Wait a moment, ask once, write the rows into this node's file. A second call changes nothing.

    Args:
        output_dir: absolute; its ``resource_utilization`` has the node files.
        timeout_seconds: for the one query; None: 20 s, or TORC_SACCT_TIMEOUT_SECONDS.
        backend: as in `fetch_runs`.

    Raises:
        InputError: no such backend, or TORC_SACCT_TIMEOUT_SECONDS is not a number.
    """
    limit = sacct_timeout_seconds(EPILOG_TIMEOUT_SECONDS) if timeout_seconds is None else timeout_seconds
    report = EpilogReport(allocation)
    with _errors_in_report(report):
        bring_over(os.path.join(output_dir, RESOURCE_DIR))
    runs = list(_recorded_runs(output_dir, allocation, report))
    if not runs:
        report.problems.append(f"no record of job {allocation.slurm_job_id} in {output_dir}")
        return report
    time.sleep(wait_seconds)
    answers = fetch_runs([(run.key, run.step_ids) for run in runs], timeout_seconds=limit, backend=backend)
    report.note = answers[0].note
    asked = {step_id for run in runs for step_id in run.step_ids}
    for run, answer in zip(runs, answers, strict=True):
        others = [row for row in answer.other_rows if row.status in FINAL_STATUSES and row.step_id not in asked]
        _keep(run, answer.rows, others, report)
    return report


@contextlib.contextmanager
def _errors_in_report(report: EpilogReport) -> Iterator[None]:
    """Turn an error inside into a line of the report: one bad file does not stop the others."""
    try:
        yield
    except (TorcError, OSError) as error:
        report.problems.append(str(error))


def _recorded_runs(output_dir: str, allocation: Allocation, report: EpilogReport) -> Iterator[_Run]:
    for part, run_id in allocation.run_parts(output_dir):
        paths = node_files_of_run(output_dir, part, run_id)
        steps = [step for path in paths for step in _steps_of(path, allocation, report)]
        if steps:
            yield _Run(
                node_file=node_file_path(output_dir, allocation.node, part, run_id),
                key=_key(allocation, run_id, steps),
                step_ids=tuple(dict.fromkeys(str(step["step_id"]) for step in steps)),
            )


def _steps_of(path: str, allocation: Allocation, report: EpilogReport) -> list[Row]:
    with _errors_in_report(report):
        records = read_node_file(path)
        return [
            record.step
            for record in records.steps
            if record.step["slurm_job_id"] == allocation.slurm_job_id and record.step["step_id"] is not None
        ]
    return []


def _key(allocation: Allocation, run_id: int, steps: Sequence[Row]) -> AllocationKey:
    users = {str(step["user_name"]) for step in steps if step["user_name"] is not None}
    return AllocationKey(
        slurm_job_id=allocation.slurm_job_id,
        slurm_array=allocation.slurm_array,
        run_id=run_id,
        user_name=users.pop() if len(users) == 1 else None,
        earliest_begin_time=min(number(step, "begin_time") for step in steps),
        restart_count=allocation.restart_count,
    )


def _keep(
    run: _Run, rows: Sequence[AccountingRecord], others: Sequence[AccountingRecord], report: EpilogReport
) -> None:
    """Write the rows of the run's steps, and those of steps that nobody measured."""
    report.rows += rows
    with _errors_in_report(report):
        write_slurm_stats(run.node_file, [*rows, *others])
        report.files.append(run.node_file)
