"""Starts the torc-steps of a run outside Slurm: by a fork of the fork server (step/fork_server.py), else by exec.

A fork costs less CPU than the start of a Python. Wrappers are the runner's own children in both cases.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence

from torc_slurm.runner.children import Children
from torc_slurm.runner.loop import Loop
from torc_slurm.runner.step_command import fork_server_command, launcher_of
from torc_slurm.spec.plan import Plan

# A server and its writer cost about as much CPU as one start by exec, and 7 MB of memory while the run lasts.
STARTS_WITHOUT = 4
ANSWER_SECONDS = 5.0


class ForkServer:
    """The server starts with the fifth job. If it fails, or if the runner's own limits change, all later jobs are
    started by exec.
    """

    def __init__(self, plan: Plan, environment: Mapping[str, str], children: Children, loop: Loop) -> None:
        """``environment`` is the server's own."""
        self._plan = plan
        self._launcher = os.fsencode(launcher_of(plan) or "none")
        self._environment = environment
        self._children = children
        self._loop = loop
        self._starts = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self.is_ready = False  # whether the next start is a fork
        self._inherited: object = None
        self._umask = os.umask(0o077)  # no thread of this process runs yet that sets another for a moment
        os.umask(self._umask)

    @property
    def pid(self) -> int | None:
        """The server's, while there is one."""
        return None if self._server is None else self._server.pid

    def start(
        self,
        argv: Sequence[str],
        on_end: Callable[[int], None],
        *,
        cwd: str,
        environment: Mapping[str, str],
        stdout: int,
        stderr: int,
    ) -> int:
        """Start a torc-step, like `Children.start`; returns its pid.

        Raises:
            LaunchError: it could not be started.
        """
        self._starts += 1
        if self._starts == STARTS_WITHOUT + 1:
            self._start_server()
        if self.is_ready and self._inherited != _inherited():
            self.end()
        pid = self._fork(argv, on_end, cwd, environment, (stdout, stderr)) if self.is_ready else 0
        return pid or self._children.start(argv, on_end, cwd=cwd, environment=environment, stdout=stdout, stderr=stderr)

    def end(self) -> None:
        """End the server; its wrappers do not need it."""
        self.is_ready = False
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def _start_server(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._inherited = _inherited()
        try:
            self._server = subprocess.Popen(
                fork_server_command(self._plan),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._plan.output_dir,
                env=dict(self._environment),
                start_new_session=True,
                umask=self._umask,
            )
        except (OSError, ValueError):
            ours.close()
            return
        finally:
            theirs.close()
        ours.settimeout(ANSWER_SECONDS)
        self._socket = ours
        self._loop.watch(ours.fileno(), self._hear)

    def _hear(self) -> None:
        """The server says that it has loaded its modules, or it has ended."""
        assert self._socket is not None
        try:
            self.is_ready = self._socket.recv(64) == b"ready"
        except OSError:
            self.is_ready = False
        if not self.is_ready:
            self.end()

    def _fork(
        self,
        argv: Sequence[str],
        on_end: Callable[[int], None],
        cwd: str,
        environment: Mapping[str, str],
        streams: tuple[int, int],
    ) -> int:
        """The wrapper's pid; 0 if there is none, and none will start the job."""
        request = _request(argv[len(self._plan.torc_step) :], cwd, environment)
        if request is None:
            return 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                ours.settimeout(ANSWER_SECONDS)
                try:
                    ours.send(request)
                except OSError:  # larger than a message can be
                    return 0
                try:
                    assert self._socket is not None
                    socket.send_fds(self._socket, [self._launcher], [theirs.fileno(), *streams])
                except OSError:
                    self.end()
                    return 0
            pid, is_ready = self._answer(ours)
            if is_ready and _say_go(ours):
                self._children.adopt(pid, on_end)
                return pid
            if pid:
                self._children.adopt(pid, lambda _status: None)
        return 0

    def _answer(self, channel: socket.socket) -> tuple[int, bool]:
        """The wrapper's pid, 0 if it is not known, and whether it waits for ``go``."""
        try:
            word, _, number = channel.recv(64).partition(b" ")
            pid = int(number)
            if pid:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except (OSError, ValueError):  # no answer in time, none at all, or not of a child of this process
            self.end()
            return 0, False
        return pid, word == b"ready" and pid > 0


def _say_go(channel: socket.socket) -> bool:
    try:
        return channel.send(b"go") > 0
    except OSError:
        return False


def _request(words: Sequence[str], cwd: str, environment: Mapping[str, str]) -> bytes | None:
    """The message for a wrapper (see step/fork_server.py); None if no process can be given such texts."""
    if not all(name and "=" not in name for name in environment):
        return None
    variables = (f"{name}={value}" for name, value in environment.items())
    texts = [cwd, str(len(words)), *words, *variables]
    if any("\0" in text for text in texts):
        return None
    return b"".join(os.fsencode(text) + b"\0" for text in texts)


def _inherited() -> object:
    """What a new process gets from this one and can be changed from outside (prlimit, taskset, renice, cgroups)."""
    return (
        [resource.getrlimit(number) for number in _LIMITS],
        os.sched_getaffinity(0),
        os.getpriority(os.PRIO_PROCESS, 0),
        _text("/proc/self/oom_score_adj"),
        _text("/proc/self/cgroup"),
    )


_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


def _text(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
