"""One real Slurm for all tests of this directory, and a function that makes others with other settings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from real_slurm import Lab, bring_up, tear_down


@pytest.fixture(scope="session")
def session_lab() -> Iterator[Lab]:
    """The lab itself; tests take `lab`, which restarts stopped daemons."""
    lab = bring_up()
    try:
        yield lab
    finally:
        tear_down(lab.directory.parent)


@pytest.fixture
def lab(session_lab: Lab) -> Iterator[Lab]:
    """A two-node Slurm, with cgroups if the machine has them; all its daemons run when the test begins."""
    try:
        yield session_lab
    finally:
        session_lab.start_all()


@pytest.fixture(scope="module")
def make_lab() -> Iterator[Callable[..., Lab]]:
    """Makes labs with other settings: ``make_lab("--jobacct-gather", "none")``; they end with the module."""
    with contextlib.ExitStack() as labs:

        def make(*options: str) -> Lab:
            lab = bring_up(*options)
            labs.callback(tear_down, lab.directory.parent)
            return lab

        yield make
