"""torc's statuses of attempts and jobs: their order, classes and words.

An *attempt* runs or has ended; a *job* also waits. Slurm's own states are in `torc_slurm.slurm.states`.
"""

from __future__ import annotations

import signal as signals

BLOCKED, READY, SUBMITTED, RUNNING = "blocked", "ready", "submitted", "running"
COMPLETED, FAILED, OOM, TIMEOUT = "completed", "failed", "oom", "timeout"
CANCELLED, NODE_FAIL, PREEMPTED = "cancelled", "node_fail", "preempted"

# More specific than `failed`: not only the job's own exit.
SPECIFIC_ENDS = (OOM, TIMEOUT, CANCELLED, NODE_FAIL, PREEMPTED)
UNSUCCESSFUL = (FAILED, *SPECIFIC_ENDS)
ENDS = (COMPLETED, *UNSUCCESSFUL)
UNFINISHED = (BLOCKED, READY, SUBMITTED, RUNNING)
# In the order in which a job passes through them; the ends last.
JOB_STATUSES = (*UNFINISHED, *ENDS)
ATTEMPT_STATUSES = (RUNNING, *ENDS)

# The cluster or a person ended these: they do not show what the job needs.
ENDED_FROM_OUTSIDE = frozenset((CANCELLED, NODE_FAIL, PREEMPTED))
# Asked to end; the job may have exited 0 after that.
ENDED_ON_REQUEST = frozenset((CANCELLED, TIMEOUT))
# What a failure handler may try again.
RETRIABLE = frozenset((FAILED, OOM, TIMEOUT, NODE_FAIL))

# For a list that shows the worst first.
WORST_FIRST = (OOM, TIMEOUT, NODE_FAIL, PREEMPTED, FAILED, RUNNING, CANCELLED, *UNFINISHED[:-1], COMPLETED)

# The text next to an end that is more than a failure.
END_WORDS = {
    OOM: "killed: out of memory",
    TIMEOUT: "ended: time limit",
    PREEMPTED: "preempted",
    NODE_FAIL: "lost with its node",
    CANCELLED: "cancelled",
}
_SLURM_WORDS = {OOM: "OUT_OF_MEMORY"}


def verdict(status: str) -> str:
    """The status in Slurm's spelling, as reports of jobs and steps show it: ``OUT_OF_MEMORY`` for ``oom``."""
    return _SLURM_WORDS.get(status, status.upper())


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; ``signal 99`` for one without a name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
