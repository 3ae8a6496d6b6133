"""Parses what people type for a Slurm job: ids, array expressions, ranges, and names of output files; pure, except that
it lists directories.

``123``, ``123_4``, ``123_[1-5,9]``, ``123_[0-9:3%2]``, ``120-125``, ``1,2,3``, ``123+1``, ``123.0``, ``slurm-123.out``,
``logs/train-123_4.out``, ``torc_output/slurm_output_wf1_sl123.o``, or a directory with such files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torc_slurm.common.errors import InputError
from torc_slurm.common.text import printable

# sacct takes its jobs as one argument, and Linux limits one argument to 128 KiB.
MOST_JOBS = 10_000
_LARGEST_ID = 2**32 - 1
_EXAMPLES = "write 123, 123_4, 123_[1-5,9], 120-125, slurm-123.out or a directory with such files"

_ID = r"[0-9]{1,10}"
_PLAIN = re.compile(rf"({_ID})(?:\+[0-9]{{1,4}})?(?:\.(?:[0-9]{{1,10}}|batch|extern|interactive))?", re.ASCII)
_RANGE = re.compile(rf"({_ID})-({_ID})", re.ASCII)
_TASK = re.compile(
    rf"({_ID})_(?:({_ID})(?:\.(?:[0-9]{{1,10}}|batch|extern))?|\*|\[([0-9,:-]+)(?:%[0-9]+)?\])", re.ASCII
)
_TASK_PART = re.compile(rf"({_ID})(?:-({_ID})(?::([0-9]{{1,10}}))?)?", re.ASCII)
# A file name: its last number that can be a job's, and an array task after it.
_IN_FILE_NAME = re.compile(rf"(?:^|[^0-9])({_ID})(?:_({_ID}))?(?=[^0-9]*\.[A-Za-z][A-Za-z0-9]*$)", re.ASCII)
_SLURM_FILE_NAME = re.compile(rf"slurm-({_ID})(?:_({_ID}))?(?![0-9])", re.ASCII)
_TORC_JOB_OUTPUT = "job_wf"  # its numbers are torc's, not Slurm's
_OUTPUT_SUFFIXES = (".out", ".err", ".o", ".e", ".log", ".txt")


class JobName(NamedTuple):
    """One job for sacct's ``-j``: a job, or one task of an array."""

    job_id: int
    array_task: int | None = None

    def __str__(self) -> str:
        return str(self.job_id) if self.array_task is None else f"{self.job_id}_{self.array_task}"


def parse_jobs(expressions: Iterable[str]) -> list[JobName]:
    """The jobs that the expressions name, without duplicates, in the same order.

    The path of an existing directory means the output files in it. An expression with a slash, or with the suffix of an
    output file, means the job in the file's name; the file need not exist.

    Raises:
        InputError: an expression is none of these, or names more than `MOST_JOBS` jobs.
    """
    found: dict[JobName, None] = {}
    for expression in expressions:
        for job in _jobs_of(expression):
            found[job] = None
            if len(found) > MOST_JOBS:
                raise InputError(
                    f"more than {MOST_JOBS:,} jobs are named; name fewer, or select them with --since and --name"
                )
    return list(found)


def _jobs_of(expression: str) -> Iterator[JobName]:
    if os.path.isdir(expression):
        yield from _jobs_in_directory(expression)
        return
    if "/" in expression or expression.endswith(_OUTPUT_SUFFIXES):
        yield _job_of_file(expression)
        return
    pieces = re.split(r",(?![^\[]*\])", expression.strip())  # at commas outside brackets
    for piece in [piece for piece in pieces if piece] or [""]:
        yield from _jobs_of_piece(piece, expression)


def _jobs_of_piece(piece: str, whole: str) -> Iterator[JobName]:
    if match := _PLAIN.fullmatch(piece):
        yield JobName(_checked_id(match[1], whole))
    elif match := _RANGE.fullmatch(piece):
        yield from (JobName(number) for number in _numbers(match[1], match[2], "1", whole))
    elif match := _TASK.fullmatch(piece):
        yield from _tasks(match, whole)
    else:
        raise InputError(f"{printable(whole, 80)!r} names no Slurm job; {_EXAMPLES}")


def _tasks(match: re.Match[str], whole: str) -> Iterator[JobName]:
    job_id = _checked_id(match[1], whole)
    if match[2] is not None:
        yield JobName(job_id, _checked_id(match[2], whole, least=0))
    elif match[3] is None:  # 123_* is the whole array
        yield JobName(job_id)
    else:
        for part in match[3].split(","):
            task = _TASK_PART.fullmatch(part)
            if task is None:
                raise InputError(
                    f"{printable(whole, 80)!r}: {part!r} is not an array task; write 123_[1-5,9] or 123_[0-9:3]"
                )
            for number in _numbers(task[1], task[2] or task[1], task[3] or "1", whole):
                yield JobName(job_id, number)


def _numbers(first: str, last: str, step: str, whole: str) -> range:
    low, high, stride = int(first), int(last), int(step)
    if high < low or stride < 1:
        raise InputError(f"{printable(whole, 80)!r}: {first}-{last} counts down; write the smaller number first")
    numbers = range(low, high + 1, stride)
    if len(numbers) > MOST_JOBS:
        raise InputError(f"{printable(whole, 80)!r} names {len(numbers):,} jobs; the most is {MOST_JOBS:,}")
    return numbers


def _checked_id(text: str, whole: str, least: int = 1) -> int:
    number = int(text)
    if not least <= number <= _LARGEST_ID:
        raise InputError(f"{printable(whole, 80)!r}: {text} is not a job id; {_EXAMPLES}")
    return number


def _job_of_file(path: str) -> JobName:
    job = _job_in_name(os.path.basename(path))
    if job is None:
        raise InputError(f"{printable(path, 120)!r} has no job id in its name; {_EXAMPLES}")
    return job


def _job_in_name(name: str) -> JobName | None:
    match = _SLURM_FILE_NAME.match(name) or _IN_FILE_NAME.search(name)
    if match is None or not 1 <= int(match[1]) <= _LARGEST_ID:
        return None
    return JobName(int(match[1]), None if match[2] is None else int(match[2]))


def _jobs_in_directory(path: str) -> Iterator[JobName]:
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise InputError(f"{printable(path, 120)!r} cannot be listed: {error.strerror}") from error
    own = (name for name in names if name.endswith(_OUTPUT_SUFFIXES) and not name.startswith(_TORC_JOB_OUTPUT))
    jobs = [job for name in own if (job := _job_in_name(name)) is not None]
    if not jobs:
        raise InputError(
            f"{printable(path, 120)!r} holds no output file with a job id in its name, such as slurm-123.out"
        )
    yield from jobs
