"""Whatever a damaged file contains: one line names it, and the other files are used."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from node_files import batch, exit_record
from runs import TORC, environment

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.main import open_main
from torc_slurm.database.node_file import write_batch
from torc_slurm.files.output_names import node_file_path
from torc_slurm.usecases.collect import collect_node_files

DAMAGES = 150
KEPT_FREE_BYTES = 20_000


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    """Two node files of one run, and a database that has collected both."""
    made = tmp_path / "out"
    for node in ("n1", "n2"):
        path = node_file_path(str(made), node, "slurm7", 1)
        write_batch(
            path, batch(exits=[exit_record()], invocation=node, node=node, step_id=node[1:], job_id=int(node[1:]))
        )
    with open_main(str(made)) as database:
        collect_node_files(database)
    return made


def collected(output_dir: Path) -> list[tuple[str, str | None]]:
    with open_main(str(output_dir)) as database:
        return [(Path(file.path).name, file.problem) for file in collect_node_files(database)]


def trouble(output_dir: Path) -> str | None:
    """The error of the main database; None if it can be used."""
    try:
        collected(output_dir)
    except DatabaseError as error:
        return str(error)
    return None


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    content[place] ^= chance.randrange(1, 256)
    path.write_bytes(content)


@pytest.mark.parametrize("part", range(5))
def test_a_flipped_byte_in_a_node_file_is_that_files_own_trouble(part: int, output_dir: Path, tmp_path: Path) -> None:
    chance = random.Random(part)  # noqa: S311 - no secret
    good = tmp_path / "good"
    shutil.copytree(output_dir, good)
    for _ in range(DAMAGES // 5):
        shutil.rmtree(output_dir)
        shutil.copytree(good, output_dir)
        (output_dir / "torc.db").unlink()
        damaged = output_dir / "resource_utilization" / "resource_metrics_n1_slurm7_1.db"
        flip(damaged, chance)
        problems = dict(collected(output_dir))
        assert problems["resource_metrics_n2_slurm7_1.db"] is None
        problem = problems["resource_metrics_n1_slurm7_1.db"]
        assert problem is None or (str(damaged) in problem and "\n" not in problem)


@pytest.mark.parametrize("part", range(5))
def test_a_flipped_byte_in_the_main_database_is_named_with_a_remedy(
    part: int, output_dir: Path, tmp_path: Path
) -> None:
    chance = random.Random(part)  # noqa: S311 - no secret
    good = tmp_path / "torc.db"
    shutil.copy(output_dir / "torc.db", good)
    for _ in range(DAMAGES // 5):
        shutil.copy(good, output_dir / "torc.db")
        flip(output_dir / "torc.db", chance)
        said = trouble(output_dir)
        assert said is None or (str(output_dir / "torc.db") in said and "\n" not in said)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE steps RENAME COLUMN begin_time TO began",
        "ALTER TABLE step_usage DROP COLUMN cpu_seconds",
        "DROP TABLE task_exits",
        "UPDATE steps SET begin_time = 'yesterday'",
        "UPDATE steps SET job_name = x'cbcbcb'",
        "UPDATE steps SET run_id = 9e999",
    ],
)
def test_a_node_file_of_another_make_is_named_and_the_rest_used(change: str, output_dir: Path) -> None:
    (output_dir / "torc.db").unlink()
    path = output_dir / "resource_utilization" / "resource_metrics_n1_slurm7_1.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(change)
        connection.commit()
    shown = subprocess.run(
        [*TORC, "slurm", "collect", "--no-accounting", "--output-dir", str(output_dir)],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "unexpected" not in shown.stderr
    assert "resource_metrics_n1_slurm7_1.db" in shown.stderr + shown.stdout
    problems = dict(collected(output_dir))
    assert problems["resource_metrics_n1_slurm7_1.db"] is not None
    assert problems["resource_metrics_n2_slurm7_1.db"] is None


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE results RENAME COLUMN status TO state", "DROP TABLE step_nodes", "DROP TABLE schema_migrations"],
)
def test_a_main_database_that_lacks_something_says_what_to_do(change: str, output_dir: Path) -> None:
    path = output_dir / "torc.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(change)
        connection.commit()
    with pytest.raises(DatabaseError, match=r"torc\.db cannot be used: it is damaged .*move it away.*collect"):
        collected(output_dir)


def test_a_disk_with_little_space_left_shows_what_is_there(tmp_path: Path, output_dir: Path) -> None:
    """A separate file system, filled up to a few kB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=False, capture_output=True)
    if mounted.returncode:
        pytest.fail(f"no tmpfs can be mounted here: {mounted.stderr!r}")
    try:
        shutil.copytree(output_dir, place / "out")
        (place / "out" / "torc.db").unlink()
        free = os.statvfs(place)
        (place / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - KEPT_FREE_BYTES))
        shown = subprocess.run(
            [*TORC, "stats", "--slurm-job-id", "7", "--no-accounting", "--output-dir", str(place / "out")],
            env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (shown.returncode, "work" in shown.stdout) == (0, True), shown.stderr
    finally:
        subprocess.run(["umount", place], check=True)
