"""The interface between the runner and how jobs start: plain processes, or srun steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from torc_slurm.common.errors import TorcError
from torc_slurm.runner.attempts import Attempt, Ended, EndRequest, Evidence, Started
from torc_slurm.runner.placement import Demand, Node
from torc_slurm.spec.plan import JobPlan

if TYPE_CHECKING:
    from torc_slurm.runner.children import Children


class LaunchError(TorcError):
    """An attempt could not be started; the message becomes the reason in its record."""


class Launcher(Protocol):
    """Starts attempts and ends them; calls back when one has ended."""

    @property
    def name(self) -> str:
        """Its name in the journal."""

    @property
    def slurm_job_id(self) -> int | None:
        """The allocation in which it starts steps."""

    @property
    def children(self) -> Children:
        """The processes of this runner. Only one object can reap them."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that jobs may use."""

    def lose(self, node: str) -> None:
        """Remove a lost node from `nodes`."""

    def refusal(self, job: JobPlan) -> str | None:
        """Why the job can never run here; None if it can."""

    def demand(self, job: JobPlan) -> Demand:
        """What the job takes here."""

    def room(self) -> int:
        """How many attempts may start at this moment."""

    def set_room_callback(self, on_room: Callable[[], None]) -> None:
        """From now on, call back when `room` has grown."""

    def start(self, attempt: Attempt, on_end: Callable[[Ended], None]) -> Started:
        """Start it and return at once.

        Raises:
            LaunchError: it could not be started; ``on_end`` is not called.
        """

    def can_be_grouped(self, job: JobPlan) -> bool:
        """Whether the job's own options leave it to us how its process is started and heard."""

    def start_group(
        self,
        key: int,
        attempts: Sequence[Attempt],
        on_message: Callable[[str], None],
        on_end: Callable[[Ended, Evidence], None],
    ) -> Started:
        """Start one process that runs them one after another; ``end`` knows it by ``key``, which no job has.

        ``on_message`` gets each line that it reports of its jobs; ``on_end`` is called after the last of them. If the
        process did not end by itself, ``on_end`` is called only when nothing of it runs, or torc could not achieve that
        (`Ended.is_gone`).

        Raises:
            LaunchError: it could not be started; ``on_end`` is not called then.
        """

    def evidence(self, attempt: Attempt, ended: Ended, end_request: EndRequest | None) -> Callable[[], Evidence] | None:
        """A function, for a thread, that finds out what the end's status leaves open; None if it is clear."""

    def grace_seconds(self) -> float:
        """How long jobs that were asked to end may take before they are killed."""

    def end(self, job_ids: Collection[int], *, kill: bool) -> None:
        """End running attempts, with SIGTERM or SIGKILL."""

    def close(self) -> None:
        """The run is over: end the processes that are no jobs."""
