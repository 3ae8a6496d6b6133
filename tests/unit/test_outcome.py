"""How the runner judges an attempt's end: srun's status and messages as seen on 22.05, with node files."""

from __future__ import annotations

import pytest

from torc_slurm.runner.attempts import Ended, EndRequest, Evidence, Outcome
from torc_slurm.runner.outcome import lost_nodes, needs_evidence, outcome_of

OOM_WORDS = "srun: error: n1: task 0: Out Of Memory"
TERMINATED = "srun: error: n1: task 0: Terminated\nsrun: Force Terminated StepId=6.3"
KILLED = "srun: error: n1: task 0: Killed\nsrun: Force Terminated StepId=7.2"
ABORTED = (
    "srun: Complete StepId=31.0+0 received\nsrun: Job step aborted: Waiting up to 7 seconds for job step to finish."
)
NO_ROOM = "srun: error: Unable to create step for job 8: More processors requested than permitted"
NODE_DOWN = "srun: error: Node failure on n2"
NODE_GONE = "srun: error: Unable to create step for job 2: Required node not available (down, drained or reserved)"
NOTHING = Evidence()
TOLD = EndRequest(50.0, "cancelled", "ended by torc")


def ended(status: int, stderr: str = "", *, ran: bool = True, seconds: float = 5.0) -> Ended:
    return Ended(status, 40.0, 40.0 + seconds, stderr, ran)


@pytest.mark.parametrize(
    ("end", "found", "state", "code"),
    [
        (ended(0), NOTHING, "completed", 0),
        (ended(3, "srun: error: n1: task 0: Exited with exit code 3"), NOTHING, "failed", 3),
        (ended(143, TERMINATED), Evidence((143,)), "failed", 143),
        (ended(139), NOTHING, "failed", 139),
        # the exit record has the step's own code after an OOM kill; srun always says 1
        (ended(1, OOM_WORDS), Evidence((137,), oom_kills=1), "oom", 137),
        (ended(1, OOM_WORDS), Evidence((0,), oom_kills=1), "completed", 0),
        (ended(1, OOM_WORDS), NOTHING, "oom", None),
        (ended(137, "slurmstepd: error: Detected 1 oom-kill event(s)"), Evidence((137,), 1), "oom", 137),
        # no step: srun's status is not the job's
        (ended(1, NO_ROOM, ran=False), NOTHING, "failed", None),
        (ended(255, "", ran=False), NOTHING, "failed", None),
        # scancel JOB.STEP sends SIGKILL to wrapper and job: no exit record
        (ended(137, KILLED), NOTHING, "cancelled", 137),
        (ended(137, ABORTED), NOTHING, "cancelled", 137),
        (ended(137, KILLED), Evidence((137,)), "failed", 137),
        (ended(137), NOTHING, "failed", 137),  # outside Slurm
        (ended(143, TERMINATED), Evidence(allocation_is_ending=True), "cancelled", 143),
        (ended(1, NODE_DOWN), NOTHING, "node_fail", 1),
        (ended(1, NODE_GONE, ran=False), NOTHING, "node_fail", None),
        # several tasks: the highest
        (ended(4), Evidence((0, 4, 2)), "failed", 4),
    ],
)
def test_ends_of_steps(end: Ended, found: Evidence, state: str, code: int | None) -> None:
    outcome = outcome_of(end, found)
    assert (outcome.state, outcome.return_code) == (state, code)
    assert outcome.reason or state == "completed"


def test_a_job_asked_to_end_completes_only_if_it_ended_before() -> None:
    assert outcome_of(ended(0, seconds=12), Evidence((0,), last_end=51.0), TOLD) == Outcome(
        "cancelled", 0, "ended by torc"
    )
    assert outcome_of(ended(143, TERMINATED, seconds=12), NOTHING, TOLD) == Outcome("cancelled", 143, "ended by torc")
    assert outcome_of(ended(0, seconds=12), Evidence((0,), last_end=49.9), TOLD) == Outcome("completed", 0)
    assert outcome_of(ended(3, seconds=12), Evidence((3,), last_end=49.9), TOLD).state == "failed"


def test_a_signal_at_the_time_limit_is_a_timeout_and_before_it_is_not() -> None:
    assert outcome_of(ended(143, TERMINATED, seconds=78), NOTHING, time_limit_seconds=60).state == "timeout"
    assert outcome_of(ended(143, TERMINATED, seconds=12), Evidence((143,)), time_limit_seconds=60).state == "failed"
    assert outcome_of(ended(3, seconds=78), NOTHING, time_limit_seconds=60).state == "failed"


def test_reasons_are_words_for_a_user() -> None:
    assert outcome_of(ended(3), NOTHING).reason == "exit code 3"
    assert outcome_of(ended(143), Evidence((143,))).reason == "died of SIGTERM"
    assert outcome_of(ended(200), NOTHING).reason == "exit code 200"
    assert outcome_of(ended(1, NO_ROOM, ran=False), NOTHING).reason == NO_ROOM
    assert "said nothing" in str(outcome_of(ended(255, ran=False), NOTHING).reason)


@pytest.mark.parametrize(
    ("end", "told", "wanted"),
    [
        (ended(0), None, False),
        (ended(3), None, False),
        (ended(139), None, False),
        (ended(137), None, True),
        (ended(143), None, True),
        (ended(1, OOM_WORDS), None, True),
        (ended(1, NO_ROOM, ran=False), None, False),
        (ended(0), TOLD, True),
        (ended(143), TOLD, False),
    ],
)
def test_node_files_are_read_only_where_there_is_a_doubt(end: Ended, told: EndRequest | None, wanted: bool) -> None:
    assert needs_evidence(end, told) is wanted


@pytest.mark.parametrize(
    ("end", "nodes", "lost"),
    [
        (ended(1, NODE_DOWN), ("n1", "n2"), {"n2"}),
        (ended(1, NODE_DOWN), ("n2",), {"n2"}),
        (ended(1, NODE_GONE, ran=False), ("n1",), {"n1"}),
        (ended(1, NODE_GONE, ran=False), ("n1", "n2"), set()),  # which of them is not said
        (ended(1, NO_ROOM, ran=False), ("n1",), set()),
        (ended(137, KILLED), ("n1",), set()),
    ],
)
def test_lost_nodes(end: Ended, nodes: tuple[str, ...], lost: set[str]) -> None:
    assert lost_nodes(end, nodes) == lost
