"""Node files with series, for tests of plots: written by the real writer, with known values."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

from node_files import BEGIN, STEP, exit_record

from torc_slurm.database.batch import Batch
from torc_slurm.database.node_file import write_batch
from torc_slurm.files.output_names import node_file_path

Sample = tuple[float, float, int, int]
HOSTILE = (
    "</script><script>window.hacked=1</script>\"'&lt;b&gt;<b onmouseover=alert(1)>%{y}\n\u202egpj.exe\u2028\x1b[31m"
)


def wave(begin: float, count: int, interval: float = 1.0) -> list[Sample]:
    """A series in which every value identifies its position: CPU 50 + 40 sin, memory a saw, processes 1 to 3."""
    return [
        (begin + i * interval, round(50 + 40 * math.sin(i / 7), 2), (1000 + i % 50 * 100) * 4096, 1 + i % 3)
        for i in range(count)
    ]


def batch(
    *,
    job_id: int = 1,
    name: str = "work",
    node: str = "n1",
    begin: float = BEGIN,
    samples: list[Sample] | None = None,
    seconds: float = 60.0,
    return_code: int = 0,
    usage: dict[str, object] | None = None,
    charged: list[tuple[float, int, str]] | None = None,
    **step: object,
) -> Batch:
    """One attempt of a job of workflow 3 on one node, with a series; ``step`` changes columns of ``steps``."""
    invocation = f"{job_id}.{step.get('attempt_id', 1)}.{step.get('run_id', 1)}.{node}"
    columns: dict[str, object] = {
        "invocation": invocation, "workflow_id": 3, "job_id": job_id, "attempt_id": 1, "job_name": name, "node": node,
        "slurm_job_id": None, "step_id": None, "granularity": "time_series", "sample_interval_seconds": 1.0,
        "begin_time": begin, "end_time": begin + seconds, "last_flush_time": begin + seconds,
    }  # fmt: skip
    made = Batch(STEP | columns | step)
    made.samples = wave(begin + 1, int(seconds) - 1) if samples is None else samples
    made.memory_samples = charged or []
    top = max((row[2] for row in made.samples if row[2] is not None), default=None)
    figures: dict[str, object] = {"elapsed_seconds": seconds, "peak_memory_bytes": top, "peak_memory_source": "vmhwm"}
    made.usage = (
        figures | {"avg_memory_bytes": 9_000_000, "avg_cpu_percent": 48.0, "peak_cpu_percent": 90.0} | (usage or {})
    )
    made.exits = [exit_record(return_code=return_code, begin_time=begin, end_time=begin + seconds)]
    return made


def write(output_dir: Path, *batches: Batch) -> list[str]:
    """Write batches, each into the file of its node and run; returns the paths of all files, by name."""
    paths = set()
    for each in batches:
        step = each.step
        part = str(step["workflow_id"] or (f"slurm{step['slurm_job_id']}" if step["slurm_job_id"] else "local"))
        path = node_file_path(str(output_dir), str(step["node"]), part, int(str(step["run_id"])))
        write_batch(path, each)
        paths.add(path)
    return sorted(paths)


def data_of(html: str) -> dict[str, Any]:
    """The data that a page's script unpacks."""
    found = re.search(r'id="data" data-gzip>([^<]*)<', html)
    assert found is not None
    unpacked: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return unpacked
