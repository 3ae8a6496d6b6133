"""The pure parts of the bench: parsing texts of the kernel and of other tools, and comparing figures."""

from __future__ import annotations

import json

import pytest

from bench import figures
from bench.rows import Row, cost_row, error_row, versus_row
from bench.table import as_json, as_markdown, as_text, cell, in_unit

SMAPS = """\
55d0c0a00000-55d0c0a5f000 r--p 00000000 fe:00 1234                       /usr/bin/python3.11
Size:                380 kB
Rss:                 100 kB
Pss:                  50 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
55d0c0ce0000-55d0c0e00000 rw-p 00200000 fe:00 1234                       /usr/bin/python3.11
Rss:                  80 kB
Anonymous:            60 kB
7ffd1b000000-7ffd1b021000 rw-p 00000000 00:00 0                          [stack]
Rss:                  20 kB
Anonymous:            20 kB
7f0000000000-7f0000021000 rw-p 00000000 00:00 0
Rss:                  40 kB
Anonymous:            40 kB
"""


def test_file_pages_are_what_is_not_anonymous() -> None:
    path = "/usr/bin/python3.11"
    assert figures.file_pages_by_mapping(SMAPS) == {(path, "00000000"): 100 * 1024, (path, "00200000"): 20 * 1024}
    assert figures.file_pages_by_mapping("") == {}


def test_pages_that_two_processes_share_count_once_at_the_one_with_most() -> None:
    wrapper, sampler = {("/lib/a", "0"): 100, ("/lib/b", "0"): 7}, {("/lib/a", "0"): 130}
    assert figures.alone_bytes(1000, [wrapper, sampler]) == 1137
    assert figures.alone_bytes(1000, []) == 1000


def test_waited_ticks_with_a_name_that_looks_like_fields() -> None:
    stat = "12 (a b) R 1) S 1 12 12 0 -1 4194304 100 200 0 0 5 6 70 8 20 0 1 0 100 1000 10"
    assert figures.waited_ticks(stat) == 78


@pytest.mark.parametrize(
    ("times", "lost"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0], 0),
        ([1.02, 2.01, 4.03, 5.0], 1),
        ([], 5),
        ([5.0], 4),
        ([0.01, 0.6, 1, 2, 3, 4, 5], 0),
    ],
)
def test_a_whole_interval_without_a_sample_is_a_lost_sample(times: list[float], lost: int) -> None:
    assert figures.lost_samples(times, 0.0, 5.3, 1.0) == lost


def test_con_duct_has_no_cpu_time_but_a_mean_percentage() -> None:
    summary = {"average_pcpu": 50.0, "wall_clock_time": 8.0, "peak_rss": 1000}
    reported = figures.con_duct_report(json.dumps({"execution_summary": summary}))
    assert reported[:2] == (4.0, 1000)
    nothing = json.dumps({"execution_summary": {**summary, "average_pcpu": None, "peak_rss": None}})
    assert figures.con_duct_report(nothing)[:2] == (None, None)


def test_percentages_of_samples_are_added_up_over_the_time_since_the_one_before() -> None:
    log = "elapsed_time,nproc,cpu,mem_real,mem_virtual\n0.1,1,0.0,10,20\n1.1,2,50.0,30,40\n3.1,1,100.0,20,20\n3.2,1\n"
    reported = figures.psrecord_report(log)
    assert reported.cpu_seconds == pytest.approx(2.5)
    assert reported.peak_memory_bytes == 30 * 1024 * 1024
    recipe = "elapsed_seconds,cpu_percent,rss_bytes\n0,0.0,5\n2,25.0,4\n"
    assert figures.recipe_report(recipe)[:2] == (0.5, 5)
    assert figures.recipe_report("elapsed_seconds,cpu_percent,rss_bytes\n")[:2] == (None, None)


def test_what_is_missing_is_not_zero() -> None:
    assert figures.relative_error(None, 5.0) is None
    assert figures.relative_error(5.0, 0.0) is None
    assert figures.relative_error(0.0, 5.0) == -1
    assert figures.times(3.0, None) is None
    assert figures.times(3.0, 0.0) is None
    assert figures.median([]) is None


@pytest.mark.parametrize(
    ("figure", "unit", "text"),
    [
        (0.0005037, "ms/s", "0.504 ms/s"),
        (0.0286, "ms/s", "28.6 ms/s"),
        (0.161, "ms", "161 ms"),
        (2.155, "s", "2.15 s"),
        (1.867e9, "MB", "1867 MB"),
        (0.0, "", "0"),
        (9.999, "s", "10.0 s"),
    ],
)
def test_three_digits(figure: float, unit: str, text: str) -> None:
    assert in_unit(figure, unit) == text


def test_a_cost_is_compared_with_ours_and_judged_by_the_limit() -> None:
    row = cost_row("steady", "x", "ms/s", {"torc-step": 0.0005, "con-duct": 0.0683}, 0.0005)
    assert (cell(row, "torc-step"), row.met) == ("0.500 ms/s", True)
    assert cell(row, "con-duct") == "68.3 ms/s (137 \N{MULTIPLICATION SIGN})"
    assert cost_row("steady", "x", "ms/s", {"torc-step": 0.0006}, 0.0005).met is False


def test_a_start_is_judged_by_its_ratio_to_a_bare_python() -> None:
    assert versus_row("start", "x", "ms", {"torc-step": 0.030}, 0.020, 1.5).met is True
    assert versus_row("start", "x", "ms", {"torc-step": 0.031}, 0.020, 1.5).met is False
    assert versus_row("start", "x", "ms", {"con-duct": 0.031}, 0.020, 1.5).met is None


def test_a_figure_that_is_missing_misses_its_goal_and_is_shown_so() -> None:
    row = error_row("short", "x", "s", {"torc-step": None, "psrecord": 0.1}, {"psrecord": -0.5}, 0.2, "getrusage", 0.02)
    assert row.met is False
    assert cell(row, "torc-step") == "none"
    assert cell(row, "psrecord") == "0.100 s (\N{MINUS SIGN}50.0 %)"
    assert cell(row, "con-duct") == ""


def test_every_format_has_every_row() -> None:
    rows = [
        Row("collect", "a|b", "ms", {"torc-step": 0.07}),
        cost_row("memory", "m", "MB", {"torc-step": 7e6}, base=8e6),
    ]
    facts = {"date": "2025-01-01", "cores": "2"}
    assert [line.split()[0] for line in as_text(rows).splitlines()] == ["case", "a|b", "m"]
    markdown = as_markdown(rows, facts)
    assert "| a/b |" in markdown
    assert "8.00 MB bare Python" in markdown
    assert markdown.endswith("date: 2025-01-01; cores: 2.\n")
    assert json.loads(as_json(rows, facts))["rows"][1]["base"] == 8e6
