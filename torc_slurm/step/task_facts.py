"""What a wrapper reports of its task, from the kernel: begin and end."""

from __future__ import annotations

import os
import time

from torc_slurm.step import kernel, link

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource

    from torc_slurm.common.identity import StepIdentity
    from torc_slurm.step.job import Job


def begin_of(identity: StepIdentity, job: Job) -> link.Begin:
    begin = link.Begin()
    begin.task, begin.local_task = identity.task, identity.local_task
    begin.parent_pid, begin.wrapper_pid, begin.helper_pid, begin.job_pid = os.getppid(), os.getpid(), 0, job.pid
    begin.begin_time, begin.begin_monotonic = job.begin_time, job.begin_monotonic
    begin.recorder_pid = 0
    # what the kernel starts the job's ru_maxrss with: a process that shares memory has the most that there was
    begin.wrapper_rss_bytes = kernel.most_resident_bytes() if job.is_spawned else kernel.resident_bytes()
    begin.wrapper_cpu_seconds = time.process_time()
    times = os.times()
    begin.waited_before_seconds = times.children_user + times.children_system
    (
        begin.own_storage_read_bytes,
        begin.own_storage_written_bytes,
        begin.own_read_chars,
        begin.own_written_chars,
    ) = kernel.own_io()
    return begin


def exit_of(begin: link.Begin, status: int, usage: resource.struct_rusage) -> link.Exit:
    """Built from the result of ``wait4`` for the job."""
    end = link.Exit()
    end.task, end.job_pid = begin.task, begin.job_pid
    end.begin_time = begin.begin_time
    end.elapsed_seconds = time.monotonic() - begin.begin_monotonic
    end.end_time = end.begin_time + end.elapsed_seconds
    end.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    end.return_code = 128 + end.signal if end.signal else os.WEXITSTATUS(status)
    end.user_cpu_seconds, end.system_cpu_seconds = usage.ru_utime, usage.ru_stime
    end.max_rss_bytes = usage.ru_maxrss * 1024
    end.major_faults = usage.ru_majflt
    return end


def complete_exit(end: link.Exit, orphans_cpu_seconds: float, orphans_max_rss_bytes: int, delay: float | None) -> None:
    """Add what the wrapper knows beside the status; ``delay``: the job's wait for a CPU, None if unknown."""
    end.orphans_cpu_seconds = orphans_cpu_seconds
    end.max_rss_bytes = max(end.max_rss_bytes, orphans_max_rss_bytes)
    end.wrapper_cpu_seconds = time.process_time()
    end.run_delay_seconds = -1.0 if delay is None else delay


def how_it_ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was killed by signal {os.WTERMSIG(status)}"
    return f"ended early with status {os.WEXITSTATUS(status)}"
