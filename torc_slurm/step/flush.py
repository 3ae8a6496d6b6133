"""Writes batches without waiting for the file system: one process per flush, with the node's own disk as spool.

batch -> forked writer: node file, else spool -> its report through a pipe -> messages to the user.
The writer is a separate process, so that a file system that hangs blocks the writer and not the monitor, and so that
SQLite's memory is freed when the writer exits.
"""

from __future__ import annotations

import os
import select
import sys
import time

from torc_slurm.common.errors import DatabaseError
from torc_slurm.files import node_local
from torc_slurm.files.output_names import RESOURCE_DIR, node_file_of, node_file_path
from torc_slurm.files.shared_directory import make_shared_directory
from torc_slurm.step import kernel, sentinel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torc_slurm.common.identity import StepIdentity
    from torc_slurm.database.batch import Batch

_SPOOL_WAIT_SECONDS = 1.0
_MOST_TRIES = 4  # writers for the last batch, if each is killed
_MOST_SPOOL_TRIES = 2
_MOST_LINE_BYTES = 4096


class Flusher:
    """Writes one step's batches to its node file or to a spool."""

    def __init__(
        self,
        target: Target,
        spool_name: str,
        notify: Callable[[str], None],
        notify_run_id: Callable[[int], None] = lambda _run_id: None,
    ) -> None:
        self._target = target
        self._spool_name = spool_name
        self._notify = notify
        self._notify_run_id = notify_run_id
        self._writer: _Writer | None = None
        self._unconfirmed: list[Batch] = []  # no writer has confirmed these yet
        self._was_killed = False  # a writer of these batches was killed: the file may have some of them
        self._notified: set[str] = set()
        self._spooled = ""  # where the record stays until it is collected
        self.is_lost = False  # a batch is in no place

    shared_write: Callable[[str, Batch], bool] | None = None  # `shared_writer.write`, in forks of the fork server

    @staticmethod
    def load(is_last: bool = False) -> None:
        """Load what the writers need once, instead of in each writer: this saves 4 ms of CPU per writer.

        Then release the memory of start-up code and of SQLite, which only the writers run; not for the last of them,
        because this process ends soon.
        """
        if "torc_slurm.database.node_file" not in sys.modules:
            try:
                from torc_slurm.database import node_file  # noqa: F401
            except ImportError:
                return  # no SQLite: the writers report that, and write a record without it
            if not is_last:
                kernel.give_back_code()

    @property
    def written_path(self) -> str | None:
        """The node file's path, once a writer has reported that it committed everything."""
        is_written = not (self._spooled or self.is_lost or self._unconfirmed)
        return self._target.path if is_written else None

    @property
    def report_descriptor(self) -> int | None:
        """A descriptor to poll: readable when the last writer has exited and ``take_report`` will not wait."""
        return None if self._writer is None or self._writer.pipe < 0 else self._writer.pipe

    def take_report(self) -> None:
        """Read the last writer's report, if that writer has exited."""
        self._is_done(0.0)

    def start(self, batch: Batch) -> None:
        """Write in the background; to the spool, if the write of an earlier batch still hangs."""
        self._unconfirmed.append(batch)
        if self._is_done(0.0):
            self._start_writer()
        else:
            self._give_up_writer("the previous write has not finished")

    def keep(self, batch: Batch) -> None:
        """To be written with the next."""
        self._unconfirmed.append(batch)

    def finish(self, batch: Batch, wait_seconds: float) -> None:
        """Write or spool the last batch, or report it as lost, in a little over ``wait_seconds``.

        If a writer is killed before it reports, start another.
        """
        deadline = time.monotonic() + wait_seconds
        self._unconfirmed.append(batch)
        if self._is_done(0.0):
            self._ask_shared_writer()
        tries = 0
        while self._is_done(deadline - time.monotonic()) and self._unconfirmed and tries < _MOST_TRIES:
            tries += 1
            self._start_writer()
        if self._unconfirmed:
            hangs = self._writer is not None
            self._give_up_writer(
                f"nothing could be written for {wait_seconds:g} s" if hangs else f"{tries} writers were killed"
            )
        if self._spooled:
            self._notify_once(self._spooled)

    def _ask_shared_writer(self) -> None:
        """In a fork of the fork server: let the server's writer write the batch. If it does not, our own does."""
        path, batch = self._target.path, self._unconfirmed[0]
        may_come_twice = not (batch.samples or batch.io_samples or batch.memory_samples)
        if self.shared_write and path and may_come_twice and len(self._unconfirmed) == 1 and not self._spooled:
            batch.step["run_id"] = self._target.run_id
            if self.shared_write(path, batch):
                self._unconfirmed.clear()

    def _start_writer(self) -> None:
        batches = tuple(self._unconfirmed)
        self._writer = self._fork(lambda: self._write(batches), batches)

    def _give_up_writer(self, why: str) -> None:
        """Kill the writer that hangs, so that it cannot write old figures later. Spool its batches and the last one.

        A hung file system can delay its exit. Until then, start no other writer.
        """
        hanging = self._writer
        if hanging is not None:
            hanging.kill()
            if self._has_exited(hanging, 0.0):
                hanging = None
        batches = tuple(self._unconfirmed)
        if not batches:  # it wrote them before it was killed
            self._writer = hanging
            return
        for _ in range(_MOST_SPOOL_TRIES):
            self._writer = self._fork(lambda: self._spool(batches, why), batches)
            if not self._is_done(_SPOOL_WAIT_SECONDS):
                self._lose(f"{why}, and writing to this node's own disk hangs too: the record is incomplete")
                break
            if not self._unconfirmed:
                break
        else:
            self._lose(f"{why}, and writing to this node's own disk failed too: the record is lost")
        self._writer = hanging

    def _lose(self, text: str) -> None:
        self.is_lost = True
        self._unconfirmed.clear()
        self._notify_once(text)

    def _is_done(self, wait_seconds: float) -> bool:
        """Whether the last writer exits within the given time. Reads its report."""
        if self._writer is not None and self._has_exited(self._writer, wait_seconds):
            self._writer = None
        return self._writer is None

    def _has_exited(self, writer: _Writer, wait_seconds: float) -> bool:
        """Whether the writer exits within the given time. Reads the lines it reports until then."""
        has_exited = writer.listen(wait_seconds)
        for line in writer.take_lines():
            if not line.startswith("run "):
                writer.has_reported = True
                self._unconfirmed = [batch for batch in self._unconfirmed if batch not in writer.batches]
            self._take_in(line)
        if has_exited and not writer.has_reported:
            self._was_killed = True
        return has_exited

    def _take_in(self, line: str) -> None:
        kind, _, text = line.partition(" ")
        if kind == "run":
            self._target.know(int(text))
        elif kind == "written":
            self._was_killed = False
        elif kind == "spooled":
            self._spooled = text
        elif kind == "brought":
            self._spooled = ""
        else:
            self.is_lost = self.is_lost or kind == "lost"
            self._notify_once(text)

    def _notify_once(self, text: str) -> None:
        if text not in self._notified:
            self._notified.add(text)
            self._notify(text)

    def _fork(self, work: Callable[[], Iterable[str]], batches: tuple[Batch, ...]) -> _Writer:
        self.load()
        pipe_read = -1
        try:
            pipe_read, pipe_write = os.pipe()
            pid = sentinel.fork_without_signals()
        except OSError:  # a limit on processes or files: write here, where a hung file system blocks us
            if pipe_read >= 0:
                os.close(pipe_read)
                os.close(pipe_write)
            return _Writer(0, -1, batches, b"".join(_report(work)))
        if pid == 0:
            try:
                for line in _report(work):
                    os.write(pipe_write, line)
            finally:
                os._exit(0)
        os.close(pipe_write)
        return _Writer(pid, pipe_read, batches)

    # --- in the writer -------------------------------------------------------------------------------------------

    def _write(self, batches: tuple[Batch, ...]) -> Iterator[str]:
        """Write to the node file, else to the spool. Yields each line of the report as soon as it is true."""
        try:
            from torc_slurm.database.node_file import write_batches

            is_new = self._target.path is None
            path = self._target.draw(batches[0])
            for batch in batches:
                batch.step["run_id"] = batches[0].step["run_id"]
            run_id = int(str(batches[0].step["run_id"]))
            if is_new:
                yield f"run {run_id}"
            self._notify_run_id(run_id)
            write_batches(path, batches, may_be_there=self._was_killed)
        except DatabaseError as error:
            yield from self._spool(batches, str(error))
            return
        except OSError as error:
            yield from self._spool(batches, f"cannot write to {self._target.directory}: {error.strerror}")
            return
        yield "written"
        if self._spooled:
            from torc_slurm.database.spool import bring_over

            if bring_over(path):
                yield "brought"

    def _spool(self, batches: tuple[Batch, ...], why: str) -> list[str]:
        target = [self._target.assume(batch) for batch in batches][-1]
        known = f"run {batches[-1].step['run_id']}"
        try:
            path = self._write_spool(target, batches)
        except (DatabaseError, OSError) as error:
            return [known, f"lost {why}, and writing to this node's own disk failed too ({error}): the record is lost"]
        later = f"until torc slurm collect --output-dir {self._target.output_dir} can write there, on this node"
        return [known, f"spooled {why}; the record is kept in {path} {later}"]

    def _write_spool(self, target: str, batches: tuple[Batch, ...]) -> str:
        try:
            from torc_slurm.database.spool import write_to_spool
        except ImportError:
            from torc_slurm.database.plain_spool import write_plain_spool

            return write_plain_spool(target, self._spool_name, batches)
        return [write_to_spool(target, self._spool_name, batch) for batch in batches][-1]


def _report(work: Callable[[], Iterable[str]]) -> Iterator[bytes]:
    try:
        yield from map(_line, work())
    except Exception as error:
        yield _line(f"lost a batch is lost ({type(error).__name__}: {error})")


def _line(text: str) -> bytes:
    one_line = " ".join(text.splitlines())
    return one_line.encode("utf-8", "backslashreplace")[: _MOST_LINE_BYTES - 1] + b"\n"


class _Writer:
    """A forked writer and the pipe for the lines of its report. With pid 0 the work is already done."""

    def __init__(self, pid: int, pipe: int, batches: tuple[Batch, ...], text: bytes = b"") -> None:
        self._pid = pid
        self.pipe = pipe
        self.batches = batches  # the batches that its report is about
        self.has_reported = False  # it reported more than the run id
        self._text = text

    def kill(self) -> None:
        if self._pid:
            os.kill(self._pid, 9)

    def listen(self, wait_seconds: float) -> bool:
        """Read its report. Returns whether it exited within the time."""
        if self.pipe < 0:
            return True
        deadline = time.monotonic() + wait_seconds
        poll = select.poll()
        poll.register(self.pipe, select.POLLIN)
        while poll.poll(max(0, round((deadline - time.monotonic()) * 1000))):
            read = os.read(self.pipe, _MOST_LINE_BYTES)
            if not read:
                os.close(self.pipe)
                self.pipe = -1
                os.waitpid(self._pid, 0)
                return True
            self._text += read
        return False

    def take_lines(self) -> list[str]:
        """The complete lines of its report that were not returned yet."""
        text, end, self._text = self._text.rpartition(b"\n")
        return (text + end).decode("utf-8", "replace").splitlines()


class Target:
    """The node file of a step. Outside Slurm, the first write chooses the run id."""

    def __init__(self, identity: StepIdentity, is_of_site: bool = False) -> None:
        self._identity = identity
        self._is_of_site = is_of_site  # a site chose the output directory for this user
        self.path: str | None = None if identity.run_id is None else node_file_of(identity)

    @property
    def output_dir(self) -> str:
        return self._identity.output_dir

    @property
    def run_id(self) -> int | None:
        return self._identity.run_id

    @property
    def directory(self) -> str:
        """Where the node file is, or will be."""
        return os.path.join(self.output_dir, RESOURCE_DIR)

    def draw(self, batch: Batch) -> str:
        """The file's path. If there is no run id yet, creating the file claims the next free one.

        Raises:
            OSError: the directory cannot be made or listed, is not safe to use, or the file cannot be created.
        """
        if self._is_of_site:
            node_local.make_own_directory(self.output_dir)
        if self.path is None:
            self.know(_create_next_local(self._identity))
        batch.step["run_id"] = self._identity.run_id
        assert self.path is not None
        return self.path

    def know(self, run_id: int) -> None:
        """Keep the run id that this process or a writer chose."""
        self._identity.run_id = run_id
        self.path = node_file_of(self._identity)

    def assume(self, batch: Batch) -> str:
        """The path for a spool. If no run id could be chosen, the name has the time instead, so that it is unique."""
        if self.path is None:
            self.know(int(float(str(batch.step["begin_time"]))))
        batch.step["run_id"] = self._identity.run_id
        assert self.path is not None
        return self.path


def _create_next_local(identity: StepIdentity) -> int:
    stem, _, _ = node_file_path(identity.output_dir, identity.node, "local", 0).rpartition("0.db")
    place, prefix = os.path.split(stem)
    make_shared_directory(place)
    names = [name[len(prefix) : -len(".db")] for name in os.listdir(place) if name.startswith(prefix)]
    run_id = max((int(name) for name in names if name.isdigit()), default=0)
    while True:
        run_id += 1
        path = f"{stem}{run_id}.db"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        return run_id
