"""The report behind ``torc slurm stats``: its keys, its NULLs with their reasons, its warnings."""

from __future__ import annotations

from typing import Any

import pytest

from torc_slurm.database.selection import SLURM_PREFIX
from torc_slurm.records.accounting import COLUMN_NAMES
from torc_slurm.reports.step_names import (
    shown_name,
    slurm_differs,
    step_label,
    step_verdict,
    steps_of_several_commands,
)
from torc_slurm.reports.step_stats import (
    GAP_COLUMNS,
    ITEM_COLUMNS,
    NO_ROW,
    OUTSIDE_SLURM,
    StatsReport,
    gaps_of,
    stats_report,
)

# The Rust torc's field names, and those that this project promises: renaming one breaks users' scripts.
PROMISED = {
    "max_rss_bytes",
    "max_vm_size_bytes",
    "max_disk_read_bytes",
    "max_disk_write_bytes",
    "ave_cpu_seconds",
    "node_list",
    "workflow_id",
    "job_id",
    "job_name",
    "run_id",
    "attempt_id",
    "slurm_job_id",
    "step_id",
    "state",
    "exit_code",
    "elapsed_seconds",
    "status",
    "reason",
    "return_code",
    "peak_memory_bytes",
    "peak_memory_gb",
    "peak_memory_source",
    "avg_memory_gb",
    "peak_cpu_percent",
    "avg_cpu_percent",
    "job_status",
}


def attempt(**known: object) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(ITEM_COLUMNS)
    row |= {SLURM_PREFIX + name: None for name in COLUMN_NAMES}
    row |= {"id": 1, "status": "completed", "status_evidence": "", "job_id": 0, "run_id": 1, "attempt_id": 1}
    return row | {"slurm_job_id": 7, "step_id": "0", "job_name": "work"} | known


def slurm(**known: object) -> dict[str, Any]:
    return {SLURM_PREFIX + name: value for name, value in known.items()}


def report(*attempts: dict[str, Any], notes: list[dict[str, Any]] | None = None) -> StatsReport:
    return stats_report(attempts, [], notes or [], all_steps=False)


def test_the_keys_are_those_promised_and_each_stands_once() -> None:
    assert set(ITEM_COLUMNS) >= PROMISED
    assert len(ITEM_COLUMNS) == len(set(ITEM_COLUMNS))
    (item,) = report(attempt()).items
    assert tuple(item) == ITEM_COLUMNS


def test_slurms_view_and_the_wrappers_stay_apart() -> None:
    row = attempt(
        start_time=1.0, return_code=137, **slurm(status="found", start_time=2.0, exit_code=0, exit_signal=125)
    )
    (item,) = report(row).items
    assert (item["job_status"], item["status"]) == ("completed", "found")
    assert (item["start_time"], item["slurm_start_time"]) == (1.0, 2.0)
    assert (item["return_code"], item["exit_code"], item["exit_signal"]) == (137, 0, 125)


def test_nulls_are_grouped_by_their_reason() -> None:
    late = slurm(status="pending", reason="not yet ended")
    short = slurm(status="found", reason="shorter than a gather interval", ave_cpu_seconds=1.0)
    answer = report(attempt(**late), attempt(**late), attempt(**short))
    first, second = answer.null_reasons
    assert (first.status, first.reason, first.rows) == ("pending", "not yet ended", 2)
    assert (second.rows, "ave_cpu_seconds" in second.figures) == (1, False)


def test_outside_slurm_the_reason_says_so() -> None:
    (reason,) = report(attempt(slurm_job_id=None, step_id=None)).null_reasons
    assert (reason.status, reason.reason) == (NO_ROW, OUTSIDE_SLURM)


def test_warnings() -> None:
    warnings = " ".join(
        report(
            attempt(status="oom"),
            attempt(job_id=1, step_id="1", end_time_source="last flush"),
            attempt(job_id=2, step_id="2", node_count=4, measured_node_count=1),
            notes=[{"result": 1, "node": "n1", "note": "3 samples were lost"}],
        ).warnings
    )
    assert "7.0 ran out of memory" in warnings
    assert "the end of 7.1 was not recorded (was it killed?)" in warnings
    assert "7.2 ran on 4 nodes, 1 of them" in warnings
    assert "on n1: 3 samples were lost" in warnings


def test_steps_that_nobody_measured_are_counted_or_shown() -> None:
    bare = dict.fromkeys(COLUMN_NAMES) | {"slurm_job_id": 7, "step_id": "batch", "run_id": 1, "step_name": "batch"}
    counted = stats_report([attempt()], [bare, bare | {"step_id": "3"}], [], all_steps=False)
    assert (len(counted.items), counted.unmeasured) == (1, 1)
    shown = stats_report([attempt()], [bare], [], all_steps=True)
    assert (len(shown.items), shown.unmeasured) == (2, 0)
    assert tuple(shown.items[1]) == ITEM_COLUMNS
    assert (shown.items[1]["job_name"], shown.items[1]["peak_memory_bytes"]) == ("batch", None)


def test_without_a_wrapper_no_text_mentions_one() -> None:
    bare = dict.fromkeys(COLUMN_NAMES) | {"slurm_job_id": 7, "step_id": "3", "run_id": 1, "step_name": "bare"}
    bare |= {"state": "OUT_OF_MEMORY", "reason": "ended before Slurm polled it: the wrapper's figures apply"}
    shown = stats_report([], [bare], [], all_steps=True)
    assert shown.items[0]["reason"] == "ended before Slurm polled it"
    assert [warning for warning in shown.warnings if "memory" in warning] == ["7.3 ran out of memory"]


def test_what_a_step_is_called() -> None:
    assert step_label(attempt()) == "7.0"
    assert step_label(attempt(slurm_array="5_2", step_id="batch")) == "5_2.batch"
    assert step_label(attempt(attempt_id=2)) == "7.0 command 2"
    assert step_label(attempt(workflow_id=3, attempt_id=2)) == "7.0 attempt 2"
    assert step_label(attempt(step_id="batch"), numbered=True) == "7.batch command 1"
    assert step_label(attempt(slurm_job_id=None, run_id=4)) == "local run 4"
    assert step_label(attempt(slurm_job_id=None, workflow_id=3, job_id=9)) == "job 9"


def test_commands_of_one_step_are_numbered_and_attempts_at_a_job_are_not() -> None:
    first, second = attempt(step_id="batch"), attempt(step_id="batch", attempt_id=2)
    assert steps_of_several_commands([first, second, attempt()]) == {(7, 1, "batch")}
    assert steps_of_several_commands([first, attempt()]) == frozenset()
    tries = [attempt(workflow_id=3), attempt(workflow_id=3, attempt_id=2)]
    assert steps_of_several_commands(tries) == frozenset()


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({"job_name": "torc-step", "command": "/usr/bin/python train.py --fold 3"}, "python train.py --fold 3"),
        ({"job_name": "mine", "step_id": "batch", "command": "./a.out"}, "a.out"),
        ({"job_name": "fold3", "command": "python train.py"}, "fold3"),
        ({"job_name": "job.sh", "step_name": "torc-step", "command": "python train.py"}, "python train.py"),
        ({"job_name": "job.sh", "step_name": "fold3", "command": "python train.py"}, "fold3"),
        ({"job_name": "train", "workflow_id": 3, "command": "python train.py"}, "train"),
        ({"job_name": "torc-step", "command": None}, "torc-step"),
        ({"job_name": None, "command": None}, None),
    ],
)
def test_a_step_without_a_name_of_its_own_is_called_by_what_ran(known: dict[str, object], name: str | None) -> None:
    assert shown_name(attempt(**known)) == name


@pytest.mark.parametrize(
    ("known", "word", "slurm_word"),
    [
        ({"job_status": "completed", "state": "COMPLETED"}, "COMPLETED", None),
        ({"job_status": "failed", "return_signal": 11, "state": "CANCELLED"}, "FAILED SIGSEGV", "CANCELLED"),
        ({"job_status": "failed", "return_code": 3, "state": "FAILED"}, "FAILED", None),
        ({"job_status": "oom", "state": "OUT_OF_MEMORY"}, "OUT_OF_MEMORY", None),
        ({"job_status": "timeout", "return_signal": 15, "state": "CANCELLED"}, "TIMEOUT", "CANCELLED"),
        ({"job_status": None, "state": "PENDING"}, "PENDING", None),
        ({"job_status": None, "state": None}, None, None),
    ],
)
def test_the_state_is_torcs_verdict(known: dict[str, object], word: str | None, slurm_word: str | None) -> None:
    assert step_verdict(attempt(**known)) == word
    assert slurm_differs(attempt(**known)) == slurm_word


def test_used_and_allocated_are_shown_together() -> None:
    given = slurm(allocated_tres="cpu=8,mem=4000M,node=2", time_limit_seconds=200.0)
    figures = {"exec_time_seconds": 100.0, "all_nodes_cpu_seconds": 400.0, "peak_memory_bytes": 2000 * 2**20}
    (item,) = report(attempt(**given, **figures)).items
    assert (item["allocated_cpus"], item["used_cpus"], item["cpu_efficiency_percent"]) == (8, 4.0, 50.0)
    assert (item["requested_memory_bytes"], item["memory_efficiency_percent"]) == (2000 * 2**20, 100.0)
    assert item["time_efficiency_percent"] == 50.0


def test_an_efficiency_needs_both_figures() -> None:
    (item,) = report(attempt(peak_memory_bytes=5, memory_limit_bytes=10)).items
    assert (item["requested_memory_bytes"], item["memory_efficiency_percent"]) == (10, 50.0)
    assert [item[name] for name in ("allocated_cpus", "used_cpus", "cpu_efficiency_percent")] == [None] * 3
    assert item["time_efficiency_percent"] is None


def test_the_gaps_of_very_many_attempts_are_those_of_the_report() -> None:
    """They are read once, and only the columns that the gaps follow from."""
    rows = [
        attempt(),
        attempt(id=2, attempt_id=2, end_time_source="last flush"),
        attempt(id=3, step_id="1", status="oom", peak_memory_bytes=5, **slurm(status="missing", reason="lost")),
        attempt(id=4, slurm_job_id=None, workflow_id=2, job_id=9, node_count=3, measured_node_count=2),
        attempt(id=5, job_id=4294967291, step_id="batch", **slurm(status="found", max_rss_bytes=9)),
    ]
    notes = [{"result": number, "node": "n1", "note": "no memory"} for number in (2, 4, 5)]
    kept = report(*rows, notes=notes)
    assert len(kept.items) == 5
    assert len(kept.warnings) == 4
    values = (tuple(row[name] for name in GAP_COLUMNS) for row in rows)
    assert gaps_of(values, notes) == (kept.null_reasons, kept.warnings)
