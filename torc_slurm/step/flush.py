"""Has batches written without ever waiting for the file system: a thread per flush, the node's own disk as spool.

batch -> thread: node file, else spool -> outcome (a text for the user where something was lost or spooled).
A file system that hangs holds the thread; the monitor goes on, and what comes next goes to the spool.
"""

from __future__ import annotations

import _thread
import os
import time

from torc_slurm.errors import DatabaseError
from torc_slurm.identity import node_file_of, node_file_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from torc_slurm.database.batch import Batch
    from torc_slurm.identity import StepIdentity


class Flusher:
    """Writes one step's batches to its node file, or beside it."""

    def __init__(self, target: Target, spool_name: str, tell: Callable[[str], None]) -> None:
        self._target = target
        self._spool_name = spool_name
        self._tell = tell
        self._writing = _thread.allocate_lock()  # held by the thread that writes
        self._told: set[str] = set()

    @property
    def is_busy(self) -> bool:
        return self._writing.locked()

    @property
    def path(self) -> str | None:
        """The node file's path, as far as it is known."""
        return self._target.path

    def start(self, batch: Batch) -> None:
        """Write in the background; while an earlier batch still hangs this one goes to the spool."""
        if self.is_busy:
            self._spool(batch, "the write before it has not ended")
            return
        self._writing.acquire()
        _thread.start_new_thread(self._write, (batch,))

    def finish(self, batch: Batch, wait_seconds: float) -> None:
        """The last batch: written, or spooled, when this returns; at most a little over ``wait_seconds``."""
        deadline = time.monotonic() + wait_seconds
        self._wait(deadline)
        if not self.is_busy:
            self.start(batch)
            self._wait(deadline)
        if self.is_busy:
            self._spool(batch, f"nothing could be written for {wait_seconds:g} s")

    def _wait(self, deadline: float) -> None:
        if self._writing.acquire(timeout=max(0.0, deadline - time.monotonic())):
            self._writing.release()

    def _write(self, batch: Batch) -> None:
        try:
            from torc_slurm.database.node_file import write_batch

            write_batch(self._target.draw(batch), batch)
        except (DatabaseError, OSError) as error:
            self._spool(batch, getattr(error, "strerror", None) or str(error))
        except Exception as error:
            self._tell_once(f"a batch of samples is lost ({type(error).__name__}: {error})")
        finally:
            self._writing.release()

    def _spool(self, batch: Batch, why: str) -> None:
        from torc_slurm.database.spool import write_to_spool

        try:
            path = write_to_spool(self._target.assume(batch), self._spool_name, batch)
            self._tell_once(f"{why}; the record is kept in {path} until torc slurm collect runs on this node")
        except Exception as error:
            self._tell_once(f"{why}, and no spool ({error}): the record is lost")

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)


class Target:
    """The node file of a step; outside Slurm its run id is drawn by the first write, which is the first to touch it."""

    def __init__(self, identity: StepIdentity) -> None:
        self._identity = identity
        self.path: str | None = None if identity.run_id is None else node_file_of(identity)

    def draw(self, batch: Batch) -> str:
        """The file's path; where there is no run id yet the next free one is taken by creating the file.

        Raises:
            OSError: the directory cannot be made or listed, or the file not be created.
        """
        if self.path is None:
            self._identity.run_id, self.path = _create_next_local(self._identity)
        batch.step["run_id"] = self._identity.run_id
        return self.path

    def assume(self, batch: Batch) -> str:
        """The path for a spool: where none could be drawn the time stands for the run id, so that it is a fresh one."""
        if self.path is None:
            self._identity.run_id = int(self._begin_of(batch))
            self.path = node_file_of(self._identity)
        batch.step["run_id"] = self._identity.run_id
        return self.path

    @staticmethod
    def _begin_of(batch: Batch) -> float:
        return float(str(batch.step["begin_time"]))


def _create_next_local(identity: StepIdentity) -> tuple[int, str]:
    stem, _, _ = node_file_path(identity.output_dir, identity.node, "local", 0).rpartition("0.db")
    place, prefix = os.path.split(stem)
    os.makedirs(place, exist_ok=True)
    names = [name[len(prefix) : -len(".db")] for name in os.listdir(place) if name.startswith(prefix)]
    run_id = max((int(name) for name in names if name.isdigit()), default=0)
    while True:
        run_id += 1
        path = f"{stem}{run_id}.db"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        return run_id, path
