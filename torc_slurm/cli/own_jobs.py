"""Right-sizing of the user's own jobs: the options that select them, and how the commands use them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from torc_slurm.cli.moments import parse_moment
from torc_slurm.cli.options import say
from torc_slurm.cli.workflow_options import user_name
from torc_slurm.common.configuration import section
from torc_slurm.common.errors import InputError
from torc_slurm.files.output_names import RESOURCE_DIR
from torc_slurm.files.shared_directory import is_directory

if TYPE_CHECKING:
    from torc_slurm.cli.answer import Answer
    from torc_slurm.sizing.facts import Facts
    from torc_slurm.sizing.job_groups import Group
    from torc_slurm.sizing.job_use import JobUse
    from torc_slurm.slurm.job_query import JobFilter

SlurmJobIdsOption = Annotated[
    str | None,
    typer.Option("--slurm-job-id", metavar="IDS", help="These Slurm jobs instead of a workflow: 12,15_[1-4]."),
]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Your Slurm jobs since then: 2d, 1w, 2026-11-01.")
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name", metavar="REGEX", help="Your Slurm jobs whose whole name matches; default time: the last two weeks."
    ),
]
GroupByOption = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        metavar="KEYS",
        help="Jobs that agree in these keys form a group: some of user,name,partition,memory,cpus,time,array,job; "
        "default: user,name,memory,cpus,time.",
    ),
]
_DEFAULT_SINCE = "2w"
_MOST_WORDS = 3


class Chosen(NamedTuple):
    """The options that select the user's own jobs."""

    slurm_job_id: str | None
    since: str | None
    name: str | None
    group_by: str | None = None

    @property
    def is_given(self) -> bool:
        return (self.slurm_job_id, self.since, self.name) != (None, None, None)


def me() -> str:
    """This user's name.

    Raises:
        InputError: the account has no name.
    """
    name = user_name()
    if name is None:
        raise InputError(f"user id {os.getuid()} has no name here; give the ids of jobs")
    return name


def _name_pattern(name: str | None) -> re.Pattern[str] | None:
    """--name as a regular expression.

    Raises:
        InputError: it is not a regular expression.
    """
    if name is None:
        return None
    try:
        return re.compile(name)
    except re.error as error:
        raise InputError(f"--name {name!r} is not a regular expression: {error}") from None


def output_dirs(directory: str, *, is_given: bool) -> list[str]:
    """Directories that may have records of torc-step: the output directory, if it exists, and those of the
    configuration.

    A directory from the command line is always used, and reported if it does not exist.
    """
    further = section("seff").get("output_dirs", [])
    if not isinstance(further, list) or not all(isinstance(path, str) for path in further):
        raise InputError(
            '[seff] output_dirs in the configuration is not a list; write output_dirs = ["/scratch/me/out"]'
        )
    found = [os.path.abspath(os.path.expanduser(os.path.expandvars(path))) for path in further]
    if is_given or is_directory(os.path.join(directory, RESOURCE_DIR)):
        found.insert(0, directory)
    return list(dict.fromkeys(found))


def job_filter(
    jobs: Sequence[str],
    *,
    since: str | None,
    until: str | None = None,
    user: str | None = None,
    states: Sequence[str] = (),
    partition: str | None = None,
    name: str | None = None,
    limit: int | None = None,
) -> JobFilter:
    """The selected jobs: those in ``jobs``, or all of ``user`` (default: this user); of these, what the rest selects.

    Args:
        since: needed without ``jobs``.

    Raises:
        InputError: an option is wrong; no job and no user is named, and this account has no name.
    """
    from torc_slurm.slurm.job_expressions import parse_jobs
    from torc_slurm.slurm.job_query import JobFilter, JobQuestion

    named = tuple(map(str, parse_jobs(jobs)))
    now = datetime.fromtimestamp(time.time()).astimezone()
    begin = None if since is None else parse_moment(since, now, option="--since")
    end = None if until is None else parse_moment(until, now, option="--until")
    if end is not None and begin is not None and end < begin:
        raise InputError(f"--until {until} is before --since {since}; give a later time")
    whose = user or (None if named else me())
    return JobFilter(JobQuestion(named, whose, begin, end, tuple(states), partition), _name_pattern(name), limit)


def nothing_found(asked: JobFilter) -> str:
    """The message if no job matches."""
    from torc_slurm.slurm.job_query import ALL_USERS

    question = asked.question
    late = "one that ended seconds ago may not be there yet"
    if question.jobs:
        names = ", ".join(question.jobs[:5])
        if _narrowing(asked):
            return (
                f"none of the jobs {names} matches {_narrowing(asked)}, or accounting has none of them; see torc seff "
                f"{question.jobs[0]}"
            )
        return f"Slurm's accounting has no job {names} ({late}); check the id, or the cluster you are on"
    whose = "no job" if question.user == ALL_USERS else f"no job of {question.user}"
    return f"{whose} matches ({late}); to look further back, give --since 4w"


def _narrowing(asked: JobFilter) -> str:
    """The options that narrow the named jobs."""
    question = asked.question
    given = {
        "--name": asked.name,
        "--state": question.states,
        "--partition": question.partition,
        "--user": question.user,
        "--since": question.since,
        "--until": question.until,
    }
    return " and ".join(option for option, value in given.items() if value)


def jobs_of(chosen: Chosen, directory: str) -> list[JobUse]:
    """The selected jobs and what they used; without ids, by default those of the last two weeks.

    Raises:
        InputError: an option is wrong, or no job matches.
    """
    from torc_slurm.slurm.job_query import job_rows

    named = [] if chosen.slurm_job_id is None else [chosen.slurm_job_id]
    since = chosen.since or (None if named else _DEFAULT_SINCE)
    asked = job_filter(named, since=since, name=chosen.name)
    rows = job_rows(asked.question, on_problem=say)  # sacct runs during the next import

    from torc_slurm.usecases.efficiency import job_efficiencies

    jobs, _ = job_efficiencies(rows, asked, output_dirs(directory, is_given=False), on_problem=say)
    if not jobs:
        raise InputError(nothing_found(asked))
    return jobs


def recorded_jobs(chosen: Chosen, directory: str) -> str:
    """The jobs that the options mean, as `Selection` takes them; asks Slurm only for --since and --name.

    Raises:
        InputError: as `jobs_of`.
    """
    from torc_slurm.slurm.job_expressions import parse_jobs

    if chosen.since is None and chosen.name is None:
        return ",".join(map(str, parse_jobs([chosen.slurm_job_id or ""])))
    return ",".join(dict.fromkeys(str(job.slurm_job_id) for job in jobs_of(chosen, directory)))


def groups_from(chosen: Chosen, directory: str) -> list[Group]:
    """The selected jobs, in groups.

    Raises:
        InputError: as `jobs_of`, or an unknown key to group by.
    """
    from torc_slurm.sizing.job_groups import DEFAULT_GROUP_BY, groups_of

    by = DEFAULT_GROUP_BY if chosen.group_by is None else tuple(chosen.group_by.replace(" ", "").split(","))
    return groups_of(jobs_of(chosen, directory), by)


def facts_from(chosen: Chosen, directory: str) -> Facts:
    """The selected jobs as facts for `check` and `savings`.

    Raises:
        InputError: as `groups_from`.
    """
    from torc_slurm.usecases.own_jobs import facts_of_groups

    return facts_of_groups(groups_from(chosen, directory))


def refuse_workflow(workflow_id: int | None, chosen: Chosen) -> None:
    """Refuse a workflow together with the user's own jobs.

    Raises:
        InputError: both are given.
    """
    if workflow_id is not None and chosen.is_given:
        raise InputError(
            f"workflow {workflow_id} and --slurm-job-id, --since or --name cannot be combined; give one of them"
        )


# --- what to ask for ----------------------------------------------------------------------------------------------


def corrections_answer(groups: Sequence[Group], *, no_downsize: bool, dry_run: bool, explain: bool) -> Answer:
    """One row per group: how many jobs, what they used, what to request."""
    from torc_slurm.cli.answer import Answer
    from torc_slurm.cli.seff_view import short_advice
    from torc_slurm.cli.table import Column, Table
    from torc_slurm.sizing.group_documents import correction_items, corrections_document, group_notes, group_row
    from torc_slurm.sizing.trends import NO_TRENDS, trends_of
    from torc_slurm.usecases.own_jobs import corrections_of, facts_of_groups

    found = corrections_of(groups, downsize=not no_downsize)
    columns = (
        Column("Group", least=10),
        Column("Jobs", right=True),
        Column("Memory median", right=True, optional=5, key="memory_median"),
        Column("p95", right=True, optional=4, key="memory_p95"),
        Column("Most", right=True, key="memory_max"),
        Column("CPUs", right=True),
        Column("Time", right=True),
        Column("Suggested"),
    )
    rows = [(*group_row(each.group), short_advice(each.advice)) for each in found]
    notes: list[str] = []
    for each in found:
        notes += group_notes(each.group, each.advice, explain=explain)
    trends = trends_of(facts_of_groups(groups)) if explain else NO_TRENDS
    notes += trends.sentences
    for each in found:
        if each.sbatch_lines:
            notes += ["", f"{each.group.name}:", *each.sbatch_lines]
    document = corrections_document([(each.group, each.advice) for each in found], no_downsize=no_downsize)
    if explain:
        document["trends"] = [each.document() for each in trends.found]
    return Answer(
        keys=("group", "job_count", "resource", "current", "suggested", "reason", "confidence"),
        document=document | {"dry_run": dry_run},
        csv_items=correction_items([(each.group, each.advice) for each in found]),
        tables=[Table(columns, rows)],
        notes=notes,
    )


def correct_script(path: str, chosen: Chosen, directory: str, *, dry_run: bool, no_downsize: bool) -> Answer:
    """Edit the #SBATCH lines of a script, from the jobs that ran it."""
    from torc_slurm.cli.answer import Answer
    from torc_slurm.usecases.script_correction import job_name_of, script_edit, write_script

    if not chosen.slurm_job_id and not chosen.name:
        chosen = chosen._replace(name=re.escape(job_name_of(path)))
    jobs = jobs_of(chosen, directory)
    edit = script_edit(path, jobs, downsize=not no_downsize)
    is_changed = edit.before != edit.after
    if is_changed and not dry_run:
        write_script(edit)
    said = "would change" if dry_run else "changed"
    lines = [*edit.notes, *(f"{each.reason} Confidence: {each.confidence}." for each in edit.advice)]
    document = {
        "status": "success",
        "script": path,
        "dry_run": dry_run,
        "changed": is_changed,
        "advice": [each.item() for each in edit.advice],
        "notes": list(edit.notes),
        "diff": edit.diff,
    }
    summary = f"{path}: {said if is_changed else _unchanged(jobs)}"
    return Answer(
        keys=("script", "changed"),
        items=[document],
        document=document,
        notes=[*lines, *edit.diff.splitlines(), summary],
    )


def _unchanged(jobs: Sequence[JobUse]) -> str:
    """That a script stays as it is, and why if its jobs cannot show that less would be enough."""
    from torc_slurm.sizing.job_use import COMPLETED, ENDED_FROM_OUTSIDE

    informative = [job for job in jobs if job.has_ended and job.state not in ENDED_FROM_OUTSIDE]
    if not informative:
        return (
            "unchanged. None of its jobs shows what it needs: they have not ended, or were cancelled, preempted or "
            "lost with their node."
        )
    for job in informative:
        if job.state != COMPLETED:
            return (
                f"nothing to change. Job {job.job_id} is {job.state}, and only completed jobs show that less would be "
                "enough."
            )
    return "nothing to change"
