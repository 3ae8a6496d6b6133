"""The options of the right-sizing commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli.accounting_options import say_which_backend
from torc_slurm.cli.options import say
from torc_slurm.common.errors import InputError

if TYPE_CHECKING:
    from torc_slurm.sizing.decision import Options
    from torc_slurm.sizing.guards import Guards
    from torc_slurm.usecases.sizing_facts import SizingFacts

DEFAULT_MULTIPLIER = 1.2
_MOST_NAMED_FILES = 10

RunIdOption = Annotated[int | None, typer.Option("--run-id", metavar="N", help="Only this run.", min=1)]
MemoryMultiplierOption = Annotated[
    float, typer.Option("--memory-multiplier", metavar="X", help="Request this many times the memory that was used.")
]
CpuMultiplierOption = Annotated[
    float, typer.Option("--cpu-multiplier", metavar="X", help="Request this many times the CPUs that were used.")
]
RuntimeMultiplierOption = Annotated[
    float, typer.Option("--runtime-multiplier", metavar="X", help="Request this many times the run time that was used.")
]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option(
        "--max-memory", metavar="SIZE", help="Never request more memory than this: 64g (decimal), 64Gi (binary)."
    ),
]
MaxRuntimeOption = Annotated[
    str | None,
    typer.Option("--max-runtime", metavar="DURATION", help="Never request more run time than this: PT8H (ISO 8601)."),
]
MaxCpusOption = Annotated[
    int | None, typer.Option("--max-cpus", metavar="N", help="Never request more CPUs than this.", min=1)
]
MinMemoryOption = Annotated[
    str, typer.Option("--min-memory", metavar="SIZE", help="Never request less memory than this.")
]
LargestFactorOption = Annotated[
    float, typer.Option("--largest-factor", metavar="X", help="Request at most X times what the attempts requested.")
]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Show the reason for every change and for every request that stays.")
]
WriteSpecOption = Annotated[
    bool, typer.Option("--write-spec", help="Also change the workflow file, and show the diff.")
]
SpecOutputOption = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="FILE", help="With --write-spec: write to this file, not to the workflow file."
    ),
]


def check_output(output: str | None, *, write_spec: bool) -> None:
    """Refuse -o FILE without --write-spec.

    Raises:
        InputError: it is given without.
    """
    if output is not None and not write_spec:
        raise InputError("-o FILE says where the workflow file goes; give --write-spec with it")


def guards_of(
    *,
    max_memory: str | None = None,
    max_runtime: str | None = None,
    max_cpus: int | None = None,
    min_memory: str | None = None,
    largest_factor: float | None = None,
) -> Guards:
    """The bounds from the command line.

    Raises:
        InputError: not a size, a duration or a factor.
    """
    from torc_slurm.common.units import exact, parse_iso_duration, parse_memory
    from torc_slurm.sizing.guards import DEFAULT_LARGEST_FACTOR, DEFAULT_LEAST_MEMORY, Guards

    _checked("--max-memory", parse_memory, max_memory)
    _checked("--min-memory", parse_memory, min_memory)
    seconds = _checked("--max-runtime", parse_iso_duration, max_runtime)
    return Guards(
        least_memory=DEFAULT_LEAST_MEMORY if min_memory is None else min_memory,
        largest_factor=DEFAULT_LARGEST_FACTOR if largest_factor is None else exact(largest_factor),
        most_memory=max_memory,
        most_cpus=max_cpus,
        most_runtime_seconds=seconds,
    )


def _checked(option: str, parse: Callable[[str], int], text: str | None) -> int | None:
    """The parsed value; an error names the option."""
    try:
        return None if text is None else parse(text)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None


def options_of(
    memory: float, cpu: float, runtime: float, *, guards: Guards, downsize: bool = True, answer_once: bool = False
) -> Options:
    """How to correct, from the command line's numbers.

    Raises:
        InputError: a multiplier is not valid.
    """
    from torc_slurm.common.units import exact
    from torc_slurm.sizing.decision import Options

    return Options(
        memory_multiplier=exact(memory),
        cpu_multiplier=exact(cpu),
        runtime_multiplier=exact(runtime),
        downsize=downsize,
        answer_failures_once=answer_once,
        guards=guards,
    )


def job_ids_of(text: str | None) -> frozenset[int]:
    """The ids in ``1,2``; none for None.

    Raises:
        InputError: the text has another form.
    """
    if text is None:
        return frozenset()
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and word.isascii() and len(word) < 19 for word in words):
        raise InputError(f"--job-ids {text!r} is not a list of job ids; write them as 1,2")
    return frozenset(map(int, words))


def say_what_is_missing(found: SizingFacts) -> None:
    """Say on stderr that the database is a copy, that node files were skipped, or that accounting did not answer."""
    if found.database.read_only_reason:
        say(f"{found.database.read_only_reason}: this answer was collected in memory and is not stored")
    for file in [file for file in found.collected.files if file.outcome == "skipped"][:_MOST_NAMED_FILES]:
        say(f"skipped {file.path}: {(file.problem or '').removeprefix(file.path).strip()}")
    say_which_backend(found.collected)
    unanswered = found.collected.unanswered
    if unanswered:
        allocations, their = ("allocation", "its") if unanswered == 1 else ("allocations", "their")
        say(
            f"accounting did not answer for {unanswered} {allocations}; for {their} steps torc uses only what the "
            "nodes wrote"
        )
    if found.active_run is not None:
        say(f"run {found.active_run.run_id} is active: its unfinished jobs do not count")
