"""Decides which tests run: those that need a real Slurm or a browser are left out unless everything is requested."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

sys.path.append(str(Path(__file__).parents[1]))  # for bench/, which is not part of the installed package

# How long an example takes says more about the machine's load than about the code.
settings.register_profile("any_load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_load")

_NEEDS = {"slurm": "a real Slurm", "cluster": "a cluster of ci/cluster", "browser": "headless Chromium", "root": "root"}
_LEFT_OUT = pytest.StashKey[dict[str, int]]()


# nohup, cron and background shells make a command ignore these, or block signals that it inherits.
_IGNORED_BY_CALLERS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def pytest_configure() -> None:
    """Start every program of the tests with the default dispositions, whatever this process inherited.

    A signal with a handler here has its default action in a program after its exec. The handler does nothing, so this
    process still ignores the signal.
    """
    for number in _IGNORED_BY_CALLERS:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, it would hide every exit status
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all",
        action="store_true",
        default=bool(os.environ.get("TORC_TEST_ALL")),
        help="also run the tests that need a real Slurm or a browser; they fail where they cannot run",
    )


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, never skip: a skipped test would look as if this machine had been considered."""
    if config.getoption("--all"):
        return
    left_out = {name: [item for item in items if item.get_closest_marker(name)] for name in _NEEDS}
    config.stash[_LEFT_OUT] = {name: len(found) for name, found in left_out.items() if found}
    dropped = {item for found in left_out.values() for item in found}
    if dropped:
        config.hook.pytest_deselected(items=[item for item in items if item in dropped])
        items[:] = [item for item in items if item not in dropped]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    left_out = config.stash.get(_LEFT_OUT, {})
    if not left_out:
        return []
    counts = ", ".join(f"{count} that need {_NEEDS[name]}" for name, count in left_out.items())
    return [f"left out: {counts}; to run them too: ci/test, or pytest --all (or TORC_TEST_ALL=1)"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[object]]:
    """Counts the calls of a function: give the module that calls it, and its name."""

    def count(module: object, name: str) -> list[object]:
        seen: list[object] = []
        original = getattr(module, name)

        def counted(*arguments: object, **named: object) -> object:
            seen.append(arguments)
            return original(*arguments, **named)

        monkeypatch.setattr(module, name, counted)
        return seen

    return count
