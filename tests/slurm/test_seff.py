"""``torc seff`` and right-sizing of a user's own scripts, on a real Slurm, compared with sacct's output."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from real_slurm import Lab

pytestmark = pytest.mark.slurm

CRASH = """srun torc-step -- bash -c 'kill -SEGV $$'
"""
HOG = "python3 -c 'import time; x = bytearray({megabytes} * 10**6); time.sleep({seconds})'"


def hog(megabytes: int, seconds: float) -> str:
    return HOG.format(megabytes=megabytes, seconds=seconds)


def seff(lab: Lab, *words: str, **variables: str) -> list[dict[str, Any]]:
    done = lab.run_as_user(["torc", "seff", *words, "-f", "json"], env=variables)
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return items


def test_jobs_of_every_end_from_one_query(lab: Lab) -> None:
    jobs = {
        "completed": lab.submit(f"srun torc-step -- {hog(200, 1)}\n", "-n1", "--mem=1G", "-t10", "-J", "completed"),
        "killed": lab.submit(f"srun torc-step -- {hog(300, 1)}\n", "-n1", "--mem=100M", "-t10", "-J", "killed"),
        "segfault": lab.submit(CRASH, "-n1", "--mem=100M", "-J", "segfault"),
        "unwrapped": lab.submit(f"{hog(100, 3)}\n", "-n1", "--mem=500M", "-t10", "-J", "unwrapped"),
        "tasks": lab.submit(f"srun -n4 torc-step -- {hog(50, 2)}\n", "-n4", "-N1", "--mem=1G", "-J", "tasks"),
    }
    for job in jobs.values():
        lab.wait_ended(job)
    items: dict[str, dict[str, Any]] = {}

    def all_there() -> bool:
        items.update({item["name"]: item for item in seff(lab, ",".join(map(str, jobs.values())))})
        return items.keys() == jobs.keys()

    lab.wait_for(all_there, "accounting to know the names of all jobs")
    states = {name: item["state"] for name, item in items.items()}
    assert states == {
        "completed": "COMPLETED",
        "killed": "OUT_OF_MEMORY",
        "segfault": "FAILED",
        "unwrapped": "COMPLETED",
        "tasks": "COMPLETED",
    }
    assert items["completed"]["peak_memory_bytes"] == pytest.approx(210e6, rel=0.1)
    assert items["completed"]["requested_memory_bytes"] == 2**30
    assert items["completed"]["peak_memory_source"] != "slurm_maxrss"
    assert items["unwrapped"]["peak_memory_source"] == "slurm_maxrss"
    assert items["unwrapped"]["peak_memory_bytes"] == pytest.approx(110e6, rel=0.15)
    assert items["tasks"]["peak_memory_bytes"] > 4 * 50e6  # MaxRSS is only one task's
    assert "#SBATCH --mem=200M" in items["killed"]["sbatch_lines"]
    assert [each["resource"] for each in items["segfault"]["advice"]] == []


@pytest.mark.cluster_in_ci
def test_without_any_record_of_torc_step_the_figures_are_slurms(lab: Lab) -> None:
    job = lab.submit(f"srun torc-step -- {hog(100, 2)}\n", "-n1", "--mem=1G", "-t10")
    lab.wait_ended(job)
    (own,) = seff(lab, str(job))
    (slurms,) = seff(lab, str(job), TORC_OUTPUT_DIR="/nonexistent")
    assert own["peak_memory_source"] != slurms["peak_memory_source"] == "slurm_maxrss"
    assert slurms["cpu_efficiency_percent"] is not None


def test_each_component_of_a_heterogeneous_job_has_its_own_peak(lab: Lab) -> None:
    script = (
        "#SBATCH hetjob\n#SBATCH -n1 --mem=400M\n"
        f"srun --het-group=0,1 torc-step -- {hog(50, 1)}\nsrun --het-group=1 torc-step -- {hog(150, 1)}\n"
    )
    job = lab.submit(script, "-n1", "--mem=300M", "-J", "het")
    lab.wait_ended(job)
    lab.wait_for(lambda: [item["name"] for item in seff(lab, str(job))] == ["het", "het"], "both components' records")
    first, second = seff(lab, str(job))
    assert (first["job_id"], second["job_id"]) == (f"{job}+0", f"{job}+1")
    assert first["peak_memory_bytes"] == pytest.approx(60e6, rel=0.2)
    assert second["peak_memory_bytes"] == pytest.approx(160e6, rel=0.1)
    assert "slurm_maxrss" not in (first["peak_memory_source"], second["peak_memory_source"])
    assert {step["step_id"] for step in second["steps"] if step["is_measured"]} == {"0", "1"}


def test_the_table_fits_80_columns_and_an_array_is_one_line(lab: Lab) -> None:
    job = lab.submit("sleep 0.2\n", "-n1", "--mem=100M", "--array=1-3", "-J", "an_array_with_a_rather_long_name" * 2)
    lab.wait_ended(job)
    text = ""

    def folded() -> bool:
        nonlocal text
        text = lab.run_as_user(["torc", "seff", f"{job}_[1-3]"], env={"COLUMNS": "80"}).stdout
        return f"{job}[3]" in text and "COMPLETED" in text

    lab.wait_for(folded, "accounting to know the array's tasks")
    table = [line for line in text.splitlines() if not line.startswith(("~", "-", "#"))]
    assert max(map(len, table)) <= 80
    expanded = lab.run_as_user(["torc", "seff", f"{job}_[1-3]", "--expand", "-f", "jobid,state"]).stdout
    assert sum(f"{job}_" in line for line in expanded.splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("nonsense",), 2, "names no Slurm job"),
        (("999999",), 2, "has no job 999999"),
        (("--since", "soon"), 2, "--since 'soon' is not a time"),
        (("--name", "("), 2, "not a regular expression"),
        (("-f", "colour"), 2, "'colour'"),
    ],
)
def test_wrong_input_is_one_line(lab: Lab, words: tuple[str, ...], status: int, message: str) -> None:
    done = lab.run_as_user(["torc", "seff", *words], check=False)
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert message in line


def wait_for_name(lab: Lab, job: int, name: str) -> None:
    """Wait until accounting has the job's own record, which comes after the steps'."""
    lab.wait_for(lambda: seff(lab, str(job))[0]["name"] == name, f"the record of job {job}")


def test_a_script_is_corrected_until_it_fits_and_then_stays(lab: Lab) -> None:
    script = lab.directory / "train.sbatch"
    script.write_text(
        "#!/bin/bash\n#SBATCH -J corrected_script -n1 --mem=100M  # small\n#SBATCH --time=30 --output=/dev/null\n"
        f"srun torc-step -- {hog(300, 1)}\n"
    )
    script.chmod(0o755)
    user_id = int(lab.run_as_user(["id", "-u"]).stdout)
    os.chown(script, user_id, -1)
    before = script.read_text()
    texts: list[str] = []
    for _ in range(4):
        job = int(lab.run_as_user(["sbatch", "--parsable", str(script)]).stdout)
        lab.wait_ended(job)
        wait_for_name(lab, job, "corrected_script")
        lab.run_as_user(["torc", "correct", "--script", str(script), "--dry-run"])
        dry = script.read_text()
        assert dry == (texts[-1] if texts else before)
        lab.run_as_user(["torc", "correct", "--script", str(script)])
        texts.append(script.read_text())
    assert "--mem=200M  # small" in texts[0]
    assert "--mem=400M  # small" in texts[1]
    assert texts[2] == texts[3]
    assert seff(lab, str(job))[0]["state"] == "COMPLETED"
    assert script.stat().st_mode & 0o777 == 0o755


def test_own_jobs_are_checked_and_grouped(lab: Lab) -> None:
    jobs = [lab.submit(f"srun torc-step -- {hog(300, 1)}\n", "-n1", "--mem=100M", "-J", "too_small") for _ in range(2)]
    for job in jobs:
        lab.wait_ended(job)
    names = ",".join(map(str, jobs))
    lab.wait_for(lambda: {item["name"] for item in seff(lab, names)} == {"too_small"}, "the jobs' own records")
    checked = json.loads(lab.run_as_user(["torc", "check", "--slurm-job-id", names, "-f", "json"]).stdout)
    assert (checked["workflow_id"], checked["over_utilization_count"]) == (None, 2)
    assert {each["job_id"] for each in checked["violations"]} == set(jobs)
    corrected = json.loads(lab.run_as_user(["torc", "correct", "--slurm-job-id", names, "-f", "json"]).stdout)
    (adjustment,) = corrected["adjustments"]
    assert (adjustment["original_memory"], adjustment["new_memory"]) == ("100M", "200M")
    assert corrected["groups"][0]["job_count"] == 2
    refused = lab.run_as_user(["torc", "check", "1", "--slurm-job-id", names], check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
