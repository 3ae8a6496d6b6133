"""Reads the recorded outputs of real Slurms in ``tests/recorded``; ``record_sacct.py`` there made them."""

from __future__ import annotations

from pathlib import Path

from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.slurm.configuration import SlurmFacts, parse_config
from torc_slurm.slurm.sacct import parse

RECORDED = Path(__file__).parent / "recorded"
CLUSTERS = ("22.05-cgroup", "22.05-linux", "24.11-linux", "26.05-linux")


def sacct_text(cluster: str, scenario: str) -> str:
    with open(RECORDED / "sacct" / cluster / f"{scenario}.txt", encoding="utf-8", newline="") as file:
        return file.read()


def sacct_rows(cluster: str, scenario: str) -> list[AccountingRecord]:
    return parse(sacct_text(cluster, scenario))


def facts(cluster: str) -> SlurmFacts:
    return parse_config(sacct_text(cluster, "config"))


def job_of(rows: list[AccountingRecord]) -> int:
    """The first job of a recording."""
    return rows[0].slurm_job_id


def named(rows: list[AccountingRecord]) -> dict[str, AccountingRecord]:
    """Steps by their names, from the recording's script."""
    return {row.name or "": row for row in rows if row.step_id is not None}
