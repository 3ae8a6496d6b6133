"""jobacct_gather/linux beside cgroup v2: Slurm adds up the RSS of processes, the kernel still limits and kills."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from machines import OFTEN, Machines

pytestmark = pytest.mark.cluster

MB = 1_000_000
STEP = "srun -n1 --mem=150M torc-step"
BODY = f"""
{STEP} {OFTEN} -- python3 -ISc 'import time; held = bytearray({80 * MB}); time.sleep(3)'
{STEP} -- true
{STEP} -- sh -c 'head -c {60 * MB} /dev/zero > big; sleep 2; rm big'
{STEP} -- python3 -ISc 'held = bytearray({300 * MB})'
"""


@pytest.fixture(scope="module")
def linux(make_machines: Callable[..., Machines]) -> Machines:
    return make_machines("--nodes", "1", "--jobacct-gather", "linux")


def test_figures_of_both_and_a_cause_for_every_difference(linux: Machines) -> None:
    linux.wait_idle()
    job = linux.run_job(BODY, "-n1", "--mem=200M")
    items = linux.stats(job)
    assert {item["gather_type"] for item in items.values()} == {"jobacct_gather/linux"}
    holds, short, writes, too_much = (items[number] for number in "0123")
    assert holds["memory_ceiling_source"] == "cgroup_v2"
    for name in ("peak_memory_bytes", "max_rss_bytes"):
        assert 80 * MB <= holds[name] < 130 * MB, name  # Slurm counts torc-step and its monitor too
    assert (short["job_status"], short["return_code"]) == ("completed", 0)
    assert writes["peak_memory_bytes"] < 60 * MB <= writes["memory_ceiling_bytes"]
    assert writes["max_rss_bytes"] < 60 * MB  # unlike memory.peak, RSS has no page cache
    assert (too_much["job_status"], too_much["oom_kills"]) == ("oom", 1)
    assert too_much["memory_limit_bytes"] == 150 * 1024 * 1024
    words = ["torc", "slurm", "stats", "--slurm-job-id", str(job), "--compare", "-f", "json"]
    compared = json.loads(linux.run_as_user(words).stdout)["items"]
    causes = {each["figure"]: each["cause"] for item in compared for each in item["differences"]}
    assert "not known" not in causes.values(), causes
