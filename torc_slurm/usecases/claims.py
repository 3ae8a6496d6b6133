"""Claims of runs: once a run has begun, a file next to its plan names the one process that may start its jobs.

Of two scripts, or one script submitted twice, only the one that made the claim starts jobs; the other can make the next
run, once the claimant has ended. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from torc_slurm.common.errors import ParseError
from torc_slurm.common.liveness import Process, this_process
from torc_slurm.files.output_names import claim_path
from torc_slurm.files.whole_files import create_exclusively

SUPERSEDED = "superseded"  # the purpose of a claim that only excludes others


# By the annotation of a field. A number of seconds may have been written without a fraction.
_TYPES: dict[str, tuple[type, ...]] = {
    "float": (int, float),
    "int": (int,),
    "int | None": (int, type(None)),
    "str": (str,),
    "str | None": (str, type(None)),
}


@dataclass(frozen=True)
class Claim:
    """The owner of a run: the allocation, or the process outside Slurm; only it may start the run's jobs.

    ``purpose`` is ``run``, or ``superseded`` if ``torc submit`` or ``torc workflows cancel`` took a run that had only
    been generated, so that its script, submitted later, finds it taken.
    """

    claimed_at: float
    host: str
    pid: int
    slurm_job_id: int | None = None
    restart_count: int = 0
    purpose: str = "run"
    boot_id: str = ""
    pid_namespace: str = ""
    process_start: str = ""
    cluster: str | None = None

    @property
    def process(self) -> Process:
        """The process that made the claim."""
        return Process(self.host, self.pid, self.boot_id, self.pid_namespace, self.process_start, self.claimed_at)


def claim_by(
    process: Process, *, slurm_job_id: int | None = None, restart_count: int = 0, cluster: str | None = None
) -> Claim:
    """A claim by this process, made now."""
    return Claim(
        claimed_at=time.time(),
        host=process.host,
        pid=process.pid,
        slurm_job_id=slurm_job_id,
        restart_count=restart_count,
        boot_id=process.boot_id,
        pid_namespace=process.pid_namespace,
        process_start=process.start_ticks,
        cluster=cluster,
    )


def claim_of_this_process(environ: Mapping[str, str]) -> Claim:
    """A claim by the calling process and its allocation, if it is in one."""
    job = environ.get("SLURM_JOB_ID", "")
    restarts = environ.get("SLURM_RESTART_COUNT", "")
    return claim_by(
        this_process(),
        slurm_job_id=int(job) if job.isdecimal() else None,
        restart_count=int(restarts) if restarts.isdecimal() else 0,
        cluster=(environ.get("SLURM_CLUSTER_NAME") or None) if job.isdecimal() else None,
    )


def claim_run(output_dir: str, workflow_id: int, run_id: int, claim: Claim) -> bool:
    """Take a run. Returns False if another process has it already (see `read_claim`).

    Raises:
        OSError: the directory cannot be written.
    """
    text = json.dumps(dataclasses.asdict(claim)) + "\n"
    return create_exclusively(claim_path(output_dir, workflow_id, run_id), text, 0o666)


def supersede(output_dir: str, workflow_id: int, run_id: int) -> bool:
    """Take a run that was only generated, so that its script starts nothing. Returns False if it has just begun.

    Raises:
        OSError: the directory cannot be written.
    """
    claim = dataclasses.replace(claim_by(this_process()), purpose=SUPERSEDED)
    if claim_run(output_dir, workflow_id, run_id, claim):
        return True
    found = read_claim(output_dir, workflow_id, run_id)
    return found is not None and found.purpose == SUPERSEDED


def read_claim(output_dir: str, workflow_id: int, run_id: int) -> Claim | None:
    """The claim of the run; None: nobody has taken it.

    Raises:
        ParseError: the file is not a claim.
        OSError: it cannot be read.
    """
    path = claim_path(output_dir, workflow_id, run_id)
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    try:
        return _claim(text)
    except ValueError as error:
        raise ParseError(f"{path} is damaged: {error}; if this run is not active, remove the file") from error


def _claim(text: str) -> Claim:
    """The claim in a text that may be damaged.

    Raises:
        ValueError: it is no object, or a field is missing or has another type; the message says which.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    for field in dataclasses.fields(Claim):
        if field.name not in found:
            if field.default is dataclasses.MISSING:
                raise ValueError(f"it has no {field.name}")
        elif not isinstance(found[field.name], _TYPES[str(field.type)]):
            raise ValueError(f"{field.name} is {json.dumps(found[field.name])[:40]}")
    return Claim(**{name: found[name] for name in Claim.__dataclass_fields__ if name in found})
