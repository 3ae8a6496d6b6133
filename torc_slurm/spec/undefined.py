"""Names in the texts of jobs that nothing defines: ``{tempp}`` for a parameter, ``${DATAA}`` for the shell; pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from torc_slurm.spec.dependencies import nearest_of
from torc_slurm.spec.model import JobModel, WorkflowModel

# not ``${name}``, and not ``{fd}>file``, which is a redirection
_BRACES = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)(?::[^{}]*)?\}(?![<>])", re.ASCII)
_OF_THE_SHELL = re.compile(r"(?<!\\)\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_SINGLE_QUOTED = re.compile(r"'[^']*'")
_SET = re.compile(
    r"\b([A-Za-z_][A-Za-z0-9_]*)\+?=|\b(?:for|select)\s+([A-Za-z_][A-Za-z0-9_]*)|\b(?:read|-v)\b([^;|&\n]*)", re.ASCII
)
# with these in a text, what it sets cannot be known
_UNKNOWABLE = re.compile(
    r"(?:^|[\s;&|(])(?:source|\.|eval|module|ml|conda|mamba|declare|local|mapfile|readarray|getopts|printf\s+-v)\s",
    re.ASCII,
)
# set by Slurm, MPI, torc and bash itself
_FROM_OUTSIDE = re.compile(r"TORC_|SLURM|SBATCH_|SRUN_|PMI|OMPI_|CUDA_|ROCR_|GPU_|BASH|LC_")
_BASH_SETS = re.compile(
    "EPOCHREALTIME|EPOCHSECONDS|EUID|FUNCNAME|HOME|HOSTNAME|HOSTTYPE|IFS|LINENO|LOGNAME|MACHTYPE|OLDPWD|OPTARG|OPTIND|"
    "OSTYPE|PATH|PIPESTATUS|PPID|PWD|RANDOM|REPLY|SECONDS|SHELL|SHLVL|SRANDOM|TMPDIR|UID|USER"
)

Named = tuple[int, str]  # the job's index in the file, and a message


def undefined_braces(model: WorkflowModel) -> Iterator[Named]:
    """``{name}`` in the texts of jobs that names no parameter of the job, in a file that has parameters."""
    elsewhere = set(model.parameters or ()) | {name for job in model.jobs for name in job.parameters or ()}
    if not elsewhere:
        return
    for index, job in enumerate(model.jobs):
        if job.parameters_file is not None or job.use_parameters_file:  # the names are in the table
            continue
        own = {*(job.parameters or ()), *(job.use_parameters or ())}
        for name in dict.fromkeys(_braces_of(job, own, elsewhere)):
            yield index, f"job {job.name!r} has no parameter {{{name}}}{_instead(name, own, elsewhere)}"


def _braces_of(job: JobModel, own: Collection[str], elsewhere: Collection[str]) -> Iterator[str]:
    for text in (job.name, job.command, job.working_dir or "", *job.env.values()):
        outside = set(_BRACES.findall(_SINGLE_QUOTED.sub("", text)))
        for name in _BRACES.findall(text):
            is_meant = name in outside or name in elsewhere or nearest_of(name, sorted(own)) is not None
            if name not in own and is_meant:  # in single quotes braces mostly belong to awk, jq or python
                yield name


def _instead(name: str, own: Collection[str], elsewhere: Collection[str]) -> str:
    close = nearest_of(name, sorted(own))
    if close is not None:
        return f"; did you mean {{{close}}}?"
    if name in elsewhere:
        return f"; give the job parameters, or use_parameters: [{name}]"
    return ""


def undefined_variables(model: WorkflowModel, environ: Collection[str]) -> Iterator[Named]:
    """``${NAME}`` in commands that neither the file nor the environment sets: the shell replaces it by nothing.

    Args:
        environ: the names of variables that jobs inherit.
    """
    setup = [line for scheduler in model.slurm_schedulers for line in scheduler.setup]
    if any(map(_UNKNOWABLE.search, setup)):
        return
    known = {*environ, *model.env, *_set_in(setup)}
    found: dict[str, list[int]] = {}
    for index, job in enumerate(model.jobs):
        if "${" not in job.command and "${" not in (job.invocation_script or ""):
            continue
        text = f"{job.invocation_script or ''}\n{job.command}"
        if _UNKNOWABLE.search(text):
            continue
        own = known | {*job.env, *(job.parameters or ()), *_set_in([text])}
        for name in dict.fromkeys(_OF_THE_SHELL.findall(_SINGLE_QUOTED.sub("", text))):
            if name not in own and not _FROM_OUTSIDE.match(name) and not _BASH_SETS.fullmatch(name):
                found.setdefault(name, []).append(index)
    for name, jobs in found.items():
        first, more = model.jobs[jobs[0]].name, len(jobs) - 1
        others = f" and {more} more" if more else ""
        yield jobs[0], f"${{{name}}} in job {first!r}{others} is set nowhere: the shell replaces it by nothing"


def _set_in(texts: Sequence[str]) -> Iterator[str]:
    """The variables that shell code sets, as far as its text shows."""
    for text in texts:
        for assigned, looped, read in _SET.findall(text):
            yield from (assigned, looped, *re.findall(r"[A-Za-z_][A-Za-z0-9_]*", read))
