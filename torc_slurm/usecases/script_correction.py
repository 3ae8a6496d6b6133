"""Corrects the ``#SBATCH`` lines of a batch script from what its jobs used."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from torc_slurm.common.errors import InputError, UnwritableError
from torc_slurm.common.units import MIB, parse_slurm_size
from torc_slurm.files.whole_files import replace_file
from torc_slurm.sizing.advice import CPUS, MEMORY, TIME, Advice, advise, slurm_memory
from torc_slurm.sizing.job_use import JobUse
from torc_slurm.slurm.script_edit import Script, edited, read_options, read_script
from torc_slurm.spec.edit import unified_diff

_SIZES = ("mem", "mem-per-cpu", "mem-per-gpu", "cpus-per-task", "ntasks", "ntasks-per-node", "time")


@dataclass(frozen=True)
class ScriptEdit:
    """A script before and after. ``advice`` are the reasons, ``notes`` what was not changed, and why."""

    path: str
    before: str
    after: str
    advice: tuple[Advice, ...]
    notes: tuple[str, ...]

    @property
    def diff(self) -> str:
        return unified_diff(self.before, self.after, self.path)


def job_name_of(path: str) -> str:
    """The name that Slurm gives the script's jobs: ``--job-name``, else the file's.

    Raises:
        InputError: as `script_edit`.
    """
    return read_script(_read(path), path).value("job-name") or os.path.basename(path)


def script_edit(path: str, jobs: Sequence[JobUse], *, downsize: bool = True) -> ScriptEdit:
    """What to change in a script, from the jobs that ran it.

    Raises:
        InputError: the script cannot be read, is not a batch script, or describes a heterogeneous job.
    """
    text = _read(path)
    script = read_script(text, path)
    advice = tuple(each for each in advise(jobs) if downsize or each.is_more)
    notes = _given_elsewhere(script, jobs)
    wanted: dict[str, str] = {}
    for each in advice:
        option, value, note = _option(each, script, jobs)
        if note is not None:
            notes.append(note)
        elif script.value(option) != value:
            wanted[option] = value
    return ScriptEdit(path, text, edited(script, wanted), advice, tuple(notes))


def write_script(edit: ScriptEdit) -> None:
    """Write the edited script, whole or not at all, with the same mode.

    Raises:
        UnwritableError: it cannot be written.
    """
    target = os.path.realpath(edit.path)
    try:
        replace_file(target, os.fsencode(edit.after))
    except OSError as error:
        raise UnwritableError(edit.path, error, "nothing was changed, give a script that you may write") from error


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give the path of a batch script") from None


def _option(advice: Advice, script: Script, jobs: Sequence[JobUse]) -> tuple[str, str, str | None]:
    """The option to change and its value, or why it stays."""
    if advice.resource == TIME:
        return "time", str(advice.suggested), None
    if advice.resource == MEMORY:
        return _memory_option(str(advice.suggested), script)
    tasks = int(script.value("ntasks") or script.value("ntasks-per-node") or 1)
    if tasks > 1 and not any((job.task_count or 1) == tasks for job in jobs):
        return "", "", f"CPUs were not changed: the script requests {tasks} tasks, but none of its steps had {tasks}"
    assert advice.resource == CPUS
    return "cpus-per-task", str(max(1, int(advice.suggested) // tasks)), None


def _memory_option(suggested: str, script: Script) -> tuple[str, str, str | None]:
    if script.value("mem-per-gpu") is not None:
        return "", "", f"Memory was not changed: the script asks for --mem-per-gpu; --mem={suggested} would be enough"
    if script.value("mem-per-cpu") is None:
        return "mem", suggested, None
    cpus = int(script.value("cpus-per-task") or 1) * int(script.value("ntasks") or script.value("ntasks-per-node") or 1)
    mib = -(-parse_slurm_size(suggested) // MIB // cpus)
    return "mem-per-cpu", slurm_memory(mib * MIB), None


def _given_elsewhere(script: Script, jobs: Sequence[JobUse]) -> list[str]:
    """Options of the latest job that are not in the script: sbatch's command line overrides the script."""
    latest = max(jobs, key=lambda job: job.age_order, default=None)
    if latest is None or not latest.submit_line:
        return []
    try:
        words = shlex.split(latest.submit_line)[1:]
    except ValueError:
        return []
    options = [each for each in read_options(words) if each[0] in _SIZES]
    return [
        f"job {latest.job_id} was submitted with --{name}={value} on the command line, which overrides the script"
        for name, value in options
        if script.value(name) != value
    ]
