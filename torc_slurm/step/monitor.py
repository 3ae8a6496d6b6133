"""The monitor process: decides when to sample and to flush, listens to the step's wrappers, exits with the last.

poll (wrappers' messages, SIGTERM, the next time due) -> sample -> sometimes a batch to the flusher -> answer.
It reports its own failures to the user and in the record; they never affect the job.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import time

from torc_slurm.common.identity import proc_is_ours
from torc_slurm.step import kernel, link
from torc_slurm.step.cgroup import own_cgroup
from torc_slurm.step.flush import Flusher, Target
from torc_slurm.step.process_tree import ProcfsTree, is_supported
from torc_slurm.step.record import exit_row, new_batch, own_invocation
from torc_slurm.step.sampler import Sampler, Task
from torc_slurm.step.schedule import Schedule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.common.identity import StepIdentity
    from torc_slurm.database.batch import Batch
    from torc_slurm.step.options import Options
    from torc_slurm.step.readings import TreeReader

FINAL_WRITE_SECONDS = 2.5
FIRST_FLUSH_SECONDS = 0.7
_LEAST_FLUSH_GAP_SECONDS = 1.0
_LATE_TASK_SECONDS = 1.0  # after the first task's begin; all tasks of a step start together
_LATE_TASK_LOOK_SECONDS = 0.1


class Monitor:
    """One step's monitor on one node.

    ``socket`` connects to the wrapper that started this process; the step's other tasks connect to ``listener``.
    """

    def __init__(
        self,
        options: Options,
        identity: StepIdentity,
        socket: _socket.socket,
        wake: int,
        listener: _socket.socket | None,
    ) -> None:
        self._options = options
        self._identity = identity
        self._sockets: dict[int, _socket.socket] = {socket.fileno(): socket}
        self._tasks: list[Task] = []
        self._task_of: dict[int, Task] = {}  # by the descriptor of the wrapper's socket, while it is open
        self._poll = select.poll()
        self._wake = wake
        self._listener = None if listener is None else link.listening(listener)
        self._use: link.Use | None = None
        self._is_finished = False
        self._notes: list[tuple[float, str]] = []
        self._notices: list[str] = []
        self._sampler = _make_sampler(options, identity)
        self._schedule = Schedule(options.sample_interval_seconds)
        self._invocation = ""
        self._flusher: Flusher | None = None
        self._report: int | None = None  # the polled descriptor of a writer's report
        self._next_flush = time.monotonic() + FIRST_FLUSH_SECONDS
        self._last_flush = 0.0
        self._poll.register(socket.fileno(), select.POLLIN)
        self._poll.register(wake, select.POLLIN)
        if self._sampler is not None and self._sampler.reader_name == "none":
            self._note(
                "/proc does not show this PID namespace: torc-step measures only what wait4 and the cgroup report"
            )
        if self._listener is not None:
            self._poll.register(self._listener.fileno(), select.POLLIN)
        elif identity.shares_a_monitor:
            self._note(
                "the tasks of this node cannot share a monitor (no private directory in /tmp, /dev/shm, /var/tmp): "
                "only the first task is measured"
            )

    # --- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        while not self._is_over():
            self._wait()
            now = time.monotonic()
            if self._tasks and self._schedule.is_due(now):
                self._take_sample()
            if self._tasks and now >= self._next_flush:
                self._flush()
        if self._tasks and not self._is_finished:
            self._finish()

    def _wait(self) -> None:
        remaining = 1.0
        if self._tasks:
            due = self._schedule.next_time
            if due > self._next_flush:
                due = self._next_flush
            remaining = due - time.monotonic()
            if self._all_have_ended():
                remaining = min(remaining, _LATE_TASK_LOOK_SECONDS)
        # rounded up: if poll returned before the time, the loop would poll again and again until then
        timeout = int(remaining * 1000) + 1 if remaining > 0 else 0
        events = self._poll.poll(timeout)
        if not events:
            return
        wrappers = set(self._sockets)
        for descriptor, _ in events:
            if self._listener is not None and descriptor == self._listener.fileno():
                self._accept()
            elif descriptor == self._wake:
                os.read(self._wake, 4096)
                self._flush_soon()
            elif self._flusher is not None and descriptor == self._report:
                self._flusher.take_report()
                self._poll_report()
            elif descriptor in wrappers:  # else an earlier event of this round has closed it
                self._receive(descriptor)

    def _poll_report(self) -> None:
        """Poll the running writer's report; an earlier writer's descriptor is closed, and its number may be in use."""
        assert self._flusher is not None
        if self._report is not None:
            self._poll.unregister(self._report)
        self._report = self._flusher.report_descriptor
        if self._report is not None:
            self._poll.register(self._report, select.POLLIN)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            socket, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in (errno.ECONNABORTED, errno.EAGAIN, errno.EINTR):  # else poll would return without end
                self._poll.unregister(self._listener.fileno())
                self._note(f"no further task can connect ({error.strerror})")
            return
        self._sockets[socket.fileno()] = socket
        self._poll.register(socket.fileno(), select.POLLIN)

    def _receive(self, descriptor: int) -> None:
        """Handle one message of one wrapper."""
        text = link.receive(self._sockets[descriptor])
        if not text:
            self._lose(descriptor)
            return
        message = link.decode(text)
        if isinstance(message, link.Begin):
            self._begin(descriptor, message)
        elif isinstance(message, link.Exit) and descriptor in self._task_of:
            self._end(descriptor, message)

    def _begin(self, descriptor: int, begin: link.Begin) -> None:
        if self._identity.shares_a_monitor and not self._is_welcome(descriptor, begin):
            return
        task = self._task_of[descriptor] = Task(begin)
        self._tasks.append(task)
        if self._flusher is None:
            self._invocation = self._use.name if self._use else own_invocation(self._identity, begin)
            target = Target(self._identity, bool(self._options.site_output_dir))
            self._flusher = Flusher(target, self._invocation, self._notify, self._notify_run_id)
            self._schedule.begin()
            self._next_flush = time.monotonic() + FIRST_FLUSH_SECONDS
        if self._sampler is not None:
            self._sampler.task_began(task)
        self._take_sample()

    def _is_welcome(self, descriptor: int, begin: link.Begin) -> bool:
        """Whether the task belongs to this use of torc-step, and not to a second torc-step in the same task."""
        if self._use is None:
            path = link.meeting_place(self._identity.step_key)
            if path is not None:
                link.sweep(path)
            self._use = link.Use(path, self._identity.step_key)
            self._use.register(begin.local_task)
            return True  # it started this monitor
        is_new = begin.local_task not in self._use.tasks
        if is_new:
            self._use.register(begin.local_task)
        link.send(self._sockets[descriptor], b"welcome" if is_new else b"taken")
        return is_new

    def _end(self, descriptor: int, end: link.Exit) -> None:
        task = self._task_of[descriptor]
        task.exit = end
        if self._sampler is not None:
            self._sampler.task_ended(task)
        if self._is_over():
            self._finish()
            # the wrapper then records its exit itself
            lost = self._flusher is not None and self._flusher.is_lost
            self._answer(descriptor, b"failed its record could not be written" if lost else b"done")
        else:
            if self._all_have_ended():
                self._write_now()
            self._flush_soon()
            self._answer(descriptor, b"go")

    def _lose(self, descriptor: int) -> None:
        """Handle a closed connection. Without the task's exit message, its wrapper was killed."""
        self._poll.unregister(descriptor)
        self._sockets.pop(descriptor).close()
        task = self._task_of.pop(descriptor, None)
        if task is None:
            return
        task.gone = True
        if self._sampler is not None:
            self._sampler.task_is_gone()
        if task.exit is None:
            self._note(f"the wrapper of task {task.begin.task} was killed: its exit is not recorded")
            if self._is_over():
                self._finish()

    def _is_over(self) -> bool:
        if not self._tasks:
            return not self._sockets
        return self._all_have_ended() and not (self._identity.shares_a_monitor and self._more_may_come())

    def _all_have_ended(self) -> bool:
        for task in self._tasks:  # noqa: SIM110 - twice a sample; a generator costs more
            if task.exit is None and not task.gone:
                return False
        return True

    def _more_may_come(self) -> bool:
        """Whether more tasks of this node may register: at first, and while slurmstepd has children unknown to us.

        With hidepid on /proc, or a script before torc-step, slurmstepd's children are not visible.
        """
        if len(self._tasks) >= self._identity.local_task_count:
            return False
        if time.monotonic() - min(task.begin.begin_monotonic for task in self._tasks) < _LATE_TASK_SECONDS:
            return True
        if not self._identity.parent_is_slurmstepd:
            return False
        begins = [task.begin for task in self._tasks]
        known = {begin.wrapper_pid for begin in begins} | {os.getpid()}
        return bool(set(ProcfsTree().children_of(begins[0].parent_pid)) - known)

    # --- sampling ------------------------------------------------------------------------------------------------

    def _take_sample(self, final: bool = False) -> None:
        sampler, schedule = self._sampler, self._schedule
        if sampler is None:
            schedule.skip()
            return
        lateness_seconds = schedule.lateness(time.monotonic())
        before = time.thread_time() - sampler.pss.spent_seconds
        try:
            sampler.sample(schedule.is_ramping, final)
        except Exception as error:
            self._notify(f"sampling failed ({type(error).__name__}: {error}); the figures end here")
            self._sampler = None
            return
        cost_seconds = time.thread_time() - sampler.pss.spent_seconds - before
        backed_off = schedule.took(cost_seconds, lateness_seconds)
        if backed_off:
            self._note(backed_off)

    # --- writing -------------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        self._next_flush = min(self._next_flush, max(time.monotonic(), self._last_flush + _LEAST_FLUSH_GAP_SECONDS))

    def _flush(self) -> None:
        assert self._flusher is not None
        now = time.monotonic()
        self._last_flush, self._next_flush = now, now + self._options.flush_interval_seconds
        if self._sampler is not None:
            self._sampler.look_at_high_water_marks()
        self._flusher.start(self._batch(ended=False))
        self._poll_report()

    def _write_now(self) -> None:
        """Write while the last known task still waits for us. If a task unknown to us ends last, slurmstepd may kill
        this process at any time.
        """
        assert self._flusher is not None
        self._flusher.finish(self._batch(ended=False), FINAL_WRITE_SECONDS)
        self._poll_report()

    def _finish(self) -> None:
        """Take the last sample and write the last batch; returns when it is written, spooled or lost."""
        assert self._flusher is not None
        self._is_finished = True
        self._flusher.take_report()  # reaps the writer: its CPU time then counts as ours
        self._take_sample(final=True)
        self._flusher.finish(self._batch(ended=True), FINAL_WRITE_SECONDS)
        is_local = self._identity.slurm_job_id is None and self._identity.workflow_id is None
        if is_local and self._flusher.written_path is not None:
            elsewhere = "output_dir" in self._options.given
            where = f" --output-dir {self._identity.output_dir}" if elsewhere else ""
            self._notices.append(f"recorded in {self._flusher.written_path}; to see it: torc stats --local{where}")
        if self._listener is not None:
            self._close_meeting_place()

    def _close_meeting_place(self) -> None:
        if self._use is not None:
            self._use.ended()
        try:
            os.unlink(link.meeting_place(self._identity.step_key) or "")
        except OSError:
            pass

    def _batch(self, ended: bool) -> Batch:
        Flusher.load(is_last=ended)  # before measuring the monitor's own memory
        tasks = self._tasks
        begin_time = min(task.begin.begin_time for task in tasks)
        batch = new_batch(self._options, self._identity, self._invocation, begin_time)
        if ended:
            batch.step["end_time"] = max(task.exit.end_time if task.exit else time.time() for task in tasks)
        for task in tasks:
            if task.exit is not None:
                batch.exits.append(exit_row(task.exit, task.begin.local_task, task.begin.wrapper_rss_bytes))
        batch.notes, self._notes = self._notes, []
        if self._sampler is not None:
            batch.usage = self._sampler.usage(self._elapsed_seconds(ended), ended)
            batch.monitor = self._own_use(tasks)
            self._hand_over_rows(batch, ended)
        return batch

    def _elapsed_seconds(self, ended: bool) -> float:
        """From the first task's begin to the last task's end on this node, by the monotonic clock."""
        now = time.monotonic()
        begin = min(task.begin.begin_monotonic for task in self._tasks)
        return (max(task.end_monotonic or now for task in self._tasks) if ended else now) - begin

    def _hand_over_rows(self, batch: Batch, ended: bool) -> None:
        assert self._sampler is not None
        if self._options.granularity == "time_series":
            self._sampler.hand_over(batch, keep_last=not ended)
        else:
            self._sampler.drop_rows()

    def _own_use(self, tasks: list[Task]) -> dict[str, object]:
        wrappers = sum((task.exit or task.begin).wrapper_cpu_seconds for task in tasks)
        return {
            "cpu_seconds": kernel.own_cpu_seconds() + wrappers,
            "memory_bytes": self._sampler.own_memory_bytes() if self._sampler is not None else None,
            "reader": self._sampler.reader_name if self._sampler is not None else None,
            **self._schedule.figures(),
        }

    # --- words ---------------------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self._notes.append((time.time(), text))

    def _notify(self, text: str) -> None:
        """Add the text to the record, and keep it for the next wrapper that asks, which prints it for the user."""
        self._note(text)
        self._notices.append(text)

    def _notify_run_id(self, run_id: int) -> None:
        """Tell the wrapper the file's name, in case this process dies. The writer calls this before it writes."""
        for socket in self._sockets.values():
            link.send(socket, b"run %d" % run_id)

    def _answer(self, descriptor: int, answer: bytes) -> None:
        socket = self._sockets[descriptor]
        for text in self._notices:
            link.send(socket, b"say " + text.encode("utf-8", "backslashreplace"))
        self._notices.clear()
        link.send(socket, answer)


def _make_sampler(options: Options, identity: StepIdentity) -> Sampler | None:
    if not options.sampling:
        return None
    return Sampler(make_reader(options.reader), own_cgroup(), identity.owns_its_cgroup, identity.local_task_count)


def make_reader(name: str) -> TreeReader:
    """``auto``: procfs if the kernel has child lists, else psutil; neither if /proc is not ours."""
    if not proc_is_ours():
        from torc_slurm.step.no_tree import NoTree

        return NoTree()
    if name == "procfs" or (name == "auto" and is_supported()):
        return ProcfsTree()
    from torc_slurm.step.psutil_tree import PsutilTree

    return PsutilTree()
