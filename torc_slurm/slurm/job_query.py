"""Asks sacct once for many jobs: by their ids, or by user, time, state and partition."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.slurm import sacct
from torc_slurm.slurm.commands import LOGIN_TIMEOUT_SECONDS, sacct_timeout_seconds
from torc_slurm.slurm.configuration import SlurmFacts

# torc's verdicts that are not Slurm's words, and words that people use, as sacct's --state takes them.
_STATES = {
    "OOM": ("OUT_OF_MEMORY",),
    "TIMEOUT": ("TIMEOUT", "DEADLINE"),
    "NODE_FAIL": ("NODE_FAIL", "BOOT_FAIL"),
    "FAILED": ("FAILED", "OUT_OF_MEMORY"),
}
_AHEAD_SECONDS = 400 * 86400


@dataclass(frozen=True)
class JobQuestion:
    """Which jobs. With ``jobs`` (as sacct's -j takes them) the rest does not matter; times are Unix times."""

    jobs: tuple[str, ...] = ()
    user: str | None = None
    all_users: bool = False
    since: float | None = None
    until: float | None = None
    states: tuple[str, ...] = ()
    partition: str | None = None

    def arguments(self) -> list[str]:
        """sacct's arguments. Of a requeued job it answers with the last run."""
        if self.jobs:
            return ["-j", ",".join(self.jobs)]
        words = ["-a"] if self.all_users else ["-u", self.user or ""] if self.user else []
        words += [f"--starttime={_moment(self.since)}"] if self.since is not None else []
        # sacct takes --state together with an end only; with an end of now it hides jobs that may start later
        words += [f"--endtime={_moment(time.time() + _AHEAD_SECONDS if self.until is None else self.until)}"]
        if self.states:
            asked = [word for state in self.states for word in _STATES.get(state.upper(), (state.upper(),))]
            words.append(f"--state={','.join(dict.fromkeys(asked))}")
        return words + ([f"--partition={self.partition}"] if self.partition else [])


def _moment(unix_time: float) -> str:
    """As sacct reads a moment; it is asked with TZ=UTC0."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_time))


def job_rows(
    question: JobQuestion, *, timeout_seconds: float | None = None, problems: list[str] | None = None
) -> Iterator[AccountingRecord]:
    """The records of the jobs as they come, each job's before its steps', in sacct's order, from one query.

    Args:
        problems: takes one line for each record that could not be read.

    Raises:
        CommandError: sacct is not there, did not answer in time (60 s, or TORC_SACCT_TIMEOUT_SECONDS), or refused.
        ParseError: what it printed is not of the form that was asked for.
    """
    limit = sacct_timeout_seconds(LOGIN_TIMEOUT_SECONDS) if timeout_seconds is None else timeout_seconds
    answer = sacct.query(question.arguments(), timeout_seconds=limit, for_list=True)
    yield from sacct.parse_stream(answer, problems)


@dataclass(frozen=True)
class MaxRssMeaning:
    """What this cluster's MaxRSS is: ``text`` in one line; whether page cache is in it, and whether it is polled."""

    text: str
    has_page_cache: bool
    is_polled: bool
    poll_interval_seconds: float | None = None


def max_rss_meaning(facts: SlurmFacts) -> MaxRssMeaning:
    """From Slurm's version and gather plugin, as docs/accounting.md has it; what is not known is taken to be polled."""
    every = facts.gather_interval_seconds
    polled = "polled" if every is None else f"polled every {every:g} s" if every else "read at the end only"
    gather = facts.gather_type or ""
    if not facts.gathers:
        return MaxRssMeaning("this cluster measures no steps", has_page_cache=False, is_polled=True)
    if gather.endswith("linux"):
        text = f"Slurm's MaxRSS here is the resident memory of one task's processes, added up and {polled}"
        return MaxRssMeaning(text, has_page_cache=False, is_polled=True, poll_interval_seconds=every)
    version = _version(facts.slurm_version)
    if gather.endswith("cgroup") and version >= (24, 11) and "no_file_cache" not in (facts.gather_params or ""):
        text = "Slurm's MaxRSS here is the kernel's own peak of a task, page cache included"
        return MaxRssMeaning(text, has_page_cache=True, is_polled=False)
    if gather.endswith("cgroup") and (23, 11) <= version < (24, 11):
        text = f"Slurm's MaxRSS here is all that is charged to a task, page cache included, {polled}"
        return MaxRssMeaning(text, has_page_cache=True, is_polled=True, poll_interval_seconds=every)
    text = f"Slurm's MaxRSS here is the memory of one task without page cache, {polled}"
    return MaxRssMeaning(text, has_page_cache=False, is_polled=True, poll_interval_seconds=every)


def _version(text: str | None) -> tuple[int, ...]:
    numbers: Sequence[str] = (text or "").split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdecimal())
