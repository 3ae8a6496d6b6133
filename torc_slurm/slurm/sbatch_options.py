"""What sbatch is asked for, as options and as #SBATCH lines; pure.

Only this module quotes #SBATCH lines. sbatch parses them itself, no shell does: a value in double quotes keeps every
character except a line break, with a backslash before ``"`` and ``\\`` (Slurm's src/sbatch/opt.c; seen on 22.05 and
24.11 with quotes, ``#``, ``$(…)``, tabs, control characters and any language).
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from torc_slurm.common.errors import InputError
from torc_slurm.common.units import format_slurm_time, is_iso_duration, parse_iso_duration, parse_time_limit
from torc_slurm.spec.workflow import Scheduler

LONGEST_WARNING_SECONDS = 120
NO_SCHEDULER = Scheduler("default")

# Options of slurm_defaults that size the request on a node: then torc does not request whole nodes.
_SIZES = frozenset(
    (
        "exclusive",
        "oversubscribe",
        "ntasks",
        "ntasks-per-node",
        "cpus-per-task",
        "mincpus",
        "mem",
        "mem-per-cpu",
        "mem-per-gpu",
        "cpus-per-gpu",
        "cores-per-socket",
        "threads-per-core",
    )
)
_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_@%+=:,./\[\]-]*", re.ASCII)


class Overrides(NamedTuple):
    """Values of the command line that replace the scheduler's; None: not given."""

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    nodes: int | None = None
    walltime: str | None = None


def overridden(scheduler: Scheduler, overrides: Overrides) -> Scheduler:
    """The scheduler with the values of the command line.

    Raises:
        InputError: not a number of nodes, or not a time limit.
    """
    given = {name: value for name, value in overrides._asdict().items() if value is not None}
    if "nodes" in given and given["nodes"] < 1:
        raise InputError(f"{given['nodes']} nodes cannot be requested; give 1 or more")
    if "walltime" in given and limit_seconds(given["walltime"]) == 0:
        raise InputError("a time limit of 0 cannot be requested; give more")
    return dataclasses.replace(scheduler, **given)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"the options for sbatch after -- are not understood: {message}")


def split_arguments(arguments: Sequence[str]) -> tuple[Overrides, list[str]]:
    """The sbatch options that torc itself must know, and the others in their order.

    Raises:
        InputError: an option that torc must know has no value, or a wrong one.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    for letter, name in (("A", "account"), ("p", "partition"), ("q", "qos"), ("t", "time")):
        parser.add_argument(f"-{letter}", f"--{name}", dest="walltime" if name == "time" else name)
    parser.add_argument("-N", "--nodes", type=int)
    found, rest = parser.parse_known_args(arguments)
    return Overrides(**vars(found)), rest


def choose_scheduler(schedulers: Sequence[Scheduler], name: str | None) -> Scheduler:
    """The scheduler of that name; None: the first. If there are none: one node of the default partition.

    Raises:
        InputError: there is no such scheduler.
    """
    if name is None:
        return schedulers[0] if schedulers else NO_SCHEDULER
    found = next((each for each in schedulers if each.name == name), None)
    if found is None:
        known = ", ".join(each.name for each in schedulers) or "none"
        raise InputError(f"the workflow has no scheduler {name!r}; slurm_schedulers has: {known}")
    return found


def limit_seconds(walltime: str | None) -> int | None:
    """Seconds of a time limit in Slurm's form or as ISO 8601; None: no limit, or unknown.

    Raises:
        InputError: neither of the two forms.
    """
    if walltime is None:
        return None
    seconds = parse_time_limit(walltime)
    return None if seconds is None else int(seconds)


def warning_seconds(limit: int | None) -> int:
    """How long before the time limit Slurm signals the script: 120 s, or a tenth of a shorter limit."""
    return LONGEST_WARNING_SECONDS if limit is None else max(1, min(LONGEST_WARNING_SECONDS, limit // 10))


def requests_whole_nodes(scheduler: Scheduler, defaults: Mapping[str, str | bool]) -> bool:
    """Whether neither CPUs nor memory are requested: ``-N2`` alone would give one CPU per node."""
    sizes = (scheduler.ntasks_per_node, scheduler.cpus_per_task, scheduler.mem, scheduler.exclusive)
    return all(value is None for value in sizes) and not _SIZES & defaults.keys()


def sbatch_options(
    scheduler: Scheduler, defaults: Mapping[str, str | bool], *, job_name: str, output: str, limit: int | None
) -> list[str]:
    """The options of one allocation, each one word such as ``--nodes=2``; not quoted yet.

    Args:
        defaults: any other sbatch options; the scheduler's have priority.
        output: the absolute path of the allocation's output file, with no pattern except ``%j`` at its end.
        limit: the time limit in seconds, if known.
    """
    options: dict[str, str | bool] = {
        "job-name": " ".join(printable_words(job_name)),
        "output": output,
        "open-mode": "append",
        "signal": f"B:TERM@{warning_seconds(limit)}",
        "no-requeue": "requeue" not in defaults,
    }
    options |= defaults
    options |= _scheduler_options(scheduler, defaults)
    words = [_word(name, value) for name, value in options.items() if value is not False]
    return [*words, *scheduler.extra]


def _scheduler_options(scheduler: Scheduler, defaults: Mapping[str, str | bool]) -> dict[str, str | bool]:
    whole_nodes = requests_whole_nodes(scheduler, defaults)
    all_memory = whole_nodes or (scheduler.exclusive and not {"mem", "mem-per-cpu", "mem-per-gpu"} & defaults.keys())
    values: dict[str, str | int | bool | None] = {
        "account": scheduler.account,
        "partition": scheduler.partition,
        "qos": scheduler.qos,
        "constraint": scheduler.constraint,
        "reservation": scheduler.reservation,
        "gres": scheduler.gres,
        "nodes": scheduler.nodes,
        "ntasks-per-node": scheduler.ntasks_per_node,
        "cpus-per-task": scheduler.cpus_per_task,
        "exclusive": True if whole_nodes else scheduler.exclusive,
        "mem": scheduler.mem or ("0" if all_memory else None),
        "tmp": scheduler.tmp,
        "time": None if scheduler.walltime is None else slurm_limit(scheduler.walltime),
    }
    return {
        name: value if isinstance(value, bool) else str(value) for name, value in values.items() if value is not None
    }


_COLLECTOR_SHARES = ("account", "partition", "qos", "reservation")


def collector_options(scheduler: Scheduler, defaults: Mapping[str, str | bool], *, output: str) -> list[str]:
    """The options, each one word, of the small job that collects an allocation; it may run on the same partition."""
    chosen = {name: defaults[name] for name in _COLLECTOR_SHARES if name in defaults}
    chosen |= {name: value for name in _COLLECTOR_SHARES if (value := getattr(scheduler, name)) is not None}
    return [_word(name, value) for name, value in {"output": output, **chosen}.items()]


def slurm_limit(walltime: str) -> str:
    """A time limit in sbatch's form."""
    return format_slurm_time(parse_iso_duration(walltime)) if is_iso_duration(walltime) else walltime


def _word(name: str, value: str | bool) -> str:
    return f"--{name}" if value is True else f"--{name}={value}"


def printable_words(text: str) -> list[str]:
    """The words of a label; line breaks and control characters separate words."""
    return "".join(character if character.isprintable() else " " for character in text).split()


def output_pattern(directory: str, name: str) -> str:
    """A file in a directory for sbatch's ``--output``: each ``%`` of the directory is doubled, ``name`` stays.

    Raises:
        InputError: the directory has a backslash, which turns off ``%j`` (sbatch(1), "filename pattern").
    """
    if "\\" in directory:
        raise InputError(
            f"sbatch cannot write into {directory}: a backslash in --output has a special meaning; "
            "give another --output-dir"
        )
    return f"{directory.replace('%', '%%')}/{name}"


def directive(option: str) -> str:
    """The #SBATCH line of one option.

    Raises:
        InputError: it contains a line break or NUL, which cannot stand in such a line.
    """
    if any(character in option for character in "\n\r\0"):
        raise InputError(f"{option!r} has a line break, which an #SBATCH line cannot hold; give it another value")
    if _NEEDS_NO_QUOTES.fullmatch(option):
        return f"#SBATCH {option}"
    name, equals, value = option.partition("=")
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    return f'#SBATCH {name}{equals}"{escaped}"'
