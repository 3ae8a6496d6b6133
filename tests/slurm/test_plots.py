"""Plots of a real allocation of two nodes: the pages show the nodes, the limits and the kill."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from plot_files import data_of
from real_slurm import Lab

pytestmark = pytest.mark.slurm

SERIES = "torc-step --granularity time_series --sample-interval-seconds 0.1 --flush-interval-seconds 1 --"
GROW = "b=[]\nimport time\nwhile True: b.append(bytearray(4_000_000)); time.sleep(0.02)"
BODY = f"""
srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --mem=300M --job-name=both {SERIES} sleep 1
srun --nodes=1 --ntasks=1 --exact --mem=100M --job-name=grows {SERIES} {sys.executable} -c '{GROW}'
torc slurm epilog
"""


def page(lab: Lab, name: str) -> dict[str, Any]:
    return data_of(lab.run_as_user(["cat", f"plots/resource_plot_{name}.html"]).stdout)


@pytest.mark.cluster_in_ci
def test_an_allocation_of_two_nodes(lab: Lab) -> None:
    job = lab.submit(BODY, "-N2", "--ntasks-per-node=2", "--mem=600M")
    lab.wait_ended(job)
    lab.run_as_user(["torc", "slurm", "collect"])  # the epilog may have found the job still pending
    found = lab.run_as_user(["sh", "-c", f"ls torc_output/resource_utilization/*_slurm{job}_1.db"]).stdout.split()
    assert len(found) == 2
    pages = json.loads(lab.run_as_user(["torc", "plot-resources", *found, "-o", "plots", "-f", "json"]).stdout)["items"]
    assert {Path(each["path"]).name for each in pages} >= {"resource_plot_job_0.html", "resource_plot_job_1.html"}

    both = page(lab, "job_0")["figures"][0]
    lines = [trace["name"] for trace in both["traces"] if trace.get("showlegend") is True]
    assert sorted(lines) == sorted(lab.nodes)

    grows = page(lab, "job_1")["figures"][0]
    assert "killed: out of memory" in [trace["name"] for trace in grows["traces"]]
    assert any("requested 104.86 MB" in note["text"] for note in grows["layout"]["annotations"])

    node = str(page(lab, "allocation")["figures"][1]["layout"]["annotations"])
    assert "available 200% (2 cores)" in node
    assert "available 629.15 MB" in node
