"""``torc`` on the command line: formats, order of options, errors as one line with an exit status, hostile names."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import pwd
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from node_files import BEGIN, accounting_row, batch, exit_record, path_of, write, write_accounting
from recordings import job_of, sacct_rows, sacct_text

from torc_slurm.common.identity import SPECIAL_STEP_NUMBERS
from torc_slurm.database.main import open_copy
from torc_slurm.database.selection import Selection, select_attempts, select_unmeasured
from torc_slurm.reports.step_stats import stats_report

TORC = [sys.executable, "-m", "torc_slurm.cli.main"]
HOSTILE = [
    "plain",
    "two\nlines",
    "quote\" and 'quote",
    "pipe|semi;comma,tab\t",
    "[red]markup[/red] [/] [link=x]",
    "\x1b[31mred\x1b]0;title\x07\x9b2J",
    "x" * 10_000,
    "=1+1",
    "名前 größe",
    "\u202egpj.exe",
    "",
]


def environment(**changed: str) -> dict[str, str]:
    """This process's environment without variables of torc or Slurm, and without sacct on PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORC_", "SLURM_"))}
    return kept | {"PATH": "/nowhere"} | changed


def torc(*words: object, **changed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORC, *map(str, words)], capture_output=True, text=True, env=environment(**changed), check=False
    )


def items(*words: object, **changed: str) -> list[dict[str, Any]]:
    done = torc(*words, **changed)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert list(document) == ["items"]
    found: list[dict[str, Any]] = document["items"]
    return found


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    """An allocation of three measured steps and three others, with Slurm's accounting of them."""
    directory = tmp_path / "output"
    path = write(
        directory,
        batch(usage={"avg_cpu_percent": 99.0, "peak_cpu_percent": 101.0}),
        batch(job_id=1, step_id="1", invocation="2", exits=[exit_record(return_code=137)], usage={"oom_kills": 1}),
        batch(job_id=2, step_id="2", invocation="3", exits=[exit_record(return_code=3)]),
    )
    partial = accounting_row(
        step_id="1", status="partial", state="OUT_OF_MEMORY", max_rss_bytes=None, reason="too short"
    )
    write_accounting(
        path,
        accounting_row(),
        partial,
        accounting_row(step_id="2", state="FAILED", exit_code=3),
        accounting_row(step_id="3", step_name="bare"),
        accounting_row(step_id="batch", step_name="batch"),
        accounting_row(step_id="extern", step_name="extern"),
    )
    return directory


# --- what is shown --------------------------------------------------------------------------------------------


def test_json_has_one_item_per_attempt_with_the_references_names(output_dir: Path) -> None:
    first, second, third = items("slurm", "stats", "--slurm-job-id", 7, "-f", "json", "--output-dir", output_dir)
    assert (first["max_rss_bytes"], first["ave_cpu_seconds"], first["node_list"]) == (123_456_789, 1.0, "n1")
    assert (first["state"], first["status"], first["job_status"]) == ("COMPLETED", "found", "completed")
    assert (first["peak_memory_bytes"], first["avg_cpu_percent"]) == (10**9, 99.0)
    assert (second["state"], second["max_rss_bytes"], second["return_code"]) == ("OUT_OF_MEMORY", None, 137)
    assert (second["job_status"], second["reason"]) == ("oom", "too short")
    assert (third["return_code"], third["exit_code"]) == (3, 3)


def test_a_batch_step_has_its_name_and_not_slurms_number(tmp_path: Path) -> None:
    write(tmp_path, batch(job_id=SPECIAL_STEP_NUMBERS["batch"], step_id="batch", workflow_id=None))
    shown = ["--slurm-job-id", 7, "--output-dir", tmp_path, "--no-accounting"]
    (item,) = items("stats", *shown, "--job-id", "batch", "-f", "json")
    assert (item["job_id"], item["step_id"]) == ("batch", "batch")
    for words in (["-f", "csv"], ["--all-columns"], ["--compare", "-f", "json"], ["--job-id", "5"]):
        done = torc("stats", *shown, *words)
        assert "batch" in done.stdout + done.stderr
        assert str(SPECIAL_STEP_NUMBERS["batch"]) not in done.stdout + done.stderr
    assert "'x' is not the number of a job or step, nor batch" in torc("stats", *shown, "--job-id", "x").stderr


def test_the_format_may_stand_before_or_after_the_command(output_dir: Path) -> None:
    answers = [
        items("-f", "json", "slurm", "stats", "--output-dir", output_dir),
        items("slurm", "-f", "json", "stats", "--output-dir", output_dir),
        items("slurm", "stats", "--format", "json", "--output-dir", output_dir),
        items("--output-dir", output_dir, "stats", "-f", "json"),
        items("-f", "csv", "stats", "-f", "json", TORC_OUTPUT_DIR=str(output_dir)),
    ]
    assert answers[1:] == answers[:1] * 4


def test_csv_has_the_same_columns(output_dir: Path) -> None:
    done = torc("stats", "-f", "csv", "--output-dir", output_dir)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    wanted = items("stats", "-f", "json", "--output-dir", output_dir)
    assert [list(row) for row in rows] == [list(item) for item in wanted]
    assert [row["max_rss_bytes"] for row in rows] == ["123456789", "", "123456789"]


def test_the_table_says_units_nulls_and_warnings(output_dir: Path) -> None:
    text = torc("slurm", "stats", "--slurm-job-id", 7, "--explain", "--output-dir", output_dir).stdout
    lines = text.splitlines()
    assert lines[0].split()[:4] == ["Step", "Name", "State", "Exit"]
    assert [line.split()[0] for line in lines[2:5]] == ["7.0", "7.1", "7.2"]
    assert "1.00 GB" in lines[2]
    sources = torc("stats", "--slurm-job-id", 7, "-f", "step,by", "--output-dir", output_dir).stdout.splitlines()
    assert sources[2].split() == ["7.0", "cgroup"]
    assert "sacct's own G is 1024^3" in text
    assert "1 row has no MaxRSS, MaxVMSize, MaxDiskRead, MaxDiskWrite: partial: too short" in text
    assert "7.1 ran out of memory" in text
    assert "7.0: MaxRSS 123.46 MB against peak memory 1.00 GB, and 1 more alike: " in text
    assert "1 more step ran without torc-step" in text  # batch and extern cannot run under it


def test_the_table_fits_80_columns_and_one_line_says_how_to_see_the_rest(output_dir: Path) -> None:
    lines = torc("stats", "--output-dir", output_dir).stdout.splitlines()
    assert lines[0].split() == ["Step", "Name", "State", "Exit", "Elapsed", "CPUs", "Memory", "Requested"]
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "--explain shows 1 warning, 3 notes, 1 step without torc-step (--all-steps)"
    chosen = torc("stats", "-f", "state,step", "--output-dir", output_dir).stdout.splitlines()
    assert [line.split() for line in chosen[2:5]] == [["COMPLETED", "7.0"], ["OUT_OF_MEMORY", "7.1"], ["FAILED", "7.2"]]
    wrong = torc("stats", "-f", "step,nothing", "--output-dir", output_dir)
    assert wrong.returncode == 2
    assert "'nothing' is not one of 'table', 'json', 'csv', nor of the columns step, name," in wrong.stderr


def test_a_table_is_sorted_and_limited_and_says_of_how_many(output_dir: Path) -> None:
    lines = torc("stats", "--sort", "name", "--limit", 2, "--output-dir", output_dir).stdout.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["7.0", "7.1"]
    assert lines[-1].startswith("the first 2 of 3 are shown: --limit 0 shows all")
    assert len(items("stats", "-f", "json", "--limit", 1, "--output-dir", output_dir)) == 1
    assert len(items("stats", "-f", "json", "--limit", 0, "--output-dir", output_dir)) == 3


def test_items_are_the_same_read_one_by_one_and_put_into_a_report(output_dir: Path) -> None:
    streamed = items("stats", "--all-steps", "-f", "json", "--output-dir", output_dir)
    with open_copy(str(output_dir), "a test") as database:
        selection = Selection(slurm_job="7")
        attempts = select_attempts(database.connection, selection)
        unmeasured = select_unmeasured(database.connection, selection)
        report = stats_report(attempts, unmeasured, [], all_steps=True)
    assert streamed == json.loads(json.dumps(report.items))


def test_all_steps_and_all_columns(output_dir: Path) -> None:
    everything = items("stats", "--all-steps", "-f", "json", "--output-dir", output_dir)
    assert [item["step_id"] for item in everything] == ["0", "1", "2", "3", "batch", "extern"]
    records = torc("stats", "--all-columns", "--output-dir", output_dir).stdout
    assert "\n  peak_memory_bytes: 1000000000\n" in records
    assert "\n  max_vm_size_bytes: NULL\n" in records


def test_selectors(output_dir: Path) -> None:
    write(output_dir, batch(slurm_job_id=8, slurm_array="8_10", begin_time=BEGIN - 9))
    write(output_dir, batch(slurm_job_id=9, slurm_array="8_2", begin_time=BEGIN - 9))
    write(output_dir, batch(slurm_job_id=None, step_id=None, job_id=1, run_id=4, begin_time=BEGIN - 9))
    write(output_dir, batch(workflow_id=3, job_id=5, attempt_id=2, slurm_job_id=11, begin_time=BEGIN - 9))

    def found(*words: object) -> list[tuple[int | None, int, int]]:
        rows = items("stats", "-f", "json", "--output-dir", output_dir, *words)
        return [(row["slurm_job_id"], row["job_id"], row["run_id"]) for row in rows]

    assert found() == [(7, 0, 1), (7, 1, 1), (7, 2, 1)]  # the latest
    assert found("--job-id", 1) == [(7, 1, 1)]
    assert found("--slurm-job-id", 8) == [(9, 0, 1), (8, 0, 1)]  # an array's own number
    assert found("--slurm-job-id", "8_2") == [(9, 0, 1)]
    assert found("--slurm-job-id", "7,8_2") == [(7, 0, 1), (7, 1, 1), (7, 2, 1), (9, 0, 1)]
    assert "no record of Slurm job 77" in torc("stats", "--slurm-job-id", "7,77", "--output-dir", output_dir).stderr
    assert found("--local") == [(None, 1, 4)]
    assert found(3) == [(11, 5, 1)]
    assert found(3, "--attempt-id", 2, "--run-id", 1) == [(11, 5, 1)]


def test_a_local_record_has_slurms_fields_null(tmp_path: Path) -> None:
    write(tmp_path, batch(slurm_job_id=None, step_id=None, job_id=1))
    (item,) = items("stats", "-f", "json", "--output-dir", tmp_path)
    assert item["peak_memory_gb"] == 1.0
    assert [item[name] for name in ("max_rss_bytes", "node_list", "state", "slurm_job_id")] == [None] * 4
    assert "outside Slurm" in torc("stats", "--explain", "--output-dir", tmp_path).stdout


def test_figures_of_a_running_step_have_an_age(tmp_path: Path) -> None:
    flushed = time.time() - 48
    running: dict[str, Any] = {"exits": [], "end_time": None, "begin_time": flushed - 9}
    write(tmp_path, batch(last_flush_time=flushed, **running))
    write(tmp_path, batch(job_id=1, step_id="1", invocation="2", last_flush_time=flushed + 30, **running))
    first, _ = items("stats", "-f", "json", "--output-dir", tmp_path)
    assert (first["job_status"], first["last_flush_time"]) == ("running", flushed)
    text = torc("stats", "--output-dir", tmp_path).stdout
    (line,) = [line for line in text.splitlines() if "is running" in line]
    assert re.fullmatch(r"7\.0 is running: figures as of \S+ ago; 1 more step is running, with newer figures", line)


def test_without_sacct_the_steps_are_shown_and_the_reason(tmp_path: Path) -> None:
    write(tmp_path, batch())
    (item,) = items("stats", "-f", "json", "--output-dir", tmp_path)
    assert (item["status"], item["peak_memory_bytes"]) == ("unavailable", 10**9)
    assert "sacct was not found" in item["reason"]
    assert "sacct was not found" in torc("stats", "--explain", "--output-dir", tmp_path).stdout
    (unasked,) = items("stats", "-f", "json", "--no-accounting", "--output-dir", tmp_path)
    assert unasked["status"] == "unavailable"  # the earlier answer stays


# --- names that attack ----------------------------------------------------------------------------------------


@pytest.fixture
def hostile_dir(tmp_path: Path) -> Path:
    batches = [
        batch(job_id=number, step_id=str(number), invocation=str(number), job_name=name, notes=[(BEGIN, name)])
        for number, name in enumerate(HOSTILE)
    ]
    write(tmp_path, *batches)
    return tmp_path


def test_json_brings_hostile_names_back_exactly(hostile_dir: Path) -> None:
    done = torc("stats", "-f", "json", "--output-dir", hostile_dir)
    assert [item["job_name"] for item in json.loads(done.stdout)["items"]] == HOSTILE
    assert all(character == "\n" or character.isprintable() for character in done.stdout)


@pytest.mark.parametrize("words", [[], ["--all-columns"], ["-f", "csv"]])
def test_no_hostile_name_reaches_the_terminal_raw(words: list[str], hostile_dir: Path) -> None:
    done = torc("stats", *words, "--output-dir", hostile_dir)
    assert done.returncode == 0
    for text in (done.stdout, done.stderr):
        assert all(character == "\n" or character.isprintable() for character in text)
    assert "[red]markup[/red]" in done.stdout
    assert "\\x1b[31mred" in done.stdout


def test_every_table_row_is_one_line(hostile_dir: Path) -> None:
    lines = torc("stats", "--output-dir", hostile_dir).stdout.splitlines()
    assert [line.split()[0] for line in lines[2 : 2 + len(HOSTILE)]] == [f"7.{n}" for n in range(len(HOSTILE))]


def test_a_terminal_without_room_loses_columns_and_says_which(output_dir: Path) -> None:
    leader, follower = pty.openpty()
    os.set_inheritable(follower, True)
    import fcntl
    import struct
    import termios

    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    process = subprocess.Popen(
        [*TORC, "stats", "--output-dir", str(output_dir)], stdout=follower, stderr=follower, env=environment()
    )
    os.close(follower)
    chunks = b""
    with closing(os.fdopen(leader, "rb", buffering=0)) as reader:
        while chunk := _read(reader.fileno()):
            chunks += chunk
    assert process.wait() == 0
    lines = chunks.decode().splitlines()
    assert len(lines[0]) <= 60
    (left_out,) = (line for line in lines if line.startswith("No room for: "))
    assert "Exit" in left_out
    assert left_out.endswith("(--all-columns or -f json shows them)")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: the other side has exited
        return b""


def test_an_ascii_terminal_gets_its_answer(hostile_dir: Path) -> None:
    done = torc("stats", "--output-dir", hostile_dir, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


# --- collect --------------------------------------------------------------------------------------------------


def test_collect_says_what_it_did(output_dir: Path) -> None:
    broken = path_of(output_dir, {"workflow_id": None, "slurm_job_id": 7, "node": "n2", "run_id": 1})
    Path(broken).write_text("not a database\n")
    done = torc("slurm", "collect", "--output-dir", output_dir)
    assert done.returncode == 0
    assert "1 collected, 0 unchanged, 1 skipped" in done.stdout
    assert f"torc: skipped {broken}: cannot be read as a node file: file is not a database" in done.stderr
    again = items("slurm", "collect", "-f", "json", "--output-dir", output_dir)
    assert [item["outcome"] for item in again] == ["unchanged", "skipped"]
    assert "not a database" in again[1]["problem"]


def test_collect_says_why_accounting_did_not_answer(tmp_path: Path) -> None:
    write(tmp_path, batch())
    done = torc("slurm", "collect", "--output-dir", tmp_path)
    assert "1 query, 1 unanswered" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("torc: accounting did not answer: sacct was not found on PATH")


def test_collect_fails_only_where_nothing_could_be_read(tmp_path: Path) -> None:
    assert torc("slurm", "collect", "--output-dir", tmp_path).returncode == 0
    broken = path_of(tmp_path, {"workflow_id": None, "slurm_job_id": 7, "node": "n2", "run_id": 1})
    os.makedirs(broken)
    assert torc("slurm", "collect", "--output-dir", tmp_path).returncode == 1


def test_stats_name_a_skipped_file(output_dir: Path) -> None:
    broken = path_of(output_dir, {"workflow_id": None, "slurm_job_id": 7, "node": "n2", "run_id": 1})
    Path(broken).write_text("not a database\n")
    done = torc("stats", "-f", "json", "--output-dir", output_dir)
    assert (done.returncode, len(json.loads(done.stdout)["items"])) == (0, 3)
    assert broken in done.stderr


# --- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["stats", "--slurm-job-id", "12"], 2, "no record of Slurm job 12 in"),
        (["stats", "--slurm-job-id", "12"], 2, "(sacct was not found on PATH); if it ran elsewhere, give"),
        (["stats", "--slurm-job-id", "0"], 2, "'0' is not a Slurm job id"),
        (
            ["stats", "--slurm-job-id", "7", "--run-id", "9"],
            2,
            "run 9 of Slurm job 7 is not recorded; recorded is run 1",
        ),
        (
            ["stats", "--slurm-job-id", "7", "--job-id", "77"],
            2,
            "job 77 of Slurm job 7 is not recorded; recorded are jobs 0 to 2",
        ),
        (["stats", "--slurm-job-id", "7", "--run-id", "9", "--all-steps"], 2, "recorded is run 1"),
        (["stats", "--run-id", "1", "--job-id", "77"], 2, "job 77 of run 1 of Slurm job 7 is not recorded"),
        (["stats", "--local", "--slurm-job-id", "7"], 2, "--local is what ran outside Slurm"),
        (["stats", "5", "--local"], 2, "--local is what ran outside Slurm"),
        (["stats", "--slurm-job-id", "1.2"], 2, "'1.2' is not a Slurm job id"),
        (["stats", "--slurm-job-id", "12; rm -rf x"], 2, "is not a Slurm job id"),
        (["stats", "5"], 2, "for a Slurm job id write --slurm-job-id 5"),
        (["stats", "--run-id", "x"], 2, "'--run-id': 'x' is not a "),
        (["stats", "--run-id", "9" * 30], 2, "is not an id"),
        (["stats", "--", "-1"], 2, "-1 is not an id"),
        (["stats", "--slurm-job-id", "9" * 30], 2, "is not a Slurm job id"),
        (["stats", "-f", "xml"], 2, "'--format' / '-f': 'xml' is not one of 'table', 'json', 'csv'"),
        (["stats", "abc"], 2, "'abc' is not a valid integer"),
        (["stats", "--nosuch"], 2, "--nosuch"),
        (["nosuch"], 2, "nosuch"),
        (["slurm", "nosuch"], 2, "nosuch"),
        (["stats", "--job-id", "99"], 2, "job 99 of Slurm job 7 is not recorded"),
    ],
)
def test_wrong_input_is_one_line_and_2(words: list[str], status: int, message: str, output_dir: Path) -> None:
    done = torc("--output-dir", output_dir, *words)
    assert (done.returncode, done.stdout) == (status, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("torc: ")
    assert message in line


def recorded_sacct(directory: Path, text: str) -> str:
    """A PATH with a sacct that prints this recorded text, as if for jobs of the calling user."""
    directory.mkdir()
    (directory / "answer").write_text(text.replace("root", pwd.getpwuid(os.getuid()).pw_name), newline="")
    (directory / "sacct").write_text(f'#!/bin/sh\n[ "$1" = -e ] || exec cat {directory}/answer\n')
    (directory / "sacct").chmod(0o755)
    return f"{directory}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("scenario", "says"),
    [("ends", "; Slurm has 10 steps of it (FAILED): "), ("lone_srun", "; Slurm has 1 step of it: ")],
)
def test_a_job_that_slurm_alone_knows(scenario: str, says: str, tmp_path: Path) -> None:
    job = job_of(sacct_rows("22.05-linux", scenario))
    path = recorded_sacct(tmp_path / "bin", sacct_text("22.05-linux", scenario))
    done = torc("stats", "--slurm-job-id", job, "--output-dir", tmp_path, PATH=path)
    assert done.returncode == 2
    assert done.stderr.endswith(f"{says}--all-steps shows them\n")


def test_all_steps_shows_all_steps_of_slurm(tmp_path: Path) -> None:
    rows = sacct_rows("22.05-linux", "ends")
    job, begin = job_of(rows), rows[0].start_time
    path = recorded_sacct(tmp_path / "bin", sacct_text("22.05-linux", "ends"))
    user = pwd.getpwuid(os.getuid()).pw_name
    step = batch(slurm_job_id=job, user_name=user, begin_time=begin)
    epilogs = accounting_row(slurm_job_id=job)
    write_accounting(write(tmp_path / "by epilog", step), epilogs)
    write(tmp_path / "by login node", step)
    found = []
    for output_dir in ("by epilog", "by login node"):
        words = ("stats", "--all-steps", "-f", "json", "--output-dir", tmp_path / output_dir)
        found.append([(item["step_id"], item["status"]) for item in items(*words, PATH=path)])
        assert items(*words) == items(*words, PATH=path)  # asked once: without sacct the same
        assert torc(*words).stderr == ""
    assert found[0] == found[1]
    assert "batch" in [step_id for step_id, _ in found[0]]


def test_an_allocation_without_a_batch_step_shows_none(tmp_path: Path) -> None:
    rows = sacct_rows("22.05-linux", "lone_srun")
    path = recorded_sacct(tmp_path / "bin", sacct_text("22.05-linux", "lone_srun"))
    user = pwd.getpwuid(os.getuid()).pw_name
    write(tmp_path, batch(slurm_job_id=job_of(rows), user_name=user, begin_time=rows[0].start_time))
    shown = items("stats", "--all-steps", "-f", "json", "--output-dir", tmp_path, PATH=path)
    assert [item["step_id"] for item in shown] == ["0"]


def test_no_output_directory(tmp_path: Path) -> None:
    done = torc("stats", "--output-dir", tmp_path / "none")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"there is no output directory {tmp_path}/none" in done.stderr
    assert not (tmp_path / "none").exists()


def test_an_output_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = torc("stats", "--output-dir", tmp_path / "file")
    assert done.returncode == 2
    assert done.stderr.startswith(f"torc: {tmp_path}/file is a file, not an output directory; ")


@pytest.mark.parametrize(("below", "short"), [("", "."), ("resource_utilization", "..")])
def test_inside_an_output_directory_it_is_named(below: str, short: str, output_dir: Path) -> None:
    words = [*TORC, "stats", "-f", "json"]
    inside = subprocess.run(
        words, capture_output=True, text=True, env=environment(), cwd=output_dir / below, check=False
    )
    assert inside.returncode == 2
    assert inside.stderr.endswith(f", but {output_dir} is one; give it: --output-dir {short}\n")
    done = torc("stats", "--output-dir", output_dir / below / "torc_output")
    assert done.stderr.endswith(f"give it: --output-dir {output_dir}\n")


def test_nothing_recorded_yet(tmp_path: Path) -> None:
    done = torc("stats", "--output-dir", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_damaged_main_database_is_one_line_and_1(output_dir: Path) -> None:
    (output_dir / "torc.db").write_text("not a database\n" * 100)
    done = torc("stats", "--output-dir", output_dir)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{output_dir}/torc.db" in line


def test_debug_shows_where_an_error_came_from(output_dir: Path) -> None:
    done = torc("stats", "5", "--output-dir", output_dir, TORC_DEBUG="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_a_reader_that_goes_away_is_no_error(output_dir: Path) -> None:
    run = f"{sys.executable} -m torc_slurm.cli.main stats -f json"
    script = f"{run} --output-dir '{output_dir}' | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, env=environment(), check=True)
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141")


def test_ctrl_c_is_130_and_leaves_no_lock(output_dir: Path) -> None:
    lock = output_dir / "torc.db.lock"
    lock.write_text("")  # a writer that never ends
    process = subprocess.Popen(
        [*TORC, "stats", "--output-dir", str(output_dir)], stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stderr is not None
    assert "waiting for" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert "Traceback" not in process.stderr.read()
    assert [name for name in os.listdir(output_dir) if "lock" in name] == ["torc.db.lock"]


def test_version() -> None:
    from torc_slurm import __version__

    assert torc("--version").stdout == f"torc {__version__}\n"


def test_a_group_alone_shows_its_help() -> None:
    done = torc("slurm")
    assert (done.returncode, done.stdout) == (2, "")
    assert "collect" in done.stderr
