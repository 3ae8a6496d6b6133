"""Right-sizing on the command line, without Slurm: check, correct, recover, savings, with node files like real ones."""

from __future__ import annotations

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
from jsonschema import Draft202012Validator
from node_files import BEGIN, batch, exit_record, write

from torc_slurm.database.batch import Batch
from torc_slurm.database.journal import JOB_STATE_COLUMNS, RUN_COLUMNS, write_journal
from torc_slurm.usecases.claims import Claim, claim_run

TORC = [sys.executable, "-m", "torc_slurm.cli.main"]
SCHEMAS = Path(__file__).parents[2] / "schemas"
MIB = 2**20
SPEC = """\
name: wrong
resource_monitor: {granularity: time_series}
execution_config: {enforce_runtime: true}
resource_requirements:
  # what the training needs
  - {name: large, num_cpus: 4, memory: 32g, runtime: PT4H}   # far too much
  - name: tight
    memory: "8g"
    runtime: PT1H
  - {name: short, memory: 3g, runtime: PT10M}
slurm_schedulers: [{name: main, walltime: "00:10:00"}]
jobs:
  - {name: pre, command: "true", resource_requirements: large}
  - {name: train, command: "true", resource_requirements: tight}
  - {name: slow, command: "true", resource_requirements: short}
  - {name: last, command: "true", depends_on: [train]}
"""


class Place:
    """A directory where a user works, with a workflow in it."""

    def __init__(self, directory: Path, spec: str = SPEC) -> None:
        self.directory = directory
        self.output_dir = directory / "torc_output"
        self.spec = directory / "w.yaml"
        self.spec.write_text(spec)
        self.answer("workflows", "create", "w.yaml")

    def torc(self, *words: object) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORC_", "SLURM_"))}
        return subprocess.run(
            [*TORC, *map(str, words)],
            cwd=self.directory,
            env=kept | {"PATH": "/nowhere"},
            capture_output=True,
            text=True,
            check=False,
        )

    def answer(self, *words: object, schema: str | None = None) -> Any:  # noqa: ANN401 - a JSON document
        done = self.torc("-f", "json", *words)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        if schema is not None:
            valid(document, schema)
        return document

    def correct(self, *words: object) -> Any:  # noqa: ANN401 - a JSON document
        return self.answer("workflows", "correct-resources", "1", *words, schema="correct-resources")

    def check(self, *words: object) -> Any:  # noqa: ANN401 - a JSON document
        words = ("reports", "check-resource-utilization", "1", *words)
        return self.answer(*words, schema="check-resource-utilization")

    def refusal(self, *words: object, status: int = 2) -> str:
        """The one line of a command that fails; stdout is empty."""
        done = self.torc(*words)
        assert (done.returncode, done.stdout) == (status, ""), done
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("torc: ")
        return done.stderr

    def run(self, run_id: int, *batches: Batch, states: dict[int, str] | None = None) -> None:
        """Write what a run leaves; it has ended."""
        self.torc("slurm", "generate", "1", "-o", f"run{run_id}.sh")
        claim_run(str(self.output_dir), 1, run_id, Claim(claimed_at=BEGIN, host="n1", pid=1, slurm_job_id=7))
        node_file = write(self.output_dir, *batches)
        row = dict.fromkeys(RUN_COLUMNS) | {"workflow_id": 1, "run_id": run_id, "host": "n1", "pid": 1}
        row |= {"launcher": "srun", "job_count": 4, "claim_time": BEGIN, "slurm_job_id": 7}
        rows = [state(run_id, job, said) for job, said in (states or {}).items()]
        write_journal(node_file, [row | {"end_time": BEGIN + 9, "exit_status": 1, "reason": "all jobs ended"}], rows)

    def requirements(self) -> dict[str, tuple[int, str, str]]:
        shown = self.answer("workflows", "show", "1")["resource_requirements"]
        return {each["name"]: (each["num_cpus"], each["memory"], each["runtime"]) for each in shown}


def valid(document: object, schema: str) -> None:
    found = json.loads((SCHEMAS / f"{schema}.json").read_text())
    Draft202012Validator.check_schema(found)
    Draft202012Validator(found).validate(document)


def state(run_id: int, job_id: int, said: str) -> dict[str, Any]:
    row = dict.fromkeys(JOB_STATE_COLUMNS) | {"workflow_id": 1, "run_id": run_id, "job_id": job_id, "attempt_id": 1}
    started = None if said == "cancelled" else BEGIN
    return row | {"state": said, "launcher": "srun", "start_time": started, "end_time": started and BEGIN + 5}


def measured(
    job_id: int,
    *,
    run_id: int = 1,
    seconds: float = 600.0,
    code: int = 0,
    name: str | None = None,
    notes: dict[str, object] | None = None,
    **usage: object,
) -> Batch:
    """A step of the workflow that ran for so long, with figures of its use."""
    name = name or {1: "pre", 2: "train", 3: "slow", 4: "last"}[job_id]
    figures = {"peak_memory_bytes": 2 * 10**9, "avg_cpu_percent": 80.0, "peak_cpu_percent": 90.0}
    figures |= {"cpu_seconds": seconds * 0.8, "avg_memory_bytes": 10**9, "elapsed_seconds": seconds}
    return batch(
        workflow_id=1,
        run_id=run_id,
        job_id=job_id,
        attempt_id=1,
        job_name=name,
        step_id=str(job_id),
        user_notes=json.dumps(notes) if notes else None,
        invocation=f"{run_id}-{job_id}",
        granularity="time_series",
        end_time=BEGIN + seconds,
        last_flush_time=BEGIN + seconds,
        usage=figures | usage,
        exits=[exit_record(return_code=code, end_time=BEGIN + seconds, elapsed_seconds=seconds)],
    )


def oom(job_id: int = 2, **usage: object) -> Batch:
    figures = {"peak_memory_bytes": 7 * 10**9, "oom_kills": 1, "memory_limit_bytes": 8192 * MIB} | usage
    return measured(job_id, code=137, **figures)  # type: ignore[arg-type]  # figures of use


def timeout(*, hung: bool, run_id: int = 1) -> Batch:
    found = measured(3, run_id=run_id, code=143)
    idle = [5.0] * 5 + [0.0] * 5
    found.samples = [(BEGIN + 60 * (number + 1), idle[number] if hung else 99.0, 10**9, 1) for number in range(10)]
    return found


FIRST_STATES = {1: "completed", 2: "oom", 3: "timeout", 4: "cancelled"}


def ran_once(directory: Path) -> Place:
    """One job that completed with far less, one killed for memory, one that ran out of time, one that waits."""
    made = Place(directory)
    made.run(1, measured(1), oom(), timeout(hung=False), states=FIRST_STATES)
    return made


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return ran_once(tmp_path)


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The same for tests that change nothing."""
    return ran_once(tmp_path_factory.mktemp("shared"))


def test_check(shared_place: Place) -> None:
    place = shared_place
    assert place.check() == {
        "workflow_id": 1,
        "run_id": None,
        "total_results": 3,
        "over_utilization_count": 2,
        "violations": [
            {
                "job_id": 2,
                "job_name": "train",
                "resource_type": "Memory",
                "specified": "8.00 GB",
                "peak_used": "8.59 GB",
                "over_utilization": "+7.4%",
            },
            {
                "job_id": 3,
                "job_name": "slow",
                "resource_type": "Runtime",
                "specified": "10m 0s",
                "peak_used": "10m 0s",
                "over_utilization": "+0.0%",
            },
        ],
    }
    everything = place.check("--all", "--run-id", 1)
    assert (everything["run_id"], len(everything["violations"])) == (1, 9)
    assert place.torc("check", "--fail-on-violation").returncode == 3
    assert place.torc("check").returncode == 0
    text = place.torc("check", "1").stdout
    assert re.match(r" *Job +Name +Resource +Specified +Peak used +Over +Note\n", text)
    assert "killed for memory; measured peak 7.00 GB" in text
    assert place.torc("-f", "csv", "check").stdout.splitlines()[0] == (
        "job_id,job_name,resource_type,specified,peak_used,over_utilization"
    )


def test_correct_and_what_is_kept_of_it(place: Place) -> None:
    dry = place.correct("--dry-run")
    assert place.requirements()["tight"] == (1, "8g", "PT1H")
    made = place.correct()
    assert made == dry | {"dry_run": False}
    assert [(each["resource_requirements_id"], each["direction"]) for each in made["adjustments"]] == [
        (1, "downscale"),
        (2, "upscale"),
        (3, "upscale"),
    ]
    assert place.requirements() == {
        "large": (2, "3g", "PT12M"),
        "tight": (1, "18g", "PT1H"),
        "short": (1, "3g", "PT12M"),
    }
    assert (made["memory_corrections"], made["runtime_corrections"], made["downsize_cpu_corrections"]) == (1, 1, 1)
    changes = place.answer("reports", "changes")["items"]
    assert [(each["name"], each["resource"], each["original"], each["new"]) for each in changes] == [
        ("large", "memory", "32g", "3g"),
        ("large", "runtime", "PT4H", "PT12M"),
        ("large", "num_cpus", "4", "2"),
        ("tight", "memory", "8g", "18g"),
        ("short", "runtime", "PT10M", "PT12M"),
    ]
    assert changes[3]["evidence"]["most_demanding"][0] == {
        "job_id": 2,
        "run_id": 1,
        "attempt_id": 1,
        "status": "oom",
        "used": "8589934592",
        "needs_more": True,
    }
    again = place.correct()
    assert (again["adjustments"], again["jobs_analyzed"]) == ([], 3)


def test_the_request_of_each_run_is_kept(place: Place) -> None:
    place.correct()
    assert place.check("--run-id", 1)["violations"][0]["specified"] == "8.00 GB"
    place.run(2, measured(2, run_id=2, peak_memory_bytes=9 * 10**9), states={2: "completed"})
    latest = place.check("--all")["violations"]
    assert [each["specified"] for each in latest if each["job_id"] == 2] == ["18.00 GB", "100% (1 core)", "1h 0m 0s"]
    assert place.check("--run-id", 2)["total_results"] == 1


SIZED = """\
name: sized
resource_requirements: [{name: sized, memory: 32g, runtime: PT4H}]
jobs:
  - {name: "mesh_{size}", command: "true {kind}", resource_requirements: sized, parameters: {size: "1:10", kind: "[a]"}}
"""


def test_memory_that_follows_a_parameter(tmp_path: Path) -> None:
    place = Place(tmp_path, SIZED)
    sizes = range(1, 11)
    peaks = {size: 400_000_000 + 1_900_000_000 * size for size in sizes}
    done = [measured(size, name=f"mesh_{size}", peak_memory_bytes=peak) for size, peak in peaks.items()]
    place.run(1, *done, states=dict.fromkeys(sizes, "completed"))
    (found,) = place.check("--explain")["trends"]
    assert (found["resource_type"], found["key"], found["number"]) == ("Memory", "size", 10)
    assert [found["lowest"], found["highest"], found["most_used"]] == [1, 10, peaks[10]]
    assert found["predicted_at_highest"] == pytest.approx(peaks[10])
    assert place.correct("--explain", "--dry-run")["trends"] == [found]
    line = "sized: memory ≈ 400.00 MB + 1.90 GB × size (10 attempts, R² 1.00)"
    for words in (("check",), ("correct", "--dry-run")):
        assert line in place.torc(*words, "--explain").stdout
        assert "≈" not in place.torc(*words).stdout


def test_memory_that_follows_a_note(tmp_path: Path) -> None:
    place = Place(tmp_path, SIZED)
    noted = dict(enumerate((19, 3, 11, 5, 17, 2, 13, 7, 1, 18), 1))
    done = [
        measured(number, name=f"mesh_{number}", notes={"cells": cells}, peak_memory_bytes=cells * 10**9)
        for number, cells in noted.items()
    ]
    place.run(1, *done, states=dict.fromkeys(range(1, 11), "completed"))
    found = place.check("--explain")["trends"]
    assert [(each["key"], each["highest"]) for each in found] == [("cells", 19)]
    assert '{"cells": 19}' in place.answer("results", "list")["items"][0]["user_notes"]


def test_a_job_that_waited_for_cpus_keeps_them(tmp_path: Path) -> None:
    place = Place(tmp_path)
    waited = measured(1, cpu_seconds=400.0, cpu_wait_seconds=900.0, cpu_wait_source="schedstat")
    place.run(1, waited, states={1: "completed"})
    made = place.correct("--explain", "--dry-run")
    (told,) = [each for each in made["explanations"] if (each["name"], each["resource_type"]) == ("large", "CPU")]
    assert (told["direction"], told["original"], told["new"]) == ("kept", 4, 4)
    assert "job 1 pre waited 15m 0s for a CPU and used 6m 40s of CPU time" in told["reason"]
    found = place.answer("results", "list")["items"][0]
    assert [found[name] for name in ("cpu_wait_seconds", "cpu_wait_source", "all_nodes_cpu_wait_seconds")] == [
        900.0,
        "schedstat",
        900.0,
    ]


def test_a_job_that_hung_gets_no_more_time(tmp_path: Path) -> None:
    place = Place(tmp_path)
    others = [measured(number) for number in (1, 2, 4)]
    states = dict.fromkeys((1, 2, 4), "completed") | {3: "timeout"}
    place.run(1, *others, timeout(hung=True), states=states)
    made = place.correct("--explain")
    assert not [each for each in made["adjustments"] if each["resource_requirements_id"] == 3]
    (told,) = [each for each in made["explanations"] if (each["name"], each["resource_type"]) == ("short", "Runtime")]
    assert "used almost no CPU in the second half of its time" in told["reason"]
    assert "used almost no CPU" in place.refusal("recover", "--no-submit", status=1)


def test_write_spec_changes_values_only_and_shows_the_difference(place: Place) -> None:
    before = place.spec.read_text()
    done = place.torc("correct", "--write-spec", "--dry-run")
    assert place.spec.read_text() == before
    done = place.torc("correct", "--write-spec")
    after = place.spec.read_text()
    assert after == (
        before.replace("num_cpus: 4, memory: 32g, runtime: PT4H", "num_cpus: 2, memory: 3g, runtime: PT12M")
        .replace('"8g"', '"18g"')
        .replace("PT10M", "PT12M")
    )
    assert '-    memory: "8g"' in done.stdout
    assert '+    memory: "18g"' in done.stdout
    assert "has these values already" in place.torc("correct", "--write-spec").stdout


def test_write_spec_catches_up_on_earlier_corrections(place: Place) -> None:
    place.correct()
    document = place.answer("correct", "--write-spec", "-o", "new.yaml", schema="correct-resources")
    assert document["adjustments"] == []
    assert place.spec.read_text() == SPEC
    assert 'memory: "18g"' in (place.directory / "new.yaml").read_text()


def test_a_file_edited_since_is_an_error_and_nothing_is_saved(place: Place) -> None:
    place.spec.write_text(SPEC.replace('"8g"', '"9g"'))
    assert "it was edited since" in place.refusal("correct", "--write-spec")
    assert place.requirements()["large"] == (4, "32g", "PT4H")
    place.spec.unlink()
    assert "cannot be read" in place.refusal("correct", "--write-spec")


def test_what_cannot_be_written_is_an_error_and_nothing_is_saved(place: Place) -> None:
    assert "cannot be written" in place.refusal("correct", "--write-spec", "-o", "no/such/place.yaml", status=2)
    assert place.requirements()["large"] == (4, "32g", "PT4H")
    assert place.answer("reports", "changes") == {"items": []}


def test_bounds_from_the_command_line(place: Place) -> None:
    made = place.correct("--max-memory", "10g", "--max-runtime", "PT11M", "--explain", "--no-downsize")
    assert made["no_downsize"] is True
    assert [each.get("new_memory", each.get("new_runtime")) for each in made["adjustments"]] == ["10g", "PT11M"]
    assert any("as was given" in each["reason"] for each in made["explanations"])


def test_multipliers_and_job_ids(place: Place) -> None:
    made = place.correct("--memory-multiplier", 2, "--job-ids", "2", "--dry-run")
    assert (made["memory_multiplier"], made["adjustments"][0]["new_memory"]) == (2.0, "18g")
    assert [each["resource_requirements_id"] for each in made["adjustments"]] == [2]
    assert made["adjustments"][0]["job_names"] == ["train"]


def test_savings(shared_place: Place) -> None:
    place = shared_place
    document = place.answer("reports", "savings", schema="savings")
    large = document["items"][0]
    assert (large["asked_core_hours"], large["used_core_hours"]) == (0.667, 0.133)
    assert large["asked_after_core_hours"] == 0.333
    assert document["total"]["jobs"] == 3
    assert "GB-hours" in place.torc("reports", "savings").stdout
    assert len(place.torc("-f", "csv", "reports", "savings").stdout.splitlines()) == 5


def test_recover_corrects_what_was_killed_and_nothing_else(place: Place) -> None:
    dry = place.answer("recover", "--dry-run", schema="recover")
    assert (dry["status"], dry["run_id"]) == ("dry_run", None)
    assert dry["walltime"] == "00:20:00"  # PT15M exceeds the scheduler's ten minutes
    assert "sbatch was not found" in place.refusal("recover", status=1)
    assert place.requirements()["tight"] == (1, "8g", "PT1H")
    assert [(each["job_id"], each["cause"], each["is_helped"]) for each in dry["unfinished"]] == [
        (2, "memory", True),
        (3, "time", True),
        (4, "not_run", True),
    ]
    done = place.answer("recover", "--no-submit", schema="recover")
    assert done["status"] == "corrected"
    assert place.requirements() == {
        "large": (4, "32g", "PT4H"),
        "tight": (1, "18g", "PT1H"),
        "short": (1, "3g", "PT15M"),
    }
    again = place.answer("recover", "--no-submit", schema="recover")  # a correction since then stays
    assert again["adjustments"] == []
    assert "8g -> 18g" in again["unfinished"][0]["reason"]
    said = place.torc("recover", "--no-submit").stdout
    assert said.splitlines()[-1] == "Corrected. Run the unfinished jobs here: torc run 1"  # without Slurm


def test_recover_writes_the_file_too(place: Place) -> None:
    before = place.spec.read_text()
    assert '+    memory: "18g"' in place.torc("recover", "--dry-run", "--write-spec").stdout
    assert place.spec.read_text() == before
    place.answer("recover", "--no-submit", "--write-spec", schema="recover")
    assert place.spec.read_text() == before.replace('"8g"', '"18g"').replace("PT10M", "PT15M")
    assert "--write-spec" in place.refusal("recover", "-o", "x.yaml")


def test_recover_is_bounded(place: Place) -> None:
    assert "has had 1 runs, and --max-attempts is 1" in place.refusal("recover", "--max-attempts", "1", status=1)
    told = place.answer("recover", "--dry-run", "--max-memory", "8g")["unfinished"]
    assert (told[0]["is_helped"], told[2]["is_helped"]) == (False, False)
    assert "cannot be requested" in told[0]["reason"]
    assert "it waits for job 2 train" in told[2]["reason"]
    line = place.refusal("recover", "--max-memory", "8g", "--max-runtime", "PT10M", status=1)
    assert "another run would not help" in line


def test_recover_does_not_repeat_a_bug(tmp_path: Path) -> None:
    place = Place(tmp_path)
    states = {1: "completed", 2: "failed", 3: "completed", 4: "cancelled"}
    place.run(1, measured(1), measured(2, code=3), measured(3), states=states)
    assert "failed with exit code 3" in place.refusal("recover", status=1)
    assert place.answer("recover", "--retry-failed", "--dry-run")["unfinished"][0]["is_helped"] is True


def test_recover_where_all_is_done(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.run(1, *(measured(number) for number in (1, 2, 3, 4)), states=dict.fromkeys((1, 2, 3, 4), "completed"))
    assert place.answer("recover", schema="recover")["status"] == "nothing_to_do"
    assert "Nothing to recover" in place.torc("recover").stdout


def test_a_workflow_that_never_ran(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.check()["total_results"] == 0
    assert place.correct()["adjustments"] == []
    assert place.answer("reports", "savings", schema="savings")["total"]["attempts"] == 0
    assert place.answer("reports", "changes") == {"items": []}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("check", "9"), "no workflow 9"),
        (("check", "--run-id", "7"), "no run 7"),
        (("correct", "9"), "no workflow 9"),
        (("correct", "--job-ids", "2,x"), "--job-ids '2,x'"),
        (("correct", "--job-ids", "99"), "no job 99"),
        (("correct", "--memory-multiplier", "0.5"), "multiplier of 0.5"),
        (("correct", "--runtime-multiplier", "nan"), "finite"),
        (("correct", "--max-memory", "8x"), "--max-memory: memory '8x'"),
        (("correct", "--max-runtime", "2 hours"), "--max-runtime: run time '2 hours'"),
        (("correct", "--largest-factor", "0"), "largest factor"),
        (("correct", "-o", "x.yaml"), "--write-spec"),
        (("reports", "savings", "9"), "no workflow 9"),
        (("reports", "changes", "9"), "no workflow 9"),
        (("recover", "9"), "no workflow 9"),
        (("check", "--output-dir", "nowhere"), "nowhere"),
    ],
)
def test_wrong_input_is_one_line(shared_place: Place, words: tuple[str, ...], says: str) -> None:
    assert says in shared_place.refusal(*words)


def test_tables_say_what_was_done(place: Place) -> None:
    text = place.torc("correct", "--dry-run", "--explain").stdout
    assert re.match(r"Requirement +Resource +Change +From +To +Jobs +Why\n", text)
    assert re.search(r"tight +Memory +more +8g +18g +1 +job 2 train .*killed for memory", text)
    assert re.search(r"tight +Runtime +same", text)
    assert "Nothing was changed" in text
    done = place.torc("correct")
    assert "torc submit 1" in done.stdout
    assert "short would request PT12M, but scheduler main has a walltime of 10m 0s" in done.stderr
    assert "Nothing to correct" in place.torc("correct").stdout
    text = place.torc("recover", "--dry-run").stdout
    assert re.search(r"2 +train +memory +yes", text)
    assert "large" in place.torc("reports", "changes").stdout


def test_a_database_that_fails_leaves_all_as_it_was(place: Place) -> None:
    with closing(sqlite3.connect(place.output_dir / "torc.db")) as connection:
        connection.execute(
            """CREATE TRIGGER full BEFORE UPDATE ON resource_requirements WHEN new.memory = '18g'
            BEGIN SELECT raise(ABORT, 'the disk is full'); END"""
        )
        connection.commit()
    assert "the disk is full" in place.refusal("correct", "--write-spec", status=1)
    assert place.requirements()["large"] == (4, "32g", "PT4H")
    assert place.spec.read_text() == SPEC
