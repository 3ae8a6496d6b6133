"""Placing steps on nodes: their use adds up, and no two bars overlap."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from torc_slurm.database.node_records import NodeRecords
from torc_slurm.database.series import SeriesFile
from torc_slurm.plots.measured import Measured
from torc_slurm.plots.model import Attempt, Capacity, Figures, Job, Part, Request, Run, Series
from torc_slurm.plots.packing import Grid, NodeLoad, Use, first_lanes, lanes, use_of
from torc_slurm.plots.packing_figures import gantt_figure, packing_figures

FILE = SeriesFile("", NodeRecords("", "", (), ()), None)


def part(begin: float, end: float, node: str = "n1", figures: Figures | None = None) -> Part:
    return Part(node, 1, begin, end, True, figures or Figures(), 1.0, FILE)


def job(job_id: int, *parts: Part) -> Job:
    begin, end = min(each.begin_time for each in parts), max(each.end_time for each in parts)
    attempt = Attempt(1, 1, "completed", "", 0, None, begin, end, parts, Request(cpus=2, memory_bytes=100))
    return Job(job_id, f"job {job_id}", (attempt,))


def cpu_seconds(series: Series, begin: float) -> float:
    total = 0.0
    for time, value in zip(series.times, series.columns[0], strict=True):
        total, begin = total + (value or 0) * (time - begin), time
    return total


@given(some.lists(some.tuples(some.floats(0.01, 30), some.floats(0, 800)), min_size=1, max_size=60))
def test_cpu_time_is_kept(samples: list[tuple[float, float]]) -> None:
    times = [sum(interval for interval, _ in samples[: place + 1]) for place in range(len(samples))]
    series = Series(times, ([value for _, value in samples], [1] * len(samples), [1] * len(samples)))
    grid = Grid.over(0, times[-1])
    use = use_of(Measured(part(0, times[-1]), series, Series([], ([],))), grid)
    assert sum(use.cpu_percent) * grid.stretch_seconds == pytest.approx(cpu_seconds(series, 0))


def test_memory_keeps_its_peak_and_ends_with_the_step() -> None:
    series = Series([1.0, 2.0, 3.0], ([0, 0, 0], [10, 70, 30], [1, 1, 1]))
    use = use_of(Measured(part(1, 4), series, Series([], ([],))), Grid(0, 0.1, 60))
    assert max(use.memory_bytes) == 70
    assert use.memory_bytes[25] == 70
    assert use.memory_bytes[39] == 30
    assert use.memory_bytes[45] == 0


def test_memory_that_a_sample_could_not_read_is_the_last_known() -> None:
    series = Series([1.0, 2.0, 3.0], ([0, 0, 0], [10, None, 30], [1, 1, 1]))
    use = use_of(Measured(part(1, 4), series, Series([], ([],))), Grid(0, 0.1, 60))
    assert use.memory_bytes[25] == 10


def test_without_a_series_averages_stand_in() -> None:
    measured = Measured(
        part(0, 30, figures=Figures(avg_cpu_percent=150.0, avg_memory_bytes=9)),
        Series([], ([], [], [])),
        Series([], ([],)),
    )
    grid = Grid(0, 1.0, 60)
    use = use_of(measured, grid)
    assert sum(use.cpu_percent) == pytest.approx(150 * 30)
    assert use.memory_bytes[10] == 9
    assert use.memory_bytes[40] == 0


def test_what_is_not_alone_is_counted_among_the_others() -> None:
    grid = Grid(0, 1.0, 4)
    load = NodeLoad("n1", grid)
    for number in range(3):
        measured = Measured(
            part(0, 4, figures=Figures(avg_cpu_percent=100.0)), Series([], ([], [], [])), Series([], ([],))
        )
        load.put(f"{number}", use_of(measured, grid), alone=number == 0)
    assert list(load.uses) == ["0"]
    assert load.other_count == 2
    assert load.others.cpu_percent == pytest.approx([200] * 4)
    only = job(1, part(1, 3))
    load.ask(only.last, only.last.parts[0])
    assert load.requested_cpu == [0, 200, 200, 0]


def test_steps_one_after_another_in_a_stretch_never_ask_for_more_than_one_of_them() -> None:
    load = NodeLoad("n1", Grid(0, 1.0, 4))
    for first, then in ((0.0, 1.2), (1.2, 1.4), (1.4, 4.0)):
        only = job(1, part(first, then))
        load.ask(only.last, only.last.parts[0])
    assert load.requested_cpu == pytest.approx([200] * 4)


SPANS = some.tuples(some.integers(0, 100), some.integers(1, 30), some.sampled_from("ab"))


@given(some.lists(SPANS, min_size=1, max_size=40))
def test_no_two_in_a_lane_at_once_and_no_more_lanes_than_needed(spans: list[tuple[int, int, str]]) -> None:
    jobs = [job(number, part(begin, begin + length, node)) for number, (begin, length, node) in enumerate(spans)]
    placed = lanes(jobs)
    for members in placed.values():
        for one in members:
            for other in members:
                if one is not other and one.lane == other.lane:
                    assert one.part.end_time <= other.part.begin_time or other.part.end_time <= one.part.begin_time
        at_once = max(sum(o.part.begin_time <= m.part.begin_time < o.part.end_time for o in members) for m in members)
        assert max(each.lane for each in members) + 1 == at_once
    rows = [first_lanes(placed)[node] + lane for node in placed for lane in {each.lane for each in placed[node]}]
    assert len(rows) == len(set(rows))


def test_what_a_node_has_is_drawn_only_while_there_was_a_run() -> None:
    one, other = job(1, part(0, 10)), job(2, part(90, 100))
    later = replace(other, attempts=(replace(other.attempts[0], run_id=2),))
    run = Run("workflow 1", (one, later), Capacity(), {"n1": Capacity(4, 1000)})
    load = NodeLoad("n1", Grid.over(run.begin_time, run.end_time))
    load.put("1", Use([100.0] * load.grid.count, [500.0] * load.grid.count), alone=True)
    (drawn,) = packing_figures([load], run)
    cpu, memory = (trace for trace in drawn["traces"] if trace["name"] == "available")
    assert (cpu["points"], cpu["y"]) == ([0, 10_000, 10_000, 90_000, 100_000, 100_000], [400, 400, None] * 2)
    assert memory["y"] == [1000, 1000, None] * 2
    titles = [note["text"] for note in drawn["layout"]["annotations"]]
    assert "<b>CPU</b> &nbsp; used 5.0 cores of 4.0 cores, 125% on average" in titles  # 100 s of a core in 20 s


def test_a_capacity_far_above_the_data_is_a_note_and_not_a_line() -> None:
    run = Run("workflow 1", (job(1, part(0, 10)),), Capacity(), {"n1": Capacity(4, 1000)})
    load = NodeLoad("n1", Grid.over(run.begin_time, run.end_time))
    load.put("1", Use([300.0] * load.grid.count, [50.0] * load.grid.count), alone=True)
    (drawn,) = packing_figures([load], run)
    (cpu,) = (trace for trace in drawn["traces"] if trace["name"] == "available")
    assert cpu["yaxis"] == "y"
    assert "↑ available 1.00 kB, beyond this view" in [note["text"] for note in drawn["layout"]["annotations"]]


def test_the_gantt_names_the_jobs_where_they_are_few() -> None:
    def names(count: int) -> list[str] | None:
        jobs = tuple(job(number, part(number * 10.0, number * 10.0 + 9)) for number in range(count))
        shown: list[str] | None = gantt_figure(Run("workflow 1", jobs, Capacity()))["traces"][0].get("text")
        return shown

    assert names(2) == ["0 · job 0", "1 · job 1"]
    assert names(201) is None
