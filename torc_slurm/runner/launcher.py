"""The seam between the runner and how jobs are started: plain processes, srun steps, later one Slurm job per job."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Protocol

from torc_slurm.errors import TorcError
from torc_slurm.plan import JobPlan
from torc_slurm.runner.attempts import Attempt, Ended, Evidence, Started, ToldToEnd
from torc_slurm.runner.placement import Demand, Node

if TYPE_CHECKING:
    from torc_slurm.runner.children import Children


class LaunchError(TorcError):
    """An attempt could not be started; the message is the reason that its record gets."""


class Launcher(Protocol):
    """Starts attempts and ends them; tells of every end by the callback that it was started with."""

    @property
    def name(self) -> str:
        """What the journal calls it."""

    @property
    def slurm_job_id(self) -> int | None:
        """The allocation that it starts steps in."""

    @property
    def children(self) -> Children:
        """The processes of this runner; only one can hear of their ends."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What there is to be used."""

    def refusal(self, job: JobPlan) -> str | None:
        """Why the job can never run here, None if it can."""

    def demand(self, job: JobPlan) -> Demand:
        """What the job takes here."""

    def room(self) -> int:
        """How many may be started at this moment."""

    def tell_of_room(self, on_room: Callable[[], None]) -> None:
        """From now on call back when `room` has grown."""

    def start(self, attempt: Attempt, on_end: Callable[[Ended], None]) -> Started:
        """Start it and return at once.

        Raises:
            LaunchError: it could not be started; ``on_end`` is not called then.
        """

    def evidence(self, attempt: Attempt, ended: Ended, told: ToldToEnd | None) -> Callable[[], Evidence] | None:
        """Work for a thread that finds out what the end's status leaves in doubt; None where there is no doubt."""

    def grace_seconds(self) -> float:
        """How long jobs that were asked to end now may take before they are killed."""

    def end(self, job_ids: Collection[int], *, kill: bool) -> None:
        """Have running attempts end: by SIGTERM, or by SIGKILL."""
