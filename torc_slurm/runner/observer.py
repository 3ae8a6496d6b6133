"""The runner's reports of its progress; the command line shows them."""

from __future__ import annotations

from typing import Protocol

from torc_slurm.runner.attempts import Attempt, Outcome
from torc_slurm.spec.plan import JobPlan


class Observer(Protocol):
    """Is called for every event, in the loop's thread; must return at once."""

    def began(self, jobs: int, place: str) -> None:
        """The run begins; ``place`` names the machine or allocation and its size."""

    def started(self, attempt: Attempt) -> None:
        """An attempt runs."""

    def ended(self, job: JobPlan, outcome: Outcome) -> None:
        """A job ended, was cancelled, or could not be started."""

    def note(self, text: str) -> None:
        """A line for the user."""
