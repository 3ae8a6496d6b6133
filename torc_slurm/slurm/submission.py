"""Submits and cancels allocations, and asks for their states and for the nodes of partitions.

Every call goes through `torc_slurm.slurm.commands`; pure functions parse the answers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torc_slurm.common.errors import CommandError, ParseError
from torc_slurm.common.text import printable
from torc_slurm.common.units import parse_slurm_time
from torc_slurm.slurm.clusters import SlurmJob, cluster_arguments, without_headings
from torc_slurm.slurm.commands import query_environment, run, run_with_messages
from torc_slurm.slurm.environment import given_options, sbatch_environment
from torc_slurm.slurm.states import described, has_ended, is_waiting

SBATCH_TIMEOUT_SECONDS = 120.0
QUERY_TIMEOUT_SECONDS = 20.0

_JOB_ID = re.compile(r"([0-9]{1,18})(?:;(\S+))?", re.ASCII)
_JOB_STATE = re.compile(r"([0-9]{1,18})\|([A-Z][A-Z_+]*)(?:\|(.*))?", re.ASCII)
_NO_REASON = frozenset(("", "None", "N/A", "(null)"))
_UNREAD_REMEDY = "look for it with squeue --me"
_NODE_FORMAT = "%R|%P|%D|%c|%m|%l|%L|%G"
_GPUS = re.compile(r"(?:^|,)gpu(?::[^:,()]+)?:([0-9]{1,9})", re.ASCII)


class Submitted(NamedTuple):
    """sbatch's answer: the job, and other lines that sbatch (or a plugin or a wrapper of the site) printed.

    ``job`` None: sbatch accepted the script, but its job number could not be read; ``messages`` say so.
    """

    job: SlurmJob | None
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
    """Submit a script. ``arguments`` override the script's own #SBATCH lines; the script gets ``script_arguments``.

    Environment variables do not replace what the script or the arguments set.

    Raises:
        CommandNotFound: there is no sbatch here.
        CommandTimeout: it did not answer; whether the job was submitted is unknown.
        CommandError: it refused; the message quotes it.
    """
    with open(script, encoding="utf-8", errors="surrogateescape") as file:
        said = given_options(file.read(), arguments)
    stdout, messages = run_with_messages(
        ["sbatch", "--parsable", *arguments, script, *script_arguments],
        timeout_seconds=SBATCH_TIMEOUT_SECONDS,
        environment=sbatch_environment(os.environ, said),
    )
    job, others = read_answer(stdout)
    notes = [messages.strip(), *others]
    if job is None:
        notes.append(f"sbatch accepted {script}, and no line of what it printed is a job id: {_UNREAD_REMEDY}")
    return Submitted(job, "\n".join(filter(None, notes)))


def read_answer(text: str) -> tuple[SlurmJob | None, list[str]]:
    """The job in the output of ``sbatch --parsable`` (a line ``12`` or ``12;cluster``), and all other lines.

    None if no line or more than one has that form: sbatch wrappers and plugins print lines before and after it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = {line: match for line in lines if (match := _JOB_ID.fullmatch(line))}
    if len(found) != 1:
        return None, lines
    ((line, match),) = found.items()
    return SlurmJob(int(match[1]), match[2]), [other for other in lines if other != line]


def cancel(job: SlurmJob) -> None:
    """Call scancel for one job. It is not an error if the job has ended.

    Raises:
        CommandError: Slurm refused or did not answer.
    """
    run(
        ["scancel", *cluster_arguments(job.cluster), str(job.slurm_job_id)],
        timeout_seconds=QUERY_TIMEOUT_SECONDS,
        environment=query_environment(),
    )


def active_jobs(jobs: Iterable[SlurmJob]) -> dict[SlurmJob, str]:
    """The states, as `states.described` shows them, of those jobs that have not ended.

    Calls squeue once per cluster.

    Raises:
        CommandError: squeue is missing, or a controller does not answer.
        ParseError: the answer has no state for a job.
    """
    numbers: dict[str | None, set[int]] = {}
    for job in jobs:
        numbers.setdefault(job.cluster, set()).add(job.slurm_job_id)
    return {
        SlurmJob(number, cluster): state
        for cluster, wanted in numbers.items()
        for number, state in _active_jobs_of(cluster, sorted(wanted)).items()
    }


def _active_jobs_of(cluster: str | None, wanted: Sequence[int]) -> dict[int, str]:
    chosen = ",".join(map(str, wanted))
    arguments = ["squeue", *cluster_arguments(cluster), "-h", "-t", "all", "-j", chosen, "-o", "%A|%T|%r"]
    try:
        text = run(arguments, timeout_seconds=QUERY_TIMEOUT_SECONDS, environment=query_environment())
    except CommandError as error:
        if "Invalid job id" in error.stderr:  # ended long ago, and slurmctld has forgotten it
            return {}
        raise
    lines = without_headings(text)
    answered = {int(match[1]) for line in lines if (match := _JOB_STATE.fullmatch(line.strip()))}
    if len(answered) < len(lines) and set(wanted) - answered:
        raise ParseError(f"squeue printed {text[:200]!r}, without the state of {chosen}")
    return parse_active_jobs(text)


def parse_active_jobs(text: str) -> dict[int, str]:
    """``{job: state}`` of the lines ``job|STATE``, without states that are known ends. Skips lines of other forms."""
    found = (_JOB_STATE.fullmatch(line.strip()) for line in without_headings(text))
    return {
        int(match[1]): described(match[2]) + _why(match[2], match[3])
        for match in found
        if match is not None and not has_ended(match[2])
    }


def _why(state: str, reason: str | None) -> str:
    """Why a job waits, by Slurm: `` (Resources)``."""
    return f" ({printable(reason)})" if is_waiting(state) and reason and reason not in _NO_REASON else ""


def partition_nodes(cluster: str | None = None) -> list[Nodes]:
    """The nodes of every partition of a cluster (None: the local one). Calls sinfo once.

    Raises:
        CommandError: sinfo is missing, or the controller does not answer.
        ParseError: the answer has another form.
    """
    text = run(
        ["sinfo", *cluster_arguments(cluster), "-h", "-e", "-o", _NODE_FORMAT],
        timeout_seconds=QUERY_TIMEOUT_SECONDS,
        environment=query_environment(),
    )
    return parse_nodes(text)


def parse_nodes(text: str) -> list[Nodes]:
    """The nodes in sinfo's output.

    Raises:
        ParseError: a line has another form.
    """
    try:
        return [_nodes(line.split("|")) for line in without_headings(text)]
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
    """The nodes of a partition (or of several, ``a,b``); None: of the default one."""
    if partition is None:
        return [each for each in nodes if each.is_default]
    names = partition.split(",")
    return [each for each in nodes if each.partition in names]


def longest_limit(nodes: Sequence[Nodes]) -> int | None:
    """The longest time limit in seconds that a job can ask for there; None: no limit, or not known."""
    limits = [each.max_seconds for each in nodes]
    return None if None in limits else max((limit for limit in limits if limit is not None), default=None)


def time_limit_of(nodes: Sequence[Nodes]) -> int | None:
    """The limit in seconds of a job without one of its own: the shortest limit that may apply."""
    limits = [each.default_seconds if each.default_seconds is not None else each.max_seconds for each in nodes]
    known = [limit for limit in limits if limit is not None]
    return min(known, default=None)
