"""Corrects a workflow's requests: decides, then changes both the database and the workflow file, or neither."""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from dataclasses import dataclass

from torc_slurm.common.errors import DatabaseError, InputError, UnwritableError
from torc_slurm.common.units import format_run_time, parse_iso_duration
from torc_slurm.database.main import transaction
from torc_slurm.database.sizing import change_rows, save_corrections
from torc_slurm.database.workflows import schedulers
from torc_slurm.files.whole_files import remove_abandoned_drafts, replace_file
from torc_slurm.sizing.corrections import Corrections
from torc_slurm.sizing.decision import KEPT
from torc_slurm.sizing.evidence import Resource
from torc_slurm.slurm.sbatch_options import choose_scheduler, limit_seconds
from torc_slurm.spec.edit import Change, edit_requirements, unified_diff
from torc_slurm.spec.load import form_of
from torc_slurm.spec.workflow import Scheduler
from torc_slurm.usecases.partition import Capacity, ask_capacity
from torc_slurm.usecases.sizing_facts import SizingFacts

_KEYS = {Resource.memory: "memory", Resource.runtime: "runtime", Resource.cpu: "num_cpus"}


@dataclass(frozen=True)
class SpecEdit:
    """A workflow file before and after; ``target`` is the absolute path to write to."""

    source: str
    target: str
    before: str
    after: str

    @property
    def diff(self) -> str:
        """As ``diff -u``; empty if nothing changes."""
        return unified_diff(self.before, self.after, self.source)


def scheduler_of(found: SizingFacts, name: str | None = None) -> Scheduler:
    """The scheduler that the workflow's next run uses by default, or the named one.

    Raises:
        InputError: the workflow has no scheduler of that name.
    """
    return choose_scheduler(schedulers(found.database.connection, found.workflow_id), name)


def capacity_for(found: SizingFacts, partition: str | None = None, scheduler: str | None = None) -> Capacity:
    """What the partition of the workflow's scheduler (or the given one) offers. Asks sinfo once.

    Raises:
        InputError: there is no such partition or scheduler.
    """
    defaults = json.loads(str(found.workflow["slurm_defaults"]))
    return ask_capacity(scheduler_of(found, scheduler), defaults, partition)


def over_walltime(found: SizingFacts, corrections: Corrections) -> list[str]:
    """A line for each run time that would be longer than the allocation."""
    scheduler = scheduler_of(found)
    limit = limit_seconds(scheduler.walltime)
    return [
        f"{each.requirement.name} would request {each.new}, but scheduler {scheduler.name} has a walltime of "
        f"{format_run_time(limit)}: raise it, or submit with -t"
        for each in corrections.decisions
        if each.resource is Resource.runtime and each.direction != KEPT and limit is not None
        if parse_iso_duration(str(each.new)) > limit
    ]


def spec_edit(found: SizingFacts, corrections: Corrections, output: str | None = None) -> SpecEdit:
    """The workflow file with the current requests and these corrections.

    Includes earlier corrections that were not written into the file.

    Args:
        output: the path to write to; None: in place.

    Raises:
        InputError: there is no file, it cannot be read, or it was edited since.
    """
    source = found.workflow["spec_file"]
    if source is None:
        raise InputError(f"workflow {found.workflow_id} was not created from a file; nothing can be written back")
    path = os.path.realpath(str(source))
    before = _read(path)
    changes = _spec_changes(found, corrections)
    after = edit_requirements(before, path, changes, form_of(path))
    return SpecEdit(path, path if output is None else os.path.abspath(output), before, after)


def apply(found: SizingFacts, corrections: Corrections, *, changed_by: str, now: float, edit: SpecEdit | None) -> None:
    """Save the corrections and write the workflow file: both, or neither.

    Raises:
        DatabaseError: the database cannot be written, or another command changed a requirement meanwhile.
        UnwritableError: the file cannot be written.
    """
    if found.database.read_only_reason is not None:
        raise DatabaseError(f"{found.database.read_only_reason}; nothing was changed")
    with contextlib.ExitStack() as undo:
        with transaction(found.database.connection):
            save_corrections(found.database.connection, corrections, changed_by=changed_by, now=now)
            if edit is not None and (edit.before != edit.after or edit.source != edit.target):
                undo.callback(_put_back, edit.target, _bytes(edit.target))
                _write(edit)
        undo.pop_all()


def _spec_changes(found: SizingFacts, corrections: Corrections) -> list[Change]:
    """Every key that ever changed or changes now: its last value and its earlier ones."""
    known: defaultdict[tuple[str, str], list[str | int]] = defaultdict(list)
    last: dict[tuple[str, str], str | int] = {}
    for row in change_rows(found.database.connection, found.workflow_id):
        key = (str(row["name"]), str(row["resource"]))
        known[key].append(_typed(key[1], row["original"]))
        last[key] = _typed(key[1], row["new"])
    for each in corrections.decisions:
        key = (each.requirement.name, _KEYS[each.resource])
        if each.direction != KEPT and each.original is not None and each.new is not None:
            known[key] += [each.original, *([last[key]] if key in last else [])]
            last[key] = each.new
    return [Change(name, key, new, tuple(dict.fromkeys(known[name, key]))) for (name, key), new in last.items()]


def _typed(key: str, value: object) -> str | int:
    return int(str(value)) if key == "num_cpus" else str(value)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read: {error}; give back the workflow's file, or leave out --write-spec"
        ) from error


def _write(edit: SpecEdit) -> None:
    """Write the file, whole or not at all.

    Raises:
        UnwritableError: it cannot be written.
    """
    try:
        remove_abandoned_drafts(os.path.dirname(edit.target))
        replace_file(edit.target, edit.after.encode(), 0o644)
    except OSError as error:
        raise UnwritableError(edit.target, error, "nothing was changed, give another path with -o") from error


def _bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _put_back(path: str, content: bytes | None) -> None:
    """Restore the content from before; None: there was no file."""
    if content is not None:
        replace_file(path, content)
    else:
        with contextlib.suppress(OSError):  # if it could not be written, it did not change
            os.unlink(path)
