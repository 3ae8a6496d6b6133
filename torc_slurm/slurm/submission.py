"""Talks to Slurm about allocations: submits, cancels, asks where they stand and what a partition's nodes have.

Every call goes through `torc_slurm.slurm.commands`; what the answers mean is read by pure functions beside the calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torc_slurm.errors import CommandError, ParseError
from torc_slurm.slurm.commands import query_environment, run, run_with_messages
from torc_slurm.slurm.states import described, has_ended
from torc_slurm.units import parse_slurm_time

SBATCH_TIMEOUT_SECONDS = 120.0
QUERY_TIMEOUT_SECONDS = 20.0

_JOB_ID = re.compile(r"([0-9]{1,18})(?:;\S*)?", re.ASCII)
_NODE_FORMAT = "%R|%P|%D|%c|%m|%l|%L|%G"
_GPUS = re.compile(r"(?:^|,)gpu(?::[^:,()]+)?:([0-9]{1,9})", re.ASCII)


class Submitted(NamedTuple):
    """What sbatch gave: the job's number, and what it (or a plugin of the site's) said beside it."""

    slurm_job_id: int
    messages: str


class Nodes(NamedTuple):
    """Nodes of one kind in a partition; times in seconds, None: no limit."""

    partition: str
    is_default: bool
    node_count: int
    cpus: int
    memory_mib: int
    gpus: int
    max_seconds: int | None
    default_seconds: int | None


def submit(script: str, arguments: Sequence[str] = (), script_arguments: Sequence[str] = ()) -> Submitted:
    """Give a script to sbatch; ``arguments`` go before the script's own #SBATCH lines, the others to the script.

    Raises:
        CommandNotFound: there is no sbatch here.
        CommandTimeout: it did not answer: whether the job was submitted is not known.
        CommandError: it refused; the message has its own words.
        ParseError: it printed no job id.
    """
    stdout, messages = run_with_messages(
        ["sbatch", "--parsable", *arguments, script, *script_arguments], timeout_seconds=SBATCH_TIMEOUT_SECONDS
    )
    return Submitted(parse_job_id(stdout), messages.strip())


def parse_job_id(text: str) -> int:
    """The number in ``12`` or ``12;cluster``, which ``sbatch --parsable`` prints in its last line.

    Raises:
        ParseError: something else.
    """
    lines = text.split()
    match = _JOB_ID.fullmatch(lines[-1]) if lines else None
    if match is None:
        raise ParseError(f"sbatch --parsable printed {text!r} and no job id; look with squeue --me")
    return int(match[1])


def cancel(slurm_job_id: int) -> None:
    """scancel one job; one that has ended is no error.

    Raises:
        CommandError: Slurm refused or did not answer.
    """
    run(["scancel", str(slurm_job_id)], timeout_seconds=QUERY_TIMEOUT_SECONDS)


def active_jobs(slurm_job_ids: Iterable[int]) -> dict[int, str]:
    """Slurm's state of those of the jobs that have not ended, as `states.described` shows it; asks squeue once.

    Raises:
        CommandError: squeue is not there, or the controller does not answer.
    """
    wanted = sorted(set(slurm_job_ids))
    if not wanted:
        return {}
    arguments = ["squeue", "-h", "-t", "all", "-j", ",".join(map(str, wanted)), "-o", "%A|%T"]
    try:
        text = run(arguments, timeout_seconds=QUERY_TIMEOUT_SECONDS, environment=query_environment())
    except CommandError as error:
        if "Invalid job id" in error.stderr:  # ended long ago: slurmctld has forgotten it
            return {}
        raise
    return parse_active_jobs(text)


def parse_active_jobs(text: str) -> dict[int, str]:
    """``{job: state}`` of the lines ``job|STATE`` whose state is not known to be an end."""
    pairs = (line.split("|") for line in text.split())
    return {int(job): described(state) for job, state in pairs if not has_ended(state)}


def partition_nodes() -> list[Nodes]:
    """What every partition's nodes have; asks sinfo once.

    Raises:
        CommandError: sinfo is not there, or the controller does not answer.
        ParseError: it answered in another form.
    """
    text = run(
        ["sinfo", "-h", "-e", "-o", _NODE_FORMAT],
        timeout_seconds=QUERY_TIMEOUT_SECONDS,
        environment=query_environment(),
    )
    return parse_nodes(text)


def parse_nodes(text: str) -> list[Nodes]:
    """The nodes in what sinfo printed.

    Raises:
        ParseError: a line of another form.
    """
    try:
        return [_nodes(line.split("|")) for line in text.splitlines() if line.strip()]
    except (ValueError, IndexError) as error:
        raise ParseError(f"sinfo printed something else than {_NODE_FORMAT}: {error}") from error


def _nodes(cells: list[str]) -> Nodes:
    name, shown, count, cpus, memory, longest, default, gres = cells
    return Nodes(
        partition=name,
        is_default=shown.endswith("*"),
        node_count=int(count),
        cpus=int(cpus.rstrip("+")),
        memory_mib=int(memory.rstrip("+")),
        gpus=sum(map(int, _GPUS.findall(re.sub(r"\([^)]*\)", "", gres)))),
        max_seconds=_seconds(longest),
        default_seconds=_seconds(default),
    )


def _seconds(text: str) -> int | None:
    if text == "n/a":
        return None
    seconds = parse_slurm_time(text)
    return None if seconds is None else int(seconds)


def nodes_of(nodes: Sequence[Nodes], partition: str | None) -> list[Nodes]:
    """Those of a partition (or of several, ``a,b``); None: of the default one."""
    if partition is None:
        return [each for each in nodes if each.is_default]
    names = partition.split(",")
    return [each for each in nodes if each.partition in names]


def time_limit_of(nodes: Sequence[Nodes]) -> int | None:
    """The limit in seconds that a job without one of its own gets there: the shortest of what may apply."""
    limits = [each.default_seconds if each.default_seconds is not None else each.max_seconds for each in nodes]
    known = [limit for limit in limits if limit is not None]
    return min(known, default=None)


def states_text(states: Mapping[int, str]) -> str:
    """``job 12 (RUNNING)``."""
    return ", ".join(f"job {job} ({state})" for job, state in states.items())
