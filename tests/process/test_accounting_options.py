"""``--accounting-backend`` and ``--compare`` on the command line, without Slurm."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from node_files import BEGIN, accounting_row, batch, write, write_accounting

from torc_slurm.cli.time_limit import fail_after
from torc_slurm.common.errors import TorcError

TORC = [sys.executable, "-m", "torc_slurm.cli.main"]
WITH_BACKEND = [
    ["slurm", "stats"], ["stats"], ["slurm", "collect"], ["slurm", "epilog"], ["check"], ["correct", "--dry-run"],
    ["recover", "--dry-run"], ["reports", "savings"], ["reports", "check-resource-utilization"],
    ["workflows", "correct-resources"], ["reports", "html", "-o", os.devnull],
]  # fmt: skip


def torc(*words: object, **changed: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORC_", "SLURM_"))}
    return subprocess.run(
        [*TORC, *map(str, words)],
        capture_output=True,
        text=True,
        env=kept | {"PATH": "/nowhere"} | changed,
        check=False,
    )


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    """A step without accounting so far."""
    write(tmp_path, batch())
    return tmp_path


@pytest.mark.parametrize("words", WITH_BACKEND, ids=" ".join)
def test_a_backend_that_there_is_not_is_one_line_and_2(words: list[str], output_dir: Path) -> None:
    done = torc(*words, "--accounting-backend", "db", "--output-dir", output_dir)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "'db' is not one of 'auto', 'sacct', 'pyslurm'" in line
    if words != ["slurm", "epilog"]:
        done = torc(*words, "--output-dir", output_dir, TORC_ACCOUNTING_BACKEND="db")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "torc: TORC_ACCOUNTING_BACKEND='db' is unknown; use one of auto, sacct, pyslurm\n"


def test_the_epilog_says_it_and_disturbs_nothing(output_dir: Path) -> None:
    words = ["slurm", "epilog", "--output-dir", output_dir]
    done = torc(*words, SLURM_JOB_ID="7", TORC_ACCOUNTING_BACKEND="db")
    assert done.returncode == 0
    assert "epilog: TORC_ACCOUNTING_BACKEND='db' is unknown" in done.stderr
    done = torc(*words, "--accounting-backend", "auto", SLURM_JOB_ID="7", SLURMD_NODENAME="n1")
    assert (done.returncode, done.stderr) == (
        0,
        "",
    )  # there is no sacct: only the row says so
    assert "1 unavailable" in done.stdout


@pytest.mark.parametrize(("backend", "says"), [("sacct", "sacct"), ("auto", "sacct"), ("pyslurm", "pyslurm")])
def test_who_was_asked_is_in_the_row(backend: str, says: str, output_dir: Path) -> None:
    """Neither exists: the row says which one failed; the command line overrides the environment."""
    words = ["stats", "-f", "json", "--output-dir", output_dir, "--accounting-backend", backend]
    done = torc(*words, TORC_ACCOUNTING_BACKEND="pyslurm")
    (item,) = json.loads(done.stdout)["items"]
    assert (item["status"], item["backend"]) == ("unavailable", says)
    assert item["reason"].startswith(says)


def test_the_environment_chooses_for_every_command(output_dir: Path) -> None:
    done = torc("stats", "-f", "json", "--output-dir", output_dir, TORC_ACCOUNTING_BACKEND="pyslurm")
    (item,) = json.loads(done.stdout)["items"]
    assert item["backend"] == "pyslurm"


def test_what_takes_too_long_is_given_up() -> None:
    begin = time.monotonic()
    with pytest.raises(TorcError, match="given up after 1 s"), fail_after(1):
        time.sleep(60)
    assert time.monotonic() - begin < 10


# --- comparing


@pytest.fixture
def compared_dir(tmp_path: Path) -> Path:
    """A step that read a large file, where MaxRSS includes page cache; one that Slurm did not poll; one alike."""
    usage = {"memory_best_bytes": 10**9, "memory_best_source": "cgroup_v2", "cpu_seconds": 4.0, "cpu_source": "wait4"}
    io_of_step = {"read_chars": 9 * 10**9, "written_chars": 0, "storage_read_bytes": 0}
    path = write(
        tmp_path,
        batch(usage=usage | io_of_step),
        batch(job_id=1, step_id="1", invocation="2", usage=usage),
        batch(job_id=2, step_id="2", invocation="3", job_name="two\nlines", usage=usage),
    )
    facts = {"gather_type": "jobacct_gather/cgroup", "slurm_version": "24.11.5", "total_cpu_seconds": 4.1}
    write_accounting(
        path,
        accounting_row(**facts, max_rss_bytes=8 * 10**9),
        accounting_row(**facts | {"total_cpu_seconds": 40.0}, step_id="1", status="partial", max_rss_bytes=None,
                       reason="ended before Slurm polled it"),
        accounting_row(**facts, step_id="2", max_rss_bytes=1_010_000_000, queried_at=BEGIN),
    )  # fmt: skip
    return tmp_path


def test_side_by_side_as_json(compared_dir: Path) -> None:
    done = torc("stats", "--compare", "-f", "json", "--no-accounting", "--output-dir", compared_dir)
    cache, short, alike = json.loads(done.stdout)["items"]
    assert (cache["peak_memory_bytes"], cache["cgroup_memory_bytes"], cache["max_rss_bytes"]) == (
        10**9, 10**9, 8 * 10**9,
    )  # fmt: skip
    (difference,) = cache["differences"]
    assert (difference["figure"], difference["against"]) == ("max_rss_bytes", "peak_memory_bytes")
    assert (difference["cause"], difference["difference_percent"]) == ("page cache", 700.0)
    assert "page cache" in difference["explanation"]
    causes = {each["figure"]: (each["cause"], each["explanation"]) for each in short["differences"]}
    assert causes["max_rss_bytes"] == ("not polled", "ended before Slurm polled it")
    assert causes["total_cpu_seconds"][0] == "not known"
    assert alike["differences"] == []


def test_side_by_side_as_csv_and_as_a_table(compared_dir: Path) -> None:
    words = ["slurm", "stats", "--compare", "--no-accounting", "--output-dir", compared_dir]
    rows = list(csv.DictReader(io.StringIO(torc(*words, "-f", "csv").stdout)))
    assert [row["differences"] for row in rows] == [
        "max_rss_bytes +700.0%: page cache",
        "max_rss_bytes -: not polled; total_cpu_seconds +900.0%: not known",
        "",
    ]
    table = torc(*words).stdout
    assert "8.00 GB*" in table
    assert "MaxRSS: page cache (7.0 +700.0%): MaxRSS of Slurm 24.11.5 can include page cache\n" in table
    assert "two\\nlines" in table


def test_nothing_to_compare_is_an_empty_document(compared_dir: Path) -> None:
    done = torc("stats", "--local", "--compare", "-f", "json", "--output-dir", compared_dir)
    assert done.returncode == 2
