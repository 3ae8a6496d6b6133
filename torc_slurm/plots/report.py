"""The one page about a run: what ran and how it ended, jobs over their request, what to request instead, the figures, a
table of all jobs, and what was not measured. Rows and figures in, a page out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache

from torc_slurm.common.units import format_run_time
from torc_slurm.database.rows import Row, Value, number_or_none, whole, whole_or_none
from torc_slurm.files.output_names import REPORT_NAME
from torc_slurm.plots.compare_figure import compare_cpu, compare_memory
from torc_slurm.plots.encode import Encoded
from torc_slurm.plots.gather import accounted_request
from torc_slurm.plots.model import Request, Run, how_it_was_ended
from torc_slurm.plots.packing_figures import gantt_figure, packing_figures
from torc_slurm.plots.page import DataTable, Page, Section, Table
from torc_slurm.plots.parts import counted
from torc_slurm.plots.quoting import plain
from torc_slurm.plots.summary_figure import summary_figure
from torc_slurm.plots.words import HOW_TO_GET_A_SERIES
from torc_slurm.plots.write import Overview, packing_notes
from torc_slurm.records.figures import HEADINGS, NOT_MEASURED, figures_in, format_figure
from torc_slurm.records.statuses import COMPLETED, RUNNING, UNSUCCESSFUL
from torc_slurm.records.workflows import JobRow
from torc_slurm.reports.step_stats import Gaps
from torc_slurm.sizing.corrections import Corrections
from torc_slurm.sizing.decision import KEPT
from torc_slurm.sizing.facts import Facts
from torc_slurm.sizing.savings import Saving
from torc_slurm.sizing.utilization import Utilization
from torc_slurm.usecases.own_jobs import GroupCorrection

_STATES = (COMPLETED, RUNNING, *UNSUCCESSFUL)
_MOST_ROWS = 200
_MOST_NOTES = 40
_MOST_ON_ONE_LINE = 16
_SECONDS_PER_HOUR = 3600
_LEAST_HOURS = Decimal("0.001")

Requests = Mapping[tuple[int, int, int], Request]  # by job, run, attempt
Links = Mapping[int, str]  # by job: the address of its page


@dataclass(frozen=True)
class Report:
    """The input of the page.

    ``unstarted`` are rows of jobs without an attempt; ``overview`` is None if no node wrote anything; ``sizing`` is
    from `sizing_sections`; ``links`` and ``pages`` are other pages that exist.
    """

    title: str
    attempts: Sequence[Row]
    unstarted: Sequence[JobRow]
    gaps: Gaps
    overview: Overview | None = None
    sizing: Sequence[Section] = ()
    requests: Requests = field(default_factory=dict)
    links: Links = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)
    is_several: bool = False


def report_page(report: Report) -> Page:
    """The page."""
    figures, series = _figures(report.overview)
    sections = [_state_section(report), *report.sizing, *figures]
    sections.append(Section("jobs", "All jobs", data_table="jobs"))
    sections += _missing_section(report)
    return Page(
        heading=f"What {report.title} used",
        lead=_lead(report),
        sections=sections,
        file_name=REPORT_NAME.removesuffix(".html"),
        clock_time=min(_known(report.attempts, "start_time"), default=time.time()),
        series=series,
        tables={"jobs": _jobs_table(report)},
        notes=[] if report.overview is None else packing_notes(report.overview),
    )


def sizing_sections(
    utilization: Utilization,
    corrections: Corrections,
    savings: Sequence[Saving],
    own_jobs: Sequence[GroupCorrection] | None = None,
) -> list[Section]:
    """What the page shows of right-sizing's results, which themselves hold every attempt of a workflow.

    Args:
        own_jobs: shown instead of the corrections.
    """
    instead = _corrections(corrections) if own_jobs is None else _advice(own_jobs)
    return [_violations(utilization), instead, _savings(savings)]


def requests_of(run: Run) -> dict[tuple[int, int, int], Request]:
    """The request of each attempt of a run, as far as the run's files have it."""
    return {
        (job.job_id, attempt.run_id, attempt.attempt_id): attempt.request
        for job in run.jobs
        for attempt in job.attempts
    }


def requests_of_facts(facts: Facts) -> dict[tuple[int, int, int], Request]:
    """The request of each attempt of a workflow when it ran; jobs without a requirement requested nothing."""
    shared = cache(Request)  # by very many attempts
    return {
        (job.job_id, attempt.run_id, attempt.attempt_id): shared(
            attempt.request.num_cpus, attempt.request.memory_bytes, attempt.request.runtime_seconds
        )
        for job in facts.jobs
        for attempt in job.attempts
        if job.resource_requirements_id is not None
    }


def latest_of_each_job(attempts: Sequence[Row]) -> list[Row]:
    """For each job, the attempt of its latest run."""
    latest: dict[object, Row] = {}
    for row in sorted(attempts, key=lambda row: (whole(row, "run_id"), whole(row, "attempt_id"))):
        latest[row["job_id"]] = row
    return sorted(latest.values(), key=lambda row: whole(row, "job_id"))


def _lead(report: Report) -> str:
    begins, ends = _known(report.attempts, "start_time"), _known(report.attempts, "end_time")
    if not begins:
        return "Nothing has run yet."
    began = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(min(begins)))
    took = f", {format_run_time(round(max(ends) - min(begins)))} to the last end" if ends else ", still running"
    return f"Began {began}{took}."


def _state_section(report: Report) -> Section:
    counts = Counter(str(row["status"]) for row in report.attempts)
    counts.update(f"{row['status']}, not started" for row in report.unstarted)
    names = sorted(counts, key=lambda name: _STATES.index(name) if name in _STATES else len(_STATES))
    tiles = [{"value": f"{counts[name]:,}", "name": name} for name in names]
    used = _known(report.attempts, "all_nodes_cpu_seconds")
    if used:
        tiles.append({"value": _cpu_time(sum(used)), "name": "CPU time used"})
    peak = max(_known(report.attempts, "peak_memory_bytes"), default=None)
    tiles.append({"value": format_figure("peak_memory_bytes", peak), "name": "largest peak memory"})
    links = [{"href": href, "name": name} for name, href in report.pages.items()]
    return Section("states", tiles=tiles, links=links)


def _cpu_time(seconds: float) -> str:
    hours = seconds / _SECONDS_PER_HOUR
    return f"{hours:,.1f} h" if hours >= 10 else format_run_time(round(seconds, 1))


def _known(rows: Sequence[Row], column: str) -> list[float]:
    return [value for row in rows if (value := number_or_none(row[column])) is not None]


def _violations(found: Utilization) -> Section:
    titles = ("Job", "Name", "Resource", "Requested", "Used", "Over", "Note")
    rows = [
        [str(use.job_id), use.job_name, use.resource_type, use.specified, use.peak_used, use.over_utilization, use.note]
        for use in found.uses[:_MOST_ROWS]
    ]
    words = [
        f"{counted(found.violations, 'violation')} in {counted(found.total_results, 'job')}"
        + (f"; for {found.unmeasured} of them a figure is missing." if found.unmeasured else ".")
    ]
    return Section(
        "violations", "Jobs over their request", [*words, *_cut(len(found.uses))], table=_table(titles, rows)
    )


def _corrections(found: Corrections) -> Section:
    changes = [each for each in found.decisions if each.direction != KEPT]
    titles = ("Requirement", "Resource", "Now", "Instead", "Why")
    rows = [
        [each.requirement.name, each.resource.value, str(each.original or NOT_MEASURED), str(each.new), each.reason]
        for each in changes
    ]
    words = "Nothing to correct." if not rows else f"To apply them: torc correct {found.workflow_id}"
    return Section("corrections", "What to request instead", [words, *_cut(len(rows))], table=_table(titles, rows))


def _advice(found: Sequence[GroupCorrection]) -> Section:
    titles = ("Jobs", "Resource", "Now", "Instead", "Why")
    rows = [
        [each.group.name, advice.resource, str(advice.current), str(advice.suggested), advice.reason]
        for each in found
        for advice in each.advice
    ]
    words = "To write them into a script: torc correct --script job.sbatch" if rows else "Nothing to correct."
    return Section("corrections", "What to request instead", [words, *_cut(len(rows))], table=_table(titles, rows))


def _savings(rows: Sequence[Saving]) -> Section:
    titles = (
        "Requirement",
        "Attempts",
        "Core-hours requested",
        "used",
        "wasted",
        "after",
        "GB-hours requested",
        "used",
        "wasted",
        "after",
    )
    amounts = ("asked", "used", "wasted", "asked_after")
    cells = [
        [
            "all together" if row.requirement is None else row.requirement.name,
            str(row.attempts),
            *(_hours(getattr(row, name).core_hours) for name in amounts),
            *(_hours(getattr(row, name).gb_hours) for name in amounts),
        ]
        for row in rows
    ]
    words = "What was requested while jobs ran, what was used, and what the same work would request after correction."
    return Section("savings", "Cost, before and after correction", [words], table=_table(titles, cells))


def _hours(value: Decimal | None) -> str:
    if value is None:
        return NOT_MEASURED
    if 0 < value < _LEAST_HOURS:
        return f"< {_LEAST_HOURS}"
    return f"{value:,.1f}" if value >= 10 else f"{value:.3f}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table | None:
    return Table(titles, rows[:_MOST_ROWS]) if rows else None


def _cut(count: int) -> list[str]:
    return [f"The first {_MOST_ROWS} of {count:,} are shown."] if count > _MOST_ROWS else []


def _figures(overview: Overview | None) -> tuple[list[Section], dict[str, Encoded]]:
    if overview is None:
        return [], {}
    run, runs = overview.on_nodes, overview.run.run_ids
    title = "Over time" if len(runs) == 1 else f"Over time: run {runs[-1]}, the latest"
    sections = [
        Section("gantt", title, figures=[gantt_figure(run)]),
        Section("nodes", figures=packing_figures(overview.nodes(), run)),
    ]
    series: dict[str, Encoded] = {}
    if overview.lines:
        (memory, memory_series), (cpu, cpu_series) = compare_memory(overview.lines), compare_cpu(overview.lines)
        series = {**memory_series, **cpu_series}
        sections.append(Section("compare", "Job by job", figures=[memory, cpu]))
    sections.append(Section("summary", "" if overview.lines else "Job by job", figures=[summary_figure(overview.bars)]))
    return sections, series


def _missing_section(report: Report) -> list[Section]:
    """What was not measured, and why; empty if everything was."""
    words = []
    if report.is_several:
        words.append("There are plots only for a single Slurm job: torc reports html --slurm-job-id N.")
    elif report.overview is None:
        words.append("No node has written anything: nothing was measured, or torc slurm collect has not seen it.")
    elif not report.overview.lines:
        words.append(f"No time series was kept, so lines over time are averages: {HOW_TO_GET_A_SERIES}.")
    unmeasured = sum(row["peak_memory_bytes"] is None for row in report.attempts)
    if unmeasured:
        words.append(f"{counted(unmeasured, 'attempt')} without any figure of memory.")
    words += [
        f"Slurm's {', '.join(reason.figures)} missing in {counted(reason.rows, 'row')}: {reason.reason}."
        for reason in report.gaps.null_reasons
    ]
    words += [f"{warning}." for warning in report.gaps.warnings]
    if len(words) > _MOST_NOTES:
        words = [*words[:_MOST_NOTES], f"And {len(words) - _MOST_NOTES} more; torc stats shows them."]
    return [Section("missing", "What was not measured, and notes", words)] if words else []


_FIGURES = figures_in("report")
# What the page reads of an attempt's row of `select_attempts`.
ATTEMPT_COLUMNS = (
    "id",
    *("job_id", "job_name", "run_id", "attempt_id", "workflow_id", "slurm_job_id", "slurm_array", "step_id"),
    *("status", "return_code", "return_signal", "start_time", "end_time", "exec_time_seconds", "measured_nodes"),
    *("all_nodes_cpu_seconds", "peak_memory_bytes", "slurm_stats_allocated_tres"),
    *(figure.name for figure in _FIGURES if figure.name != "peak_memory_bytes"),
)
_COLUMNS = (
    ("Job", True),
    ("Name", False),
    ("State", False),
    ("Exit", True),
    ("Run", True),
    ("Attempt", True),
    ("Nodes", False),
    (HEADINGS["exec_time_seconds"], True),
    *((figure.heading, True) for figure in _FIGURES),
    ("Requested memory", True),
    ("Requested CPU", True),
)


def _jobs_table(report: Report) -> DataTable:
    columns = [{"title": title, "number": number} for title, number in _COLUMNS]
    return DataTable(columns, lambda: _job_rows(report))


def _job_rows(report: Report) -> Iterator[list[object]]:
    """Failed jobs first, by name; then by number."""
    attempts, unstarted = report.attempts, report.unstarted
    by_files = {} if report.overview is None else requests_of(report.overview.run)
    cells_of_request = cache(_request_cells)  # very many attempts share a few

    def order(place: int) -> tuple[bool, str, int]:
        if place < len(attempts):
            row = attempts[place]
            status, name, number = row["status"], row["job_name"], whole(row, "job_id")
        else:
            job = unstarted[place - len(attempts)]
            status, name, number = job["status"], job["name"], job["job_id"]
        has_failed = status in UNSUCCESSFUL
        return not has_failed, _name_cell(name) if has_failed else "", place if report.is_several else number

    for place in sorted(range(len(attempts) + len(unstarted)), key=order):
        if place >= len(attempts):
            job = unstarted[place - len(attempts)]
            cells: list[object] = [job["job_id"], _name_cell(job["name"])]
            cells.append([job["status"], f"{job['status']}, not started"])
            yield cells + [None] * (len(_COLUMNS) - len(cells))
            continue
        row = attempts[place]
        key = (whole(row, "job_id"), whole(row, "run_id"), whole(row, "attempt_id"))
        request = report.requests.get(key) or by_files.get(key) or Request()
        cells = [*_attempt_cells(row, key, report.links), *cells_of_request(request)]
        # steps of different jobs have the same numbers
        yield _with_job(place, row, cells) if report.is_several else cells


def _name_cell(name: object) -> str:
    return plain(str(name or ""), 120)


def _attempt_cells(row: Row, key: tuple[int, int, int], links: Links) -> list[object]:
    status = str(row["status"])
    took = number_or_none(row["exec_time_seconds"])
    return [
        [key[0], str(row["step_id"] if row["workflow_id"] is None else key[0]), links.get(key[0])],
        _name_cell(row["job_name"]),
        [status, how_it_was_ended(status, whole_or_none(row["return_signal"])) or status, None, f"state-{status}"],
        row["return_code"],
        key[1],
        key[2],
        _nodes(str(row["measured_nodes"] or "")),
        _cell("exec_time_seconds", None if took is None else round(took, 3)),
        *(_cell(figure.name, row[figure.name]) for figure in _FIGURES),
    ]


def _with_job(number: int, row: Row, cells: list[object]) -> list[object]:
    """The cells with the Slurm job before the step, and what Slurm gave this step as its request."""
    step = f"{row['slurm_array'] or row['slurm_job_id']}.{row['step_id']}"
    return [[number, step, None], *cells[1:-2], *_request_cells(accounted_request(row, 1))]


def _request_cells(request: Request) -> list[object]:
    return [
        _cell("memory_bytes", request.memory_bytes),
        _cell("cpu_percent", None if request.cpus is None else request.cpus * 100),
    ]


def _nodes(names: str) -> list[object]:
    shown = plain(names.replace(",", ", "), 60)
    return [names, shown, None, "whole" if len(shown) <= _MOST_ON_ONE_LINE else ""]


def _cell(name: str, value: Value) -> list[object]:
    """The sort key and the shown text."""
    return [value, format_figure(name, value)]
