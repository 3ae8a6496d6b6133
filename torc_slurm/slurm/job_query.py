"""Asks sacct once for many jobs: by their ids, or by user, time, state and partition."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.records.statuses import NODE_FAIL, TIMEOUT
from torc_slurm.slurm import sacct
from torc_slurm.slurm.commands import LOGIN_TIMEOUT_SECONDS, sacct_timeout_seconds
from torc_slurm.slurm.states import states_of_status

ALL_USERS = "*"
# torc's statuses that Slurm does not have, and words that people use, as values of sacct's --state.
_STATES = {
    "OOM": ("OUT_OF_MEMORY",),
    "TIMEOUT": states_of_status(TIMEOUT),
    "NODE_FAIL": states_of_status(NODE_FAIL),
    "FAILED": ("FAILED", "OUT_OF_MEMORY"),
}
_AHEAD_SECONDS = 400 * 86400


class JobFilter(NamedTuple):
    """Which jobs: the query to sacct, and a filter of its answer.

    ``name`` matches the whole job name; ``limit`` is the largest number of jobs.
    """

    question: JobQuestion
    name: re.Pattern[str] | None = None
    limit: int | None = None


@dataclass(frozen=True)
class JobQuestion:
    """Which jobs. With ``jobs`` (as for sacct's -j), sacct ignores the rest. Times are Unix times.

    ``user`` may be `ALL_USERS`; ``states`` are torc's or Slurm's words.
    """

    jobs: tuple[str, ...] = ()
    user: str | None = None
    since: float | None = None
    until: float | None = None
    states: tuple[str, ...] = ()
    partition: str | None = None

    def arguments(self) -> list[str]:
        """sacct's arguments. For a requeued job, sacct returns its last run."""
        if self.jobs:
            return ["-j", ",".join(self.jobs)]
        words = ["-a"] if self.user == ALL_USERS else ["-u", self.user] if self.user else []
        words += [f"--starttime={_moment(self.since)}"] if self.since is not None else []
        # sacct accepts --state only with an end time; with "now" as the end it hides jobs that may start later
        words += [f"--endtime={_moment(time.time() + _AHEAD_SECONDS if self.until is None else self.until)}"]
        if self.states:
            asked = [word for state in self.states for word in _STATES.get(state.upper(), (state.upper(),))]
            words.append(f"--state={','.join(dict.fromkeys(asked))}")
        return words + ([f"--partition={self.partition}"] if self.partition else [])


def _moment(unix_time: float) -> str:
    """A time for sacct, which runs with TZ=UTC0."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_time))


def job_rows(
    question: JobQuestion,
    *,
    timeout_seconds: float | None = None,
    on_problem: Callable[[str], object] = lambda _line: None,
) -> Iterator[AccountingRecord]:
    """Start one query; the jobs' records come as sacct writes them, each job's before its steps', in sacct's order.

    Args:
        on_problem: receives one line for each record that could not be read.

    Raises:
        CommandError: sacct is missing, did not answer in time (60 s, or TORC_SACCT_TIMEOUT_SECONDS), or refused.
        ParseError: its output does not have the requested form.
    """
    limit = sacct_timeout_seconds(LOGIN_TIMEOUT_SECONDS) if timeout_seconds is None else timeout_seconds
    answer = sacct.query(question.arguments(), timeout_seconds=limit, for_list=True)
    return sacct.parse_stream(answer, on_problem, for_list=True)
