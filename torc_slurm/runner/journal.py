"""Writes the run's journal into this host's node file: a thread collects changes and writes them together.

A crash loses at most the changes since the last write, and no finished result: the wrapper's exit record is in a node
file before srun returns. If the node file cannot be written, the thread retries at growing intervals; at the end the
rows go to the node's spool.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torc_slurm.common.errors import TorcError
from torc_slurm.database.journal import write_journal
from torc_slurm.database.spool import write_journal_to_spool
from torc_slurm.runner.loop import Loop

GATHER_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
CLOSE_SECONDS = 10.0
_LOCK_WAIT_SECONDS = 5.0

Row = Mapping[str, int | float | str | None]
States = dict[tuple[object, object], Row]  # by job and attempt


@dataclass(frozen=True)
class _Rows:
    """Rows to write together; ``written`` is set when they are."""

    runs: list[Row]
    states: States
    written: threading.Event = field(default_factory=threading.Event)

    def under(self, newer: _Rows) -> _Rows:
        """These rows, replaced by newer ones."""
        return _Rows(newer.runs or self.runs, self.states | newer.states)


class Journal:
    """The rows of one run: its own, and the latest of each attempt."""

    def __init__(self, path: str, loop: Loop, note: Callable[[str], None]) -> None:
        """``path`` is the node file's; ``note`` receives a line for the user if it cannot be written."""
        self._path = path
        self._loop = loop
        self._note = note
        self._runs: list[Row] = []
        self._states: States = {}
        self._writing: _Rows | None = None
        self._is_due = False
        self._pause_seconds = GATHER_SECONDS

    def put_run(self, row: Row) -> None:
        """Update the run's row (keys: `database.journal.RUN_COLUMNS`)."""
        self._runs = [row]
        self._write_soon()

    def put_state(self, row: Row) -> None:
        """Update an attempt's row (keys: `database.journal.JOB_STATE_COLUMNS`)."""
        self._states[row["job_id"], row["attempt_id"]] = row
        self._write_soon()

    def hurry(self) -> None:
        """Write at once: this process may be killed soon."""
        if self._writing is None:
            self._write()

    def close(self) -> None:
        """Write what is left; into the spool if the node file cannot be written. Takes little more than 10 s.

        It waits for a write in progress, which would otherwise put its older rows over the last ones. Its result is
        unknown here, so its rows are written again.
        """
        before, rows = self._writing, self._take()
        if before is not None:
            rows = before.under(rows)
        failed: list[Exception] = []

        def write() -> None:
            try:
                if before is None or before.written.wait(CLOSE_SECONDS):
                    self._write_rows(rows)
            except Exception as error:
                failed.append(error)

        threading.Thread(target=write, daemon=True).start()
        if not rows.written.wait(CLOSE_SECONDS):
            failed.append(TorcError(f"{self._path} could not be written within {CLOSE_SECONDS:g} s"))
        if failed:
            self._spool(failed[0], rows)

    def _spool(self, why: Exception, rows: _Rows) -> None:
        name = "journal." + "_".join(f"{row['workflow_id']}_{row['run_id']}" for row in rows.runs[:1])
        try:
            spool = write_journal_to_spool(self._path, name, rows.runs, list(rows.states.values()))
            kept = f"the run's own log (which jobs ended, and when) is kept in {spool}"
            self._note(f"{why}; {kept} until torc slurm collect runs on this node")
        except (TorcError, OSError) as error:
            what = f"{why}, and writing to this node's own disk failed too ({error})"
            self._note(f"{what}: the run's own log is lost; the jobs' exit records are safe")

    def _take(self) -> _Rows:
        taken = _Rows(self._runs, self._states)
        self._runs, self._states = [], {}
        return taken

    def _write_soon(self) -> None:
        if self._writing is None and not self._is_due:
            self._is_due = True
            self._loop.after(self._pause_seconds, self._write)

    def _write(self) -> None:
        self._is_due = False
        if self._writing is not None or not (self._runs or self._states):
            return
        rows = self._writing = self._take()
        self._loop.in_background(lambda: self._write_rows(rows), lambda result: self._ended(result, rows))

    def _write_rows(self, rows: _Rows) -> None:
        try:
            write_journal(self._path, rows.runs, list(rows.states.values()), _LOCK_WAIT_SECONDS)
        finally:
            rows.written.set()

    def _ended(self, result: Exception | None, rows: _Rows) -> None:
        self._writing = None
        if isinstance(result, Exception):
            if self._pause_seconds == GATHER_SECONDS:
                self._note(f"{result}; torc will retry")
            self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)
            newest = rows.under(self._take())
            self._runs, self._states = newest.runs, newest.states
        else:
            self._pause_seconds = GATHER_SECONDS
        if self._runs or self._states:
            self._write_soon()
