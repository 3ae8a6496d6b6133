"""The workflow commands on the command line, without Slurm: create, list, show, generate, delete, wrong input."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from node_files import BEGIN, batch, dump, exit_record, write

from torc_slurm.common.liveness import process_here
from torc_slurm.database.batch import Batch
from torc_slurm.database.journal import JOB_STATE_COLUMNS, RUN_COLUMNS, write_journal
from torc_slurm.spec.plan import read_plan
from torc_slurm.usecases.claims import Claim, claim_by, claim_run, read_claim

TORC = [sys.executable, "-m", "torc_slurm.cli.main"]
SPEC = """\
name: demo
resource_requirements: [{name: small, num_cpus: 2, memory: 1.5g, runtime: PT10M}]
jobs:
- {name: "first_{i}", command: "echo {i}", resource_requirements: small, parameters: {i: "1:2"}}
- {name: last, command: exit 3, depends_on_regexes: "first_.*", env: {A: "1"}, working_dir: sub}
"""
HOSTILE = ["two\nlines", "quote\" and 'quote", "$(rm -rf x)", "; rm -rf x", "\x1b[31mred", "名前", "\u202egpj"]


class Place:
    """A directory where a user works, with ``torc`` in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output_dir = directory / "torc_output"

    def torc(self, *words: object, path: str = "/nowhere", **changed: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORC_", "SLURM_"))}
        return subprocess.run(
            [*TORC, *map(str, words)],
            cwd=self.directory,
            env=kept | {"PATH": path} | changed,
            capture_output=True,
            text=True,
            check=False,
        )

    def answer(self, *words: object) -> Any:  # noqa: ANN401 - a JSON document
        done = self.torc("-f", "json", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def items(self, *words: object) -> list[dict[str, Any]]:
        document = self.answer(*words)
        assert list(document) == ["items"]
        found: list[dict[str, Any]] = document["items"]
        return found

    def refusal(self, *words: object, status: int = 2) -> str:
        """The one line of a command that fails; stdout is empty."""
        done = self.torc(*words)
        assert (done.returncode, done.stdout) == (status, ""), done
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("torc: ")
        return done.stderr

    def spec(self, text: str = SPEC, name: str = "w.yaml") -> Path:
        path = self.directory / name
        path.write_text(text)
        return path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def run_row(**changed: object) -> dict[str, Any]:
    row = dict.fromkeys(RUN_COLUMNS) | {
        "workflow_id": 1,
        "run_id": 1,
        "host": "n1",
        "pid": 1,
        "launcher": "srun",
        "slurm_job_id": 7,
        "job_count": 3,
        "claim_time": BEGIN,
    }
    return row | changed


def state_row(job_id: int, state: str, **changed: object) -> dict[str, Any]:
    row = dict.fromkeys(JOB_STATE_COLUMNS) | {
        "workflow_id": 1,
        "run_id": 1,
        "job_id": job_id,
        "attempt_id": 1,
        "job_name": f"job {job_id}",
        "state": state,
        "launcher": "srun",
        "slurm_job_id": 7,
        "step_id": str(job_id),
        "start_time": BEGIN,
        "end_time": BEGIN + 5,
    }
    return row | changed


def measured(job_id: int, return_code: int) -> Batch:
    return batch(
        workflow_id=1,
        job_id=job_id,
        attempt_id=1,
        job_name=f"job {job_id}",
        step_id=str(job_id),
        invocation=str(job_id),
        exits=[exit_record(return_code=return_code)],
    )


def test_create_and_look(place: Place) -> None:
    place.spec()
    assert place.answer("workflows", "create", "w.yaml") == {"workflow_id": 1, "name": "demo", "job_count": 3}
    listed = place.items("workflows", "list")[0]
    assert (listed["workflow_id"], listed["status"], listed["ready"], listed["blocked"]) == (1, "ready", 2, 1)
    jobs = place.items("jobs", "list")
    assert [(job["job_id"], job["name"], job["status"]) for job in jobs] == [
        (1, "first_1", "ready"),
        (2, "first_2", "ready"),
        (3, "last", "blocked"),
    ]
    assert jobs[2]["depends_on"] == [1, 2]
    assert jobs[2]["env"] == {"A": "1"}
    assert jobs[2]["working_dir"] == str(place.directory / "sub")
    shown = place.answer("workflows", "show")
    assert shown["resource_requirements"][0]["memory"] == "1.5g"
    assert shown["working_dir"] == str(place.directory)
    assert place.items("results", "list") == []
    assert place.answer("workflows", "status")["jobs"]["ready"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ("workflows", "list"),
        ("workflows", "show"),
        ("workflows", "status"),
        ("jobs", "list"),
        ("results", "list"),
        ("results", "list", "--monitor"),
    ],
)
def test_every_listing_in_every_format(place: Place, words: tuple[str, ...]) -> None:
    place.spec()
    place.torc("workflows", "create", "w.yaml")
    assert place.torc(*words).stdout
    table = list(csv.DictReader(io.StringIO(place.torc(*words, "-f", "csv").stdout)))
    document = place.answer(*words)
    assert len(table) == (len(document["items"]) if "items" in document else 1)
    if document.get("items"):
        assert list(document["items"][0]) == list(table[0])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_everywhere(place: Place, name: str) -> None:
    job = {"name": name, "command": f": {name}", "env": {"X": name}}
    place.spec(json.dumps({"name": name, "jobs": [job]}), "w.json")
    assert place.answer("workflows", "create", "w.json")["name"] == name
    assert place.items("jobs", "list")[0]["name"] == name
    for words in (("workflows", "list"), ("workflows", "show"), ("workflows", "status"), ("jobs", "list")):
        shown = place.torc(*words).stdout
        assert all(character.isprintable() for line in shown.splitlines() for character in line)
    script = place.torc("slurm", "generate", "1").stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False).returncode == 0
    assert read_plan(str(place.output_dir / "plans" / "wf1_r1.json")).jobs[0].name == name


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("workflows", "create", "none.yaml"), 2, "No such file"),
        (("workflows", "show", "9"), 2, "no output directory"),
        (("workflows", "delete", "x"), 2, "Invalid value"),
        (("jobs", "list"), 2, "no output directory"),
        (("submit", "none.yaml"), 2, "No such file"),
        (("submit", "w.yaml", "more"), 2, "one argument too many"),
        (("submit", "w.yaml", "-N", "0"), 2, "0 nodes"),
        (("submit", "w.yaml", "-t", "2 hours"), 2, "'2 hours' is not understood"),
        (("submit", "w.yaml", "--scheduler", "x"), 2, "no scheduler 'x'"),
        (("submit", "w.yaml", "--template", "x"), 2, "no template 'x'"),
        (("submit", "w.yaml", "--", "-N", "x"), 2, "after --"),
        (("submit", "w.yaml"), 1, "sbatch was not found on PATH"),
        (("submit", "w.yaml", "--output-dir", "/proc/x"), 2, "cannot be written"),
        (("workflows", "create", "w.yaml", "--output-dir", "/proc/x"), 2, "cannot be written"),
        (
            ("slurm", "generate", "w.yaml", "-o", "no/such/x.sh"),
            2,
            "cannot be written: No such file or directory; give another path with -o",
        ),
        (("slurm", "generate", "w.yaml", "-o", "."), 2, "is a directory"),
        (("jobs", "list", "--status", "lost"), 2, "no job has the status 'lost'"),
    ],
)
def test_wrong_input_is_one_line_and_creates_nothing(
    place: Place, words: tuple[str, ...], status: int, said: str
) -> None:
    place.spec()
    assert said in place.refusal(*words, status=status)
    left = {path.name for path in place.directory.rglob("*") if path.is_file()} - {"w.yaml"}
    assert left <= {"torc.db"}
    if left:
        with closing(sqlite3.connect(place.output_dir / "torc.db")) as connection:
            assert connection.execute("SELECT count(*) FROM workflows").fetchone() == (0,)
            assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_every_problem_of_a_file_is_a_line(place: Place) -> None:
    place.spec(SPEC.replace("memory: 1.5g", "memory: 8x").replace("env:", "enf:"))
    done = place.torc("workflows", "create", "w.yaml")
    assert done.returncode == 2
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["w.yaml:2", "w.yaml:5"]
    assert not place.output_dir.exists()


def test_an_unknown_id_names_those_there_are(place: Place) -> None:
    place.spec()
    place.torc("workflows", "create", "w.yaml")
    for words in (
        ("workflows", "show", 5),
        ("workflows", "cancel", 5),
        ("workflows", "delete", 5),
        ("jobs", "list", 5),
        ("slurm", "collect", 5),
        ("results", "list", 5),
    ):
        assert "there is no workflow 5 here; there are: 1" in place.refusal(*words)
    assert "there is no workflow 5" in place.refusal("submit", 5)
    assert "workflow 1 has no job 77" in place.refusal("results", "list", "--job-id", 77)
    assert "workflow 1 has no run 9" in place.refusal("results", "list", 1, "--run-id", 9)


def test_a_workflow_that_sbatch_never_got_leaves_no_gap(place: Place) -> None:
    place.spec()
    place.refusal("submit", "w.yaml", status=1)
    assert place.answer("workflows", "create", "w.yaml")["workflow_id"] == 1
    place.refusal("submit", "w.yaml", status=1)
    place.refusal("submit", "1", status=1)
    assert [job["job_id"] for job in place.items("jobs", "list")] == [1, 2, 3]
    assert place.answer("workflows", "show")["runs"] == []
    assert list((place.output_dir / "plans").iterdir()) == []
    assert [job["status"] for job in place.items("jobs", "list")] == ["ready", "ready", "blocked"]


def test_dry_run_creates_nothing(place: Place) -> None:
    place.spec()
    script = place.torc("submit", "w.yaml", "--dry-run").stdout
    assert "#SBATCH --exclusive\n" in script
    assert place.torc("slurm", "generate", "w.yaml", "--dry-run").stdout == script
    assert place.answer("submit", "w.yaml", "--dry-run")["dry_run"] is True
    assert not place.output_dir.exists()
    place.torc("workflows", "create", "w.yaml")
    before = dump(place.output_dir / "torc.db")
    assert "plans/wf1_r1.json" in place.torc("submit", "1", "--dry-run").stdout
    assert dump(place.output_dir / "torc.db") == before


def test_generate_makes_workflow_plan_and_script(place: Place) -> None:
    place.spec(SPEC + "slurm_schedulers: [{name: s, nodes: 2, walltime: '10', setup: module load x}]\n")
    done = place.torc("slurm", "generate", "w.yaml", "-o", "run.sh")
    assert (done.returncode, done.stdout) == (0, "")
    assert "workflow 1, run 1, 3 jobs" in done.stderr
    script = (place.directory / "run.sh").read_text()
    assert "#SBATCH --signal=B:TERM@60\n" in script
    assert re.search(r"#SBATCH --time=10\n\nmodule load x\n", script)
    plan = read_plan(str(place.output_dir / "plans" / "wf1_r1.json"))
    assert [(job.name, job.depends_on, job.memory_bytes, job.memory_mib) for job in plan.jobs] == [
        ("first_1", (), 1_500_000_000, 1536),
        ("first_2", (), 1_500_000_000, 1536),
        ("last", (1, 2), None, None),
    ]
    assert Path(plan.torc_step[0]).is_absolute()
    assert subprocess.run([*plan.torc_step, "--", "true"], cwd="/", check=False).returncode == 0
    answer = place.answer("slurm", "generate", "1", "-o", "again.sh")
    assert (answer["workflow_id"], answer["run_id"], answer["script"]) == (1, 2, "again.sh")


def test_a_script_that_was_only_generated_finds_its_run_taken(place: Place) -> None:
    place.spec()
    place.torc("slurm", "generate", "w.yaml", "-o", "first.sh")
    place.torc("slurm", "generate", "1", "-o", "second.sh")
    taken = read_claim(str(place.output_dir), 1, 1)
    assert taken is not None
    assert taken.purpose == "superseded"
    assert read_claim(str(place.output_dir), 1, 2) is None
    runs = place.answer("workflows", "show")["runs"]
    assert [run["status"] for run in runs] == ["ended", "generated"]


def test_a_run_that_is_active_is_not_run_twice(place: Place) -> None:
    place.spec()
    place.torc("slurm", "generate", "w.yaml", "-o", "run.sh")
    sleeper = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "torc"], stdin=subprocess.PIPE)
    with sleeper:
        claim_run(str(place.output_dir), 1, 1, claim_by(process_here(sleeper.pid)))
        assert place.answer("workflows", "status")["status"] == "running"
        for words in (("submit", "1"), ("slurm", "generate", "1"), ("workflows", "delete", "1")):
            assert "run 1 of workflow 1 is active: process" in place.refusal(*words, status=1)
        assert "was asked to end" in place.torc("workflows", "cancel").stdout
    assert place.answer("workflows", "status")["run_status"] == "ended"
    assert place.torc("workflows", "delete", "1").returncode == 0


def test_a_slurm_job_that_cannot_be_asked_about_counts_as_active(place: Place) -> None:
    place.spec()
    place.torc("slurm", "generate", "w.yaml", "-o", "run.sh")
    claim_run(str(place.output_dir), 1, 1, Claim(claimed_at=BEGIN, host="n1", pid=1, slurm_job_id=7))
    assert "squeue was not found" in place.refusal("submit", "1", status=1)


def test_what_a_run_brought(place: Place) -> None:
    place.spec()
    place.torc("slurm", "generate", "w.yaml", "-o", "run.sh")
    claim_run(str(place.output_dir), 1, 1, Claim(claimed_at=BEGIN, host="n1", pid=1, slurm_job_id=7))
    node_file = write(place.output_dir, measured(1, 0), measured(2, 143))
    write_journal(
        node_file,
        [run_row(end_time=BEGIN + 9, exit_status=1, reason="the time limit came")],
        [
            state_row(1, "completed", return_code=0),
            state_row(2, "timeout", return_code=143, reason="ended before the time limit"),
            state_row(3, "cancelled", start_time=None, end_time=None, reason="job 2 did not complete"),
        ],
    )
    assert [job["status"] for job in place.items("jobs", "list")] == ["completed", "timeout", "cancelled"]
    results = place.items("results", "list")
    assert [(row["job_id"], row["status"], row["return_code"]) for row in results] == [
        (1, "completed", 0),
        (2, "timeout", 143),
    ]
    assert "ended before the time limit" in results[1]["status_evidence"]
    status = place.answer("workflows", "status")
    assert (status["status"], status["run_status"], status["reason"]) == ("failed", "ended", "the time limit came")
    stats = place.items("slurm", "stats", "1", "--no-accounting")
    assert [(item["job_name"], item["job_status"]) for item in stats] == [("job 1", "completed"), ("job 2", "timeout")]
    assert [item["job_id"] for item in place.items("slurm", "stats", "1", "--job-id", "2", "--no-accounting")] == [2]
    again = place.answer("slurm", "generate", "1", "-o", "again.sh")
    assert (again["run_id"], again["job_count"]) == (2, 2)
    plan = read_plan(str(place.output_dir / "plans" / "wf1_r2.json"))
    assert [(job.job_id, job.depends_on) for job in plan.jobs] == [(2, ()), (3, (2,))]


def test_an_attempt_without_any_wrapper_record(place: Place) -> None:
    place.spec()
    place.torc("slurm", "generate", "w.yaml", "-o", "run.sh")
    node_file = write(place.output_dir, measured(1, 0))
    write_journal(
        node_file,
        [run_row(end_time=BEGIN + 9, exit_status=1)],
        [state_row(1, "completed"), state_row(2, "failed", reason="srun: error", launcher_status=1)],
    )
    row = place.items("results", "list")[1]
    assert (row["status"], row["return_code"], row["measured_node_count"]) == ("failed", None, 0)
    assert (row["peak_memory_bytes"], row["avg_cpu_percent"]) == (None, None)
    assert (row["exec_time_seconds"], row["end_time_source"]) == (5.0, "journal")


def test_collecting_a_workflow_again_changes_nothing(place: Place) -> None:
    place.spec()
    place.torc("slurm", "generate", "w.yaml", "-o", "run.sh")
    node_file = write(place.output_dir, measured(1, 0))
    write_journal(node_file, [run_row(end_time=BEGIN + 9, exit_status=0)], [state_row(1, "completed")])
    place.torc("workflows", "status")
    before = dump(place.output_dir / "torc.db")
    place.torc("slurm", "collect", "--no-accounting")
    place.torc("jobs", "list")
    assert dump(place.output_dir / "torc.db") == before


def test_a_run_that_began_by_itself_is_known(place: Place) -> None:
    """A script that is submitted again makes the plan of the next run itself."""
    from torc_slurm.spec.plan import create_plan_file, next_plan

    place.spec()
    place.torc("slurm", "generate", "w.yaml", "-o", "run.sh")
    plan = read_plan(str(place.output_dir / "plans" / "wf1_r1.json"))
    create_plan_file(next_plan(plan, {1}))
    assert [run["run_id"] for run in place.answer("workflows", "show")["runs"]] == [1, 2]
    assert place.answer("slurm", "generate", "1", "-o", "again.sh")["run_id"] == 3


def test_delete_leaves_nothing_of_the_workflow_and_all_of_the_others(place: Place) -> None:
    place.spec()
    for _ in range(2):
        place.torc("slurm", "generate", "w.yaml", "-o", "run.sh")
    other = write(place.output_dir, batch(workflow_id=2, job_id=4, attempt_id=1, node="n_1"))
    node_file = write(place.output_dir, measured(1, 0))
    journal = Path(f"{node_file}-journal")
    journal.touch()
    place.torc("slurm", "collect", "--no-accounting")
    assert "workflow 1 is deleted" in place.torc("workflows", "delete", "1").stdout
    assert not Path(node_file).exists()
    assert not journal.exists()
    assert Path(other).exists()
    assert [path.name for path in (place.output_dir / "plans").iterdir()] == ["wf2_r1.json"]
    assert [item["workflow_id"] for item in place.items("workflows", "list")] == [2]
    assert place.answer("workflows", "create", "w.yaml")["workflow_id"] == 3
    assert len(place.items("results", "list", "2")) == 1
    assert "there is no workflow 1" in place.refusal("results", "list", "1")


def test_delete_names_the_plots_that_stay_and_purge_deletes_them(place: Place) -> None:
    place.spec()
    for number in (1, 2):
        place.torc("workflows", "create", "w.yaml")
        plots = place.output_dir / "resource_plots" / f"wf{number}_r1"
        plots.mkdir(parents=True)
        (plots / "page.html").write_text("x" * 2_000_000)
    kept = place.output_dir / "resource_plots" / "wf1_r1"
    said = place.torc("workflows", "delete", "1").stdout
    assert f"its plots stay in {kept} (2.00 MB): --purge deletes them" in said
    assert kept.is_dir()
    assert "deleted" in place.torc("workflows", "delete", "2", "--purge").stdout
    assert [path.name for path in (place.output_dir / "resource_plots").iterdir()] == ["wf1_r1"]


def test_stats_of_a_workflow_without_records(place: Place) -> None:
    place.spec()
    place.torc("workflows", "create", "w.yaml")
    assert place.items("slurm", "stats", "1") == []
    assert "no record of workflow 1 yet" in place.torc("stats", "1").stderr
    assert "there is no workflow 2" in place.refusal("slurm", "stats", "2")
    assert "nothing of workflow 1 fits" in place.refusal("slurm", "stats", "1", "--job-id", "9")


def test_what_old_files_bear_is_no_id_of_a_new_workflow(place: Place) -> None:
    """If torc.db was lost, an old node file must not become the record of a new workflow."""
    place.spec()
    place.torc("slurm", "generate", "w.yaml", "-o", "run.sh")
    write(place.output_dir, measured(1, 0))
    (place.output_dir / "torc.db").unlink()
    assert place.answer("workflows", "create", "w.yaml")["workflow_id"] == 2
    assert place.items("results", "list", "2") == []
    assert [job["status"] for job in place.items("jobs", "list", "2")] == ["ready", "ready", "blocked"]


def test_a_directory_whose_name_cannot_be_kept(place: Place) -> None:
    place.spec()
    name = os.fsdecode(b"caf\xe9")
    assert "is not UTF-8" in place.refusal("workflows", "create", "w.yaml", "--output-dir", name)
    assert "is not UTF-8" in place.refusal("submit", "w.yaml", "--output-dir", name)
    assert not (place.directory / name).exists()
    (place.directory / "w.yaml").rename(place.directory / f"{name}.yaml")
    assert place.torc("workflows", "create", f"{name}.yaml").returncode == 0


def test_a_dry_run_shows_the_sbatch_command(place: Place) -> None:
    place.spec()
    assert (
        "sbatch --parsable '--comment=a b' SCRIPT"
        in place.torc("submit", "w.yaml", "--dry-run", "--", "--comment=a b").stderr
    )
