"""What became of an attempt: its status with evidence, and its end where it could not write one itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torc_slurm.database.merge import last_seen
from torc_slurm.database.node_records import Row, Value


def judge_attempt(figures: Mapping[str, Value], nodes: Sequence[Row], accounting: Row | None) -> dict[str, Value]:
    """Status, evidence and end."""
    code = figures["return_code"]
    oom = bool(figures["oom_kills"]) and code != 0
    if figures["end_time"] is None and (accounting is None or accounting["end_time"] is None):
        status = "running"
    else:
        status = "oom" if oom else "completed" if code == 0 else "failed"
    return {"status": status, "status_evidence": ""} | _end(figures, nodes, accounting, status)


def _end(figures: Mapping[str, Value], nodes: Sequence[Row], accounting: Row | None, status: str) -> dict[str, Value]:
    if figures["end_time"] is not None:
        return {"end_time_source": "exit records"}
    if status == "running":
        return {"end_time_source": None}
    slurm_end = None if accounting is None else accounting["end_time"]
    end = slurm_end or last_seen(nodes)
    source = "accounting" if slurm_end else "last flush"
    return {"end_time": end, "end_time_source": source}
