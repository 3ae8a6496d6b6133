"""``torc plot-resources`` and ``torc reports html`` on the command line: the files they write, and wrong input."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import plot_files
import pytest
from node_files import BEGIN, accounting_row, write_accounting
from node_files import batch as summary_batch
from node_files import write as write_summary
from plot_files import HOSTILE, batch, wave, write

from bench.scale.workflow import make_workflow
from torc_slurm.database.migrations import migrate
from torc_slurm.database.node_schema import NODE_SCHEMA

REFERENCE_FILES = ("job_1", "job_2", "cpu_all_jobs", "memory_all_jobs", "summary")
MOST_PAGE_BYTES = 2_500_000


def torc(
    *arguments: object, working_directory: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torc_slurm.cli.main", *map(str, arguments)]
    env = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=working_directory)


def plot(*arguments: object) -> list[dict[str, Any]]:
    answer = torc("plot-resources", *arguments, "-f", "json")
    assert answer.returncode == 0, answer.stderr
    items: list[dict[str, Any]] = json.loads(answer.stdout)["items"]
    return items


def data_of(page: str | Path) -> dict[str, Any]:
    return plot_files.data_of(Path(page).read_text(encoding="utf-8"))


@pytest.fixture
def node_files(tmp_path: Path) -> list[str]:
    one = batch(job_id=1, node="n1"), batch(job_id=1, node="n2", node_index=1)
    return write(tmp_path / "out", *one, batch(job_id=2, name="other", begin=BEGIN + 70, return_code=3))


def test_the_reference_s_files_by_their_names(node_files: list[str], tmp_path: Path) -> None:
    pages = plot(*node_files, "-o", tmp_path / "plots")
    names = {Path(page["path"]).name for page in pages}
    assert names == {f"resource_plot_{name}.html" for name in (*REFERENCE_FILES, "allocation")}
    assert {page["kind"] for page in pages} == {"job", "cpu", "memory", "summary", "allocation"}
    for page in pages:
        assert Path(page["path"]).stat().st_size == page["size_bytes"] <= MOST_PAGE_BYTES
        assert "://" not in re.sub(r"<script.*?</script>", "", Path(page["path"]).read_text(), flags=re.DOTALL)


def test_more_node_files_than_may_be_open_are_read_one_after_another(tmp_path: Path) -> None:
    files = write(tmp_path / "out", *(batch(job_id=number, node=f"n{number:02d}") for number in range(1, 61)))
    command = [sys.executable, "-m", "torc_slurm.cli.main", "plot-resources", *files, "-o", str(tmp_path / "plots")]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        ["bash", "-c", 'ulimit -n 48; exec "$@"', "bash", *command, "--job-ids", "1,60"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plots" / "resource_plot_job_60.html").exists()
    assert list(scratch.iterdir()) == []


def test_the_values_in_a_job_s_page_are_those_of_the_database(node_files: list[str], tmp_path: Path) -> None:
    plot(*node_files, "-o", tmp_path / "plots")
    series = data_of(tmp_path / "plots" / "resource_plot_job_1.html")["series"]["0"]
    memory = series["columns"][1]
    written = wave(BEGIN + 1, 59)
    assert memory["d"][0] * memory["mul"] == written[0][2]
    assert sum(memory["d"]) * memory["mul"] == written[-1][2]
    assert sum(series["columns"][0]["d"]) / 100 == pytest.approx(written[-1][1])


def test_only_some_jobs_and_another_prefix(node_files: list[str], tmp_path: Path) -> None:
    pages = plot(*node_files, "-o", tmp_path / "plots", "--job-ids", "2", "--prefix", "mine")
    names = {Path(page["path"]).name for page in pages}
    assert names == {"mine_job_2.html", "mine_cpu_all_jobs.html", "mine_memory_all_jobs.html", "mine_summary.html"}


def test_without_o_pages_go_next_to_the_records(node_files: list[str], tmp_path: Path) -> None:
    pages = plot(*node_files)
    assert {Path(page["path"]).parent for page in pages} == {tmp_path / "out" / "resource_plots"}


def test_it_changes_no_node_file_and_leaves_no_other_file(node_files: list[str], tmp_path: Path) -> None:
    def everything() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}

    before = everything()
    plot(*node_files, "-o", tmp_path / "plots")
    assert everything() == before


def test_the_same_files_make_the_same_pages(node_files: list[str], tmp_path: Path) -> None:
    for name in ("one", "other"):
        plot(*node_files, "-o", tmp_path / name, "--job-ids", "1")
    one, other = ((tmp_path / name / "resource_plot_job_1.html").read_bytes() for name in ("one", "other"))
    assert one == other


def test_a_page_for_each_of_many_jobs_only_on_request(tmp_path: Path) -> None:
    files = write(tmp_path, *(batch(job_id=number, seconds=4) for number in range(1, 202)))
    answer = torc("plot-resources", *files, "-o", tmp_path / "few", "-f", "json")
    assert "--job-ids" in answer.stderr
    assert {item["kind"] for item in json.loads(answer.stdout)["items"]} == {"cpu", "memory", "summary", "allocation"}
    assert len(plot(*files, "-o", tmp_path / "some", "--job-ids", "7,8")) == 5


def test_a_day_at_a_second_stays_small_and_whole(tmp_path: Path) -> None:
    files = write(tmp_path, batch(samples=wave(BEGIN, 86_400), seconds=86_400.0))
    page = next(page for page in plot(*files, "-o", tmp_path / "plots") if page["kind"] == "job")
    assert page["size_bytes"] <= MOST_PAGE_BYTES
    assert len(data_of(page["path"])["series"]["0"]["t"]["d"]) == 86_400


def test_long_series_are_shortened_with_a_note(tmp_path: Path) -> None:
    chance = random.Random(5)  # noqa: S311 - no secret
    noise = [
        (BEGIN + i, chance.randrange(80_000) / 100, chance.randrange(2**33), chance.randrange(97))
        for i in range(86_400)
    ]
    files = write(tmp_path, batch(samples=noise, seconds=86_400.0))
    page = next(page for page in plot(*files, "-o", tmp_path / "plots") if page["kind"] == "job")
    assert page["size_bytes"] <= MOST_PAGE_BYTES
    assert "86,400 samples are drawn as" in Path(page["path"]).read_text()
    memory = data_of(page["path"])["series"]["0"]["columns"][1]
    values = [sum(memory["d"][: place + 1]) * memory["mul"] for place in range(0, len(memory["d"]), 997)]
    assert set(values) <= {row[2] for row in noise}


def test_null_is_null_and_a_gap_is_a_gap(tmp_path: Path) -> None:
    samples = [*wave(BEGIN, 10), *wave(BEGIN + 40, 10)]
    samples[3] = (samples[3][0], None, None, None)  # type: ignore[assignment]  # as a file can contain it
    samples[5] = (samples[5][0], float("nan"), samples[5][2], 1)
    files = write(tmp_path, batch(samples=samples, usage={"peak_memory_bytes": None, "avg_memory_bytes": None}))
    plot(*files, "-o", tmp_path / "plots")
    series = data_of(tmp_path / "plots" / "resource_plot_job_1.html")["series"]["0"]
    assert series["breaks"] == [9]
    assert [series["columns"][0]["d"][place] for place in (3, 5)] == [None, None]
    assert series["columns"][1]["d"][3] is None
    assert series["columns"][1]["d"][5] is not None


def test_attempts_of_two_runs_lie_in_one_page(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        batch(return_code=137, usage={"oom_kills": 1}),
        batch(attempt_id=2, begin=BEGIN + 100),
        batch(run_id=2, begin=BEGIN + 1000),
    )
    plot(*files, "-o", tmp_path / "plots")
    figure = data_of(tmp_path / "plots" / "resource_plot_job_1.html")["figures"][0]
    names = [trace["name"] for trace in figure["traces"]]
    assert {
        "run 1, attempt 1",
        "run 1, attempt 2",
        "run 2",
        "killed: out of memory, run 1, attempt 1",
    } <= set(names)
    labels = [note["text"] for note in figure["layout"]["annotations"]]
    assert sum("begins" in label for label in labels) == 3


def test_steps_of_an_allocation_with_slurm_s_accounting(tmp_path: Path) -> None:
    step = {"workflow_id": None, "slurm_job_id": 7, "step_id": "1", "name": "mine"}
    (path,) = write(tmp_path, batch(**step))  # type: ignore[arg-type]  # columns
    tres = {"allocated_tres": "cpu=2,mem=500M,node=1", "requested_tres": "cpu=8,mem=4G,node=2"}
    write_accounting(path, accounting_row(step_id="1", **tres))
    plot(path, "-o", tmp_path / "plots")
    page = (tmp_path / "plots" / "resource_plot_job_1.html").read_text()
    assert "Requested: 2 CPUs, 524.29 MB" in page
    titles = str(data_of(tmp_path / "plots" / "resource_plot_allocation.html")["figures"][1]["layout"]["annotations"])
    assert "of 4.0 cores" in titles
    assert "2.15 GB" in titles


def test_a_file_of_the_reference_s_own(tmp_path: Path) -> None:
    path = tmp_path / "resource_metrics_host_5_2.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE job_resource_samples (id INTEGER PRIMARY KEY, job_id INTEGER, timestamp REAL,"
            " cpu_percent REAL, memory_bytes INTEGER, num_processes INTEGER)"
        )
        connection.execute("CREATE TABLE job_metadata (job_id INTEGER PRIMARY KEY, job_name TEXT)")
        connection.execute("INSERT INTO job_metadata VALUES (4, 'theirs')")
        rows = [(4, *row) for row in wave(BEGIN, 30)]
        connection.executemany("INSERT INTO job_resource_samples VALUES (NULL, ?, ?, ?, ?, ?)", rows)
    pages = plot(path, "-o", tmp_path / "plots")
    assert {page["job_id"] for page in pages if page["kind"] == "job"} == {4}
    assert "theirs" in (tmp_path / "plots" / "resource_plot_job_4.html").read_text()


def test_hostile_names_are_text_in_the_html(tmp_path: Path) -> None:
    files = write(tmp_path, batch(name=HOSTILE), batch(job_id=2, name="x" * 10_000))
    plot(*files, "-o", tmp_path / "plots")
    page = (tmp_path / "plots" / "resource_plot_job_1.html").read_text()
    assert "window.hacked" in page
    assert page.count("<script") == 3  # data, plotly, ours
    assert "&lt;/script&gt;" in page
    assert "\u202e" not in page
    assert len((tmp_path / "plots" / "resource_plot_job_2.html").read_text()) < MOST_PAGE_BYTES


def _wrong(tmp_path: Path, *arguments: object, status: int, says: tuple[str, ...]) -> None:
    answer = torc("plot-resources", *arguments, "-o", tmp_path / "none")
    assert answer.returncode == status, answer.stderr
    assert len(answer.stderr.splitlines()) == 1, answer.stderr
    assert all(word in answer.stderr for word in says), answer.stderr
    assert not list((tmp_path / "none").glob("*.html"))


def test_not_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    path.write_text("this is no database, but a text that is long enough to be taken for one")
    _wrong(tmp_path, path, status=1, says=(str(path), "not a database"))


def test_another_programs_database(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
    _wrong(tmp_path, path, status=1, says=(str(path), "not a node file"))


def test_a_newer_schema(tmp_path: Path) -> None:
    (path,) = write(tmp_path, batch())
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    _wrong(tmp_path, path, status=1, says=(path, "newer torc-slurm"))


@pytest.mark.parametrize("version", range(1, len(NODE_SCHEMA)))
def test_an_older_schema(tmp_path: Path, version: int) -> None:
    (path,) = write(tmp_path, batch(name="written before"))
    older = tmp_path / "older" / Path(path).name
    older.parent.mkdir()
    with sqlite3.connect(older) as connection:
        migrate(connection, NODE_SCHEMA[:version])
        connection.execute("ATTACH ? AS newer", (path,))
        for (table,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            if table == "schema_migrations":
                continue
            columns = ", ".join(f'"{row[1]}"' for row in connection.execute(f'PRAGMA main.table_info("{table}")'))
            connection.execute(f'INSERT INTO main."{table}" ({columns}) SELECT {columns} FROM newer."{table}"')  # noqa: S608 - our own names
    before = older.read_bytes()
    assert len(plot(older, "-o", tmp_path / "plots")) == 5
    assert len(data_of(tmp_path / "plots" / "resource_plot_job_1.html")["series"]["0"]["t"]["d"]) == 59
    assert older.read_bytes() == before


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "resource_metrics_n1_3_1.db"
    path.touch()
    _wrong(tmp_path, path, status=2, says=(str(path), "no step is recorded"))


def test_no_file(tmp_path: Path) -> None:
    _wrong(tmp_path, tmp_path / "no.db", status=2, says=("no.db", "there is no node file"))


def test_summary_mode_says_how_to_get_a_series(tmp_path: Path) -> None:
    path = write_summary(tmp_path, summary_batch(workflow_id=3, job_id=1, attempt_id=1))
    _wrong(tmp_path, path, status=2, says=(path, "no time series", "granularity: time_series"))


def test_files_of_different_workflows(tmp_path: Path) -> None:
    files = write(tmp_path, batch(), batch(workflow_id=4, node="n2"))
    _wrong(tmp_path, *files, status=2, says=("workflow 3", "workflow 4", "one of them at a time"))


def test_an_unknown_job(node_files: list[str], tmp_path: Path) -> None:
    _wrong(tmp_path, *node_files, "--job-ids", "1,9", status=2, says=("no job 9", "there are 1, 2"))


@pytest.mark.parametrize("text", ["x", "1,x", "", "1;2"])
def test_job_ids_that_are_none(node_files: list[str], tmp_path: Path, text: str) -> None:
    _wrong(tmp_path, *node_files, "--job-ids", text, status=2, says=("--job-ids", "1,2,3"))


def test_an_unknown_workflow(node_files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert node_files
    _wrong(tmp_path, "--workflow", 8, "--output-dir", out, status=2, says=("nothing was measured of workflow 8",))


def test_neither_files_nor_workflow_and_both(node_files: list[str], tmp_path: Path) -> None:
    _wrong(tmp_path, status=2, says=("--workflow ID",))
    _wrong(tmp_path, *node_files, "--workflow", 3, status=2, says=("only one of these",))


def test_a_directory_that_cannot_be_written(node_files: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = torc("plot-resources", *node_files, "-o", tmp_path / "file" / "plots")
    assert answer.returncode == 2
    assert "cannot be written: Not a directory; give another path with -o" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_prefix_with_a_directory_in_it(node_files: list[str], tmp_path: Path) -> None:
    _wrong(tmp_path, *node_files, "--prefix", "a/b", status=2, says=("--prefix",))


def test_a_file_that_is_being_written(tmp_path: Path) -> None:
    """The original has an open transaction: its journal is copied too, and the copy has the state from before."""
    (path,) = write(tmp_path, batch())
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN IMMEDIATE")
        writer.executemany(
            "INSERT INTO job_resource_samples (job_id, timestamp) VALUES (1, ?)", [(BEGIN,) for _ in range(20_000)]
        )
        assert Path(path + "-journal").stat().st_size > 0
        plot(path, "-o", tmp_path / "plots")
        writer.execute("COMMIT")
    series = data_of(tmp_path / "plots" / "resource_plot_job_1.html")["series"]["0"]
    assert len(series["t"]["d"]) == 59


def test_a_step_that_wrote_no_end_is_drawn_as_far_as_it_is_known(tmp_path: Path) -> None:
    files = write(tmp_path, batch(end_time=None, last_flush_time=BEGIN + 30))
    plot(*files, "-o", tmp_path / "plots")
    assert "No end was recorded" in (tmp_path / "plots" / "resource_plot_job_1.html").read_text()


def test_a_report_of_an_allocation_without_any_series(tmp_path: Path) -> None:
    path = write_summary(tmp_path, summary_batch(job_name=HOSTILE, step_id="1", job_id=1))
    write_accounting(path, accounting_row(step_id="1"))
    page = tmp_path / "report.html"
    answer = torc("reports", "html", "--slurm-job-id", 7, "-o", page, "--output-dir", tmp_path, "--no-accounting")
    assert answer.returncode == 0, answer.stderr
    assert "No time series was kept" in page.read_text()
    assert page.stat().st_size <= MOST_PAGE_BYTES
    assert data_of(page)["tables"]["jobs"]["rows"][0][2][0] == "completed"


SPEC = """
name: small
resource_monitor: {granularity: time_series, sample_interval_seconds: 0.1, generate_plots: true}
resource_requirements: [{name: tiny, num_cpus: 1, memory: 500m, runtime: PT1M}]
jobs:
  - {name: sleeps, command: sleep 0.5, resource_requirements: tiny}
  - {name: fails, command: exit 3, resource_requirements: tiny}
  - {name: waits, command: "true", resource_requirements: tiny, depends_on: [fails]}
"""


def test_a_real_run_is_plotted_when_it_ends_and_reported(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(SPEC)
    run = torc("run", tmp_path / "w.yaml", "--output-dir", tmp_path / "out")
    assert run.returncode == 1, run.stderr
    made = tmp_path / "out" / "resource_plots" / "wf1_r1"
    assert {"resource_plot_job_1.html", "resource_plot_summary.html"} <= {path.name for path in made.iterdir()}
    asked = data_of(made / "resource_plot_job_1.html")["figures"][0]["layout"]["annotations"]
    assert any("requested 500.00 MB" in note["text"] for note in asked)

    page = made / "report.html"
    report = torc("reports", "html", "-o", page, "--output-dir", tmp_path / "out", "-f", "json")
    assert report.returncode == 0, report.stderr
    assert json.loads(report.stdout)["items"][0]["size_bytes"] == page.stat().st_size
    text = page.read_text()
    assert "What to request instead" in text
    assert "cancelled, not started" in text
    rows = {row[1]: row for row in data_of(page)["tables"]["jobs"]["rows"]}
    assert set(rows) == {"sleeps", "fails", "waits"}
    assert rows["sleeps"][0][2] == "resource_plot_job_1.html"


def test_a_report_draws_every_job_that_its_table_shows(tmp_path: Path) -> None:
    """A second run finishes the first: nodes over time show only it, lines and bars show the jobs of both."""
    spec = SPEC.replace("exit 3", "test -e done && kill -SEGV $$; touch done; sleep 0.3; exit 3")
    (tmp_path / "w.yaml").write_text(spec.replace("generate_plots: true", "generate_plots: false"))
    for what in (tmp_path / "w.yaml", 1):
        run = torc("run", what, "--output-dir", tmp_path / "out", working_directory=tmp_path)
        assert run.returncode == 1, run.stderr
    page = tmp_path / "report.html"
    assert torc("reports", "html", "-o", page, "--output-dir", tmp_path / "out").returncode == 0
    data = data_of(page)
    assert {row[1]: row[2][1] for row in data["tables"]["jobs"]["rows"]} == {
        "sleeps": "completed",
        "fails": "killed: SIGSEGV",
        "waits": "cancelled, not started",
    }
    figures = {figure["id"]: figure for figure in data["figures"]}
    assert [len(trace["y"]) for trace in figures["gantt"]["traces"]] == [1]
    assert "Over time: run 2, the latest" in page.read_text()
    assert figures["summary"]["traces"][0]["x"] == ["2 · fails", "1 · sleeps"]  # failed first
    labels = [line["label"] for line in figures["memory"]["lines"]]
    assert "1 · sleeps" in labels
    assert {label for label in labels if "fails" in label} <= {"2 · fails, run 1", "2 · fails, run 2"}


def test_nothing_is_plotted_on_a_compute_node(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(SPEC)
    torc("run", tmp_path / "w.yaml", "--output-dir", tmp_path / "out", SLURMD_NODENAME="n1")
    assert not (tmp_path / "out" / "resource_plots").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--plots", "nowhere"), 2, "there is no directory nowhere; --plots"),
        (("-o", "place"), 2, "cannot be written: Is a directory; give another path with -o"),
        (("-o", "file/report.html"), 2, "cannot be written: File exists; give another path with -o"),
        (("--run-id", "7"), 2, "has no run 7"),
        (("--slurm-job-id", "8"), 2, "no record of Slurm job 8"),
    ],
)
def test_a_report_that_cannot_be(tmp_path: Path, arguments: tuple[str, ...], status: int, says: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "place").mkdir()
    (tmp_path / "w.yaml").write_text(SPEC)
    torc("workflows", "create", tmp_path / "w.yaml", "--output-dir", tmp_path)
    answer = torc("reports", "html", *arguments, "--output-dir", tmp_path, working_directory=tmp_path)
    assert answer.returncode == status, answer.stderr
    assert says in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_report_of_an_unknown_workflow(tmp_path: Path) -> None:
    answer = torc("reports", "html", 9, "-o", tmp_path / "r.html", "--output-dir", tmp_path)
    assert answer.returncode == 2
    assert "there is no workflow 9" in answer.stderr


def test_a_node_file_that_cannot_be_read_is_named_and_never_left_out_in_silence(tmp_path: Path) -> None:
    out = tmp_path / "out"
    steps = [batch(job_id=n, node=f"n{n}", workflow_id=None, slurm_job_id=7, step_id=str(n)) for n in (1, 2)]
    first, second = write(out, *steps)
    assert torc("slurm", "collect", "--no-accounting", "--output-dir", out).returncode == 0
    page = tmp_path / "report.html"
    words = ("reports", "html", "--slurm-job-id", 7, "--no-accounting", "-o", page, "--output-dir", out)
    Path(first).write_bytes(b"no database at all" * 100)
    done = torc(*words)
    assert done.returncode == 0, done.stderr
    assert f"left out of the plots: {first}" in done.stderr
    assert len(data_of(page)["figures"]) > 1
    Path(second).write_bytes(b"nor this" * 100)
    page.unlink()
    assert torc(*words).returncode == 1
    assert page.exists()


def test_jobs_of_a_damaged_series_are_drawn_by_their_summaries_and_the_file_is_named(tmp_path: Path) -> None:
    out, page = tmp_path / "out", tmp_path / "report.html"
    make_workflow(out, attempts=6, nodes=2, samples=5000)
    damaged, _ = sorted(out.rglob("resource_metrics_*.db"))
    content = bytearray(damaged.read_bytes())
    content[-8192:] = b"\xff" * 8192  # the last pages are samples: the file was written in one go
    damaged.write_bytes(content)
    done = torc("reports", "html", 1, "--no-accounting", "-o", page, "--output-dir", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"the plots lack a time series: {damaged}") == 1
    figures = {figure["id"]: figure for figure in data_of(page)["figures"]}
    assert [line["label"] for line in figures["memory"]["lines"]] == ["4 · job_4", "5 · job_5", "6 · job_6"]
    assert sum(len(trace["y"]) for trace in figures["gantt"]["traces"]) == 6
    assert len(data_of(page)["tables"]["jobs"]["rows"]) == 6
