"""The steps of examples/steps.sbatch, with and without torc-step, and whether two runs of them are alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PREFIX = "torc-step -- "
WITH_PREFIX = (Path(__file__).resolve().parents[1] / "examples" / "steps.sbatch").read_text(encoding="utf-8")
WITHOUT_PREFIX = WITH_PREFIX.replace(PREFIX, "")
STEP_COUNT = 15

EXACT = ("state", "exit_code", "return_code", "job_status", "node_count")  # Slurm chooses the node
ALIKE = {"peak_memory_bytes": 0.10, "storage_written_bytes": 0.10}
AT_MOST = "wait4_at_most"  # a step that ended before it was sampled has only an upper bound
FIXED_WORK = "eight_"  # these steps do fixed work; others run for a fixed time, so a busy machine gives them less CPU

StepFigures = dict[str, dict[str, Any]]  # `torc slurm stats` of each step, by the step's name


def check_alike(expected: StepFigures, found: StepFigures) -> None:
    """Assert that both runs have the same steps, ends and figures."""
    assert WITHOUT_PREFIX.count("torc-step") == 1, "the comment alone names it"
    assert len(expected) == STEP_COUNT
    assert set(found) == set(expected)
    for name, item in expected.items():
        assert {key: found[name].get(key) for key in EXACT} == {key: item.get(key) for key in EXACT}, name
        _check_step(name, item, found[name])


def _check_step(name: str, expected: dict[str, Any], found: dict[str, Any]) -> None:
    for key, part in (ALIKE | ({"cpu_seconds": 0.5} if name.startswith(FIXED_WORK) else {})).items():
        one, other = expected.get(key), found.get(key)
        if one is None or other is None:
            assert one is None, (name, key)
            assert other is None, (name, key)
        elif key == "peak_memory_bytes" and AT_MOST in (expected["peak_memory_source"], found["peak_memory_source"]):
            bound, figure = (one, other) if expected["peak_memory_source"] == AT_MOST else (other, one)
            assert bound >= figure or expected["peak_memory_source"] == found["peak_memory_source"], (name, one, other)
        else:
            floor = 0.3 if key == "cpu_seconds" else 6_000_000  # a sample before the exec sees a copy of the wrapper
            assert abs(one - other) <= max(floor, part * one), (name, key, one, other)
