"""Writes the pages of a run. It reads one job after another, so that memory does not grow with their number."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torc_slurm.common.errors import InputError, TorcError, UnwritableError
from torc_slurm.common.identity import named_step
from torc_slurm.files.output_names import PLOT_PREFIX
from torc_slurm.plots.compare_figure import Line, compare_cpu, compare_memory, lines_of, points_for_each
from torc_slurm.plots.job_figure import job_figure
from torc_slurm.plots.measured import Measured, read_job, unread
from torc_slurm.plots.model import Job, Run
from torc_slurm.plots.packing import Grid, NodeLoad, use_of
from torc_slurm.plots.packing_figures import MOST_ALONE, MOST_NODES, gantt_figure, packing_figures
from torc_slurm.plots.page import Page, Section, plotly_bundle, plotly_file_name, render
from torc_slurm.plots.parts import counted, job_label
from torc_slurm.plots.summary_figure import Bar, bar_of, summary_figure
from torc_slurm.plots.words import attempts_table, job_heading, job_lead, job_notes

MOST_JOB_PAGES = 200
_MOST_PAGE_BYTES = 2_450_000
_MOST_BYTES_BESIDE_PLOTLY = 600_000
_MOST_POINTS_OF_A_JOB = 120_000

Progress = Callable[[int, int], None]


class Written(NamedTuple):
    """A written page: ``kind`` is job, cpu, memory, summary or allocation."""

    path: str
    kind: str
    job_id: int | None
    size_bytes: int


@dataclass(frozen=True)
class Wanted:
    """Which pages to write, and where; ``job_ids`` None: all jobs, with job pages only if they are not too many."""

    directory: str
    prefix: str = PLOT_PREFIX
    job_ids: Collection[int] | None = None
    all_job_pages: bool = False
    self_contained: bool = False

    @property
    def plotly_file(self) -> str | None:
        """The bundle that the pages share; None: each has its own."""
        return None if self.self_contained else plotly_file_name()


@dataclass
class Overview:
    """The data of the pages over all jobs, collected while the jobs are read one after another.

    ``over_time`` is what the figures of nodes show; None: all of ``run``. ``alone`` are the jobs with lines and bars of
    their own; None: all.
    """

    run: Run
    over_time: Run | None = None
    alone: Collection[int] | None = None
    loads: dict[str, NodeLoad] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Set the number of points per job, and the jobs that are drawn individually."""
        self._lines: dict[int, list[Line]] = {}
        self._bars: dict[int, Bar] = {}
        shown = [job for job in self.run.jobs if self.alone is None or job.job_id in self.alone]
        self._points = points_for_each(shown)
        self.on_nodes = self.over_time or self.run
        self._run_ids = frozenset(self.on_nodes.run_ids)
        self._grid = Grid.over(self.on_nodes.begin_time, self.on_nodes.end_time)
        self._drawn = frozenset(self.on_nodes.nodes[:MOST_NODES])
        self._alone = _largest_of_each_node(self.on_nodes, self._drawn)

    def add(self, job: Job, measured: Sequence[Measured]) -> None:
        """Keep what the overview needs of a job."""
        if self.alone is None or job.job_id in self.alone:
            self._lines[job.job_id] = lines_of(job, measured, self._points)
            self._bars[job.job_id] = bar_of(job, measured)
        attempts = [attempt for attempt in job.attempts for _ in attempt.parts]
        for attempt, each in zip(attempts, measured, strict=True):
            if attempt.run_id not in self._run_ids or each.part.node not in self._drawn:
                continue
            node = each.part.node
            load = self.loads.setdefault(node, NodeLoad(node, self._grid))
            load.put(
                job_label(job.number, job.name, 32), use_of(each, self._grid), alone=job.job_id in self._alone[node]
            )
            load.ask(attempt, each.part)

    @property
    def lines(self) -> list[Line]:
        """Of all jobs, failed ones first, then by number."""
        return [line for job_id in self._order() for line in self._lines[job_id]]

    @property
    def bars(self) -> list[Bar]:
        """Of all jobs, failed ones first, then by number."""
        return [self._bars[job_id] for job_id in self._order()]

    def _order(self) -> list[int]:
        failed = {job.job_id for job in self.run.jobs if job.has_failed}
        return sorted(self._bars, key=lambda job_id: (job_id not in failed, job_id))

    def nodes(self) -> list[NodeLoad]:
        """Everything that ran on each node, by its name."""
        return [self.loads[name] for name in sorted(self.loads)]


def _largest_of_each_node(run: Run, nodes: Collection[str]) -> dict[str, set[int]]:
    """The jobs of each of these nodes that used the most CPU time there."""
    used: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    for job in run.jobs:
        for part in job.parts:
            if part.node in nodes:
                used[part.node][job.job_id] += (part.figures.avg_cpu_percent or 0) * (part.end_time - part.begin_time)
    return {node: set(sorted(jobs, key=lambda job: -jobs[job])[:MOST_ALONE]) for node, jobs in used.items()}


def read_overview(run: Run, progress: Progress, on_unreadable: Callable[[str], None]) -> Overview:
    """Read all jobs, only for the overview figures. Of several runs, which can be days apart, nodes show the last.

    Args:
        on_unreadable: called with the error of a file whose series cannot be read; its jobs are drawn without.
    """
    alone = run.notable
    overview = Overview(run, over_time=run.of_run(run.run_ids[-1]), alone=alone)
    problems: dict[str, None] = {}
    for number, job in enumerate(file_by_file(run.jobs), start=1):
        measured = None
        if job.job_id in alone:
            try:
                measured = read_job(job, with_io=False)
            except (TorcError, OSError) as error:
                problems[str(error)] = None
        overview.add(job, measured or unread(job))
        progress(number, len(run.jobs))
    for problem in problems:
        on_unreadable(problem)
    return overview


def file_by_file(jobs: Sequence[Job]) -> list[Job]:
    """The jobs in an order that reads each node file once: by the file of their first part, then by number."""
    return sorted(jobs, key=lambda job: (job.parts[0].file.path if job.parts else "", job.job_id))


def write_pages(run: Run, wanted: Wanted, progress: Progress) -> list[Written]:
    """Write the requested pages.

    Args:
        progress: called with the number of jobs done, and the total.

    Raises:
        InputError: the run does not have a requested job.
        UnwritableError: a file cannot be written.
    """
    chosen = _chosen(run, wanted)
    make_directory(wanted.directory)
    _write_plotly(wanted)
    overview = Overview(chosen)
    with_pages = wanted.job_ids is not None or wanted.all_job_pages or len(chosen.jobs) <= MOST_JOB_PAGES
    written: list[Written] = []
    for number, job in enumerate(file_by_file(chosen.jobs), start=1):
        written += _write_job(run, job, overview, wanted, with_page=with_pages)
        progress(number, len(chosen.jobs))
    written.sort(key=lambda page: page.job_id or 0)
    return written + _write_overview(overview, wanted)


def _write_job(run: Run, job: Job, overview: Overview, wanted: Wanted, *, with_page: bool) -> list[Written]:
    """Read a job for the overview, and write its page."""
    measured = read_job(job, with_io=with_page)
    overview.add(job, measured)
    if not with_page:
        return []
    return [_write(wanted, f"job_{job.number}", "job", _job_html(run, job, measured, wanted), job.job_id)]


def _chosen(run: Run, wanted: Wanted) -> Run:
    if wanted.job_ids is None:
        return run
    known = {job.job_id for job in run.jobs}
    unknown = sorted(set(wanted.job_ids) - known)
    if unknown:
        raise InputError(f"{run.title} has no {run.word} {_some(unknown)}; there are {_some(sorted(known))}")
    return replace(run, jobs=tuple(job for job in run.jobs if job.job_id in wanted.job_ids))


def _some(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - 20} more" if len(numbers) > 20 else ""
    return ", ".join(str(named_step(number)) for number in numbers[:20]) + more


def make_directory(path: str) -> None:
    """Make the directory if it does not exist.

    Raises:
        UnwritableError: it cannot be made.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise UnwritableError(path, error, "give another path with -o") from error


def _write_plotly(wanted: Wanted) -> None:
    """Write the bundle next to the pages that share it, unless it is there.

    Raises:
        UnwritableError: it cannot be written.
    """
    if wanted.plotly_file is None:
        return
    path = os.path.join(wanted.directory, wanted.plotly_file)
    if not os.path.exists(path) or os.path.getsize(path) != len(plotly_bundle()):
        _write_bytes(path, plotly_bundle())


def _job_html(run: Run, job: Job, measured: Sequence[Measured], wanted: Wanted) -> str:
    """The job's page; if it would be too large, its series are shortened."""
    most = _MOST_POINTS_OF_A_JOB
    while True:
        shown = [each.shortened(most // len(measured)) for each in measured]
        html = render(_job_page(run, job, measured, shown, wanted.prefix), wanted.plotly_file)
        if len(html) <= (_MOST_PAGE_BYTES if wanted.self_contained else _MOST_BYTES_BESIDE_PLOTLY) or most < 1000:
            return html
        most = most * 2 // 3


def _job_page(run: Run, job: Job, measured: Sequence[Measured], shown: Sequence[Measured], prefix: str) -> Page:
    figure, series = job_figure(job, shown)
    return Page(
        heading=job_heading(run, job),
        lead=job_lead(run, job),
        facts=attempts_table(measured, job),
        sections=[Section("job", figures=[figure])],
        series=series,
        notes=job_notes(job, measured, shown),
        file_name=f"{prefix}_job_{job.number}",
        clock_time=job.last.begin_time,
    )


def _write_overview(overview: Overview, wanted: Wanted) -> list[Written]:
    return [
        _write(wanted, name, kind, render(page, wanted.plotly_file))
        for name, kind, page in _overview_pages(overview, wanted)
    ]


def _overview_pages(overview: Overview, wanted: Wanted) -> Iterator[tuple[str, str, Page]]:
    """Name, kind and content of each page over all jobs, made one after another."""
    run, at = overview.run, overview.run.begin_time
    for name, make, what in (("cpu", compare_cpu, "CPU"), ("memory", compare_memory, "Memory")):
        figure, series = make(overview.lines)
        section = Section(name, figures=[{**figure, "title": ""}])
        heading = f"{what} of all {run.word}s · {run.title}"
        lead = f"{counted(len(run.jobs), run.word)}; a line for each attempt on each node."
        yield f"{name}_all_jobs", name, Page(heading, lead, [section], f"{wanted.prefix}_{name}", at, series)
    section = Section("summary", figures=[{**summary_figure(overview.bars), "title": ""}])
    lead = f"{counted(len(run.jobs), run.word)}, each by its largest node in its last attempt."
    heading = f"Peak against average · {run.title}"
    yield "summary", "summary", Page(heading, lead, [section], f"{wanted.prefix}_summary", at)
    if wanted.job_ids is None:  # with only some jobs an allocation would look idle
        yield "allocation", "allocation", allocation_page(overview, wanted.prefix)


def allocation_page(overview: Overview, prefix: str) -> Page:
    """When and where everything ran, and each node's use."""
    run = overview.on_nodes
    return Page(
        heading=f"Nodes over time · {run.title}",
        lead=f"{counted(len(run.jobs), run.word)} on {counted(len(run.nodes), 'node')}.",
        sections=[
            Section("gantt", figures=[gantt_figure(run)]),
            Section("nodes", figures=packing_figures(overview.nodes(), run)),
        ],
        file_name=f"{prefix}_allocation",
        clock_time=run.begin_time,
        notes=packing_notes(overview),
    )


def packing_notes(overview: Overview) -> list[str]:
    """Notes on the plots of nodes."""
    notes = ["Each point covers 1/400 of the time: CPU is its mean, memory the sum of each step's highest."]
    if all(overview.on_nodes.capacity_of(node).cpus is None for node in overview.loads):
        notes.append("The nodes' capacity is unknown: a workflow's run records it, or Slurm's accounting.")
    if overview.alone is not None and len(overview.alone) < len(overview.run.jobs):
        notes.append(
            f"Of {counted(len(overview.run.jobs), overview.run.word)} lines and bars show {len(overview.alone)}: those "
            "that failed, used the most memory or CPU, or ran longest. The others are in the table, and with their "
            "averages in the plots of nodes."
        )
    more = len(overview.on_nodes.nodes) - MOST_NODES
    if more > 0:
        notes.append(f"{counted(more, 'more node')} not drawn individually.")
    return notes


def _write(wanted: Wanted, name: str, kind: str, html: str, job_id: int | None = None) -> Written:
    path = os.path.join(wanted.directory, f"{wanted.prefix}_{name}.html")
    return Written(path, kind, job_id, write_file(path, html))


def write_file(path: str, text: str) -> int:
    """Write a page, whole or not at all; returns its size in bytes.

    Raises:
        UnwritableError: it cannot be written.
    """
    return _write_bytes(path, text.encode("utf-8", "replace"))


def _write_bytes(path: str, content: bytes) -> int:
    draft = f"{path}.{os.getpid()}.part"
    try:
        with open(draft, "wb") as file:
            file.write(content)
        os.replace(draft, path)
    except OSError as error:
        _remove(draft)
        raise UnwritableError(path, error, "give another path with -o") from error
    return len(content)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # it was never made
