"""Shows a run's progress on stderr: an updated line on a terminal, else one line after another."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from torc_slurm.cli.options import say
from torc_slurm.common.text import printable
from torc_slurm.records.statuses import COMPLETED

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from torc_slurm.runner.attempts import Attempt, Outcome
    from torc_slurm.spec.plan import JobPlan

_LINE_EVERY_SECONDS = 60.0
_MOST_TROUBLE_LINES = 100


class View(Protocol):
    """An observer of the runner, shown inside a ``with`` block."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def began(self, jobs: int, place: str) -> None: ...

    def started(self, attempt: Attempt) -> None: ...

    def ended(self, job: JobPlan, outcome: Outcome) -> None: ...

    def note(self, text: str) -> None: ...


def progress_view(title: str) -> View:
    """The view that fits stderr; ``title`` names the run."""
    return TerminalView(title) if sys.stderr.isatty() else LineView(title)


class LineView:
    """A line when the run begins, for every job that did not complete, and from time to time for the progress."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._total = 0
        self._states: Counter[str] = Counter()
        self._running = 0
        self._said_at = 0.0
        self._troubles = 0

    def __enter__(self) -> LineView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def began(self, jobs: int, place: str) -> None:
        self._total, self._said_at = jobs, time.monotonic()
        say(f"{self._title}: {jobs} {'job' if jobs == 1 else 'jobs'} on {place}")

    def started(self, attempt: Attempt) -> None:  # noqa: ARG002 - started jobs are only counted
        self._running += 1

    def ended(self, job: JobPlan, outcome: Outcome) -> None:
        self._states[outcome.state] += 1
        self._running = max(0, self._running - 1)
        if outcome.state != COMPLETED:
            self._say_trouble(trouble_line(job, outcome))
        if time.monotonic() - self._said_at >= _LINE_EVERY_SECONDS:
            self._said_at = time.monotonic()
            are = "is" if self._running == 1 else "are"
            say(f"{sum(self._states.values())} of {self._total} jobs have ended, {self._running} {are} running")

    def _say_trouble(self, line: str) -> None:
        self._troubles += 1
        if self._troubles <= _MOST_TROUBLE_LINES:
            say(line)
        elif self._troubles == _MOST_TROUBLE_LINES + 1:
            say("more jobs did not complete; torc status names all of them")

    def note(self, text: str) -> None:
        say(text)


class TerminalView:
    """A bar with the number of ended and running jobs; above it, lines for jobs that did not complete."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._states: Counter[str] = Counter()
        self._running: dict[int, str] = {}

    def __enter__(self) -> TerminalView:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[now]}", markup=False),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stderr=False)
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def began(self, jobs: int, place: str) -> None:
        self.note(f"{self._title}: {jobs} {'job' if jobs == 1 else 'jobs'} on {place}")
        if self._progress is not None:
            self._task = self._progress.add_task(printable(self._title, 40), total=jobs, now="")

    def started(self, attempt: Attempt) -> None:
        self._running[attempt.job.job_id] = attempt.job.name
        self._renew()

    def ended(self, job: JobPlan, outcome: Outcome) -> None:
        self._states[outcome.state] += 1
        self._running.pop(job.job_id, None)
        if outcome.state != COMPLETED:
            self.note(trouble_line(job, outcome))
        self._renew()

    def note(self, text: str) -> None:
        from rich.text import Text

        if self._progress is not None:
            self._progress.console.print(Text(f"torc: {printable(text)}"), soft_wrap=True)

    def _renew(self) -> None:
        if self._progress is not None and self._task is not None:
            names = ", ".join(list(self._running.values())[:3])
            more = f" and {len(self._running) - 3} more" if len(self._running) > 3 else ""
            now = printable(f"{names}{more}", 60)
            self._progress.update(self._task, completed=sum(self._states.values()), now=now)


def trouble_line(job: JobPlan, outcome: Outcome) -> str:
    """``job train: oom (the kernel killed …)``."""
    return f"job {job.name}: {outcome.state}" + (f" ({outcome.reason})" if outcome.reason else "")
