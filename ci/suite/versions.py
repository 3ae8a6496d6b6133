"""`ci/test-versions`: the unit and process tests with the oldest, or the newest, versions that pyproject.toml allows.

Everything else has the versions of ci/requirements.lock. Failed tests run again with one package at a time moved away
from the lock, which finds the one that breaks them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .parts import CHECKOUT, PROCESSES

LOCK = CHECKOUT / "ci" / "requirements.lock"
# Two runs of pytest side by side.
TESTS = [["tests/unit", *PROCESSES[1]], [*PROCESSES[0]]]
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
COMPILE = [
    "pip",
    "compile",
    "--quiet",
    "--no-header",
    "--no-annotate",
    "--no-python-downloads",
    "--only-binary",
    ":all:",
]
# The package's dependencies, its tests', and those of its build.
INPUTS = ["pyproject.toml", "--extra", "test", "--group", "build"]
NAMED = 3
LINES_OF_A_FAILURE = 400


class StepFailed(Exception):
    """A command that prepares the tests failed."""


@dataclass(frozen=True)
class Workshop:
    """A temporary directory with one environment for each set of versions."""

    uv: Path
    place: Path

    def call(self, *arguments: str | Path) -> str:
        done = subprocess.run(
            [self.uv, *arguments], cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            words = " ".join(["uv", *map(str, arguments)])
            raise StepFailed(f"`{words}` ended with {done.returncode}:\n{done.stderr.strip()}")
        return done.stdout

    def environment(self, name: str, versions: Mapping[str, str]) -> Path:
        """An environment with these versions and the checkout; returns its directory of programs."""
        environment = self.place / name
        wanted = self.place / f"{name}.txt"
        wanted.write_text("".join(f"{package}=={version}\n" for package, version in sorted(versions.items())))
        # That of ci/environment, which ordinary users may run: many tests do, and root's own may be in /root.
        interpreter = (self.uv.parent / "python").resolve()
        self.call("venv", "--quiet", "--no-python-downloads", "--python", interpreter, environment)
        python = environment / "bin" / "python"
        self.call("pip", "install", "--quiet", "--python", python, "--no-deps", "--requirements", wanted)
        self.call("pip", "install", "--quiet", "--python", python, "--no-deps", "--no-build-isolation", CHECKOUT)
        return environment / "bin"

    def locked(self) -> dict[str, str]:
        """The lock's versions for this Python."""
        return pins(self.call(*COMPILE, *INPUTS, "--constraints", LOCK))

    def oldest(self) -> dict[str, str]:
        return pins(self.call(*COMPILE, *INPUTS, "--resolution", "lowest-direct"))

    def newest(self) -> dict[str, str]:
        """The newest versions of what a user installs; packages that only tests need stay at the lock's."""
        package = pins(self.call(*COMPILE, "pyproject.toml"))
        rest = {name: version for name, version in self.locked().items() if name not in package}
        constraints = self.place / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in rest.items()))
        return pins(self.call(*COMPILE, *INPUTS, "--constraints", constraints))

    def test(
        self, name: str, versions: Mapping[str, str], runs: Sequence[Sequence[str]], failed_in: str = ""
    ) -> list[str]:
        """Run pytest with these versions, all of `runs` side by side; return the tests that fail.

        With `failed_in`, only the tests that failed in that other run, and quietly.
        """
        binaries = self.environment(name, versions)
        env = {**os.environ, "PATH": f"{binaries}:{os.environ.get('PATH', os.defpath)}", "PYTHONDONTWRITEBYTECODE": "1"}
        if os.geteuid() == 0:
            env["TORC_TEST_ALL"] = "1"
        started = []
        for number, arguments in enumerate(runs):
            cache = self.place / f"{name}-cache-{number}"
            again: list[str] = []
            if failed_in:
                before = self.place / f"{failed_in}-cache-{number}"
                if not failed_tests(before):
                    continue
                shutil.copytree(before, cache)
                again = ["--last-failed"]
            command = [str(binaries / "pytest"), "-q", "-o", f"cache_dir={cache}", "--tb=short", *again, *arguments]
            log = self.place / f"{name}-{number}.log"
            with open(log, "wb") as out:
                process = subprocess.Popen(
                    command, cwd=CHECKOUT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )
            started.append((process, log, cache))
        failed: list[str] = []
        for process, log, cache in started:
            status = process.wait()
            lines = log.read_text(errors="replace").splitlines()
            if not failed_in:
                print("\n".join(lines[-LINES_OF_A_FAILURE:] if status else lines[-1:]), flush=True)
            here = failed_tests(cache) if status else []
            if status and not here:
                raise StepFailed(
                    f"pytest ended with {status} and says of no test that it failed:\n" + "\n".join(lines[-20:])
                )
            failed += here
        return failed


def failed_tests(cache: Path) -> list[str]:
    """The tests that failed in the pytest run with this cache directory."""
    record = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(record.read_text())) if record.exists() else []


def pins(text: str) -> dict[str, str]:
    return dict(PIN.findall(text))


def moved(versions: Mapping[str, str], locked: Mapping[str, str]) -> dict[str, str]:
    """The packages whose version differs from the lock's."""
    return {name: version for name, version in versions.items() if locked.get(name) != version}


def blame(workshop: Workshop, which: str, versions: Mapping[str, str], runs: Sequence[Sequence[str]]) -> list[str]:
    """One line for each package that alone breaks tests, or one that says that none does."""
    locked = workshop.locked()
    if failed := workshop.test("lock", locked, runs, failed_in=which):
        return [f"with the versions of the lock too: {named(failed)}"]
    lines = []
    for name, version in sorted(moved(versions, locked).items()):
        if failed := workshop.test(f"with-{name}", {**locked, name: version}, runs, failed_in=which):
            lines.append(f"{which} {name} {version} breaks {named(failed)}")
    return lines or [f"the {which} versions break tests only together: {described(moved(versions, locked))}"]


def named(tests: Sequence[str]) -> str:
    more = f" and {len(tests) - NAMED} more" if len(tests) > NAMED else ""
    return ", ".join(tests[:NAMED]) + more


def described(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="ci/test-versions",
        description=__doc__,
        epilog="Arguments for pytest follow --; without them: tests/unit and tests/process, on two cores.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("which", choices=("oldest", "newest"))
    parser.add_argument("pytest", nargs="*", metavar="-- PYTEST-ARGUMENT")
    options = parser.parse_args(arguments)
    try:
        return _run(options.which, [options.pytest] if options.pytest else TESTS)
    except StepFailed as error:
        print(f"ci/test-versions: {error}", file=sys.stderr)
        return 1


def _run(which: str, runs: Sequence[Sequence[str]]) -> int:
    made = subprocess.run(
        [CHECKOUT / "ci" / "environment", "--only", "tools"], stdout=subprocess.PIPE, text=True, check=False
    )
    if made.returncode:
        raise StepFailed(f"ci/environment ended with {made.returncode}")
    with tempfile.TemporaryDirectory(prefix="torc-versions-", dir="/var/tmp") as place:
        Path(place).chmod(0o755)  # tests run this Python as an ordinary user too
        workshop = Workshop(Path(made.stdout.strip()) / "bin" / "uv", Path(place))
        versions = workshop.oldest() if which == "oldest" else workshop.newest()
        changed = moved(versions, workshop.locked())
        if not changed:
            print(f"the lock has the {which} version of everything: nothing to test")
            return 0
        print(f"not as in the lock: {described(changed)}", flush=True)
        if not workshop.test(which, versions, runs):
            print(f"the {which} versions pass")
            return 0
        print("\n".join(blame(workshop, which, versions, runs)))
        return 1
