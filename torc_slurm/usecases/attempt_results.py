"""Keeps each attempt's row of ``results`` up to date with its evidence: figures and status, and its end if the job
could not write one itself.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from torc_slurm.common.units import format_run_time
from torc_slurm.database.job_states import unmeasured_figures, with_journal
from torc_slurm.database.merge import last_seen, merge_alone, merge_nodes
from torc_slurm.database.node_records import StepRows
from torc_slurm.database.rows import Row, Value, number_or_none, whole_or_none
from torc_slurm.database.store import OWN_END, Evidence, evidence_of, in_portions, update_results
from torc_slurm.records.accounting import FINAL_STATUSES
from torc_slurm.records.statuses import FAILED, RUNNING
from torc_slurm.records.tres import parse_resources
from torc_slurm.usecases.attempt_status import AttemptStatus, SlurmView, WrapperView, attempt_status

# Slurm counts whole seconds, and its clock differs from the wrapper's.
_CLOCK_SECONDS = 2.0
_MOST_ENDS = 1000
_DECISIVE = ("return_code", "return_signal", "oom_kills")  # of an attempt that has ended and is unknown to Slurm
_DECIDED = ("status", "status_evidence", "end_time_source")


def rebuild_results(connection: sqlite3.Connection, attempts: Iterable[int], measured: Set[int] | None = None) -> None:
    """Recompute the figures and the status of these attempts from what their nodes and Slurm recorded.

    Call it once per attempt, after all files are collected: it reads the records of all nodes.

    Args:
        measured: those of which nodes have recorded more; None: any. Of the others that have ended, only the status is
            decided again.
    """
    for portion in in_portions(connection, attempts):
        update_results(connection, _changes(evidence_of(connection, portion, measured)))


def _changes(evidence: Iterable[tuple[int, Evidence]]) -> Iterator[tuple[int, dict[str, Value]]]:
    for attempt, each in evidence:
        known = each.figures
        if known is None:
            yield (
                attempt,
                attempt_figures(each.nodes, each.exits, each.accounting, each.journal, run_ended=each.run_ended),
            )
        else:
            decided = with_journal(decide_status(known, (), each.accounting), each.journal, run_ended=each.run_ended)
            if any(known[name] != value for name, value in decided.items()):
                yield attempt, decided


def figures_alone(steps: StepRows) -> dict[str, Sequence[Value]]:
    """`attempt_figures` of each of these attempts, by column, if nothing but its step is known of it.

    Args:
        steps: those of `complete_alone`, at least one.
    """
    figures = merge_alone(steps)
    ends = list(zip(*(figures[name] for name in _DECISIVE), strict=True))
    known = {end: dict(zip((*_DECISIVE, "end_time"), (*end, 0.0), strict=True)) for end in set(ends)}
    decided = {end: decide_status(of_end, (), None) for end, of_end in known.items()}
    return figures | {name: [decided[end][name] for end in ends] for name in _DECIDED}


def attempt_figures(
    nodes: Sequence[Row], exits: Sequence[Row], accounting: Row | None, journal: Row | None, *, run_ended: bool
) -> dict[str, Value]:
    """The figures and the status of one attempt, as columns of ``results``; pure.

    Args:
        nodes: what its nodes wrote; empty if no wrapper could write.
        exits: the exit records of its tasks.
        accounting: its row of ``slurm_stats``.
        journal: its row in the runner's journal.
        run_ended: whether its run is over.
    """
    figures = merge_nodes(nodes, exits) if nodes or journal is None else unmeasured_figures(journal)
    decided = decide_status(figures, nodes, accounting)
    figures.update(with_journal(decided, journal, run_ended=run_ended))
    return without_suspension(figures, accounting) if accounting is not None else figures


def without_suspension(figures: dict[str, Value], accounting: Row | None) -> dict[str, Value]:
    """The figures without the time in which Slurm had the step suspended (scontrol suspend, gang scheduling).

    The wrapper's clock counts that time; ``elapsed_seconds`` of Slurm's row does not.
    """
    suspended = number_or_none(None if accounting is None else accounting["suspended_seconds"])
    slurm_elapsed = number_or_none(None if accounting is None else accounting["elapsed_seconds"])
    wall = number_or_none(figures.get("exec_time_seconds"))
    if not suspended or slurm_elapsed is None or wall is None:
        return figures
    is_whole_step = wall + _CLOCK_SECONDS >= slurm_elapsed + suspended
    ran = wall - suspended if is_whole_step else min(wall, slurm_elapsed + _CLOCK_SECONDS)
    if not 0 < ran < wall:
        return figures
    left_out = format_run_time(round(wall - ran, 1))
    changed: dict[str, Value] = {
        "exec_time_seconds": ran,
        "status_evidence": f"{figures['status_evidence']}; the run time does not include {left_out} in which it was "
        "suspended",
    }
    most = _most_percent(figures, accounting)
    for name in ("avg_cpu_percent", "all_nodes_avg_cpu_percent"):
        if (percent := number_or_none(figures.get(name))) is not None:
            changed[name] = min(percent * wall / ran, max(percent, most))
    peak, mean = number_or_none(figures.get("peak_cpu_percent")), number_or_none(changed.get("avg_cpu_percent"))
    if peak is not None and mean is not None:
        changed["peak_cpu_percent"] = max(peak, mean)
    return figures | changed


def _most_percent(figures: Mapping[str, Value], accounting: Row | None) -> float:
    """What the CPUs could give: those that Slurm gave to the step, else what they were seen to give at most.

    A suspension in whole seconds leaves too little of a short step.
    """
    cpus = parse_resources(None if accounting is None else str(accounting["allocated_tres"] or "")).cpus
    return cpus * 100.0 if cpus else number_or_none(figures.get("peak_cpu_percent")) or 0.0


def decide_status(figures: Mapping[str, Value], nodes: Sequence[Row], accounting: Row | None) -> dict[str, Value]:
    """Status, evidence, end and elapsed time of one attempt, as columns of ``results``; pure.

    Args:
        figures: the result of `merge_nodes`; with an ``end_time``, all nodes have ended.
        accounting: its row of ``slurm_stats``; None if there is none.
    """
    slurm = None if accounting is None else SlurmView.from_row(accounting)
    wrapper = _wrapper_view(figures, accounting)
    status, evidence = _status_alone(wrapper) if slurm is None else attempt_status(wrapper, slurm)
    ended = figures["end_time"] is not None
    if status == RUNNING and ended:  # all nodes wrote their end, but no task an exit: the wrappers were killed
        status, evidence = FAILED, "no exit record, though its nodes have ended"
    decided: dict[str, Value] = {"status": status, "status_evidence": evidence}
    if ended:
        return decided | {"end_time_source": OWN_END}
    return decided | (_end_by_others(figures, nodes, accounting) if status != RUNNING else {"end_time_source": None})


def _wrapper_view(figures: Mapping[str, Value], accounting: Row | None) -> WrapperView:
    """The exit code counts once all tasks have written theirs, or Slurm says that no more will come.

    In the second case a 0 does not count: tasks may have been killed before they could write. The time of the end is
    for comparison with Slurm's.
    """
    code = whole_or_none(figures["return_code"])
    complete = figures["end_time"] is not None
    final = accounting is not None and accounting["status"] in FINAL_STATUSES
    return WrapperView(
        return_code=code if complete or (final and code != 0) else None,
        signal=whole_or_none(figures["return_signal"]),
        oom_kills=whole_or_none(figures["oom_kills"]),
        end_time=None if accounting is None else number_or_none(figures["end_time"]),
    )


@functools.lru_cache(maxsize=_MOST_ENDS)
def _status_alone(wrapper: WrapperView) -> AttemptStatus:
    """The status without Slurm's row: few different ones, and very many attempts."""
    return attempt_status(wrapper, None)


def _end_by_others(figures: Mapping[str, Value], nodes: Sequence[Row], accounting: Row | None) -> dict[str, Value]:
    """For a step that was killed without warning: the end that Slurm recorded, else the time of its last record."""
    slurm_end = None if accounting is None else number_or_none(accounting["end_time"])
    end = last_seen(nodes) if slurm_end is None else slurm_end
    start = number_or_none(figures["start_time"]) or end
    return {
        "end_time": end,
        "end_time_source": "last flush" if slurm_end is None else "accounting",
        "exec_time_seconds": max(end - start, number_or_none(figures["exec_time_seconds"]) or 0.0),
    }
