"""Real failures of pyslurm: it ends, crashes or hangs the process that loads it, but never this one.

A small module named pyslurm is first on the path; the attribute objects of a real one are recorded.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from recordings import RECORDED, sacct_text

from torc_slurm.common.errors import CommandError, CommandTimeout, ParseError
from torc_slurm.slurm import pyslurm_backend, sacct
from torc_slurm.slurm.accounting import AllocationAccounting, fetch_allocation
from torc_slurm.slurm.configuration import slurm_facts
from torc_slurm.slurm.job_records import AllocationKey

GOOD = f"""
import json, types
class JobFilter:
    def __init__(self, ids): self.ids = ids
class Jobs:
    @staticmethod
    def load(wanted):
        jobs = json.load(open({str(RECORDED / "pyslurm" / "25.11.json")!r}))
        def objects(values):
            return types.SimpleNamespace(**values)
        for job in jobs:
            job["cancelled_by"] = None
            steps = [step | {{"cancelled_by": None, "stats": objects(step["stats"])}} for step in job["steps"]]
            job["steps"] = {{step["id"]: objects(step) for step in steps}}
        return {{job["id"]: objects(job) for job in jobs if job["id"] in wanted.ids}}
db = types.SimpleNamespace(JobFilter=JobFilter, Jobs=Jobs)
"""
REFUSES = """
import types
class RPCError(Exception): pass
def load(wanted): raise RPCError("Unable to connect to database")
db = types.SimpleNamespace(JobFilter=lambda ids: ids, Jobs=types.SimpleNamespace(load=load))
"""
FAILING = {
    "ends the process at once": ("import os; os._exit(1)", CommandError, "pyslurm failed (exit status 1)"),
    "crashes": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", CommandError, "exit status -11"),
    "does not fit": (
        "raise ImportError('libslurm.so.44: cannot open shared object file')",
        CommandError,
        "libslurm.so.44",
    ),
    "hangs": ("import time; time.sleep(1000)", CommandTimeout, "pyslurm did not answer within 1 s"),
    "is refused": (REFUSES, CommandError, "RPCError: Unable to connect to database"),
    "babbles": ("print('hello')\n" + GOOD, ParseError, "unexpected"),
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory first on the module path; one first on PATH has a sacct that answers."""
    monkeypatch.syspath_prepend(str(tmp_path))
    commands = tmp_path / "bin"
    commands.mkdir()
    (tmp_path / "answer").write_text(sacct_text("24.11-linux", "ends"), newline="")
    (commands / "sacct").write_text(f'#!/bin/sh\n[ "$1" = -e ] || cat {tmp_path / "answer"}\n')
    (commands / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    slurm_facts.cache_clear()
    sacct.known_columns.cache_clear()
    return tmp_path


def put(path: Path, code: str) -> None:
    (path / "pyslurm.py").write_text(code)


def ask(backend: str) -> AllocationAccounting:
    return fetch_allocation(AllocationKey(2), ["0"], timeout_seconds=10, backend=backend)


def test_rows_come_from_a_process_of_its_own(path: Path) -> None:
    put(path, GOOD)
    rows = pyslurm_backend.query(2, timeout_seconds=10)
    assert [row.step_id for row in rows] == [None, "batch", "0", "1", "2"]
    found = ask("pyslurm")
    assert (found.rows[0].status, found.rows[0].backend, found.note) == ("found", "pyslurm", None)
    assert (found.rows[0].max_rss_bytes, found.rows[0].task_count) == (213216 * 1024, 2)
    assert pyslurm_backend.query(3, timeout_seconds=10) == []


@pytest.mark.parametrize("name", FAILING)
def test_a_pyslurm_that_fails_is_an_error_and_nothing_worse(name: str, path: Path) -> None:
    code, error, says = FAILING[name]
    put(path, code)
    with pytest.raises(error) as failed:
        pyslurm_backend.query(2, timeout_seconds=1)
    assert says in str(failed.value)


@pytest.mark.parametrize("name", [name for name in FAILING if name != "hangs"])
def test_auto_asks_sacct_instead_and_says_why(name: str, path: Path) -> None:
    code, _, says = FAILING[name]
    put(path, code)
    found = ask("auto")
    assert (found.rows[0].status, found.rows[0].backend) == ("found", "sacct")
    assert says in (found.note or "")
    assert "torc used sacct instead" in (found.note or "")
    insisted = ask("pyslurm")
    assert (insisted.rows[0].status, insisted.rows[0].backend) == ("unavailable", "pyslurm")
    assert says in (insisted.rows[0].reason or "")


def test_auto_takes_a_pyslurm_that_works_and_does_without_one_that_is_not_there(path: Path) -> None:
    found = ask("auto")
    assert (found.rows[0].backend, found.note) == ("sacct", "pyslurm is not installed: torc used sacct")
    put(path, GOOD)
    assert ask("auto").rows[0].backend == "pyslurm"
