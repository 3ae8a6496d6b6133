"""Slurm's accounting through pyslurm, an optional extra: the same records as from sacct.

Only a child process loads pyslurm: without slurm.conf the import ends the process, a call after a failed start crashes
it, it hangs if the controller is down, and none of these can be caught.

pyslurm knows less than sacct: CPU times are cut to whole seconds (total is user plus system, each cut), sums over the
tasks, allocated TRES and GPU figures are not read, a requeued job has only its last record, and exit codes of 128 and
more are 128 less. As in sacct's output, a figure that Slurm did not measure is 0.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torc_slurm.common.errors import CommandError, CommandTimeout, ParseError
from torc_slurm.records.accounting import FIELDS, AccountingRecord
from torc_slurm.slurm import commands

JOB_ATTRIBUTES = (
    "id", "name", "user_name", "state", "cancelled_by", "exit_code", "exit_code_signal", "submit_time", "start_time",
    "end_time", "elapsed_time", "requeue_count", "memory", "time_limit", "heterogeneous_id", "heterogeneous_offset",
)  # fmt: skip
STEP_ATTRIBUTES = (
    "id", "name", "state", "cancelled_by", "exit_code", "exit_code_signal", "start_time", "end_time", "elapsed_time",
    "nodelist", "ntasks",
)  # fmt: skip
STATISTICS_ATTRIBUTES = tuple(field.pyslurm for field in FIELDS.values() if field.pyslurm)

_NO_VALUE = frozenset({0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFE, 0xFFFFFFFFFFFFFFFF})
_NO_VALUE_AS_SIGNAL = 0xFFFFFFFE & 0x7F
_NO_LIMIT = (None, "PartitionLimit", "UNLIMITED")
_REMEDY = "use the sacct backend, or install the pyslurm for this version of Slurm"

Snapshot = Mapping[str, Any]


# --- asking ---------------------------------------------------------------------------------------------------


def is_installed() -> bool:
    """Whether pyslurm is installed; does not load it."""
    return importlib.util.find_spec("pyslurm") is not None


def query(slurm_job_id: int, *, timeout_seconds: float) -> list[AccountingRecord]:
    """The records of one job id, from one request to Slurm's database by a child process.

    Raises:
        CommandError: pyslurm is not installed, does not fit this Slurm, or got no answer or a refusal.
        ParseError: the child's output has another form.
    """
    argv = [sys.executable, "-m", "torc_slurm.slurm.pyslurm_child", str(slurm_job_id)]
    try:
        text = commands.run(argv, timeout_seconds=timeout_seconds, environment=_child_environment())
    except CommandTimeout as error:
        raise CommandTimeout(["pyslurm"], error.timeout_seconds, _REMEDY) from None
    except CommandError as error:
        raise CommandError(["pyslurm"], error.returncode, error.stderr, _REMEDY) from None
    return parse(text)


def _child_environment() -> dict[str, str]:
    """The environment in which the child finds the same packages as this process."""
    return commands.query_environment() | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def parse(text: str) -> list[AccountingRecord]:
    """The rows in the child's output: a JSON list of snapshots.

    Raises:
        ParseError: it is something else.
    """
    try:
        snapshots = json.loads(text)
        if not isinstance(snapshots, list):
            raise TypeError("no list")
        return rows_from_snapshots(snapshots)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ParseError(f"pyslurm's process printed something unexpected ({error}): {text[:80]!r}") from error


# --- attribute objects to plain data, in the child -----------------------------------------------------------


def snapshot(job: object, uid_of: Callable[[str], int | None] | None = None) -> dict[str, Any]:
    """The used attributes of a ``pyslurm.db.Job`` and of its steps, as plain data."""
    resolve = uid_of or _uid_of
    taken = _taken(job, JOB_ATTRIBUTES, resolve)
    steps: Mapping[object, object] = getattr(job, "steps", None) or {}
    taken["steps"] = [
        _taken(step, STEP_ATTRIBUTES, resolve) | {"stats": _taken(getattr(step, "stats", None), STATISTICS_ATTRIBUTES)}
        for step in steps.values()
    ]
    return taken


def _taken(source: object, names: Iterable[str], uid_of: Callable[[str], int | None] | None = None) -> dict[str, Any]:
    taken = {name: getattr(source, name, None) for name in names}
    if uid_of is not None:
        canceller = taken.pop("cancelled_by", None)
        taken["cancelled_by_uid"] = None if canceller is None else uid_of(str(canceller))
    return taken


def _uid_of(user: str) -> int | None:
    """The user id for pyslurm's user name (sacct has the id); -1 if the name is unknown on this host."""
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return -1


# --- plain data to rows ---------------------------------------------------------------------------------------


def rows_from_snapshots(snapshots: Iterable[Snapshot]) -> list[AccountingRecord]:
    """Each job's record before its steps', as in sacct's output; pure."""
    rows = []
    for job in snapshots:
        rows.append(_job_row(job))
        rows += [_step_row(int(job["id"]), step) for step in job["steps"]]
    return rows


def _job_row(job: Snapshot) -> AccountingRecord:
    memory_mib = _count(job["memory"])
    limit_minutes = None if job["time_limit"] in _NO_LIMIT else _count(job["time_limit"])
    return AccountingRecord(
        step_id=None,
        shown_job_id=_shown_job_id(job),
        user_name=job["user_name"] or None,
        submit_time=_moment(job["submit_time"]),
        restart_count=_count(job["requeue_count"]),
        requested_memory=None if not memory_mib else f"{memory_mib}M",
        time_limit_seconds=None if limit_minutes is None else limit_minutes * 60.0,
        **_common(int(job["id"]), job),
    )


def _shown_job_id(job: Snapshot) -> str:
    leader = _count(job["heterogeneous_id"])
    return str(job["id"]) if not leader else f"{leader}+{_count(job['heterogeneous_offset']) or 0}"


def _step_row(slurm_job_id: int, step: Snapshot) -> AccountingRecord:
    statistics: dict[str, Any] = {
        name: _STATISTICS_READERS[field.reads](step["stats"][field.pyslurm])
        for name, field in FIELDS.items()
        if field.pyslurm
    }
    return AccountingRecord(
        step_id=str(step["id"]),
        node_list=step["nodelist"] or None,
        task_count=_count(step["ntasks"]),
        **statistics,
        **_common(slurm_job_id, step),
    )


def _exit(record: Snapshot) -> tuple[int | None, int | None]:
    """Exit code and signal. Signal 126 is the rest of Slurm's NO_VAL; sacct leaves that cell blank."""
    code, number = _count(record["exit_code"]), _count(record["exit_code_signal"])
    return (None, None) if number == _NO_VALUE_AS_SIGNAL else (code, number)


def _common(slurm_job_id: int, record: Snapshot) -> dict[str, Any]:
    start_time, end_time = _moment(record["start_time"]), _moment(record["end_time"])
    exit_code, exit_signal = _exit(record)
    elapsed = _seconds(record["elapsed_time"])
    if elapsed is None and start_time is not None and end_time is not None:
        elapsed = 0.0  # pyslurm has None for it
    return {
        "slurm_job_id": slurm_job_id,
        "name": record["name"] or None,
        "state": record["state"] or None,
        "cancelled_by_uid": record["cancelled_by_uid"],
        "exit_code": exit_code,
        "exit_signal": exit_signal,
        "start_time": start_time,
        "end_time": end_time,
        "elapsed_seconds": elapsed,
    }


def _count(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a whole number")
    return None if value in _NO_VALUE else value


def _seconds(value: object) -> float | None:
    count = _count(value)
    return None if count is None else float(count)


def _moment(value: object) -> float | None:
    return _seconds(value) or None  # 0 is not a time


_STATISTICS_READERS: dict[str, Callable[[object], object]] = {
    "text": lambda value: value,
    "count": _count,
    "size": _count,
    "fs/disk": _count,
    "duration": _seconds,
}
