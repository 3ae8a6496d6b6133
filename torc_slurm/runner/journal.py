"""Keeps the run's journal in this host's node file: changes are gathered and written together, in a thread.

A crash loses at most what was gathered since the last write, and no finished result: the wrapper's exit record is in a
node file before srun returns. A node file that cannot be written is tried again, ever more rarely; in the end the
rows go to the node's spool.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from torc_slurm.database.journal import write_journal
from torc_slurm.database.spool import write_journal_to_spool
from torc_slurm.errors import TorcError
from torc_slurm.runner.loop import Loop

GATHER_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
CLOSE_SECONDS = 10.0
_LOCK_WAIT_SECONDS = 5.0

Row = Mapping[str, int | float | str | None]


class Journal:
    """The rows of one run: its own, and the latest of each attempt."""

    def __init__(self, path: str, loop: Loop, note: Callable[[str], None]) -> None:
        """``path`` is the node file's; ``note`` takes a line for the user when it cannot be written."""
        self._path = path
        self._loop = loop
        self._note = note
        self._runs: list[Row] = []
        self._states: dict[tuple[object, object], Row] = {}  # by job and attempt
        self._is_writing = False
        self._is_due = False
        self._pause_seconds = GATHER_SECONDS

    def put_run(self, row: Row) -> None:
        """The run's row (keys: `database.journal.RUN_COLUMNS`) has changed."""
        self._runs = [row]
        self._write_soon()

    def put_state(self, row: Row) -> None:
        """An attempt's row (keys: `database.journal.JOB_STATE_COLUMNS`) has changed."""
        self._states[row["job_id"], row["attempt_id"]] = row
        self._write_soon()

    def hurry(self) -> None:
        """Do not gather any longer: this process may be killed soon."""
        if not self._is_writing:
            self._write()

    def close(self) -> None:
        """Write what is left, into the spool where the node file cannot be written; takes at most 10 s and a bit."""
        runs, states = self._take()
        done = threading.Event()
        failed: list[Exception] = []

        def write() -> None:
            try:
                write_journal(self._path, runs, states, _LOCK_WAIT_SECONDS)
            except Exception as error:
                failed.append(error)
            done.set()

        threading.Thread(target=write, daemon=True).start()
        if not done.wait(CLOSE_SECONDS):
            failed.append(TorcError(f"{self._path} could not be written within {CLOSE_SECONDS:g} s"))
        if failed:
            self._spool(failed[0], runs, states)

    def _spool(self, why: Exception, runs: list[Row], states: list[Row]) -> None:
        name = "journal." + "_".join(f"{row['workflow_id']}_{row['run_id']}" for row in runs[:1])
        try:
            spool = write_journal_to_spool(self._path, name, runs, states)
            self._note(f"{why}; the journal is kept in {spool} until torc slurm collect runs on this node")
        except (TorcError, OSError) as error:
            self._note(f"{why}, and no spool ({error}): the journal is lost, the exit records of the jobs are not")

    def _take(self) -> tuple[list[Row], list[Row]]:
        runs, states = self._runs, list(self._states.values())
        self._runs, self._states = [], {}
        return runs, states

    def _write_soon(self) -> None:
        if not self._is_writing and not self._is_due:
            self._is_due = True
            self._loop.after(self._pause_seconds, self._write)

    def _write(self) -> None:
        self._is_due = False
        if self._is_writing or not (self._runs or self._states):
            return
        self._is_writing = True
        runs, states = self._take()
        self._loop.in_background(
            lambda: write_journal(self._path, runs, states, _LOCK_WAIT_SECONDS),
            lambda result: self._written(result, runs, states),
        )

    def _written(self, result: Exception | None, runs: list[Row], states: list[Row]) -> None:
        self._is_writing = False
        if isinstance(result, Exception):
            if self._pause_seconds == GATHER_SECONDS:
                self._note(f"{result}; it will be tried again")
            self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)
            self._runs = self._runs or runs  # what changed meanwhile goes before
            self._states = {(row["job_id"], row["attempt_id"]): row for row in states} | self._states
        else:
            self._pause_seconds = GATHER_SECONDS
        if self._runs or self._states:
            self._write_soon()
