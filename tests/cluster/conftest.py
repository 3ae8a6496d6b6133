"""One cluster of two nodes for all tests of this directory, and a function that makes others with other settings."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ci"))

from machines import Machines, bring_up, tear_down


@pytest.fixture(scope="session")
def session_machines() -> Iterator[Machines]:
    """The cluster itself; tests take `machines`, which have a directory for each test."""
    machines = bring_up()
    try:
        yield machines
    finally:
        tear_down(machines.place)


@pytest.fixture
def machines(session_machines: Machines) -> Machines:
    """head, c1 and c2: Slurm 24.11, cgroup v2, /home over NFS; both nodes are idle when the test begins."""
    session_machines.wait_idle()
    session_machines.enter_new_directory()
    return session_machines


@pytest.fixture(scope="module")
def make_machines() -> Iterator[Callable[..., Machines]]:
    """Makes clusters with other settings: ``make_machines("--proc", "hidepid=2")``; they end with the module."""
    with contextlib.ExitStack() as clusters:

        def make(*options: str) -> Machines:
            made = bring_up(*options)
            clusters.callback(tear_down, made.place)
            made.enter_new_directory()
            return made

        yield make
