"""Runs a plan to its end: queue, placement, launcher and journal, connected by events.

ready -> placed -> started -> ended -> outcome -> journal, and then the jobs that are now ready (or the same job again,
if its failure handler says so); until nothing is left or the run is stopped. Then the run starts no more jobs, and ends
the running ones (SIGTERM, a grace period, SIGKILL).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from torc_slurm.files.output_names import recovery_log_name
from torc_slurm.records.statuses import CANCELLED, COMPLETED, FAILED, RUNNING, TIMEOUT
from torc_slurm.runner.attempts import (
    Attempt,
    Ended,
    EndRequest,
    Evidence,
    Outcome,
    Started,
)
from torc_slurm.runner.events import Events
from torc_slurm.runner.groups import GroupListener, Groups
from torc_slurm.runner.journal import Journal, Row
from torc_slurm.runner.launcher import Launcher, LaunchError
from torc_slurm.runner.loop import Loop
from torc_slurm.runner.observer import Observer
from torc_slurm.runner.outcome import lost_nodes, outcome_of
from torc_slurm.runner.output_files import missing_outputs, without_files
from torc_slurm.runner.placement import Placed, Placement
from torc_slurm.runner.queue import JobQueue
from torc_slurm.runner.retries import exit_code_of, rule_for
from torc_slurm.runner.running import Running, state_row
from torc_slurm.runner.scripts import Script, Scripts
from torc_slurm.runner.share import RunResult, Share
from torc_slurm.runner.step_command import attempt_name, delete_outputs, step_environment
from torc_slurm.spec.plan import JobPlan, Plan
from torc_slurm.spec.workflow import Rule

AFTER_KILL_SECONDS = 10.0
# Slurm signals the steps and the batch script at the same time, and the script signals us. A job that ended this
# shortly before our signal may have been ended by Slurm, whatever its exit code.
SIGNAL_DELAY_SECONDS = 1.0
FIRST_ATTEMPT = 1
# How long it may take until files that a step wrote are visible on the runner's host.
OUTPUTS_SECONDS = 5.0


class Run:
    """One run of a plan, or of a share of it; `go` returns when it is over."""

    def __init__(
        self,
        plan: Plan,
        launcher: Launcher,
        journal: Journal,
        loop: Loop,
        observer: Observer,
        environ: Mapping[str, str],
        share: Share,
    ) -> None:
        self._plan = plan
        self._launcher = launcher
        self._journal = journal
        self._loop = loop
        self._observer = observer
        self._jobs = {job.job_id: job for job in plan.jobs}
        by_priority = sorted(plan.jobs, key=lambda job: -job.settings.priority)
        self._order = {job.job_id: order for order, job in enumerate(by_priority)}
        self._queue = JobQueue(
            ((job.job_id, share.needs(job, self._jobs)) for job in plan.jobs),
            {job.job_id for job in plan.jobs if not job.settings.cancel_on_blocking_job_failure},
        )
        self._share = share
        self._here = {job.job_id for job in plan.jobs if share.holds(job)}
        self._open: set[int] = set()  # ready, running, or to be run again
        self._attempts: dict[int, int] = {}
        self._environ = environ
        self._scripts = Scripts(plan, launcher.children, environ, observer.note)
        self._events = Events(plan, self._scripts, observer.note)
        self._placement = Placement(launcher.nodes)
        listener = GroupListener(self._began, self._ended, self._never_run, self._ready_again, self.stop, observer.note)
        self._has_groups = any(job.settings.group is not None for job in plan.jobs)
        self._groups = Groups(self._jobs, launcher, self._placement, listener)
        self._running: dict[int, Running] = {}
        self._states: Counter[str] = Counter()
        self._is_filling = False
        self._stopped: str | None = None
        self._is_killing = False
        self._given_up = False
        self._has_begun = False
        self._is_ending = False
        launcher.set_room_callback(self.fill)

    def go(self) -> RunResult:
        """Start what can be started; return when everything that was started has ended."""
        self._events.begin(self._begin)
        self._loop.run(until=self._is_over)
        not_started = (self._queue.unfinished & self._here) - self._running.keys()
        return RunResult(self._plan, dict(self._states), len(not_started), self._stopped)

    def _begin(self) -> None:
        self._has_begun = True
        for job in self._plan.jobs:
            refusal = self._launcher.refusal(job) if job.job_id in self._here else None
            if refusal is not None and job.job_id in self._queue.unfinished:
                self._never_run(job, refusal)
        self._make_ready(job_id for job_id in self._queue.initially_ready() if job_id in self._queue.unfinished)

    def _is_over(self) -> bool:
        """Called after every event. Starts the actions of the end once nothing else is left."""
        if self._given_up:
            return True
        if self._running or self._groups.keys or self._scripts.are_running:
            return False
        if self._stopped is not None:
            return True
        if self._open or not self._has_begun:
            return False
        if not self._is_ending:
            self._is_ending = True
            self._events.end(all_ended=self._queue.is_over)
        return not self._scripts.are_running

    # --- starting ------------------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Start every job that is ready, fits and may start now."""
        if self._is_filling:  # a job that cannot be started makes others ready, and the loop below starts them
            return
        self._is_filling = True
        while self._stopped is None and (room := self._room()) > 0:
            placed = self._placement.take(1 if self._has_groups else min(room, 16))
            if not placed:
                break
            for place in placed:
                self._start(place)
        self._is_filling = False

    def _room(self) -> int:
        room = self._launcher.room()
        return (
            room if self._share.most_jobs is None else min(room, self._share.most_jobs - len(self._placement.running))
        )

    def _make_ready(self, job_ids: Iterable[int]) -> None:
        ready = [job_id for job_id in job_ids if job_id in self._here]
        self._open.update(ready)
        if ready:
            self._events.ready(ready, lambda: self._place(ready))

    def _place(self, job_ids: Iterable[int]) -> None:
        for job_id in job_ids:
            job = self._jobs[job_id]
            refusal = self._launcher.refusal(job)
            if refusal is None:
                self._placement.add(job_id, self._launcher.demand(job), self._order[job_id])
            else:  # a node was lost since the beginning
                self._never_run(job, refusal)
        self.fill()

    def _start(self, place: Placed) -> None:
        job = self._jobs[place.job_id]
        key, others = self._groups.take_along(job)
        attempt = self._attempt(job, place.nodes)
        if others:
            self._groups.start(key, [attempt, *(self._attempt(self._jobs[other], place.nodes) for other in others)])
            return
        try:
            started = self._launcher.start(attempt, lambda ended: self._ended(job.job_id, ended))
        except LaunchError as error:
            self._placement.release(job.job_id)
            self._never_run(job, str(error))
            return
        running = self._began(attempt, started, job.job_id)
        if self._launcher.name == "direct" and self._plan.execution.enforce_runtime and job.runtime_seconds:
            self._loop.after(job.runtime_seconds, lambda: self._time_is_up(running))

    def _attempt(self, job: JobPlan, nodes: tuple[str, ...]) -> Attempt:
        number = self._attempts.get(job.job_id, FIRST_ATTEMPT)
        return Attempt(job, number, nodes, self._launcher.demand(job).memory_mib or None)

    def _began(self, attempt: Attempt, started: Started, key: int) -> Running:
        job = attempt.job
        running = self._running[job.job_id] = Running(attempt, started, time.time(), key)
        self._journal.put_state(self._row(job, RUNNING, running=running))
        self._observer.started(attempt)
        if self._stopped is not None:  # in a group that was told to end: it does not go on after this one
            self._ask_to_end([running], CANCELLED, f"ended by torc: {self._stopped}", SIGNAL_DELAY_SECONDS)
        return running

    def _ready_again(self, job_ids: Collection[int]) -> None:
        """Jobs of a group whose step has ended before their turn, or before their end was recorded."""
        for job_id in job_ids:
            self._running.pop(job_id, None)
        self._place(job_ids)

    def _never_run(self, job: JobPlan, reason: str) -> None:
        """Mark a job failed that cannot be started."""
        self._running.pop(job.job_id, None)  # a group said that it began, and took that back
        self._close(job, Outcome(FAILED, None, reason), self._row(job, FAILED, reason=reason))

    # --- ending --------------------------------------------------------------------------------------------------

    def _ended(
        self,
        job_id: int,
        ended: Ended,
        known: Evidence | None = None,
        end_request: EndRequest | None = None,
        is_own_end: bool = False,
    ) -> None:
        running = self._running[job_id]
        running.end_request = end_request if end_request is not None or is_own_end else running.end_request
        if running.key == job_id:
            self._placement.release(job_id)
        for node in lost_nodes(ended, running.attempt.nodes):
            self._lose(node)
        is_known = known is not None and (running.end_request is not None or is_own_end or known.oom_kills > 0)
        work = None if is_known else self._launcher.evidence(running.attempt, ended, running.end_request)
        if work is None:
            self._decide_outcome(running, ended, known or Evidence())
        else:
            self._loop.in_background(work, lambda found: self._decide_outcome(running, ended, found))
        self.fill()

    def _lose(self, node: str) -> None:
        """Handle a node that Slurm considers lost: the other jobs run on the other nodes."""
        if node not in {each.name for each in self._launcher.nodes}:
            return
        self._observer.note(f"node {node} is lost: no more jobs are started there")
        self._launcher.lose(node)
        for job_id in self._placement.withdraw(node):
            job = self._jobs[job_id]
            self._never_run(job, str(self._launcher.refusal(job)))

    def _decide_outcome(self, running: Running, ended: Ended, found: Evidence | Exception) -> None:
        evidence = Evidence() if isinstance(found, Exception) else found
        job = running.attempt.job
        limit = job.runtime_seconds if self._plan.execution.enforce_runtime else None
        outcome = outcome_of(ended, evidence, running.end_request, limit)
        if evidence.allocation_is_ending:
            self._conclude(running, ended, outcome)
            self.stop("the allocation is being ended")
        elif outcome.state == COMPLETED and job.settings.output_paths:
            patience = OUTPUTS_SECONDS if self._launcher.slurm_job_id is not None else 0.0
            self._loop.in_background(
                lambda: missing_outputs(job.settings.output_paths, self._plan.working_dir, patience),
                lambda missing: self._conclude(running, ended, without_files(outcome, missing)),
            )
        else:
            self._conclude(running, ended, outcome)

    def _conclude(self, running: Running, ended: Ended, outcome: Outcome) -> None:
        """Write the attempt's end into the journal; then the job is over, or tried again."""
        job = running.attempt.job
        del self._running[job.job_id]
        row = self._row(job, outcome.state, outcome=outcome, running=running, ended=ended)
        code = exit_code_of(
            outcome, timeout_exit_code=self._plan.timeout_exit_code, oom_exit_code=self._plan.oom_exit_code
        )
        rule = rule_for(job.settings.rules, outcome, code) if self._stopped is None else None
        if rule is not None and running.attempt.attempt_id <= rule.max_retries:
            self._journal.put_state(row)
            self._recover(running.attempt, outcome, rule, code)
        else:
            if outcome.state == COMPLETED:
                self._groups.learn(job, ended.end_time - ended.start_time)
            if outcome.state == COMPLETED and job.settings.delete_stdio_on_success:
                delete_outputs(self._plan, running.attempt)
            self._close(job, outcome, row)
        self.fill()

    # --- trying again --------------------------------------------------------------------------------------------

    def _recover(self, attempt: Attempt, outcome: Outcome, rule: Rule, code: int | None) -> None:
        """Run the recovery script, if there is one, and then the job again, if the script succeeded."""
        job, number = attempt.job, attempt.attempt_id
        self._observer.note(
            f"job {job.name}, attempt {number}: {outcome.reason}; torc retries it ({number} of {rule.max_retries})"
        )
        if rule.recovery_script is None:
            self._try_again(attempt, outcome, 0)
            return
        self._scripts.run(
            Script(
                title=f"the recovery script of job {job.name}",
                commands=(rule.recovery_script,),
                log=recovery_log_name(attempt_name(self._plan, attempt)),
                working_dir=job.working_dir,
                variables=step_environment(self._plan, attempt, self._environ)
                | {"TORC_RETURN_CODE": str(code if code is not None else 1)},
            ),
            lambda status: self._try_again(attempt, outcome, status),
        )

    def _try_again(self, attempt: Attempt, outcome: Outcome, script_status: int) -> None:
        job = attempt.job
        if script_status or self._stopped is not None:
            why = f"the recovery script failed with exit code {script_status}" if script_status else "torc was stopped"
            ended = Outcome(outcome.state, outcome.return_code, f"{outcome.reason}; not retried: {why}")
            self._close(job, ended, None)
        else:
            self._attempts[job.job_id] = attempt.attempt_id + 1
            self._place([job.job_id])
        self.fill()

    def _close(self, job: JobPlan, outcome: Outcome, row: Row | None) -> None:
        """Finish a job: its row goes into the journal (None: it is there already), and its dependents continue."""
        self._states[outcome.state] += 1
        self._open.discard(job.job_id)
        if row is not None:
            self._journal.put_state(row)
        self._observer.ended(job, outcome)
        if outcome.state == COMPLETED:
            self._go_on([job.job_id], self._queue.complete(job.job_id))
        elif self._stopped is None or outcome.state != CANCELLED:
            self._go_on_after_failure(job)
        else:  # the run's own end ended it: its dependents wait for the next run
            self._queue.withdraw(job.job_id)

    def _go_on(self, ended: Iterable[int], ready: Iterable[int]) -> None:
        if self._stopped is None:
            self._events.ended(ended, lambda: self._make_ready(ready))

    def _go_on_after_failure(self, job: JobPlan) -> None:
        cancelled, ready = self._queue.fail(job.job_id)
        for job_id, because_of in cancelled:
            dependent = self._jobs[job_id]
            reason = f"job {self._jobs[because_of].name}, on which it depends, did not complete"
            self._states[CANCELLED] += 1
            self._journal.put_state(self._row(dependent, CANCELLED, reason=reason))
            self._observer.ended(dependent, Outcome(CANCELLED, None, reason))
        self._go_on([job.job_id, *(each.job_id for each in cancelled)], ready)

    def _time_is_up(self, running: Running) -> None:
        """End a job that exceeded its run time (outside Slurm, with ``enforce_runtime``)."""
        job = running.attempt.job
        if self._running.get(job.job_id) is running and running.end_request is None:
            reason = f"it was ended at its run time of {job.runtime_seconds} s"
            self._ask_to_end([running], TIMEOUT, reason)
            self._loop.after(self._launcher.grace_seconds(), lambda: self._launcher.end([job.job_id], kill=True))

    # --- stopping ------------------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Start no more jobs, and end the running ones."""
        if self._stopped is None:
            self._stopped = reason
            self._observer.note(f"{reason}: torc starts no more jobs and ends the running jobs ({len(self._running)})")
            self._ask_to_end(self._running.values(), CANCELLED, f"ended by torc: {reason}", SIGNAL_DELAY_SECONDS)
            self._launcher.end(self._groups.keys - {each.key for each in self._running.values()}, kill=False)
            self._scripts.end()
            self._loop.after(self._launcher.grace_seconds(), self.kill)

    def kill(self) -> None:
        """Kill the jobs that were asked to end, without waiting any longer."""
        if (self._running or self._groups.keys) and not self._is_killing:
            self._is_killing = True
            self._launcher.end({each.key for each in self._running.values()} | self._groups.keys, kill=True)
            self._loop.after(AFTER_KILL_SECONDS, self._give_up)

    def _ask_to_end(self, running: Iterable[Running], state: str, reason: str, late_seconds: float = 0.0) -> None:
        since = time.time() - late_seconds
        asked = [each for each in running if each.end_request is None]
        for each in asked:
            each.end_request = EndRequest(since, state, reason)
            # in case the runner is killed before the end is known
            self._journal.put_state(self._row(each.attempt.job, state, reason=reason, running=each))
        if asked:
            self._journal.hurry()
            self._launcher.end({each.key for each in asked}, kill=False)

    def _give_up(self) -> None:
        """Leave to Slurm or the kernel what SIGKILL could not end (a process in an uninterruptible call)."""
        for running in tuple(self._running.values()):
            reason = "it was killed, and was still running when torc exited"
            job = running.attempt.job
            row = self._row(job, CANCELLED, reason=reason, running=running)
            self._close(job, Outcome(CANCELLED, None, reason), row)
        self._given_up = True

    # --- the journal ---------------------------------------------------------------------------------------------

    def _row(
        self,
        job: JobPlan,
        state: str,
        *,
        reason: str | None = None,
        running: Running | None = None,
        ended: Ended | None = None,
        outcome: Outcome | None = None,
    ) -> Row:
        number = self._attempts.get(job.job_id, FIRST_ATTEMPT)
        details = {"reason": reason, "running": running, "ended": ended, "outcome": outcome}
        return state_row(self._plan, self._launcher, job, state, attempt_id=number, **details)  # type: ignore[arg-type]
