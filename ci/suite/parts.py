"""The parts of `ci/test`, in the order in which they start. To add one, add it to `PARTS`: nothing else is needed.

Every test file belongs to exactly one part (tests/unit/test_suite.py holds that).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# Tests that start torc again and again: half of the time of tests/process. The others run, measure and end processes.
COMMANDS = ("workflow_commands", "sizing_commands", "plot_resources", "cli", "collect", "release", "slurm_plugin_build")
SECOND_SLURM = ("sizing", "runner", "step", "plots", "side_by_side")


@dataclass(frozen=True)
class Part:
    """A command of the checkout's environment, run in the checkout; or `tests`: pytest on these files and directories.

    `cores` is how many of the two cores the part uses; a part with 0 mostly waits, and two such run next to the others.
    After `limit_seconds` a part is ended. A part that `may_fail` is reported and does not fail the run.
    """

    name: str
    what: str
    command: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    cores: int = 1
    limit_seconds: int = 2400
    may_fail: bool = False

    def argv(self, junit: Path) -> list[str]:
        """The command; pytest's counts and times go to the file `junit`."""
        if not self.tests:
            return list(self.command)
        return ["pytest", "-p", "no:cacheprovider", f"--junitxml={junit}", *self.tests]


def shell(script: str) -> tuple[str, ...]:
    return ("bash", "-euo", "pipefail", "-c", script)


def halves(directory: str, second: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A directory's test files in two lists; `second` names those of the second one, without `test_`.

    pytest-xdist is not used: tests of inherited descriptors use the numbers on which it talks to its workers.
    """
    there = (CHECKOUT / "tests" / directory).glob("test_*.py")
    first = sorted(path.name for path in there if path.stem.removeprefix("test_") not in second)
    names = (first, [f"test_{name}.py" for name in second])
    return tuple(f"tests/{directory}/{name}" for name in names[0]), tuple(
        f"tests/{directory}/{name}" for name in names[1]
    )


# ci/test runs one of each kind of them (the part "cluster"); ci/test-cluster runs all.
BY_HAND = ("tests/cluster",)
SLURM = halves("slurm", SECOND_SLURM)
PROCESSES = halves("process", COMMANDS)

# The first line of every shell script names the shell.
SHELL_SCRIPTS = "git grep -lE '^#!.*(bash|/sh)' -- ci .ci bench 'sbatch_templates/*.sh' | xargs shellcheck"
# Outside the checkout, so that only the installed package is found: renders a template.
PACKAGE = f'cd /; torc slurm generate --dry-run {shlex.quote(str(CHECKOUT))}/examples/quick.yaml | grep "^#SBATCH"'

PARTS = [
    Part("slurm-1", "a real Slurm", tests=SLURM[0], cores=0),
    Part("slurm-2", "a real Slurm", tests=SLURM[1], cores=0),
    Part("cluster", "machines with kernels of their own", ("ci/test-cluster", "-m", "cluster_in_ci")),
    Part("lint", "ruff and shellcheck", shell(f"ruff check .; ruff format --check .; {SHELL_SCRIPTS}")),
    Part("types", "mypy --strict", shell("mypy; mypy tests/slurm/*.py; mypy tests/cluster/*.py")),
    Part("package", "the installed package finds its templates", shell(PACKAGE)),
    Part("docs", "the documentation as a site, its links", shell('site=$(mktemp -d); ci/docs "$site"; rm -r "$site"')),
    Part("units", "pure functions", tests=("tests/unit", "tests/test_layers.py")),
    Part("processes", "real processes: steps, measuring, runs", tests=PROCESSES[0]),
    Part("commands", "real processes: torc's commands", tests=PROCESSES[1]),
    Part("faults", "killed and failing file calls, damaged files", tests=("tests/faults",)),
    Part("browser", "a real browser", tests=("tests/browser",)),
    # Last: does nothing if the lock has the newest versions, and else runs units and processes again.
    Part("newest", "the newest versions of what a user installs", ("ci/test-versions", "newest"), may_fail=True),
]
