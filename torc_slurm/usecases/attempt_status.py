"""The status of an attempt, from the wrapper's exit records and Slurm's accounting together; pure.

Which of the two counts, and why:

- The wrapper's exit code is the job's own. Slurm's is that of the step: after an OOM kill it is ``0:125``, and for an
  exit code of 128 or more it is 128 less.
- Only Slurm knows why it ended a step: it says TIMEOUT, CANCELLED, NODE_FAIL, PREEMPTED of the *job*, and the job's
  ``End`` is the moment when its steps were signalled. A step that ended then or later was ended by that, whatever its
  exit code: a job that catches SIGTERM at its limit and exits 0 did not complete.
- CANCELLED of a step alone means only that a signal killed it, from anywhere. A user cancelled it if Slurm names the
  user (``CANCELLED by 1000``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torc_slurm.records.statuses import CANCELLED, COMPLETED, FAILED, NODE_FAIL, OOM, RUNNING, signal_name
from torc_slurm.slurm.states import status_of_end

_FINAL = frozenset({"found", "partial", "missing"})


class WrapperView(NamedTuple):
    """What the wrapper recorded of an attempt; None: not recorded."""

    return_code: int | None = None
    signal: int | None = None
    oom_kills: int | None = None
    end_time: float | None = None


class SlurmView(NamedTuple):
    """The row of ``slurm_stats``, by the names of its columns."""

    status: str
    state: str | None = None
    job_state: str | None = None
    job_end_time: float | None = None
    end_time: float | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    cancelled_by_uid: int | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> SlurmView:
        """From a row of ``slurm_stats``."""
        return cls(**{name: row[name] for name in cls._fields})  # type: ignore[arg-type] # a table's row


_NOT_ASKED = SlurmView("unavailable")


class AttemptStatus(NamedTuple):
    """An attempt's status, and its evidence: one line for the user."""

    status: str
    evidence: str


def attempt_status(wrapper: WrapperView, slurm: SlurmView | None) -> AttemptStatus:
    """The status of one attempt, one of `ATTEMPT_STATUSES`; ``running`` if nothing says that it has ended."""
    slurm_is_final = slurm is not None and slurm.status in _FINAL
    if wrapper.return_code is None and not slurm_is_final:
        said = "" if slurm is None or slurm.state is None else f"; Slurm says {slurm.state}"
        return AttemptStatus(RUNNING, f"no exit record yet{said}")
    for decide in (_out_of_memory, _ended_with_its_job, _ended_by_slurm):
        decided = decide(wrapper, slurm or _NOT_ASKED)
        if decided is not None:
            return decided
    return _by_exit(wrapper, slurm)


def _out_of_memory(wrapper: WrapperView, slurm: SlurmView) -> AttemptStatus | None:
    if wrapper.return_code == 0:
        return None
    if wrapper.oom_kills:
        return AttemptStatus(
            OOM, f"{_exit_text(wrapper)}; the kernel killed {wrapper.oom_kills} of its processes for memory"
        )
    if slurm.state == "OUT_OF_MEMORY":
        return AttemptStatus(OOM, f"{_exit_text(wrapper)}; Slurm says OUT_OF_MEMORY")
    return None


def _ended_with_its_job(wrapper: WrapperView, slurm: SlurmView) -> AttemptStatus | None:
    """The status if Slurm ended the job while the step ran."""
    status = status_of_end(slurm.job_state)
    if status is None or slurm.job_end_time is None:
        return None
    if status == NODE_FAIL and slurm.state == "COMPLETED":
        return None  # Slurm has the step's own end: the node's failure did not end it, whatever the second
    end_time = _own_end_time(wrapper, slurm)
    if end_time is not None and int(end_time) < slurm.job_end_time:
        return None
    return AttemptStatus(
        status, f"Slurm says {slurm.job_state} of the job, and this step ran until then; {_exit_text(wrapper)}"
    )


def _own_end_time(wrapper: WrapperView, slurm: SlurmView) -> float | None:
    """When the step itself ended, by Slurm's clock (as the job's end is), unless that is only the job's end."""
    return wrapper.end_time if slurm.end_time is None or slurm.exit_code is None else slurm.end_time


def _ended_by_slurm(wrapper: WrapperView, slurm: SlurmView) -> AttemptStatus | None:
    """The status if Slurm ended only this step."""
    if slurm.state == "CANCELLED":
        if slurm.cancelled_by_uid is None:
            return None
        return AttemptStatus(
            CANCELLED, f"Slurm says CANCELLED by user id {slurm.cancelled_by_uid}; {_exit_text(wrapper)}"
        )
    status = status_of_end(slurm.state)
    return None if status is None else AttemptStatus(status, f"Slurm says {slurm.state}; {_exit_text(wrapper)}")


def _by_exit(wrapper: WrapperView, slurm: SlurmView | None) -> AttemptStatus:
    if wrapper.return_code is not None:
        return AttemptStatus(
            COMPLETED if wrapper.return_code == 0 else FAILED, _exit_text(wrapper) + _differently(wrapper, slurm)
        )
    state = slurm.state if slurm is not None else None
    if state == "COMPLETED":
        return AttemptStatus(COMPLETED, "no exit record; Slurm says COMPLETED")
    return AttemptStatus(FAILED, f"no exit record; Slurm says {_slurm_exit_text(slurm)}")


def _differently(wrapper: WrapperView, slurm: SlurmView | None) -> str:
    """What to add if Slurm's state suggests another status."""
    if slurm is None or slurm.state is None or slurm.status not in _FINAL:
        return ""
    agrees = (slurm.state == "COMPLETED") == (wrapper.return_code == 0)
    return "" if agrees and slurm.state in ("COMPLETED", "FAILED") else f"; Slurm says {slurm.state}"


def _exit_text(wrapper: WrapperView) -> str:
    if wrapper.return_code is None:
        return "no exit record"
    if wrapper.signal:
        return f"died of {signal_name(wrapper.signal)}"
    return f"exit code {wrapper.return_code}"


def _slurm_exit_text(slurm: SlurmView | None) -> str:
    if slurm is None or slurm.state is None:
        return "nothing"
    if slurm.exit_signal:
        return f"{slurm.state}, {signal_name(slurm.exit_signal)}"
    return slurm.state if slurm.exit_code is None else f"{slurm.state}, exit code {slurm.exit_code}"
