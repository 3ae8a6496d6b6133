"""What any Slurm jobs requested and used: one query to Slurm's accounting, and torc-step's records of them.

sacct -> rows as they come -> one `JobUse` per job, joined with torc-step's records by job and step number. Output
directories are optional; those given add their records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from torc_slurm.common.errors import TorcError
from torc_slurm.common.garbage import no_search_for_cycles
from torc_slurm.database.own_records import OwnRecord, own_records
from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.sizing.advice import Advice, advise, sbatch_lines
from torc_slurm.sizing.job_use import JobUse
from torc_slurm.slurm.configuration import slurm_facts
from torc_slurm.slurm.job_query import ALL_USERS, JobFilter
from torc_slurm.slurm.max_rss import MaxRssMeaning, max_rss_meaning
from torc_slurm.usecases.job_uses import job_uses, leader_of


@dataclass(frozen=True)
class JobGroup:
    """Jobs that a table shows as one line: one job, or the tasks of an array."""

    jobs: tuple[JobUse, ...]
    advice: tuple[Advice, ...]
    sbatch_lines: tuple[str, ...]

    @property
    def first(self) -> JobUse:
        return self.jobs[0]


def grouped(jobs: Iterable[JobUse], *, expand: bool) -> list[JobGroup]:
    """One group per job; without ``expand`` one per array."""
    groups: dict[object, list[JobUse]] = defaultdict(list)
    for number, job in enumerate(jobs):
        key = number if expand or job.array_job_id is None else ("array", job.array_job_id, job.user_name)
        groups[key].append(job)
    found = [group_of(members) for members in groups.values()]
    return sorted(found, key=lambda group: group.first.array_job_id or group.first.slurm_job_id)


def group_of(jobs: Sequence[JobUse]) -> JobGroup:
    advice = advise(jobs)
    return JobGroup(tuple(jobs), tuple(advice), tuple(sbatch_lines(advice, jobs)))


def job_efficiencies(
    rows: Iterable[AccountingRecord],
    job_filter: JobFilter,
    output_dirs: Sequence[str],
    *,
    on_problem: Callable[[str], None] = lambda _line: None,
) -> tuple[list[JobUse], MaxRssMeaning]:
    """What the jobs requested and used, in the order of their records, and what Slurm's MaxRSS means on this cluster.

    Args:
        rows: the answer to the filter's question (`job_rows`), perhaps still being written.
        output_dirs: directories that may have records of torc-step. Unreadable ones are reported by ``on_problem``.

    Raises:
        CommandError, ParseError: as `job_rows`.
    """
    meaning = max_rss_meaning(slurm_facts())
    with no_search_for_cycles():
        kept = list(rows)
        own = _own_records(kept, output_dirs, on_problem)
        jobs = (job for job in job_uses(kept, own, meaning) if _fits(job, job_filter))
        return list(islice(jobs, job_filter.limit)), meaning


def _fits(job: JobUse, job_filter: JobFilter) -> bool:
    """Whether the job passes the filter. sacct ignores all of it for jobs that are named by their ids."""
    asked = job_filter.question
    if job_filter.name is not None and job_filter.name.fullmatch(job.name or "") is None:
        return False
    if asked.states and not {job.state, job.slurm_state} & {state.upper() for state in asked.states}:
        return False
    if not asked.jobs:
        return True
    if asked.partition and not set(asked.partition.split(",")) & set((job.partition or "").split(",")):
        return False
    if asked.user not in (None, ALL_USERS) and job.user_name not in (asked.user or "").split(","):
        return False
    begin = job.submit_time if job.start_time is None else job.start_time
    is_over = asked.since is not None and job.end_time is not None and job.end_time < asked.since
    return not is_over and (asked.until is None or begin is None or begin <= asked.until)


def _own_records(
    rows: Sequence[AccountingRecord], output_dirs: Sequence[str], on_problem: Callable[[str], None]
) -> dict[int, list[OwnRecord]]:
    """torc-step's records by the job id that its tasks saw. Collects new node files first."""
    found: dict[int, list[OwnRecord]] = defaultdict(list)
    if not output_dirs:
        return found
    from torc_slurm.database.main import open_main  # a third of this command's imports
    from torc_slurm.usecases.collect import collect_node_files

    jobs = [row for row in rows if row.step_id is None]
    leaders = {leader_of(job) for job in jobs if "+" in job.shown_job_id}
    others = {job.slurm_job_id for job in jobs} - leaders
    for directory in output_dirs if jobs else ():
        try:
            with open_main(directory) as database:
                collect_node_files(database)
                for ids, by_node in ((others, False), (leaders, True)):
                    for record in own_records(database.connection, ids, by_node=by_node):
                        found[record.slurm_job_id].append(record)
        except TorcError as error:
            on_problem(f"{error}; its records are left out")
    return found
