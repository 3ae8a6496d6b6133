"""Runs a plan to its end: the ready queue, the placement, a launcher and the journal, tied together by events.

ready -> placed -> started -> ended -> judged -> journal, and what that makes ready; until nothing is left or the run
is told to stop. Then nothing is started any more, the running are ended (SIGTERM, a grace, SIGKILL) and kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torc_slurm.plan import JobPlan, Plan
from torc_slurm.runner.attempts import CANCELLED, FAILED, TIMEOUT, Attempt, Ended, Evidence, Outcome, Started, ToldToEnd
from torc_slurm.runner.journal import Journal, Row
from torc_slurm.runner.launcher import Launcher, LaunchError
from torc_slurm.runner.loop import Loop
from torc_slurm.runner.observer import Observer
from torc_slurm.runner.outcome import judge
from torc_slurm.runner.placement import Placed, Placement
from torc_slurm.runner.queue import JobQueue

AFTER_KILL_SECONDS = 10.0
# Slurm signals the steps and the batch script at once, and the script passes it on to us: what ended so shortly before
# we heard of it may have been ended by it, whatever it exited with.
HEARD_LATE_SECONDS = 1.0
FIRST_ATTEMPT = 1


@dataclass(frozen=True)
class RunResult:
    """How a run ended: the jobs of each state, the number of those that were never started, why it was stopped."""

    plan: Plan
    states: Mapping[str, int]
    not_started: int
    stopped: str | None

    @property
    def all_completed(self) -> bool:
        return not self.not_started and set(self.states) <= {"completed"}


class _Running:
    """An attempt whose process has not ended yet, or of whose end something is still being found out."""

    def __init__(self, attempt: Attempt, started: Started, start_time: float) -> None:
        self.attempt = attempt
        self.started = started
        self.start_time = start_time
        self.told: ToldToEnd | None = None


class Run:
    """One run of a plan; `go` returns when it is over."""

    def __init__(self, plan: Plan, launcher: Launcher, journal: Journal, loop: Loop, observer: Observer) -> None:
        self._plan = plan
        self._launcher = launcher
        self._journal = journal
        self._loop = loop
        self._observer = observer
        self._jobs = {job.job_id: job for job in plan.jobs}
        self._order = {job.job_id: order for order, job in enumerate(plan.jobs)}
        self._queue = JobQueue((job.job_id, job.depends_on) for job in plan.jobs)
        self._placement = Placement(launcher.nodes)
        self._running: dict[int, _Running] = {}
        self._states: Counter[str] = Counter()
        self._is_filling = False
        self._stopped: str | None = None
        self._is_killing = False
        self._given_up = False
        launcher.tell_of_room(self.fill)

    def go(self) -> RunResult:
        """Start what can be started, and return when everything has ended that was started."""
        for job in self._plan.jobs:
            refusal = self._launcher.refusal(job)
            if refusal is not None and job.job_id in self._queue.unfinished:
                self._never_run(job, refusal)
        self._make_ready(job_id for job_id in self._queue.initially_ready() if job_id in self._queue.unfinished)
        self.fill()
        self._loop.run(until=self._is_over)
        not_started = self._queue.unfinished - self._running.keys()
        return RunResult(self._plan, dict(self._states), len(not_started), self._stopped)

    def _is_over(self) -> bool:
        return self._given_up or (not self._running and (self._stopped is not None or self._queue.is_over))

    # --- starting ------------------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Start whatever is ready, fits and may be started now."""
        if self._is_filling:  # a job that cannot be started makes others ready: the loop below sees them
            return
        self._is_filling = True
        while self._stopped is None and (room := self._launcher.room()) > 0:
            placed = self._placement.take(min(room, 16))
            if not placed:
                break
            for place in placed:
                self._start(place)
        self._is_filling = False

    def _make_ready(self, job_ids: Iterable[int]) -> None:
        for job_id in job_ids:
            self._placement.add(job_id, self._launcher.demand(self._jobs[job_id]), self._order[job_id])

    def _start(self, place: Placed) -> None:
        job = self._jobs[place.job_id]
        attempt = Attempt(job, FIRST_ATTEMPT, place.nodes, self._launcher.demand(job).memory_mib or None)
        start_time = time.time()
        try:
            started = self._launcher.start(attempt, lambda ended: self._ended(job.job_id, ended))
        except LaunchError as error:
            self._placement.release(job.job_id)
            self._never_run(job, str(error))
            return
        running = self._running[job.job_id] = _Running(attempt, started, start_time)
        self._journal.put_state(self._row(job, "running", running=running))
        self._observer.started(attempt)
        if self._launcher.name == "direct" and self._plan.execution.enforce_runtime and job.runtime_seconds:
            self._loop.after(job.runtime_seconds, lambda: self._time_is_up(running))

    def _never_run(self, job: JobPlan, reason: str) -> None:
        """A job that cannot be started has failed."""
        self._settle(job, Outcome(FAILED, None, reason), self._row(job, FAILED, reason=reason))

    # --- ending --------------------------------------------------------------------------------------------------

    def _ended(self, job_id: int, ended: Ended) -> None:
        running = self._running[job_id]
        self._placement.release(job_id)
        work = self._launcher.evidence(running.attempt, ended, running.told)
        if work is None:
            self._judge(running, ended, Evidence())
        else:
            self._loop.in_background(work, lambda found: self._judge(running, ended, found))
        self.fill()

    def _judge(self, running: _Running, ended: Ended, found: Evidence | Exception) -> None:
        evidence = Evidence() if isinstance(found, Exception) else found
        job = running.attempt.job
        limit = job.runtime_seconds if self._plan.execution.enforce_runtime else None
        outcome = judge(ended, evidence, running.told, limit)
        del self._running[job.job_id]
        self._settle(job, outcome, self._row(job, outcome.state, outcome=outcome, running=running, ended=ended))
        if evidence.allocation_is_ending:
            self.stop("the allocation is being ended")
        self.fill()

    def _settle(self, job: JobPlan, outcome: Outcome, row: Row) -> None:
        """A job's last word: into the journal, and on to the jobs that depend on it."""
        self._states[outcome.state] += 1
        self._journal.put_state(row)
        self._observer.ended(job, outcome)
        if outcome.state == "completed":
            self._make_ready(self._queue.complete(job.job_id))
        elif self._stopped is None or outcome.state != CANCELLED:
            self._cancel_dependents(job)
        else:  # ended by the run's own end: its dependents wait for the next run
            self._queue.withdraw(job.job_id)

    def _cancel_dependents(self, job: JobPlan) -> None:
        for job_id, because_of in self._queue.fail(job.job_id):
            dependent = self._jobs[job_id]
            reason = f"job {self._jobs[because_of].name}, on which it depends, did not complete"
            self._states[CANCELLED] += 1
            self._journal.put_state(self._row(dependent, CANCELLED, reason=reason))
            self._observer.ended(dependent, Outcome(CANCELLED, None, reason))

    def _time_is_up(self, running: _Running) -> None:
        """Outside Slurm: a job over its run time, with ``enforce_runtime``."""
        job = running.attempt.job
        if self._running.get(job.job_id) is running and running.told is None:
            reason = f"it was ended at its run time of {job.runtime_seconds} s"
            self._tell_to_end([running], TIMEOUT, reason)
            self._loop.after(self._launcher.grace_seconds(), lambda: self._launcher.end([job.job_id], kill=True))

    # --- stopping ------------------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Start nothing more, and end what runs."""
        if self._stopped is None:
            self._stopped = reason
            self._observer.note(f"{reason}: nothing more is started, {len(self._running)} running jobs are being ended")
            self._tell_to_end(self._running.values(), CANCELLED, f"ended by torc: {reason}", HEARD_LATE_SECONDS)
            self._loop.after(self._launcher.grace_seconds(), self.kill)

    def kill(self) -> None:
        """Kill what was told to end, without waiting any longer."""
        if self._running and not self._is_killing:
            self._is_killing = True
            self._launcher.end(list(self._running), kill=True)
            self._loop.after(AFTER_KILL_SECONDS, self._give_up)

    def _tell_to_end(self, running: Iterable[_Running], state: str, reason: str, late_seconds: float = 0.0) -> None:
        since = time.time() - late_seconds
        told = [each for each in running if each.told is None]
        for each in told:
            each.told = ToldToEnd(since, state, reason)
            # should the runner be killed before the end of it is known
            self._journal.put_state(self._row(each.attempt.job, state, reason=reason, running=each))
        if told:
            self._journal.hurry()
            self._launcher.end([each.attempt.job.job_id for each in told], kill=False)

    def _give_up(self) -> None:
        """What a SIGKILL could not end (a process in an uninterruptible call) is left to Slurm or to the kernel."""
        for running in tuple(self._running.values()):
            reason = "it was killed, and had not ended when torc did"
            job = running.attempt.job
            row = self._row(job, CANCELLED, reason=reason, running=running)
            self._settle(job, Outcome(CANCELLED, None, reason), row)
        self._given_up = True

    # --- the journal ---------------------------------------------------------------------------------------------

    def _row(
        self,
        job: JobPlan,
        state: str,
        *,
        reason: str | None = None,
        running: _Running | None = None,
        ended: Ended | None = None,
        outcome: Outcome | None = None,
    ) -> Row:
        return {
            "workflow_id": self._plan.workflow_id,
            "run_id": self._plan.run_id,
            "job_id": job.job_id,
            "attempt_id": FIRST_ATTEMPT if running is None else running.attempt.attempt_id,
            "job_name": job.name,
            "state": state,
            "reason": reason if outcome is None else outcome.reason,
            "launcher": self._launcher.name,
            "slurm_job_id": self._launcher.slurm_job_id,
            "step_id": None if ended is None else ended.step_id,
            "step_name": None if running is None else running.started.step_name,
            "nodes": None if running is None else ",".join(running.attempt.nodes),
            "pid": None if running is None else running.started.pid,
            "start_time": None if running is None else running.start_time,
            "end_time": None if ended is None else ended.end_time,
            "return_code": None if outcome is None else outcome.return_code,
            "launcher_status": None if ended is None else ended.status,
            "launcher_stderr": None if ended is None else ended.stderr or None,
        }
