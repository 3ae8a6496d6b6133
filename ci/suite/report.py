"""The output of `ci/test`: each part's start and end, failures, the slowest tests, the counts."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .schedule import Run

SLOWEST = 10
LINES_OF_A_FAILURE = 400


class Case(NamedTuple):
    """One test from pytest's JUnit file: setup, call and teardown together."""

    seconds: float
    name: str
    outcome: str


def say(text: str = "") -> None:
    print(text, flush=True)


def tell(event: str, run: Run) -> None:
    """Print that a part started or ended, with its log if it failed."""
    if event == "starts":
        say(f"-- {run.part.name}: {run.part.what}")
        return
    say(f"\n== {run.part.name}: {_outcome(run)} in {run.seconds:.0f} s")
    lines = run.log.read_text(errors="replace").splitlines()
    if run.ok and not run.part.may_fail:
        lines = lines[-1:]  # pytest's counts, mypy's sentence
    elif len(lines) > LINES_OF_A_FAILURE:
        lines = [f"… {len(lines) - LINES_OF_A_FAILURE} lines before these", *lines[-LINES_OF_A_FAILURE:]]
    say("\n".join(lines))


def _outcome(run: Run) -> str:
    if run.timed_out:
        return f"ENDED after its limit of {run.part.limit_seconds} s"
    if run.ok:
        return "passed"
    return (
        "failed, which does not fail the run" if run.part.may_fail else f"FAILED (exit status {run.process.returncode})"
    )


def cases(runs: Iterable[Run]) -> list[Case]:
    found = []
    for run in runs:
        if run.junit.exists():
            # pytest's own file: it contains nothing that could attack the parser
            for case in ElementTree.parse(run.junit).iter("testcase"):  # noqa: S314
                name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
                found.append(Case(float(case.get("time", 0)), name, _outcome_of(case)))
    return found


def _outcome_of(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in kinds else "passed"


def conclude(runs: Sequence[Run], seconds: float) -> int:
    """Print what was slow and what failed; return the exit status."""
    found = cases(runs)
    if found:
        say(f"\n== the slowest {SLOWEST} tests")
        for case in sorted(found, reverse=True)[:SLOWEST]:
            say(f"{case.seconds:7.1f} s  {case.name}")
    say("\n== parts")
    for run in sorted(runs, key=lambda run: -run.seconds):
        say(f"{run.seconds:7.0f} s  {run.part.name}: {_outcome(run)}")
    failed = [run for run in runs if not run.ok and not run.part.may_fail]
    say(f"\n== {f'FAILED: {names(failed)}' if failed else 'passed'} in {seconds / 60:.1f} minutes")
    counted = [case for case in found if case.outcome != "skipped"]
    broken = sum(case.outcome == "failed" for case in counted)
    if found:
        skipped = len(found) - len(counted)
        say(f"{len(counted) - broken} passed, {broken} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


def names(runs: Iterable[Run]) -> str:
    return ", ".join(run.part.name for run in runs)


def complain(text: str) -> None:
    print(f"ci/test: {text}", file=sys.stderr, flush=True)
