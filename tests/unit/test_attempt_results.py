"""How an attempt ended, with exit records whole, in part or absent, with and without Slurm's accounting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.database.merge import complete_alone
from torc_slurm.database.node_records import EXIT_COLUMNS, StepRows
from torc_slurm.database.rows import Row, Value
from torc_slurm.records.accounting import COLUMN_NAMES
from torc_slurm.records.figures import TEXT_FIGURES, USAGE_COLUMNS
from torc_slurm.usecases.attempt_results import attempt_figures, decide_status, figures_alone, without_suspension

NODES: list[Row] = [{"last_flush_time": 30.0}, {"last_flush_time": 40.0}]


def figures(**known: Value) -> dict[str, Value]:
    names = ("return_code", "return_signal", "oom_kills", "end_time", "start_time", "exec_time_seconds")
    return dict.fromkeys(names) | {"start_time": 10.0, "exec_time_seconds": 20.0} | known


def accounting(**known: Value) -> dict[str, Value]:
    row: dict[str, Value] = dict.fromkeys(COLUMN_NAMES)
    return row | {"slurm_job_id": 7, "step_id": "0", "run_id": 1, "status": "found", "state": "COMPLETED"} | known


def test_a_running_step_has_no_end() -> None:
    decided = decide_status(figures(), NODES, accounting(status="pending", state="RUNNING"))
    assert (decided["status"], decided["end_time_source"]) == ("running", None)
    assert "end_time" not in decided


def test_one_task_of_four_that_has_ended_well_ends_nothing() -> None:
    assert decide_status(figures(return_code=0), NODES, None)["status"] == "running"
    assert decide_status(figures(return_code=1), NODES, None)["status"] == "running"


def test_a_zero_of_some_tasks_does_not_hide_that_others_were_killed() -> None:
    decided = decide_status(figures(return_code=0), NODES, accounting(state="FAILED", exit_code=0, exit_signal=9))
    assert decided["status"] == "failed"


def test_the_failure_of_some_tasks_counts_once_no_more_will_come() -> None:
    assert decide_status(figures(return_code=3), NODES, accounting(state="FAILED", exit_code=3))["status"] == "failed"


def test_slurms_end_is_taken_where_the_step_wrote_none() -> None:
    decided = decide_status(figures(), NODES, accounting(state="FAILED", end_time=55.0))
    assert (decided["end_time"], decided["end_time_source"], decided["exec_time_seconds"]) == (55.0, "accounting", 45.0)


def test_else_its_last_sign_of_life() -> None:
    decided = decide_status(figures(), NODES, accounting(status="missing", state=None, job_state="COMPLETED"))
    assert (decided["end_time"], decided["end_time_source"], decided["exec_time_seconds"]) == (40.0, "last flush", 30.0)


def test_its_own_end_stands() -> None:
    decided = decide_status(figures(return_code=0, end_time=33.0), NODES, accounting(end_time=34.0))
    assert (decided["status"], decided["end_time_source"]) == ("completed", "exit records")
    assert "end_time" not in decided


def test_an_end_without_any_exit_is_no_success() -> None:
    assert decide_status(figures(end_time=33.0), NODES, None)["status"] == "failed"


def test_out_of_memory_needs_a_failure() -> None:
    assert decide_status(figures(return_code=137, oom_kills=1, end_time=33.0), NODES, None)["status"] == "oom"
    assert decide_status(figures(return_code=0, oom_kills=1, end_time=33.0), NODES, None)["status"] == "completed"


# --- attempts on one node, column by column

TIMES = st.floats(0, 1e6)
STEP = {
    "node": st.sampled_from(["n1", "n2"]),
    "node_count": st.none() | st.integers(-1, 2),
    "task_count": st.none() | st.integers(-1, 3),
    "begin_time": TIMES,
    "end_time": st.none() | TIMES,
    **{name: st.none() | st.integers(0, 2**60) for name in USAGE_COLUMNS if name not in TEXT_FIGURES},
    **{name: st.none() | st.just("samples") for name in USAGE_COLUMNS if name in TEXT_FIGURES},
    "oom_kills": st.none() | st.integers(0, 2),
}
EXIT = {
    **{name: st.none() for name in EXIT_COLUMNS},
    "return_code": st.sampled_from([0, 1, 137]),
    "signal": st.none() | st.just(9),
    "end_time": TIMES,
    "elapsed_seconds": TIMES,
}


@given(st.lists(st.tuples(st.tuples(*STEP.values()), st.lists(st.tuples(*EXIT.values()), max_size=3)), min_size=1))
def test_column_by_column_attempts_on_one_node_get_the_figures_that_each_gets_alone(
    drawn: list[tuple[tuple[Value, ...], list[tuple[Value, ...]]]],
) -> None:
    steps = StepRows(tuple(STEP), tuple(EXIT), [(cells, exits, [], None) for cells, exits in drawn])
    alone = {
        place: attempt_figures([record.step], record.exits, None, None, run_ended=False)
        for place, record in enumerate(steps)
        if (record.step["node_count"] or 1) in (-1, 1)
    }
    ended = {place: figures for place, figures in alone.items() if figures["status"] != "running"}
    places = complete_alone(steps)
    assert places == list(ended)
    if places:
        found = figures_alone(steps.at(places))
        rows = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
        assert rows == list(ended.values())


# --- suspension


def suspended(
    wall: float, elapsed: float | None, seconds: float | None, tres: str | None = None, **known: Value
) -> dict[str, Value]:
    return without_suspension(
        {"exec_time_seconds": wall, "status_evidence": "exit code 0", **known},
        accounting(elapsed_seconds=elapsed, suspended_seconds=seconds, allocated_tres=tres),
    )


def test_suspended_time_of_a_step_does_not_count_as_run_time() -> None:
    percents: dict[str, Value] = {"avg_cpu_percent": 10.0, "peak_cpu_percent": 20.0, "all_nodes_avg_cpu_percent": 10.0}
    found = suspended(41.1, 11.0, 30.0, "cpu=1", **percents)
    assert found["exec_time_seconds"] == pytest.approx(11.1)
    assert found["avg_cpu_percent"] == pytest.approx(10 * 41.1 / 11.1)
    assert found["peak_cpu_percent"] == found["avg_cpu_percent"]  # never below the mean
    assert "30s in which it was suspended" in str(found["status_evidence"])


@pytest.mark.parametrize(("elapsed", "seconds"), [(41.0, None), (41.0, 0.0), (None, 30.0), (0.0, 41.1)])
def test_without_suspension_nothing_changes(elapsed: float | None, seconds: float | None) -> None:
    assert suspended(41.1, elapsed, seconds) == {"exec_time_seconds": 41.1, "status_evidence": "exit code 0"}


def test_a_command_of_a_step_that_was_suspended_ran_at_most_as_long_as_the_step() -> None:
    """Several torc-steps in one batch step: it is unknown which of them was suspended."""
    assert suspended(5.0, 60.0, 30.0)["exec_time_seconds"] == 5.0
    assert suspended(35.0, 20.0, 30.0)["exec_time_seconds"] == 22.0


@given(st.floats(0.001, 1e7), st.floats(0, 1e7), st.floats(0, 1e7))
def test_the_run_time_is_never_made_longer_or_negative(wall: float, elapsed: float, seconds: float) -> None:
    found = suspended(wall, elapsed, seconds)["exec_time_seconds"]
    assert isinstance(found, float)
    assert 0 < found <= wall


def test_a_suspension_in_whole_seconds_makes_no_percentage_that_the_cpus_could_not_give() -> None:
    """30 of 30.1 s: what is left of the run time is mostly the rounding of Slurm's clock."""
    percents: dict[str, Value] = {"avg_cpu_percent": 50.0, "peak_cpu_percent": 180.0, "all_nodes_avg_cpu_percent": 50.0}
    assert suspended(30.1, 0.0, 30.0, "cpu=2,node=1", **percents)["avg_cpu_percent"] == 200.0
    found = suspended(30.1, 0.0, 30.0, None, **percents)
    assert (found["avg_cpu_percent"], found["peak_cpu_percent"]) == (180.0, 180.0)
    assert suspended(30.1, 0.0, 30.0, None, avg_cpu_percent=50.0)["avg_cpu_percent"] == 50.0
