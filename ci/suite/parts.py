"""The parts of `ci/test`, in the order in which they start. To add one, add it to `PARTS`: nothing else is needed.

Every test file belongs to exactly one part (tests/unit/test_suite.py holds that).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SECOND_SLURM = tuple(f"tests/slurm/test_{name}.py" for name in ("sizing", "runner", "step", "plots", "side_by_side"))


@dataclass(frozen=True)
class Part:
    """A command of the checkout's environment, run in the checkout; or `tests`: pytest on these files and directories.

    `workers` spreads the tests over that many processes. `cores` is how many of the two cores the part keeps busy; a
    part with 0 mostly waits, and two such run beside the others. `limit_seconds` ends one that hangs. A part that
    `may_fail` is reported and does not fail the run.
    """

    name: str
    what: str
    command: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    workers: int = 0
    cores: int = 1
    limit_seconds: int = 1200
    may_fail: bool = False

    def argv(self, junit: Path) -> list[str]:
        """The command; pytest's counts and times go to the file `junit`."""
        if not self.tests:
            return list(self.command)
        workers = ["--numprocesses", str(self.workers)] if self.workers else []
        return ["pytest", "-p", "no:cacheprovider", f"--junitxml={junit}", *workers, *self.tests]


def shell(script: str) -> tuple[str, ...]:
    return ("bash", "-euo", "pipefail", "-c", script)


def first_slurm() -> tuple[str, ...]:
    files = sorted(str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "tests" / "slurm").glob("test_*.py"))
    return tuple(path for path in files if path not in SECOND_SLURM)


# Every shell script says in its first line that it is one.
SHELL_SCRIPTS = "git grep -lE '^#!.*(bash|/sh)' -- ci .ci bench 'sbatch_templates/*.sh' | xargs shellcheck"
# Outside the checkout, so that nothing but the installed package is found: a template of its own, filled in.
PACKAGE = f'cd /; torc slurm generate --dry-run {shlex.quote(str(CHECKOUT))}/examples/quick.yaml | grep "^#SBATCH"'

PARTS = [
    Part("slurm-1", "a real Slurm", tests=first_slurm(), cores=0),
    Part("slurm-2", "a real Slurm", tests=SECOND_SLURM, cores=0),
    Part("lint", "ruff and shellcheck", shell(f"ruff check .; ruff format --check .; {SHELL_SCRIPTS}")),
    Part("types", "mypy --strict", shell("mypy; mypy tests/slurm/*.py")),
    Part("package", "the installed package finds its templates", shell(PACKAGE)),
    Part("docs", "the documentation as a site, its links", shell('site=$(mktemp -d); ci/docs "$site"; rm -r "$site"')),
    Part("units", "pure functions", tests=("tests/unit", "tests/test_layers.py")),
    Part("processes", "real processes", tests=("tests/process",), workers=2, cores=2),
    Part("browser", "a real browser", tests=("tests/browser",)),
    # Last: it does nothing where the lock has the newest versions, and else runs units and processes once more.
    Part("newest", "the newest versions of what a user installs", ("ci/test-versions", "newest"), may_fail=True),
]
