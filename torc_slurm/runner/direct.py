"""Starts jobs as plain processes of this machine, each under torc-step."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from torc_slurm.runner.attempts import Attempt, Ended, EndRequest, Evidence, Started
from torc_slurm.runner.channel import GroupChannel
from torc_slurm.runner.children import Children
from torc_slurm.runner.demands import allocation_demand, misfit
from torc_slurm.runner.fork_server import ForkServer
from torc_slurm.runner.loop import Loop
from torc_slurm.runner.placement import Demand, Node
from torc_slurm.runner.step_command import (
    group_command,
    group_environment,
    group_text,
    make_stdio_directory,
    open_outputs,
    step_command,
    step_environment,
)
from torc_slurm.spec.plan import JobPlan, Plan

# Inside a step of an allocation (srun --pty bash) the jobs are plain processes too, and not steps.
_STEP_VARIABLES = ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_STEP_ID", "SLURM_STEPID")
_NO_BOUND = 1 << 30
GRACE_SECONDS = 10.0


class DirectLauncher:
    """Processes of this machine, as many at a time as its CPUs and memory allow.

    A job that is larger than the machine takes all of it, and so runs alone.
    """

    name = "direct"
    slurm_job_id: int | None = None

    def __init__(self, plan: Plan, machine: Node, environ: Mapping[str, str], loop: Loop) -> None:
        self._plan = plan
        self._loop = loop
        self._machine = machine
        self._environment = {name: value for name, value in environ.items() if name not in _STEP_VARIABLES}
        self.children = Children(loop)
        self._fork_server = ForkServer(plan, group_environment(plan, self._environment), self.children, loop)
        self._pids: dict[int, int] = {}
        self.nodes = (machine,)

    def warnings(self) -> list[str]:
        """A line for each job that is larger than this machine."""
        found = []
        for job in self._plan.jobs:
            problem = misfit(job, allocation_demand(job, self.nodes), self.nodes, "this machine")
            if problem is not None:
                found.append(f"job {job.name} runs alone: {problem}")
        return found

    def lose(self, node: str) -> None:
        raise AssertionError(f"{node} is where torc runs")

    def refusal(self, job: JobPlan) -> str | None:
        return f"it requests {job.num_nodes} nodes, and outside Slurm there is one" if job.num_nodes > 1 else None

    def demand(self, job: JobPlan) -> Demand:
        wanted, memory_mib = allocation_demand(job, self.nodes), self._machine.memory_mib
        return Demand(
            min(wanted.cpus, self._machine.cpus),
            min(wanted.memory_mib, wanted.memory_mib if memory_mib is None else memory_mib),
            min(wanted.gpus, self._machine.gpus),
        )

    def room(self) -> int:
        return _NO_BOUND

    def set_room_callback(self, on_room: Callable[[], None]) -> None:
        """There is always room."""

    def start(self, attempt: Attempt, on_end: Callable[[Ended], None]) -> Started:
        job, start_time = attempt.job, time.time()
        stdout, stderr = open_outputs(self._plan, attempt)

        def ended(status: int) -> None:
            del self._pids[job.job_id]
            on_end(Ended(status, start_time, time.time()))

        try:
            pid = self._fork_server.start(
                step_command(self._plan, attempt),
                ended,
                cwd=job.working_dir,
                environment=step_environment(self._plan, attempt, self._environment),
                stdout=stdout,
                stderr=stderr,
            )
        finally:
            os.close(stdout)
            os.close(stderr)
        self._pids[job.job_id] = pid
        return Started(pid)

    def can_be_grouped(self, _job: JobPlan) -> bool:
        return True

    def start_group(
        self,
        key: int,
        attempts: Sequence[Attempt],
        on_message: Callable[[str], None],
        on_end: Callable[[Ended, Evidence], None],
    ) -> Started:
        make_stdio_directory(self._plan)
        start_time = time.time()
        channel = GroupChannel(self._loop, on_message)

        def ended(status: int) -> None:
            del self._pids[key]
            end_time = time.time()
            channel.when_closed(lambda words: on_end(Ended(status, start_time, end_time, words), Evidence()))

        with channel.begin(group_text(self._plan, attempts, GRACE_SECONDS)):
            pid = self.children.start(
                group_command(self._plan),
                ended,
                cwd=self._plan.output_dir,
                environment=group_environment(self._plan, self._environment),
                stdin=channel.stdin,
                stdout=channel.stdout,
                stderr=channel.stdout,
            )
        self._pids[key] = pid
        return Started(pid)

    def evidence(
        self, _attempt: Attempt, _ended: Ended, _end_request: EndRequest | None
    ) -> Callable[[], Evidence] | None:
        return None  # the wrapper's status is the job's

    def grace_seconds(self) -> float:
        return GRACE_SECONDS

    def end(self, job_ids: Collection[int], *, kill: bool) -> None:
        for pid in [self._pids[job_id] for job_id in job_ids if job_id in self._pids]:
            self.children.signal_group(pid, signal.SIGKILL if kill else signal.SIGTERM)

    def close(self) -> None:
        self._fork_server.end()
