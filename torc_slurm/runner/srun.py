"""Starts jobs as steps of the runner's allocation.

job -> srun (our child: its status is the job's, its stderr has Slurm's messages) -> torc-step on each node -> job.
Steps are ended through the controller, never by signalling srun.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from torc_slurm.common.errors import CommandNotFound, DatabaseError
from torc_slurm.database.exit_records import attempt_exits
from torc_slurm.files.output_names import group_name, node_file_path
from torc_slurm.runner.allocation_state import AllocationState, grace_seconds, unless_failed
from torc_slurm.runner.attempts import Attempt, Ended, EndRequest, Evidence, Started
from torc_slurm.runner.channel import GroupChannel
from torc_slurm.runner.children import Children
from torc_slurm.runner.demands import allocation_demand, misfit
from torc_slurm.runner.launcher import LaunchError
from torc_slurm.runner.loop import Loop, Timer
from torc_slurm.runner.outcome import is_from_scancel, needs_evidence
from torc_slurm.runner.placement import Demand, Node
from torc_slurm.runner.step_command import (
    attempt_name,
    group_command,
    group_environment,
    group_text,
    make_stdio_directory,
    open_outputs,
    step_command,
    step_environment,
)
from torc_slurm.slurm import srun, steps
from torc_slurm.slurm.allocation import Allocation
from torc_slurm.slurm.environment import step_environment as srun_environment
from torc_slurm.spec.plan import JobPlan, Plan

# How many sruns may wait for the controller: it creates steps one after another, so more would only wait.
MOST_STARTING = 16
# After this time a start counts as done, even if srun did not report it (--quiet among the user's options).
START_SECONDS = 5.0
_EVIDENCE_PAUSES = 4
_EVIDENCE_PAUSE_SECONDS = 0.2
# If one of these is set, srun changes what its tasks write: the runner would not recognize a group's lines.
_CHANGE_OUTPUT = frozenset(("SLURM_LABELIO", "SLURM_UNBUFFEREDIO"))
_KILLED_SECONDS = 0.5  # in which a step should end after SIGKILL


class _Begin(NamedTuple):
    """What is known of a step before its srun runs."""

    key: int  # the job's id, or the group's key
    name: str
    on_end: Callable[[Ended], None]


class _Step:
    """One running srun."""

    def __init__(self, key: int, name: str, on_end: Callable[[Ended], None], pipe: int) -> None:
        self.key = key
        self.name = name
        self.on_end = on_end
        self.pipe = pipe
        self.pid = 0
        self.start_time = time.time()
        self.words = srun.SrunWords()
        self.is_starting = True
        self.start_timer: Timer | None = None
        self.to_be_ended: str | None = None  # the signal to send once its number is known


class SrunLauncher:
    """Steps in one allocation."""

    name = "srun"

    def __init__(
        self,
        plan: Plan,
        allocation: Allocation,
        environ: Mapping[str, str],
        loop: Loop,
        *,
        note: Callable[[str], None],
    ) -> None:
        """Look for srun; ``note`` receives lines for the user.

        Raises:
            CommandNotFound: it is not on PATH.
        """
        found = shutil.which("srun", path=environ.get("PATH"))
        if found is None:
            raise CommandNotFound(["srun"], "load the module that brings Slurm's commands")
        self._srun = found
        self._plan = plan
        self._allocation = allocation
        self._environment = srun_environment(environ)
        self._loop = loop
        self.children = Children(loop)
        self._on_room: Callable[[], None] = lambda: None
        self._note = note
        self._steps: dict[int, _Step] = {}
        self._starting = 0
        self._state = AllocationState(allocation.slurm_job_id)
        self._one_reader = threading.Lock()
        self.waited_for_room = 0
        self.slurm_job_id: int | None = allocation.slurm_job_id
        self.nodes = tuple(
            Node(share.name, share.cpus, share.memory_mib, share.gpus, share.threads_per_core)
            for share in allocation.nodes
        )

    def lose(self, node: str) -> None:
        self.nodes = tuple(each for each in self.nodes if each.name != node)

    def refusal(self, job: JobPlan) -> str | None:
        return misfit(job, self.demand(job), self.nodes, "this allocation")

    def demand(self, job: JobPlan) -> Demand:
        return allocation_demand(job, self.nodes)

    def room(self) -> int:
        return MOST_STARTING - self._starting

    def set_room_callback(self, on_room: Callable[[], None]) -> None:
        self._on_room = on_room

    # --- start ---------------------------------------------------------------------------------------------------

    def start(self, attempt: Attempt, on_end: Callable[[Ended], None]) -> Started:
        name = attempt_name(self._plan, attempt)
        stdout, stderr = open_outputs(self._plan, attempt)
        try:
            # srun opens its --error file itself; /dev/fd avoids its rules for % and backslash in paths
            return self._start(
                _Begin(attempt.job.job_id, name, on_end),
                [
                    *srun.srun_command(self._srun, self._request(attempt, name), f"/dev/fd/{stderr}"),
                    *step_command(self._plan, attempt),
                ],
                cwd=attempt.job.working_dir,
                environment=step_environment(self._plan, attempt, self._environment),
                stdout=stdout,
                pass_fds=(stderr,),
            )
        finally:
            os.close(stdout)
            os.close(stderr)

    def can_be_grouped(self, job: JobPlan) -> bool:
        return not (self._plan.execution.srun_options or job.srun_options or _CHANGE_OUTPUT & self._environment.keys())

    def start_group(
        self,
        key: int,
        attempts: Sequence[Attempt],
        on_message: Callable[[str], None],
        on_end: Callable[[Ended, Evidence], None],
    ) -> Started:
        make_stdio_directory(self._plan)
        name = group_name(self._plan.workflow_id, self._plan.run_id, -key)
        request = dataclasses.replace(self._request(attempts[0], name), has_input=True, time_limit_seconds=None)
        channel = GroupChannel(self._loop, on_message)

        def ended(end: Ended) -> None:
            channel.when_closed(
                lambda words: self._end_leftover_step(dataclasses.replace(end, stderr=words + end.stderr), name, on_end)
            )

        with channel.begin(group_text(self._plan, attempts, self._allocation.kill_wait_seconds)):
            return self._start(
                _Begin(key, name, ended),
                [*srun.srun_command(self._srun, request, None), *group_command(self._plan)],
                cwd=self._plan.output_dir,
                environment=group_environment(self._plan, self._environment),
                stdout=channel.stdout,
                stdin=channel.stdin,
            )

    def _end_leftover_step(self, end: Ended, name: str, on_end: Callable[[Ended, Evidence], None]) -> None:
        """End the step of an srun that was killed: it would go on with the group."""
        if end.status:
            self._loop.in_background(
                lambda: self._state.end_leftover_step(end, name), lambda found: on_end(*unless_failed(found, end))
            )
        else:
            on_end(end, Evidence())

    def _start(
        self,
        begin: _Begin,
        argv: Sequence[str],
        *,
        cwd: str,
        environment: Mapping[str, str],
        stdout: int,
        stdin: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
    ) -> Started:
        read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read, False)
        step = _Step(*begin, read)
        try:
            step.pid = self.children.start(
                argv,
                lambda status: self._ended(step, status),
                cwd=cwd,
                environment=environment,
                stdout=stdout,
                stderr=write,
                pass_fds=pass_fds,
                stdin=stdin,
            )
        except LaunchError:
            os.close(read)
            raise
        finally:
            os.close(write)
        self._steps[step.key] = step
        self._starting += 1
        self._loop.watch(read, lambda: self._read_output(step))
        step.start_timer = self._loop.after(START_SECONDS, lambda: self._has_started(step))
        return Started(step.pid, step.name)

    def _request(self, attempt: Attempt, name: str) -> srun.StepRequest:
        job, execution = attempt.job, self._plan.execution
        # Steps that overlap would get the same GPUs, so a job that requests GPUs shares nothing.
        shares_all = not execution.limit_resources and not job.num_gpus
        cpus = min(node.cpus for node in self.nodes if node.name in attempt.nodes) if shares_all else job.num_cpus
        return srun.StepRequest(
            name=name,
            nodes=attempt.nodes,
            tasks_per_node=job.ntasks_per_node,
            cpus_per_task=max(1, cpus // job.ntasks_per_node),
            memory_mib=attempt.memory_mib,
            gpus=job.num_gpus,
            no_gres=self._allocation.has_gres and not shares_all,
            overlap=shares_all,
            time_limit_seconds=job.runtime_seconds if execution.enforce_runtime else None,
            options=execution.srun_options + job.srun_options,
        )

    def _read_output(self, step: _Step) -> None:
        try:
            output = os.read(step.pipe, 65536)
        except BlockingIOError:
            return
        if not output:
            self._close(step)
            return
        step.words.take(output)
        if step.words.step_id is not None:
            self._has_started(step)
            if step.to_be_ended is not None:
                signal_name, step.to_be_ended = step.to_be_ended, None
                self._signal({step.words.step_id}, signal_name)

    def _read_remaining_output(self, step: _Step) -> None:
        with contextlib.suppress(BlockingIOError):
            while step.pipe >= 0 and (output := os.read(step.pipe, 65536)):
                step.words.take(output)
        self._close(step)

    def _has_started(self, step: _Step) -> None:
        if step.is_starting:
            step.is_starting = False
            self._starting -= 1
            if step.start_timer is not None:
                step.start_timer.cancel()
            self._on_room()

    # --- end -----------------------------------------------------------------------------------------------------

    def _ended(self, step: _Step, status: int) -> None:
        self._read_remaining_output(step)
        del self._steps[step.key]
        self.waited_for_room += step.words.waited_for_room
        self._has_started(step)
        step.on_end(
            Ended(
                status=status,
                start_time=step.start_time,
                end_time=time.time(),
                stderr=step.words.text(),
                ran=step.words.ran or status == 0,
                step_id=step.words.step_id,
            )
        )

    def _close(self, step: _Step) -> None:
        if step.pipe >= 0:
            self._loop.unwatch(step.pipe)
            os.close(step.pipe)
            step.pipe = -1

    def evidence(self, attempt: Attempt, ended: Ended, end_request: EndRequest | None) -> Callable[[], Evidence] | None:
        if not needs_evidence(ended, end_request):
            return None
        return lambda: self._find_evidence(attempt, ended, end_request)

    def _find_evidence(self, attempt: Attempt, ended: Ended, end_request: EndRequest | None) -> Evidence:
        """In a thread: check whether Slurm is ending the allocation; if not, read the exit records."""
        if end_request is None and is_from_scancel(ended.status) and self._state.is_ending():
            return Evidence(allocation_is_ending=True)
        with self._one_reader:  # each reader copies whole files
            return self._read_exits(attempt)

    def _read_exits(self, attempt: Attempt) -> Evidence:
        plan, job_id = self._plan, attempt.job.job_id
        oom_kills = 0
        for last in [*[False] * _EVIDENCE_PAUSES, True]:
            with contextlib.suppress(DatabaseError, OSError):  # it is being written, or cannot be read at all
                paths = self._node_files(attempt)
                exits = attempt_exits(paths, plan.workflow_id, plan.run_id, job_id, attempt.attempt_id)
                if exits.are_complete:
                    return Evidence(exits.return_codes, exits.oom_kills, exits.last_end)
                oom_kills = exits.oom_kills
            if not last:
                time.sleep(_EVIDENCE_PAUSE_SECONDS)  # another host's writes become visible late
        return Evidence(oom_kills=oom_kills)

    def _node_files(self, attempt: Attempt) -> list[str]:
        workflow = str(self._plan.workflow_id)
        return [node_file_path(self._plan.output_dir, node, workflow, self._plan.run_id) for node in attempt.nodes]

    def grace_seconds(self) -> float:
        return grace_seconds(self._allocation, time.time())

    def end(self, job_ids: Collection[int], *, kill: bool) -> None:
        signal_name = "KILL" if kill else "TERM"
        running = [self._steps[job_id] for job_id in job_ids if job_id in self._steps]
        known = {step.words.step_id for step in running if step.words.step_id is not None}
        for step in running:
            if step.words.step_id is None:
                step.to_be_ended = signal_name
        if any(step.words.step_id is None for step in running):
            self._find_step_ids(signal_name)
        if known:
            self._signal(known, signal_name)

    def _find_step_ids(self, signal_name: str) -> None:
        """Ask squeue for the numbers of steps whose srun has not reported them (--quiet, or not yet created)."""
        names = {step.name: step for step in self._steps.values()}

        def found_steps(found: dict[str, str] | Exception) -> None:
            if isinstance(found, Exception):
                self._note(f"cannot list the running steps: {found}")
                return
            owed = {found[name]: step for name, step in names.items() if name in found and step.to_be_ended}
            for step_id, step in owed.items():
                step.words.step_id = step.words.step_id or step_id
                step.to_be_ended = None
            if owed:
                self._signal(set(owed), signal_name)
            if signal_name == "KILL":
                self._give_up([step for step in names.values() if step.to_be_ended])

        self._loop.in_background(lambda: steps.running_steps(self._allocation.slurm_job_id), found_steps)

    def _give_up(self, steps_left: list[_Step]) -> None:
        """The last resort: on SIGTERM, srun kills its step or withdraws its request for one.

        The controller refuses to signal steps of an allocation that is being cancelled, and a step may never have
        started.
        """
        for step in steps_left:
            self.children.signal(step.pid, signal.SIGTERM)
        self._loop.after(_KILLED_SECONDS, lambda: self._kill_sruns(steps_left))

    def _kill_sruns(self, steps_left: list[_Step]) -> None:
        """Kill sruns that still wait: Slurm ends their steps without them."""
        for step in steps_left:
            self.children.signal(step.pid, signal.SIGKILL)

    def _signal(self, step_ids: Collection[str], signal_name: str) -> None:
        def signalled(result: Exception | None) -> None:
            if isinstance(result, Exception):
                self._note(f"steps could not be ended: {result}")
            if signal_name == "KILL":
                remaining = [step for step in self._steps.values() if step.words.step_id in step_ids]
                self._loop.after(_KILLED_SECONDS, lambda: self._give_up(remaining))

        self._loop.in_background(
            lambda: steps.signal_steps(self._allocation.slurm_job_id, step_ids, signal_name), signalled
        )

    def close(self) -> None:
        """There are no processes but the jobs'."""
