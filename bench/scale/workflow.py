"""Makes a workflow of any size of which every job has run once, and collects it: the work of the reporting commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.scale.node_files import make

TORC = (sys.executable, "-m", "torc_slurm.cli.main")
_REQUIREMENTS = 10


def make_workflow(output_dir: Path, *, attempts: int, nodes: int, samples: int) -> None:
    """Workflow 1 with ``attempts`` jobs, which share a few requirements, and its node files, collected.

    Raises:
        subprocess.CalledProcessError: a command of torc failed.
    """
    output_dir.mkdir(parents=True)
    spec = output_dir.parent / "workflow.json"
    spec.write_text(json.dumps(document(attempts)))
    _torc("workflows", "create", str(spec), "--output-dir", str(output_dir))
    make(output_dir, nodes=nodes, attempts=-(-attempts // nodes), samples=samples, spread=False)
    _torc("slurm", "collect", "--no-accounting", "--output-dir", str(output_dir))


def document(count: int) -> dict[str, object]:
    """A workflow file of so many jobs, each with its own entry."""
    jobs = [
        {"name": f"job_{number}", "command": "./work", "resource_requirements": f"r{number % _REQUIREMENTS}"}
        for number in range(1, count + 1)
    ]
    return {"name": "scale", "resource_requirements": _requirements(), "jobs": jobs}


def document_with_parameters(count: int) -> dict[str, object]:
    """A workflow file of so many jobs, which one entry describes."""
    job = {
        "name": "job_{number}",
        "command": "./work --seed {number:06d}",
        "resource_requirements": "r0",
        "parameters": {"number": f"1:{count}"},
    }
    return {"name": "scale", "resource_requirements": _requirements(), "jobs": [job]}


def _requirements() -> list[dict[str, object]]:
    return [
        {"name": f"r{number}", "num_cpus": 1 + number % 4, "memory": f"{800 + 100 * number}m", "runtime": "PT10M"}
        for number in range(_REQUIREMENTS)
    ]


def _torc(*words: str) -> None:
    subprocess.run(
        [*TORC, *words], cwd=Path(__file__).parents[2], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
