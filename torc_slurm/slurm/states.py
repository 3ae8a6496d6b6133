"""The states that Slurm gives to jobs and steps: one table, and functions that query it; pure.

Sources: "JOB STATE CODES" of squeue(1) and sacct(1), Slurm 20.11 to 26.05. A state outside the table is *unknown*: it
never counts as an end, and `described` says that it is unknown.
"""

from __future__ import annotations

from typing import NamedTuple

from torc_slurm.records.statuses import CANCELLED, NODE_FAIL, PREEMPTED, TIMEOUT

WAITING = "waiting"  # no process anywhere; it can start (again), by itself or when it is released
RUNNING = "running"  # it can have processes on its nodes
ENDED = "ended"


class SlurmState(NamedTuple):
    """The meaning of one state.

    ``status`` is torc's status of a step that something other than its own command ended; None: its exit decides.
    ``ends_record``: accounting closes a record with it although the job continues, as another record.
    """

    phase: str
    status: str | None = None
    ends_record: bool = False


STATES: dict[str, SlurmState] = {
    "PENDING": SlurmState(WAITING),
    "CONFIGURING": SlurmState(WAITING),  # its nodes boot
    "POWER_UP_NODE": SlurmState(WAITING),
    "EXPEDITING": SlurmState(WAITING),
    "REQUEUED": SlurmState(WAITING, CANCELLED, ends_record=True),
    "REQUEUE_FED": SlurmState(WAITING),
    "REQUEUE_HOLD": SlurmState(WAITING),
    "RESV_DEL_HOLD": SlurmState(WAITING),
    "SPECIAL_EXIT": SlurmState(WAITING),
    "LAUNCH_FAILED": SlurmState(WAITING),  # a flag of a job that returns to the queue
    "RECONFIG_FAIL": SlurmState(WAITING),
    "RUNNING": SlurmState(RUNNING),
    "COMPLETING": SlurmState(RUNNING),  # its last processes are being ended
    "RESIZING": SlurmState(RUNNING),
    "SIGNALING": SlurmState(RUNNING),
    "STAGE_OUT": SlurmState(RUNNING),
    "STOPPED": SlurmState(RUNNING),
    "SUSPENDED": SlurmState(RUNNING),
    "COMPLETED": SlurmState(ENDED),
    "FAILED": SlurmState(ENDED),
    "OUT_OF_MEMORY": SlurmState(ENDED),
    "TIMEOUT": SlurmState(ENDED, TIMEOUT),
    "DEADLINE": SlurmState(ENDED, TIMEOUT),
    "CANCELLED": SlurmState(ENDED, CANCELLED),
    "REVOKED": SlurmState(ENDED, CANCELLED),  # a sibling of a federated job has started elsewhere
    "PREEMPTED": SlurmState(ENDED, PREEMPTED),
    "NODE_FAIL": SlurmState(ENDED, NODE_FAIL),
    "BOOT_FAIL": SlurmState(ENDED, NODE_FAIL),
}


def is_known(state: str) -> bool:
    """Whether the table has that state."""
    return state in STATES


def has_ended(state: str) -> bool:
    """Whether a job or step in that state will never have a process again."""
    return state in STATES and STATES[state].phase == ENDED


def is_waiting(state: str) -> bool:
    """Whether a job in that state has no process and can start later."""
    return state in STATES and STATES[state].phase == WAITING


def may_have_processes(state: str) -> bool:
    """Whether a job in that state can have processes on its nodes now. For an unknown state: yes."""
    return state not in STATES or STATES[state].phase == RUNNING


def record_has_ended(state: str) -> bool:
    """Whether an accounting record with that state is closed."""
    return has_ended(state) or (state in STATES and STATES[state].ends_record)


def status_of_end(state: str | None) -> str | None:
    """torc's status of a step that Slurm ended with that state; None: its own exit decides, or the state is unknown."""
    return STATES[state].status if state in STATES else None


def states_of_status(status: str) -> tuple[str, ...]:
    """Slurm's states that give a step this status of torc's."""
    return tuple(name for name, state in STATES.items() if state.status == status)


def described(state: str) -> str:
    """The state to show; an unknown one is marked as unknown."""
    return state if is_known(state) else f"{state} (unknown to torc; treated as not ended)"
