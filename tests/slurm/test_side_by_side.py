"""``torc slurm stats --compare`` on a real Slurm: steps with each cause of a difference."""

from __future__ import annotations

import json
from typing import Any

import pytest
from real_slurm import Lab

pytestmark = pytest.mark.slurm

SHARED = """
import os, time
x = bytearray(100_000_000)
children = []
for _ in range(5):
    child = os.fork()
    if child == 0:
        time.sleep(3)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""
# between the samples at 2.6 and 5.1 s
SPIKE = "import time; time.sleep(3.4); x = bytearray(300_000_000); del x; time.sleep(2)"
EATS_LATE = """
import time
time.sleep(3)
x = bytearray(300_000_000)
while time.process_time() < 2: pass
open("eaten", "w").close()
time.sleep(300)
"""
BODY = f"""
step="srun --exact --nodes=1 --ntasks=1 --mem=900"
$step -J shared torc-step -- python3 -c '{SHARED}'
$step -J cache torc-step -- sh -c 'dd if=/dev/zero of=big bs=1M count=400 2>/dev/null; sleep 2; rm big'
$step -J spike torc-step -- python3 -c '{SPIKE}'
srun --nodes=2 --ntasks=4 --ntasks-per-node=2 --mem=900 -J tasks torc-step -- \\
    python3 -c 'x = bytearray(150_000_000); import time; time.sleep(3)'
$step -J shm torc-step -- sh -c 'dd if=/dev/zero of=/dev/shm/torc-$$ bs=1M count=150; sleep 3; rm /dev/shm/torc-$$'
$step -J lost torc-step --flush-interval-seconds 600 -- python3 -c '{EATS_LATE}' &
until [ -e eaten ]; do sleep 0.2; done
sleep 2
scancel $SLURM_JOB_ID.5
wait
"""


def test_every_cause_is_named(lab: Lab) -> None:
    job = lab.submit(BODY, "--nodes=2", "--ntasks-per-node=2", "--mem=1200")
    lab.wait_ended(job)
    words = ["torc", "slurm", "stats", "--compare", "--slurm-job-id", str(job)]
    items: list[dict[str, Any]] = json.loads(lab.run_as_user([*words, "-f", "json"]).stdout)["items"]
    causes = {item["job_name"]: {each["figure"]: each["cause"] for each in item["differences"]} for item in items}
    assert causes["shared"]["sampled_rss_peak_bytes"] == "shared memory"
    assert causes["spike"]["sampled_rss_peak_bytes"] == "spike between samples"
    assert causes["tasks"]["max_rss_bytes"] == "the largest task only"
    assert "record lost" in causes["lost"].values(), items[-1]
    if lab.env["TORC_LAB_CGROUP"] == "on":
        assert causes["cache"]["cgroup_peak_bytes"] == "page cache"
        is_old = str(items[0]["slurm_version"]).startswith("22.")
        assert causes["cache"].get("total_disk_write_bytes") == ("the first process only" if is_old else None)
        assert causes["shm"]["sampled_rss_peak_bytes"] == "memory of no process"
        assert "sampled_rss_peak_bytes" not in causes["tasks"]
    if causes["cache"].get("max_rss_bytes") == "page cache":  # from 24.11
        assert items[0]["slurm_version"] > "23"
    table = lab.run_as_user(words).stdout
    assert "MaxRSS: the largest task only" in table
    assert "not known" not in {cause for step in causes.values() for cause in step.values()}
