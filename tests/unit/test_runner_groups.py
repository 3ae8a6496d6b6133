"""Groups: what becomes of each job, whatever the group says, or no longer says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from torc_slurm.runner.attempts import Attempt, Ended, Evidence, Started
from torc_slurm.runner.groups import GroupListener, Groups
from torc_slurm.runner.launcher import Launcher
from torc_slurm.runner.placement import Demand, Node, Placement
from torc_slurm.spec.plan import JobPlan
from torc_slurm.spec.workflow import JobSettings

SMALL = Demand(cpus=1)
KILLED = Ended(137, 1.0, 9.0)


class OneNode:
    """A launcher that notes what it is to start, and is told what becomes of that."""

    def demand(self, _job: JobPlan) -> Demand:
        return SMALL

    def can_be_grouped(self, job: JobPlan) -> bool:
        return not job.srun_options

    def start_group(
        self,
        _key: int,
        attempts: Sequence[Attempt],
        hear: Callable[[str], None],
        on_end: Callable[[Ended, Evidence], None],
    ) -> Started:
        self.started = [attempt.job.job_id for attempt in attempts]
        self.hear, self.on_end = hear, on_end
        return Started(1)


class Heard:
    """Jobs 1 to ``count`` in one group, and what the run would be told of them."""

    def __init__(self, count: int = 3) -> None:
        self.jobs = {
            number: JobPlan(number, f"j{number}", "true", "/", settings=JobSettings(group=10))
            for number in range(1, count + 1)
        }
        self.began: list[int] = []
        self.ended: dict[int, tuple[Ended, Evidence | None, bool]] = {}
        self.refused: list[int] = []
        self.ready: list[int] = []
        self.stopped: list[str] = []
        self.launcher = OneNode()
        self.placement = Placement((Node("n1", cpus=1, memory_mib=None, gpus=0, threads_per_core=1),))
        listener = GroupListener(
            began=lambda attempt, _started, _key: self.began.append(attempt.job.job_id),
            ended=self._end,
            refused=lambda job, _why: self.refused.append(job.job_id),
            ready_again=self.ready.extend,
            stop=self.stopped.append,
            note=lambda _text: None,
        )
        self.groups = Groups(self.jobs, cast("Launcher", self.launcher), self.placement, listener)
        for number in self.jobs:
            self.placement.add(number, SMALL, number)
        self.start()

    def start(self) -> None:
        first = self.placement.take(1)[0].job_id
        key, others = self.groups.take_along(self.jobs[first])
        if others:
            self.groups.start(key, [Attempt(self.jobs[number], 1, ("n1",)) for number in (first, *others)])

    def _end(self, job_id: int, ended: Ended, known: Evidence | None, _end_request: Any, is_own: bool) -> None:  # noqa: ANN401
        self.ended[job_id] = (ended, known, is_own)

    def say(self, *lines: str) -> None:
        for line in lines:
            self.launcher.hear(line)


def test_a_job_that_exited_has_its_own_end_also_where_its_record_was_never_written() -> None:
    heard = Heard()
    heard.say("began 0", "exited 0 3 1.5 2.5 0 0", "began 1")
    heard.launcher.on_end(KILLED, Evidence())
    ended, known, is_own = heard.ended[1]
    assert (ended.status, ended.start_time, ended.end_time, is_own) == (3, 1.5, 2.5, True)
    assert known is not None
    assert known.return_codes == (3,)
    assert heard.ended[2] == (KILLED, None, False)
    assert heard.ready == [3]


def test_a_job_that_began_is_never_run_again_and_never_taken_for_completed() -> None:
    heard = Heard()
    heard.say("began 0")
    heard.launcher.on_end(Ended(0, 1.0, 9.0), Evidence())
    ended, known, _ = heard.ended[1]
    assert (ended.ran, known) == (False, None)
    assert ended.status != 0
    assert heard.ready == [2, 3]


def test_a_job_whose_fork_failed_is_ready_again_and_starts_alone() -> None:
    heard = Heard()
    heard.say("began 0", "unbegun 0")
    heard.launcher.on_end(Ended(0, 1.0, 9.0), Evidence())
    assert (heard.ready, heard.ended) == ([1, 2, 3], {})
    for number in heard.ready:
        assert heard.groups.take_along(heard.jobs[number])[1] == []


def test_what_may_yet_begin_in_a_step_that_cannot_be_ended_does_not_begin_elsewhere() -> None:
    heard = Heard()
    heard.say("began 0", "exited 0 0 1.5 2.5 0 0", "ended 0 0 1.5 2.5 0 0")
    heard.launcher.on_end(Ended(137, 1.0, 9.0, is_gone=False), Evidence())
    assert list(heard.ended) == [1]
    assert (heard.ready, heard.refused) == ([], [2, 3])


def test_nothing_more_starts_where_the_allocation_is_ending() -> None:
    heard = Heard()
    heard.launcher.on_end(KILLED, Evidence(allocation_is_ending=True))
    assert heard.stopped == ["the allocation is being ended"]


def test_each_end_is_told_once() -> None:
    heard = Heard()
    heard.say("began 0", "exited 0 0 1.5 2.5 0 0", "ended 0 0 1.5 2.5 0 0")
    heard.ended.clear()
    heard.say("ended 0 1 1.5 2.5 0 0", "began 0", "ended 7 0 1.0 2.0 0 0", "something else")
    assert (heard.ended, heard.began) == ({}, [1])


@pytest.mark.parametrize(("cpus", "size"), [(1, 10), (2, 6), (4, 3), (12, 1)])
def test_a_group_takes_its_share_of_the_waiting_and_no_more(cpus: int, size: int) -> None:
    placement = Placement((Node("n1", cpus=cpus, memory_mib=None, gpus=0, threads_per_core=1),))
    for number in range(1, 13):
        placement.add(number, SMALL, number)
    first = placement.take(1)[0].job_id
    assert 1 + len(placement.take_along(first, -1, 9, lambda _job: True)) == size
    placement.release(-1 if size > 1 else first)


def test_a_group_takes_along_only_what_may_join_in_order() -> None:
    placement = Placement((Node("n1", cpus=1, memory_mib=None, gpus=0, threads_per_core=1),))
    for number in range(1, 8):
        placement.add(number, SMALL, number)
    first = placement.take(1)[0].job_id
    assert placement.take_along(first, -1, 2, lambda job: job % 2 == 1) == [3, 5]
    placement.release(-1)
    assert [placed.job_id for placed in placement.take(1)] == [2]
