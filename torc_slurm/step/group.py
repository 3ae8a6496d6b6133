"""Runs the jobs of a group one after another in one step, each measured by itself.

The runner writes one line with all jobs to stdin, then ``go``. If stdin is closed, the runner has ended and no further
job starts. This process writes to stdout: ``ready`` (no job starts before ``go``, so if the two cannot communicate, no
job has run); then for each job ``began`` (before its fork), ``refused`` or ``exited``. The recorder adds ``ended`` when
the job's record is written. So whichever process is killed, the runner knows for each job whether it began.
A job of milliseconds costs its fork and one message to the recorder. Only a job that runs longer gets a monitor.
"""

from __future__ import annotations

import os
import select
import time

from torc_slurm.common.errors import InputError
from torc_slurm.common.identity import ACTIVE_VARIABLE, identify
from torc_slurm.step import kernel, link, sentinel
from torc_slurm.step.cgroup import own_cgroup
from torc_slurm.step.grouped_wrapper import END_SIGNALS, GroupedWrapper
from torc_slurm.step.job import fork_job, given_environment, say, take_signals, wait_only
from torc_slurm.step.process_tree import ProcfsTree
from torc_slurm.step.spawned_job import Spawner

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal as _signal

    from torc_slurm.common.identity import StepIdentity
    from torc_slurm.step.job import Job
    from torc_slurm.step.options import Options
else:
    import _signal

GO_SECONDS = 60.0
RECORDER_WAIT_SECONDS = 15.0
_LEFTOVERS_SECONDS = 2.0
_MOST_LINE_BYTES = 4000  # what a pipe takes as a whole is a little more
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class Member:
    """One job, as the runner describes it. ``seconds``: its time limit, None: no limit."""

    __slots__ = (
        "attempt_id",
        "command",
        "environment",
        "job_id",
        "job_name",
        "seconds",
        "stderr",
        "stdout",
        "working_dir",
    )

    job_id: int
    job_name: str
    attempt_id: int
    command: str
    working_dir: str
    environment: dict[str, str]
    stdout: str
    stderr: str
    seconds: float | None

    def __init__(self, fields: dict[str, object]) -> None:
        for name in self.__slots__:
            setattr(self, name, fields[name])

    def put_into(self, options: Options, identity: StepIdentity) -> None:
        """Set the command and the identity of this job."""
        options.command = ["bash", "-c", self.command]
        identity.job_id, identity.job_name, identity.attempt_id = self.job_id, self.job_name, self.attempt_id


def run_group(options: Options) -> int:
    """Run the jobs from stdin. Returns this process's exit status, which is not a job's: 1 if some jobs have not begun.

    Raises:
        InputError: stdin has no jobs.
    """
    import json  # not in the start of ungrouped jobs

    text = _line()
    try:
        request = json.loads(text)
        members = [Member(each) for each in request["jobs"]]
        grace_seconds, launcher = float(request["grace_seconds"]), request["launcher"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"--group is for the runner of torc: stdin has no jobs ({error!r})") from error
    return Group(options, members, grace_seconds, launcher).run()


def _line() -> bytes:
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            return b""
        parts.append(part)
    return b"".join(parts)


class Group:
    """The wrapper of a group, until its last job has ended."""

    def __init__(self, options: Options, members: list[Member], grace_seconds: float, launcher: str | None) -> None:
        self._options = options
        self._members = members
        self.grace_seconds = grace_seconds
        self._identity = identify(dict(os.environ), {**options.identity, "job_id": 1, "attempt_id": 1})
        self._identity.make_independent()
        self._identity.is_grouped = True
        self._environment = given_environment()
        self._tree = ProcfsTree()
        self._cgroup = own_cgroup() if self._identity.is_in_srun_step else None
        self._oom_kills = self._cgroup.oom_kills() or 0 if self._cgroup else 0
        self.is_stopping = False
        self.helpers: set[int] = set()  # processes of torc's own: they are not orphans of a job
        self.sentinel_pid = 0
        self.reports: sentinel.SignalReports | None = None
        self.recorder_pid = 0
        self._socket: _socket.socket | None = None
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._lifeline, self._report, self._own_stderr = (_uninherited_copy(descriptor) for descriptor in (0, 1, 2))
        self._received = take_signals()
        spawner = None if launcher is None else Spawner(launcher, self._received)
        self._spawner = spawner if spawner is not None and spawner.can_start_jobs() else None
        os.dup2(self._null, 0)

    def run(self) -> int:
        self._start_recorder()
        if not self._may_begin():
            self.is_stopping = True
        status = 0
        for index, member in enumerate(self._members):
            if self.is_stopping or self._must_stop() or not self._run(index, member):
                status = 1
                break
            self._end_leftovers()
        os.dup2(self._own_stderr, 2)
        self._end_recorder()
        self._end_sentinel()
        return status

    def _run(self, index: int, member: Member) -> bool:
        """Run one job. Returns False if the group was told to stop before it began."""
        why = self._enter(member)
        if why:
            self.send(f"refused {index} {why}")
            return True
        member.put_into(self._options, self._identity)
        self._start_sentinel()
        own = {name.encode(): os.fsencode(value) for name, value in member.environment.items()}
        own[ACTIVE_VARIABLE.encode()] = os.fsencode(self._identity.active_mark)
        if self._must_stop():  # to open files can take long
            return False
        self.send(f"began {index}")
        if self.is_stopping:
            return True
        try:
            job = self._start(self._options.command, self._environment | own)
        except OSError as error:
            say(f"no process could be started ({error.strerror})")
            self.send(f"unbegun {index}")
            self.is_stopping = True
            return True
        for number in _signal.sigpending() & END_SIGNALS:
            os.kill(job.pid, number)  # it arrived before the fork, at the sentinel
        try:
            wrapper = GroupedWrapper(self, self._options, self._identity, job, member.seconds)
        except Exception as error:
            say(f"the command runs unmeasured ({type(error).__name__}: {error})")
            _, code = wait_only(job)
            self.send(f"ended {index} {code} {job.begin_time!r} {time.time()!r} 0 0")
            return True
        _, code = wrapper.run()
        try:
            self._record(index, wrapper, code)
        except Exception as error:
            say(f"the exit record is lost ({type(error).__name__}: {error})")
        if wrapper.is_watched:
            self._take_over(wrapper)
        return True

    def _start(self, command: list[str], environment: dict[bytes, bytes]) -> Job:
        if self._spawner is not None:
            return self._spawner.start(command, environment)
        return fork_job(command, environment, self._received)

    def _may_begin(self) -> bool:
        """Whether the runner answers."""
        self.send("ready")
        poll = select.poll()
        poll.register(self._lifeline, select.POLLIN)
        return bool(poll.poll(GO_SECONDS * 1000)) and os.read(self._lifeline, 64) == b"go\n"

    def _enter(self, member: Member) -> str:
        """Open the job's output files and change to its directory. Returns the reason if that fails."""
        flags = _FLAGS | (os.O_APPEND if member.stdout == member.stderr else 0)
        path = member.stdout
        try:
            for descriptor, path in ((1, member.stdout), (2, member.stderr)):
                opened = os.open(path, flags, 0o666)
                os.dup2(opened, descriptor)
                os.close(opened)
        except OSError as error:
            return f"its output cannot be written to {path}: {error.strerror}"
        try:
            os.chdir(member.working_dir)
        except OSError as error:
            return f"its working directory {member.working_dir} cannot be entered: {error.strerror}"
        return ""

    def _must_stop(self) -> bool:
        while _signal.sigtimedwait(END_SIGNALS, 0):
            self.is_stopping = True
        poll = select.poll()
        poll.register(self._lifeline, select.POLLIN)
        if poll.poll(0) and not os.read(self._lifeline, 4096):
            self.is_stopping = True
        return self.is_stopping

    def send(self, text: str) -> None:
        """Write one line to the runner."""
        try:
            words = " ".join(text.split()).encode("utf-8", "backslashreplace")
            os.write(self._report, b"torc-group " + words[:_MOST_LINE_BYTES] + b"\n")
        except OSError:
            self.is_stopping = True  # the runner has ended

    def _end_leftovers(self) -> None:
        """Kill the processes that a job left, as at a step's end: they must not be measured with the next job."""
        me, give_up = os.getpid(), time.monotonic() + _LEFTOVERS_SECONDS
        ours = {self.sentinel_pid, self.recorder_pid} | self.helpers
        while (left := set(self._tree.children_of(me)) - ours) and time.monotonic() < give_up:
            for pid in left:
                try:
                    os.kill(pid, _signal.SIGKILL)
                except OSError:
                    pass  # it runs as another user
            time.sleep(0.001)
            for pid in left:
                kernel.has_ended(pid)
        self.helpers = {pid for pid in self.helpers if not kernel.has_ended(pid)}

    # --- the helpers ---------------------------------------------------------------------------------------------

    def _start_sentinel(self) -> None:
        if self.sentinel_pid:
            return
        pipe_read, pipe_write = os.pipe()
        try:
            self.sentinel_pid = sentinel.start_bare_sentinel(pipe_write)
            self.reports = sentinel.SignalReports(pipe_read, self.sentinel_pid)
        except OSError:
            os.close(pipe_read)  # a limit on processes: each signal counts as meant for the wrapper alone
        os.close(pipe_write)

    def _take_over(self, wrapper: GroupedWrapper) -> None:
        """The monitor was the sentinel of the last job. The next job gets a sentinel of its own."""
        self.helpers |= wrapper.ended_helpers
        self.sentinel_pid = 0
        self._end_sentinel()

    def _end_sentinel(self) -> None:
        if self.sentinel_pid:
            os.kill(self.sentinel_pid, _signal.SIGKILL)
            self.helpers.add(self.sentinel_pid)
            self.sentinel_pid = 0
        if self.reports is not None:
            self.reports.close()
            self.reports = None

    def _start_recorder(self) -> None:
        self._socket, theirs = link.pair()
        try:
            self.recorder_pid = os.fork()
        except OSError as error:
            theirs.close()
            say(f"the recorder could not be started ({error.strerror})")
            self.is_stopping = True
            return
        if self.recorder_pid == 0:
            try:
                os.setsid()  # a signal to the wrapper's process group must not end it: it still has records to write
                os.dup2(self._own_stderr, 2)
                kernel.close_inherited_files(keep=(2, theirs.fileno(), self._report))
                kernel.keep_files_usable()
                from torc_slurm.step.group_recorder import Recorder

                Recorder(self._options, self._identity, self._members, theirs, self.send).run()
            except BaseException as error:
                say(f"records of the group are lost ({type(error).__name__}: {error})")
            finally:
                os._exit(0)
        theirs.close()
        self._socket.settimeout(RECORDER_WAIT_SECONDS)

    def _end_recorder(self) -> None:
        """Wait until it has written everything."""
        if self._socket is not None:
            self._socket.close()
        give_up = time.monotonic() + RECORDER_WAIT_SECONDS
        while self.recorder_pid > 0 and not kernel.has_ended(self.recorder_pid) and time.monotonic() < give_up:
            _signal.sigtimedwait({_signal.SIGCHLD}, 0.1)

    def _record(self, index: int, wrapper: GroupedWrapper, code: int) -> None:
        """Send the job's end to the runner, and to the recorder."""
        end, oom_kills = wrapper.exit, 0
        if end is None:
            self.send(f"ended {index} {code} {wrapper.begin.begin_time!r} {time.time()!r} 0 0")
            return
        if end.return_code and self._cgroup is not None:
            before, self._oom_kills = self._oom_kills, self._cgroup.oom_kills() or 0
            oom_kills = max(0, self._oom_kills - before)
        over_time = int(wrapper.is_over_time)
        # The runner gets the exit code at once, in case the recorder is killed; it waits for the record.
        self.send(f"exited {index} {code} {end.begin_time!r} {end.end_time!r} {over_time} {oom_kills}")
        facts = (index, wrapper.begin.wrapper_rss_bytes, int(wrapper.is_watched), over_time, oom_kills)
        text = b"%d %d %d %d %d|" % facts + link.encode(wrapper.begin) + b"|" + link.encode(end)
        for _ in range(2):
            if self._socket is not None and link.send(self._socket, text):
                return
            self._end_recorder()  # it was killed
            self._start_recorder()


def _uninherited_copy(descriptor: int) -> int:
    """A copy of a descriptor that no job inherits."""
    copy = os.dup(descriptor)
    os.set_inheritable(copy, False)
    return copy
