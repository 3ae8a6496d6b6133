"""The pages in a real browser: they show the measurements, the controls work, nothing foreign runs.

The command makes the pages, and the browser opens them from disk without a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as Xml
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import browser, console, prefer
from node_files import BEGIN
from plot_files import HOSTILE, batch, wave, write
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from torc_slurm.plots.palette import DARK, LIGHT

pytestmark = pytest.mark.browser
PATIENCE_SECONDS = 30.0  # not a speed limit: the machine may be busy
GB_JOB = 5
LINK = "<a href='//a.b'>x</a>"  # Plotly would make it a link
SAVING = {"download plot as a png", "download plot as an svg"}
LOOKING = {"zoom", "pan", "zoom in", "zoom out", "autoscale", "reset axes"}
LONELY_JOB = 20


def torc(*arguments: object) -> None:
    command = [sys.executable, "-m", "torc_slurm.cli.main", *map(str, arguments)]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of a run: two nodes, three attempts, a kill, gaps and NULLs, a hostile name, a job without samples."""
    place = tmp_path_factory.mktemp("run")
    broken = [*wave(BEGIN + 1, 20), *wave(BEGIN + 40, 19)]
    broken[5] = (broken[5][0], None, None, None)  # type: ignore[assignment]  # as a file can contain it
    files = write(
        place,
        batch(job_id=1, name="two_nodes", node="n1"),
        batch(job_id=1, name="two_nodes", node="n2", node_index=1, samples=wave(BEGIN + 1, 59)[::2]),
        batch(job_id=2, name="retried", return_code=137, usage={"oom_kills": 1, "peak_memory_bytes": 30_000_000}),
        batch(job_id=2, name="retried", attempt_id=2, begin=BEGIN + 100),
        batch(job_id=3, name="with_gaps", samples=broken),
        batch(job_id=4, name=HOSTILE),
        batch(job_id=GB_JOB, name="x" * 10_000, samples=[(BEGIN + i, 10.0, 10_500_000_000, 1) for i in range(1, 50)]),
        batch(job_id=6, name=LINK, samples=[]),
        batch(job_id=LONELY_JOB, name="lonely", samples=[*wave(BEGIN, 5), (BEGIN + 20, 70.0, 8192, 2)], seconds=30.0),
        *(batch(job_id=number, name=f"sweep_{number}", seconds=20.0) for number in range(7, 20)),
    )
    torc("plot-resources", *files, "-o", place / "plots")
    torc("slurm", "collect", "--output-dir", place, "--no-accounting")
    return place / "plots"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def one_browser(downloads: Path) -> Iterator[Chrome]:
    with browser(downloads=downloads) as driver:
        yield driver


@pytest.fixture
def driver(one_browser: Chrome) -> Iterator[Chrome]:
    """The browser. After every test the page's console must have no errors."""
    prefer(one_browser, "light")
    console(one_browser)
    yield one_browser
    assert console(one_browser) == []


def until(wanted: Callable[[], Any], what: str) -> Any:  # noqa: ANN401 - any answer of the page
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if found := wanted():
            return found
        time.sleep(0.02)
    pytest.fail(f"did not come: {what}")


def open_page(driver: Chrome, page: Path, figures: int = 1) -> None:
    driver.get(page.absolute().as_uri())
    until(lambda: driver.execute_script("return document.documentElement.dataset.ready === 'true'"), "the page's data")
    driver.execute_script("document.querySelectorAll('figure').forEach(each => each.scrollIntoView())")
    until(lambda: len(driver.find_elements(By.CSS_SELECTOR, ".plot[data-drawn]")) >= figures, "the figures")
    driver.execute_script("window.scrollTo(0, 0)")


def job_page(driver: Chrome, pages: Path, job_id: int) -> None:
    open_page(driver, pages / f"resource_plot_job_{job_id}.html")


def plotted(driver: Chrome, what: str) -> Any:  # noqa: ANN401 - JSON
    """A part of the first figure, by a JavaScript expression over ``plot``."""
    return json.loads(
        driver.execute_script(f"const plot = document.querySelector('.plot'); return JSON.stringify({what})")
    )


def names(driver: Chrome) -> list[str]:
    found: list[str] = plotted(driver, "plot.data.map(trace => trace.name)")
    return found


def layer(driver: Chrome) -> Any:  # noqa: ANN401 - an element
    """The element that receives mouse events: the first panel."""
    return driver.find_element(By.CSS_SELECTOR, ".plot .nsewdrag")


def press(driver: Chrome, text: str) -> None:
    driver.find_element(By.XPATH, f"//button[text()='{text}']").click()


def test_it_draws_from_disk_with_no_network(driver: Chrome, pages: Path) -> None:
    for page in sorted(pages.glob("*.html")):
        open_page(driver, page)
        assert not driver.find_elements(By.CSS_SELECTOR, ".error")
        asked = driver.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
        assert [name for name in asked if not name.startswith(("blob:", "data:"))] == []


def test_the_values_drawn_are_those_of_the_database(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, 2)
    written = wave(BEGIN + 1, 59)
    cpu, memory, count = plotted(driver, "plot.data.slice(0, 3).map(trace => [trace.x, trace.y])")
    assert cpu[1] == pytest.approx([row[1] for row in written])
    assert memory[1] == [row[2] for row in written]
    assert count[1] == [row[3] for row in written]
    assert cpu[0] == pytest.approx([row[0] - BEGIN for row in written])


def test_hover_shows_the_database_s_value(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, GB_JOB)
    ActionChains(driver).move_to_element(layer(driver)).perform()
    text = until(lambda: driver.find_element(By.CSS_SELECTOR, ".hoverlayer").get_attribute("textContent"), "hover")
    assert "10.0 %" in text
    assert "10.50GB" in text


def test_dragging_zooms_and_a_double_click_shows_all_again(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, 2)
    full = plotted(driver, "plot.layout.xaxis.range || plot._fullLayout.xaxis.range")
    ActionChains(driver).move_to_element_with_offset(layer(driver), -200, 0).click_and_hold().move_by_offset(
        300, 0
    ).release().perform()
    narrow = until(lambda: (now := plotted(driver, "plot._fullLayout.xaxis.range")) != full and now, "a zoomed range")
    assert full[0] < narrow[0] < narrow[1] < full[1]
    ActionChains(driver).double_click(layer(driver)).perform()
    until(lambda: plotted(driver, "plot._fullLayout.xaxis.range") == pytest.approx(full), "the full range")


def test_the_legend_hides_all_panels_of_a_line(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, 1)
    driver.find_elements(By.CSS_SELECTOR, ".legendtoggle")[0].click()
    until(lambda: not all(plotted(driver, "plot._fullData.map(each => each.visible === true)")), "a hidden line")
    assert plotted(driver, "plot._fullData.map(each => each.visible)") == ["legendonly"] * 3 + [True] * 3


@pytest.mark.parametrize(("title", "suffix"), [("Download plot as an SVG", ".svg"), ("Download plot as a PNG", ".png")])
def test_it_can_be_saved(driver: Chrome, pages: Path, downloads: Path, title: str, suffix: str) -> None:
    job_page(driver, pages, 4)  # the hostile one: its name must not break the drawing
    driver.find_element(By.CSS_SELECTOR, f".modebar-btn[data-title='{title}' i]").click()
    saved = until(lambda: list(downloads.glob(f"*{suffix}")), title)[0]
    assert saved.name == f"resource_plot_job_4_job{suffix}"
    content = saved.read_bytes()
    if suffix == ".png":
        assert content.startswith(b"\x89PNG")
    else:
        assert Xml.fromstring(content).tag.endswith("svg")  # noqa: S314 - our own
        assert b"<script" not in content


def test_nothing_offers_to_send_data_away(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, 2)
    buttons = driver.find_elements(By.CSS_SELECTOR, ".modebar-btn")
    assert {str(each.get_attribute("data-title")).lower() for each in buttons} == SAVING | LOOKING


def test_by_the_wall_clock_attempts_stand_one_after_another(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, 2)
    first, second = plotted(driver, "[0, 4].map(i => plot.data[i].x[0])")
    assert (first, second) == (pytest.approx(1), pytest.approx(1))
    press(driver, "wall clock")
    until(lambda: plotted(driver, "plot._fullLayout.xaxis.type") == "date", "a date axis")
    times = plotted(driver, "[0, 4].map(i => plot.data[i].x[0])")
    assert times[1] - times[0] == pytest.approx(100_000)
    shown = plotted(driver, "plot.layout.shapes.filter(each => each.type === 'line' && each.yref === 'paper').length")
    assert shown == 3  # two attempts begin, one was killed


def test_a_kill_is_marked_where_and_when_it_was(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, 2)
    at = names(driver).index("killed: out of memory, attempt 1")
    assert plotted(driver, f"[plot.data[{at}].x, plot.data[{at}].y]") == [[pytest.approx(60)], [30_000_000]]
    assert "high-water mark, attempt 1" in names(driver)
    assert "killed: out of memory, attempt 1" in driver.find_element(By.CSS_SELECTOR, ".plot").text


def test_a_sample_alone_between_gaps_is_a_dot(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, LONELY_JOB)
    dots = plotted(driver, "plot.data.filter(trace => trace.mode === 'markers').map(trace => [trace.yaxis, trace.y])")
    assert dots == [["y", [70.0]], ["y2", [8192]], ["y3", [2]]]


def test_one_line_for_each_node(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, 1)
    assert set(names(driver)) == {"n1", "n2"}


def test_gaps_and_null_are_no_zeros(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, 3)
    for values in plotted(driver, "plot.data.slice(0, 3).map(trace => trace.y)"):
        assert values[5] is None
        assert values[20] is None  # between the 20th sample and the next, 19 s later
        assert sum(value is None for value in values) == 2
        assert 0 not in values
    assert not plotted(driver, "plot.data[0].connectgaps || false")


def test_a_job_without_samples_says_how_to_get_some(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, 6)
    assert "granularity: time_series" in driver.find_element(By.TAG_NAME, "footer").text


@pytest.mark.parametrize(("scheme", "colours"), [("light", LIGHT), ("dark", DARK)])
def test_it_follows_the_browser_s_preference(driver: Chrome, pages: Path, scheme: str, colours: dict[str, str]) -> None:
    prefer(driver, scheme)
    job_page(driver, pages, 2)
    assert plotted(driver, "plot.layout.paper_bgcolor") == colours["background"]
    assert plotted(driver, "plot.data[0].line.color") == colours["0"]
    body = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert body == "rgb({}, {}, {})".format(*(int(colours["background"][i : i + 2], 16) for i in (1, 3, 5)))


def test_the_switch_goes_before_the_preference(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, 2)
    press(driver, "dark")
    until(lambda: plotted(driver, "plot.layout.paper_bgcolor") == DARK["background"], "dark")
    press(driver, "light")
    until(lambda: plotted(driver, "plot.layout.paper_bgcolor") == LIGHT["background"], "light")
    press(driver, "auto")


def test_a_hostile_name_is_shown_as_it_is_and_does_nothing(driver: Chrome, pages: Path) -> None:
    for name in ("job_4", "cpu_all_jobs", "memory_all_jobs", "summary", "allocation"):
        open_page(driver, pages / f"resource_plot_{name}.html")
        assert driver.execute_script("return window.hacked") is None
        assert (
            driver.execute_script("return document.querySelectorAll('main b, main script, [onmouseover]').length") == 0
        )
        assert not driver.find_elements(By.CSS_SELECTOR, ".plot svg a")
    job_page(driver, pages, 4)
    heading = driver.find_element(By.TAG_NAME, "h1").text
    assert "</script><script>window.hacked=1</script>\"'&lt;b&gt;<b onmouseover=alert(1)>%{y}\\n\\u202egpj" in heading


def test_a_hostile_name_in_a_figure_is_shown_as_it_is(driver: Chrome, pages: Path) -> None:
    open_page(driver, pages / "resource_plot_summary.html")
    ticks = driver.find_elements(By.CSS_SELECTOR, ".xtick text, .x2tick text")
    shown = [str(tick.get_attribute("textContent")) for tick in ticks]
    assert any(text.startswith("4 · </script><scri…") for text in shown), shown
    assert f"6 · {LINK}" in shown


def test_a_name_of_ten_kilobytes_does_not_fill_the_page(driver: Chrome, pages: Path) -> None:
    job_page(driver, pages, GB_JOB)
    assert driver.find_element(By.TAG_NAME, "h1").size["height"] < 250
    assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_a_job_is_found_among_many_and_comes_in_colour(driver: Chrome, pages: Path) -> None:
    open_page(driver, pages / "resource_plot_memory_all_jobs.html")
    assert not [name for name in names(driver) if name.startswith("13 · ")]
    assert any("others" in name for name in names(driver))
    driver.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("sweep_13")
    until(lambda: [name for name in names(driver) if name == "13 · sweep_13"], "the job's own line")
    widths = plotted(driver, "plot.data.map(trace => [trace.name, trace.line.width])")
    assert max(widths, key=lambda item: item[1])[0] == "13 · sweep_13"


def test_bars_can_be_sorted(driver: Chrome, pages: Path) -> None:
    open_page(driver, pages / "resource_plot_summary.html")
    select = driver.find_element(By.TAG_NAME, "select")
    assert plotted(driver, "plot._fullLayout.xaxis._categories")[0].startswith("4 · ")  # failed first, by name
    select.send_keys("peak memory" + Keys.ENTER)
    until(lambda: plotted(driver, "plot._fullLayout.xaxis._categories")[0].startswith(f"{GB_JOB} · "), "another order")


def test_the_gantt_shows_each_attempt_by_its_state(driver: Chrome, pages: Path) -> None:
    open_page(driver, pages / "resource_plot_allocation.html", figures=2)
    assert names(driver) == ["completed (21)", "oom (1)"]
    assert plotted(driver, "plot._fullLayout.yaxis.ticktext") == ["n1", "n2"]


def test_without_decompression_in_the_browser_the_page_unpacks_itself(driver: Chrome, pages: Path) -> None:
    script = driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": "delete window.DecompressionStream;"}
    )
    try:
        job_page(driver, pages, 2)
        assert driver.execute_script("return window.DecompressionStream") is None
        assert plotted(driver, "plot.data[1].y") == [row[2] for row in wave(BEGIN + 1, 59)]
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_damaged_page_says_so(one_browser: Chrome, pages: Path, tmp_path: Path) -> None:
    text = (pages / "resource_plot_job_2.html").read_text()
    start = text.index('id="data" data-gzip>') + 300
    page = tmp_path / "damaged.html"
    page.write_text(text[:start] + "AAAA" * 20 + text[start + 80 :])
    one_browser.get(page.as_uri())
    error = until(lambda: one_browser.find_elements(By.CSS_SELECTOR, ".error"), "an error")[0]
    assert "could not be drawn" in error.text
    console(one_browser)


def test_the_report_s_table_is_sorted_and_searched(driver: Chrome, pages: Path) -> None:
    page = pages / "report.html"
    torc("reports", "html", "--slurm-job-id", "7", "-o", page, "--output-dir", _allocation(pages.parent / "adhoc"))
    open_page(driver, page, figures=3)

    def rows() -> list[list[str]]:
        cells = "row => [...row.cells].map(cell => cell.textContent)"
        found: list[list[str]] = driver.execute_script(
            f"return [...document.querySelectorAll('.data-table tbody tr')].map({cells})"
        )
        return found

    assert [row[0] for row in rows()] == ["0", "1", "2"]
    assert rows()[1][1].startswith("</script><script>window.hacked=1")
    assert driver.execute_script("return window.hacked") is None
    press(driver, "Peak memory")
    until(lambda: [row[0] for row in rows()] == ["2", "0", "1"], "sorted by memory, the largest first")
    press(driver, "Peak memory")
    until(lambda: [row[0] for row in rows()] == ["1", "0", "2"], "the smallest first")
    driver.find_element(By.CSS_SELECTOR, ".data-table input").send_keys("largest")
    until(lambda: len(rows()) == 1, "one row")
    assert "1 of 3" in driver.find_element(By.CSS_SELECTOR, ".data-table").text
    assert driver.find_elements(By.CSS_SELECTOR, "a[href='resource_plot_summary.html']")


def _allocation(place: Path) -> Path:
    step: dict[str, object] = {"workflow_id": None, "slurm_job_id": 7}
    peaks = (20_000_000, 10_000_000, 90_000_000)
    for number, (name, peak) in enumerate(zip(("plain", HOSTILE, "largest"), peaks, strict=True)):
        write(place, batch(job_id=number, step_id=str(number), name=name, usage={"peak_memory_bytes": peak}, **step))  # type: ignore[arg-type]  # columns
    return place
