"""Decides how an attempt ended, from its process's status and other evidence; pure.

srun's exit status is the highest of its tasks, with two exceptions: it is 1 after an OOM kill even if the command
exited 0, and 1 or more if srun could not start the step.
"""

from __future__ import annotations

import re
import signal

from torc_slurm.records.statuses import CANCELLED, COMPLETED, FAILED, NODE_FAIL, OOM, TIMEOUT
from torc_slurm.runner.attempts import (
    Ended,
    EndRequest,
    Evidence,
    Outcome,
)

_OUT_OF_MEMORY = re.compile(r"Out Of Memory|oom-kill", re.IGNORECASE)
_NODE_FAILURE = re.compile(r"Node failure(?: on ([^\s,]+))?|NODE FAIL", re.IGNORECASE)
# of a step that was requested on a node that Slurm considers lost
_NODE_IS_LOST = re.compile("Required node not available")
_STEP_KILLED = re.compile("Force Terminated|Job step aborted")
_SCANCELS = (128 + signal.SIGKILL, 128 + signal.SIGTERM)
_MOST_WORDS = 300


def needs_evidence(ended: Ended, end_request: EndRequest | None) -> bool:
    """Whether srun's status is ambiguous.

    After one of scancel's signals: who sent it. After an OOM kill: the job's own code. If the runner asked the job to
    end and it exited by itself: which came first.
    """
    if not ended.ran:
        return False
    if end_request is not None:
        return not is_from_scancel(ended.status)
    return is_from_scancel(ended.status) or (ended.status != 0 and says_out_of_memory(ended))


def is_from_scancel(status: int) -> bool:
    """Whether a signal that scancel sends ended it: SIGTERM or SIGKILL."""
    return status in _SCANCELS


def says_out_of_memory(ended: Ended) -> bool:
    """Whether srun reported an OOM kill in the step."""
    return _OUT_OF_MEMORY.search(ended.stderr) is not None


def lost_nodes(ended: Ended, nodes: tuple[str, ...]) -> set[str]:
    """The attempt's nodes that srun reports as lost; its only node if srun names none."""
    found = list(_NODE_FAILURE.finditer(ended.stderr))
    named = {match[1] for match in found if match[1] is not None} & set(nodes)
    is_lost = found or (not ended.ran and _NODE_IS_LOST.search(ended.stderr))
    return named or (set(nodes) if is_lost and len(nodes) == 1 else set())


def outcome_of(
    ended: Ended,
    evidence: Evidence,
    end_request: EndRequest | None = None,
    time_limit_seconds: float | None = None,
) -> Outcome:
    """The attempt's state with its reason.

    Args:
        end_request: set if the runner ended it; an end before that counts by itself.
        time_limit_seconds: the limit at which Slurm ends the step; None: no limit.
    """
    code = _return_code(ended, evidence)
    if end_request is not None and not (evidence.last_end is not None and evidence.last_end < end_request.time):
        return Outcome(end_request.state, code, end_request.reason)
    if code == 0:
        return Outcome(COMPLETED, 0)
    if evidence.oom_kills or says_out_of_memory(ended):
        return Outcome(OOM, code, "the kernel killed one of its processes for memory")
    if _NODE_FAILURE.search(ended.stderr) or (not ended.ran and _NODE_IS_LOST.search(ended.stderr)):
        return Outcome(NODE_FAIL, code, _words(ended))
    if ended.ran and signal_of(ended.status) is not None:
        return _died(ended, evidence, code, time_limit_seconds)
    return Outcome(FAILED, code, f"exit code {code}" if code is not None else _words(ended))


def _return_code(ended: Ended, evidence: Evidence) -> int | None:
    if evidence.return_codes is not None:
        return max(evidence.return_codes)
    if not ended.ran:
        return None
    return None if says_out_of_memory(ended) else ended.status


def _died(ended: Ended, evidence: Evidence, code: int | None, time_limit_seconds: float | None) -> Outcome:
    if time_limit_seconds is not None and ended.end_time - ended.start_time >= time_limit_seconds:
        return Outcome(TIMEOUT, code, f"Slurm ended it at its limit of {time_limit_seconds:g} s")
    if evidence.allocation_is_ending:
        return Outcome(CANCELLED, code, "the allocation was cancelled or reached its time limit")
    if evidence.return_codes is None and _STEP_KILLED.search(ended.stderr):
        return Outcome(CANCELLED, code, "its step was killed from outside: it left no exit record")
    return Outcome(FAILED, code, f"died of {signal_of(ended.status)}")


def signal_of(status: int) -> str | None:
    """The name of the signal in a shell's exit status, ``SIGTERM`` for 143; None if there is none."""
    try:
        return signal.Signals(status - 128).name if status > 128 else None
    except ValueError:
        return None


def _words(ended: Ended) -> str:
    words = " ".join(ended.stderr.split())[-_MOST_WORDS:]
    return words or f"srun ended with status {ended.status} and said nothing"
