"""The pyslurm adapter on recorded attributes of real pyslurms, compared with sacct's records of the same jobs."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from backends import CUT_TO_SECONDS, assert_same_row
from hypothesis import given
from hypothesis import strategies as st
from recordings import RECORDED, facts, job_of, sacct_rows

from torc_slurm.common.errors import ParseError
from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.slurm.accounting import rows_from_records
from torc_slurm.slurm.job_records import AllocationKey
from torc_slurm.slurm.pyslurm_backend import parse, rows_from_snapshots, snapshot
from torc_slurm.slurm.sacct import COLUMNS
from torc_slurm.slurm.sacct import parse as parse_sacct

VERSIONS = ("24.11", "25.11", "26.05")
PAIRS = sorted(path.name.removesuffix(".pyslurm.json") for path in (RECORDED / "sacct" / "26.05-linux").glob("*.json"))


def recorded(version: str) -> list[dict[str, Any]]:
    snapshots: list[dict[str, Any]] = json.loads((RECORDED / "pyslurm" / f"{version}.json").read_text())
    return snapshots


def sacct_view(version: str) -> list[AccountingRecord]:
    """Records from a plain sacct table with some of the columns; the others are blank."""
    header, *lines = (RECORDED / "pyslurm" / f"{version}.sacct.txt").read_text().splitlines()
    text = "".join(name + "\x1f" for name in COLUMNS) + "\n"
    for line in lines:
        cells = dict(zip(header.split("|"), line.split("|"), strict=True))
        cells["JobIDRaw"] = cells["JobID"]
        text += "".join(cells.get(name, "") + "\x1f" for name in COLUMNS) + "\n"
    return parse_sacct(text)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_figures_as_sacct(version: str) -> None:
    ours, theirs = rows_from_snapshots(recorded(version)), sacct_view(version)
    assert [(row.step_id, row.name) for row in ours] == [(row.step_id, row.name) for row in theirs]
    for row, oracle in zip(ours, theirs, strict=True):
        for name in ("state", "exit_code", "exit_signal", "elapsed_seconds", "task_count"):
            assert getattr(row, name) == getattr(oracle, name), name
        for name in ("max_rss_bytes", "max_vm_size_bytes", "max_disk_read_bytes"):
            assert (getattr(row, name) or 0) == (getattr(oracle, name) or 0), name
        for name in CUT_TO_SECONDS - {"total_cpu_seconds"} if row.step_id is not None else ():
            assert getattr(row, name) == int(getattr(oracle, name) or 0), name


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unmeasured_zero_becomes_none(version: str) -> None:
    rows = rows_from_snapshots(recorded(version))
    now = max(row.end_time or 0 for row in rows) + 60
    found = rows_from_records(rows, AllocationKey(2), ["2"], facts=facts("22.05-linux"), backend="pyslurm", now=now)
    (false,) = found.rows
    assert (false.status, false.state, false.exit_code) == ("partial", "FAILED", 1)
    assert (false.max_rss_bytes, false.max_rss_node, false.total_cpu_seconds) == (None, None, None)
    assert (false.elapsed_seconds, false.backend) == (0, "pyslurm")


def assessed(rows: list[AccountingRecord], backend: str, slurm_job_id: int) -> dict[str, AccountingRecord]:
    key = AllocationKey(slurm_job_id)
    now = max(row.end_time or row.start_time or 0 for row in rows) + 10
    found = rows_from_records(rows, key, [], facts=facts("26.05-linux"), backend=backend, now=now)
    return {str(row.step_id): row for row in found.other_rows}


# pyslurm was asked a moment after sacct, when the cancelled steps had ended.
@pytest.mark.parametrize("scenario", [name for name in PAIRS if name != "just_cancelled"])
def test_the_same_rows_as_sacct(scenario: str) -> None:
    """pyslurm returns only the last record of a requeued job, like sacct's selection without times."""
    text = (RECORDED / "sacct" / "26.05-linux" / f"{scenario}.pyslurm.json").read_text()
    sacct_has = sacct_rows("26.05-linux", scenario)
    job = job_of(sacct_has)
    ours, theirs = assessed(parse(text), "pyslurm", job), assessed(sacct_has, "sacct", job)
    assert list(ours) == list(theirs)
    for step_id, row in ours.items():
        assert_same_row(row.as_row(), theirs[step_id].as_row())


def test_pairs_were_recorded() -> None:
    assert {"ends", "cancelled", "running", "limit", "names", "node_fail"} <= set(PAIRS)


# --- attribute objects


class Broken:
    """An attribute object like pyslurm's step with allocated memory 0: some attributes raise."""

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)

    @property
    def tres(self) -> object:
        raise TypeError("int() argument must be a string, a bytes-like object or a real number, not 'NoneType'")


def attribute_objects(version: str) -> SimpleNamespace:
    (job,) = recorded(version)
    steps = {}
    for step in job.pop("steps"):
        steps[step["id"]] = Broken(**step | {"stats": SimpleNamespace(**step["stats"])})
    return SimpleNamespace(**job, steps=steps)


@pytest.mark.parametrize("version", VERSIONS)
def test_attribute_objects_become_the_same_rows(version: str) -> None:
    assert rows_from_snapshots([snapshot(attribute_objects(version))]) == rows_from_snapshots(recorded(version))


def test_the_cancellers_name_becomes_a_number() -> None:
    job = attribute_objects("25.11")
    job.cancelled_by = "ann"
    taken = snapshot(job, {"ann": 1000}.get)
    assert rows_from_snapshots([taken])[0].cancelled_by_uid == 1000
    assert rows_from_snapshots([snapshot(job)])[0].cancelled_by_uid == -1  # a user who is unknown here


def test_an_attribute_that_this_pyslurm_lacks_is_none() -> None:
    job = attribute_objects("24.11")
    assert not hasattr(job, "requeue_count") or job.requeue_count is None
    del job.time_limit
    assert rows_from_snapshots([snapshot(job)])[0].time_limit_seconds is None


@pytest.mark.parametrize("text", ["", "null", "{}", "[1]", '[{"id": 1}]', '["x"]', "slurm_conf: fatal"])
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)


@given(st.data())
def test_a_value_of_another_kind_is_refused_or_moves_no_other(data: st.DataObject) -> None:
    (job,) = recorded("25.11")
    stats = job["steps"][1]["stats"]
    name = data.draw(st.sampled_from([key for key in stats if not key.endswith("_node")]))
    stats[name] = data.draw(st.text() | st.floats() | st.booleans() | st.lists(st.integers()))
    with pytest.raises(ParseError):
        parse(json.dumps([job]))
