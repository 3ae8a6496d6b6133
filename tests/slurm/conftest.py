"""One real Slurm for all tests of this directory, and a function that makes others with other settings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from cluster_head import NOT_ON_A_CLUSTER, ClusterHead, on_cluster_head
from real_slurm import Lab, bring_up, tear_down

_LEFT_OUT = pytest.StashKey[list[str]]()


@pytest.hookimpl(trylast=True)  # after -k and -m have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that make no sense on a cluster, with the reason."""
    if not on_cluster_head():
        return
    left_out = [item for item in items if item.path.name in NOT_ON_A_CLUSTER]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item.path.name not in NOT_ON_A_CLUSTER]
    names = {item.path.name for item in left_out}
    config.stash[_LEFT_OUT] = [f"left out: {name}: {NOT_ON_A_CLUSTER[name]}" for name in sorted(names)]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    return config.stash.get(_LEFT_OUT, [])


@pytest.fixture(scope="session")
def session_lab() -> Iterator[Lab]:
    """The lab itself; tests take `lab`, which restarts stopped daemons."""
    if on_cluster_head():
        yield ClusterHead.make()
        return
    lab = bring_up()
    try:
        yield lab
    finally:
        tear_down(lab.directory.parent)


@pytest.fixture
def lab(session_lab: Lab) -> Iterator[Lab]:
    """A two-node Slurm, with cgroups if the machine has them; all its daemons run when the test begins."""
    session_lab.activate()
    try:
        yield session_lab
    finally:
        session_lab.start_all()


@pytest.fixture(scope="module")
def make_lab(session_lab: Lab) -> Iterator[Callable[..., Lab]]:
    """Makes labs with other settings: ``make_lab("--jobacct-gather", "none")``; they end with the module."""
    with contextlib.ExitStack() as labs:

        def make(*options: str) -> Lab:
            if isinstance(session_lab, ClusterHead):
                return session_lab.with_options(options)
            lab = bring_up(*options)
            labs.callback(tear_down, lab.directory.parent)
            return lab

        yield make
