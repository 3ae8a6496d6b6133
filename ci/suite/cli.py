"""The command line of `ci/test`: parse, call, choose the exit status."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from slurm_lab.errors import LabError

from . import machine, report, schedule
from .parts import PARTS, Part

DESCRIPTION = """\
Run the checks and tests of this checkout: lint, types, unit tests, real processes, a real Slurm, a real browser.
Installs what it needs: programs by apt where it is root, Python packages from ci/requirements.lock.
"""
EXAMPLES = """\
examples:
  ci/test                               everything
  ci/test --part units --part lint      these parts alone
  ci/test --list                        the parts there are (ci/suite/parts.py)
  ci/test tests/unit -k sacct           lint and types, then pytest with these arguments
Exit status: 0, 1 (something failed), 2 (wrong input), 128 + the signal that ended it.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ci/test",
        usage="ci/test [--list | --part NAME ... | PYTEST-ARGUMENT ...]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--list", action="store_true", help="list the parts")
    parser.add_argument("--part", action="append", default=[], metavar="NAME", help="run this part; may be repeated")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options, pytest_arguments = build_parser().parse_known_args(arguments)
    if options.list:
        print("\n".join(f"{part.name:<12}{part.what}" for part in PARTS))
        return 0
    unknown = [name for name in options.part if name not in {part.name for part in PARTS}]
    if unknown or (options.part and pytest_arguments):
        report.complain(
            f"--part {unknown[0]}: no such part; it has {', '.join(part.name for part in PARTS)}"
            if unknown
            else "--part takes no pytest arguments; leave --part out, or the arguments"
        )
        return 2
    schedule.set_signals()
    try:
        return _run(_chosen(options.part, pytest_arguments))
    except schedule.Interrupted as interrupted:
        report.complain(f"ended by signal {interrupted.number}")
        return 128 + interrupted.number
    except LabError as error:
        report.complain(str(error))
        return 1
    except subprocess.CalledProcessError as error:
        report.complain(f"ci/environment ended with {error.returncode}")
        return 1


def _chosen(names: Sequence[str], pytest_arguments: Sequence[str]) -> list[Part]:
    if pytest_arguments:
        checks = [part for part in PARTS if part.name in ("lint", "types")]
        return [*checks, Part("pytest", " ".join(pytest_arguments), tests=tuple(pytest_arguments))]
    return [part for part in PARTS if part.name in names or not names]


def _run(parts: Sequence[Part]) -> int:
    began = time.monotonic()
    report.say("-- what the machine needs: programs and the environment")
    if any(part.tests for part in parts):
        machine.install_programs()
    environment = machine.environment()
    with tempfile.TemporaryDirectory(prefix="torc-ci-") as logs:
        runs = schedule.run_all(parts, Path(logs), environment, report.tell)
        return report.conclude(runs, time.monotonic() - began)
